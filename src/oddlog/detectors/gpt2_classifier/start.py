"""Weights to begin with: those of LogGPT, of a GPT-2 that transformers can read, or random ones.

A LogGPT folder brings its vocabulary too: what it learned of templates without labels is the start,
and a template that it does not know begins as its ``UNKNOWN``. A pretrained GPT-2 that is to read
one token for each template gets new embeddings, drawn around the mean of its own.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, PositiveInt
from tokenizers import Tokenizer

from oddlog.artifact import MANIFEST, load_arrays, read_json, read_manifest
from oddlog.config import build_stored
from oddlog.detectors.gpt2_classifier.config import GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.inputs import (
    KeyReader,
    Reader,
    TextReader,
    distinct_messages,
    id_texts,
    train_tokenizer,
)
from oddlog.detectors.gpt2_classifier.model import Classifier, Shape, new_network
from oddlog.encode import UNKNOWN, Vocabulary, training_templates
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.extras import import_extra
from oddlog.nn.device import choose_device, seed_torch
from oddlog.nn.gpt2 import ACTIVATIONS
from oddlog.run import Run

logger = logging.getLogger(__name__)
NAME = "gpt2_classifier"
BODY = "transformer."
EMBEDDING = f"{BODY}wte.weight"
LOGGPT = "loggpt"


class _LogGPTSizes(BaseModel):
    """What is read of the settings of a stored LogGPT."""

    layers: PositiveInt
    heads: PositiveInt
    width: PositiveInt
    context: PositiveInt


@dataclass(frozen=True, eq=False)
class Start:
    """A GPT-2 without its head.

    Attributes:
        shape: Its sizes.
        weights: Its parameters, by the names that they have in a classifier.
        vocabulary: The templates that its tokens stand for; None if it reads text.
    """

    shape: Shape
    weights: Mapping[str, NDArray]
    vocabulary: Vocabulary | None

    def digest(self) -> str:
        """Name the weights, so that no checkpoint of others is resumed."""
        digest = hashlib.sha256()
        for name in sorted(self.weights):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.weights[name]).tobytes())
        return digest.hexdigest()


def find_start(config: GPT2ClassifierConfig) -> Start | None:
    """Read what the settings say to start from; None for random weights.

    Raises:
        ConfigError: There is no such model, or none that this detector can start from.
        ArtifactError: The folder of an oddlog model is damaged.
    """
    if not config.start:
        return None
    folder = Path(config.start)
    if (folder / MANIFEST).is_file():
        start = _of_pipeline(folder)
    elif _is_stored_loggpt(folder):
        start = _of_loggpt(folder)
    else:
        return _of_transformers(config)
    if config.reads != "event_id_token":
        raise ConfigError(
            f"{NAME}.start = {config.start!r} reads tokens of templates, not text: "
            "set reads to event_id_token"
        )
    return start


def _of_pipeline(folder: Path) -> Start:
    detector = read_manifest(folder).get("detector")
    if detector != LOGGPT:
        raise ConfigError(
            f"{NAME}.start = {str(folder)!r}: its detector is {detector!r}; "
            f"only {LOGGPT} has a language model to start from"
        )
    return _of_loggpt(folder / "detector")


def _is_stored_loggpt(folder: Path) -> bool:
    if not all((folder / name).is_file() for name in ("vocab.json", "config.json")):
        return False
    vocabulary = read_json(folder / "vocab.json")  # transformers may have one of another kind
    return isinstance(vocabulary, dict) and isinstance(vocabulary.get("templates"), list)


def _of_loggpt(folder: Path) -> Start:
    where = folder / "config.json"
    sizes = build_stored(_LogGPTSizes, read_json(where), str(where))
    try:
        vocabulary = Vocabulary.from_json(read_json(folder / "vocab.json")["templates"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
    arrays = load_arrays(folder / "model.safetensors")
    weights = {name: array for name, array in arrays.items() if name.startswith(BODY)}
    shape = Shape(
        layers=sizes.layers,
        heads=sizes.heads,
        width=sizes.width,
        places=sizes.context,
        inner=4 * sizes.width,
    )
    if weights.get(EMBEDDING, np.empty(0)).shape != (vocabulary.size, shape.width):
        raise ArtifactError(f"{folder}: damaged: weights of other sizes; fit the model again")
    return Start(shape, weights, vocabulary)


def _of_transformers(config: GPT2ClassifierConfig) -> Start:
    transformers = import_extra("transformers", NAME)  # takes seconds, and only a start needs it
    kind = _from_hub(transformers.AutoConfig, config.start, config)
    if not isinstance(kind, transformers.GPT2Config):
        raise ConfigError(
            f"{NAME}.start = {config.start!r} is of the kind {kind.model_type!r}; "
            "only GPT-2 can be started from"
        )
    if kind.activation_function not in ACTIVATIONS:
        raise ConfigError(
            f"{NAME}.start = {config.start!r} has the activation {kind.activation_function!r}; "
            f"only these are known: {', '.join(ACTIVATIONS)}"
        )
    options = {"use_safetensors": True, "dtype": torch.float32}
    model = _from_hub(transformers.GPT2Model, config.start, config, **options)
    weights = {f"{BODY}{name}": value.detach().numpy() for name, value in model.named_parameters()}
    shape = Shape(
        layers=kind.n_layer,
        heads=kind.n_head,
        width=kind.n_embd,
        places=kind.n_positions,
        inner=kind.n_inner or 4 * kind.n_embd,
        activation=kind.activation_function,
        epsilon=kind.layer_norm_epsilon,
        scaled=kind.scale_attn_weights,
        scaled_by_layer=kind.scale_attn_by_inverse_layer_idx,
    )
    return Start(shape, weights, None)


def _from_hub(cls: Any, name: str, config: GPT2ClassifierConfig, **options: Any) -> Any:
    """Read something that transformers stored: a folder, or a name in the local cache.

    Raises:
        ConfigError: It is not there, or cannot be read; the message says what gets it.
    """
    try:
        return cls.from_pretrained(
            name, local_files_only=not config.download, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError) as error:
        if Path(name).exists():
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"{NAME}: {name}: no model of transformers: {reason}") from None
        raise ConfigError(
            f"{NAME}: {name!r} is no folder, and no model in the local cache: "
            f"`hf download {name}` gets it, or --set {NAME}.download=true"
        ) from None


def make_reader(train: Sequences, config: GPT2ClassifierConfig, start: Start | None) -> Reader:
    """Return what reads sequences: with the vocabulary or the tokenizer of the start, if any.

    Raises:
        ConfigError: Training holds no known template, or no messages where these are read; or
            there is no such tokenizer.
    """
    if config.reads == "event_id_token":
        training_templates(train, NAME)  # warns of unknown ones
        if start and start.vocabulary:
            return KeyReader(start.vocabulary.with_more(train.template_ids()))
        return KeyReader(Vocabulary.of(train.template_ids()))
    known = None if config.reads == "raw" else training_templates(train, NAME)
    if name := config.tokenizer or config.start:
        transformers = import_extra("transformers", NAME)
        stored = _from_hub(transformers.AutoTokenizer, name, config)
        marks = (stored.bos_token_id, stored.eos_token_id)
        mark = next((mark for mark in marks if mark is not None), 0)
        return TextReader(_backend(stored, name), mark, known)
    texts = distinct_messages(train)[0] if known is None else id_texts(known)
    return TextReader(train_tokenizer(texts, config.pieces), 0, known)


def _backend(stored: Any, name: str) -> Tokenizer:
    backend = getattr(stored, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise ConfigError(f"{NAME}: {name}: its tokenizer has no tokenizer.json")
    return backend


def first_network(
    reader: Reader, n_classes: int, config: GPT2ClassifierConfig, start: Start | None, run: Run
) -> Classifier:
    """Build the network as training begins with it; the head is random.

    Raises:
        ConfigError: The start has fewer tokens than the tokenizer.
    """
    seed_torch(run.seed)
    shape = start.shape if start else Shape.wanted(config)
    weights = dict(start.weights) if start else {}
    n_tokens = reader.n_tokens
    if start:
        weights[EMBEDDING] = _embedding(start, reader)
        n_tokens = len(weights[EMBEDDING])
    network = new_network(shape, n_tokens, n_classes, config.dropout)
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in weights.items():
            parameters[name].copy_(torch.from_numpy(value))
    return network.to(choose_device(run.device))


def _embedding(start: Start, reader: Reader) -> NDArray[np.float32]:
    """Return the start's embedding of every token that is read."""
    own = start.weights[EMBEDDING].astype(np.float32)
    if isinstance(reader, TextReader):
        if reader.n_tokens > len(own):
            raise ConfigError(
                f"{NAME}: the tokenizer has {reader.n_tokens:,} tokens, its model {len(own):,}"
            )
        return own
    if start.vocabulary:
        n_new = reader.n_tokens - len(own)
        return np.concatenate([own, np.repeat(own[UNKNOWN : UNKNOWN + 1], n_new, axis=0)])
    drawn = torch.randn(reader.n_tokens, own.shape[1]).numpy()
    return own.mean(axis=0) + own.std(axis=0) * drawn
