"""LogLLM as a detector: BERT reads messages, a language model reads their vectors and answers.

Paper: Guan, Cao, Qian, Gao, Ouyang, "LogLLM: Log-based Anomaly Detection Using Large Language
Models", 2024, arXiv:2411.08561. Messages, in which regular expressions have replaced variables
(``preprocess``; no templates are mined), pass BERT; a linear projector P maps each vector v into
the space of the decoder's words; and the decoder is asked (``prompt``, ``network``)::

    Below is a sequence of system log messages: P v_1 .. P v_n. Is this sequence
    normal or anomalous?

It is trained to answer "The sequence is normal." or "... anomalous." by cross-entropy on the
answer, in three stages with low-rank adapters (``stages``), the rarer class oversampled. ::

    score         p(anomalous) / (p(anomalous) + p(normal)) at the token where the answers differ
    paper's rule  the answer, that is: the score is at least .5

With more classes each has its own word, and the score is 1 - p(normal) among the words' tokens.

Deviations, and why. No decoding: one pass gives a score; the released code decodes, and takes an
answer that is neither word for normal. Each distinct text passes BERT once and each distinct
sequence the decoder once; the keys and values of the first words are computed once. The projector
begins so that the vectors of training texts have mean 0 and the size of words: what BERT makes of
log messages has most in common. Training draws pairs of distinct sequence and class by their
weight, anew in each tenth of a stage; the released code lists every sequence, and repeats a list of
less than 50,000. While BERT is not trained it has no dropout. A loss is the mean over sequences of
the mean over answer tokens (theirs over all tokens). "I/O" is a word here, not a path. There is a
seed. A validation loss is taken after each tenth; whether it chooses is ``config.choose`` ("last"
in the paper). Of a longer sequence only ``max_messages`` are read, as in the paper; which ones is
``config.keep``, and how many are left out is told. ``preset`` "small" names two models that fit a
CPU.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.classes import number_classes, with_labels
from oddlog.config import build_stored
from oddlog.detectors.logllm.bases import Base, add_adapters, load_bert, load_llama
from oddlog.detectors.logllm.config import LogLLMConfig
from oddlog.detectors.logllm.culprits import explain
from oddlog.detectors.logllm.network import Network, Tokenized, tokenize
from oddlog.detectors.logllm.prompt import make_prompt
from oddlog.detectors.logllm.stages import Material, pad_left, train_stages
from oddlog.detectors.logllm.texts import Lessons, Strings, learn_lessons, read_strings
from oddlog.distinct import Distinct, batch_ranges
from oddlog.errors import ArtifactError, LabelsError, NotFittedError
from oddlog.events import NORMAL, Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.device import choose_device, seed_torch
from oddlog.run import Run

logger = logging.getLogger(__name__)
AFTER_TRAINING = {"batch_tokens"}
"""Settings on which no weight depends."""


class LogLLM:
    """A language model is shown messages as vectors and answers whether they are normal.

    ``Scores.sequence`` is p(anomalous). Measures: ``probability`` and ``log_odds`` (n,) float64,
    and ``n_left_out`` (n,), the messages of each sequence that were too many to be read. An event
    without a message is read as the word "event" and its template's number. There are no event
    scores; ``explain`` leaves messages out and asks again. Not causal.
    """

    name: ClassVar[str] = "logllm"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    reads_messages: ClassVar[bool] = True
    Config: ClassVar[type[LogLLMConfig]] = LogLLMConfig

    def __init__(self, config: LogLLMConfig | None = None) -> None:
        self.config = config or LogLLMConfig()
        self._names: tuple[str, ...] = ()
        self._network: Network | None = None
        self._bases: dict[str, Base] = {}
        self.history: list[dict[str, float | str]] = []
        """One record per tenth of a stage: stage, epoch, train_loss, valid_loss."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Train adapters and projector on labelled sequences.

        Raises:
            ConfigError: A model is not on this machine, or a package is not installed.
            LabelsError: Training lacks normal sequences or anomalies, or validation has no labels.
        """
        labelled = with_labels(train, self.name)
        if not valid.labelled.any():
            raise LabelsError(f"{self.name}: no validation sequence has a label; label some")
        names, _ = number_classes(labelled)
        parts = [self._learn(part, names) for part in (labelled, valid.take(valid.labelled))]
        seed_torch(run.seed)
        network = self._build(names, run.device)
        materials = self._prepare(network, parts[0]), self._prepare(network, parts[1])
        network.centre(materials[0].vectors)
        identity = [self.config.model_dump_json(exclude=AFTER_TRAINING), repr(names)]
        identity += [base.fingerprint for base in self._bases.values()]
        identity += [lessons.fingerprint() for lessons in parts]
        self.history = train_stages(network, materials, self.config, run, " ".join(identity))
        self._names, self._network = names, network

    def score(self, sequences: Sequences) -> Scores:
        """Score by p(anomalous); each distinct sequence passes the decoder once.

        Raises:
            FormatError: An event has neither a message nor a template id.
            NotFittedError: Called before ``fit`` or ``load``.
        """
        self._fitted()
        strings = read_strings(sequences, self.config)
        _tell_of_left_out(strings)
        evidence = self._judge(strings.distinct, self._vectors(strings))[strings.distinct.of_chunk]
        chances = np.exp(evidence - np.logaddexp.reduce(evidence, axis=1, keepdims=True))
        log_odds = _log_odds(evidence)
        anomalous = 1 / (1 + np.exp(-log_odds))
        several = len(self._names) > 2
        return Scores(
            sequence=anomalous.astype(np.float32),
            measures={
                "probability": anomalous,
                "log_odds": log_odds,
                "n_left_out": strings.n_left_out,
            },
            class_names=self._names if several else (),
            class_probs=chances.astype(np.float32) if several else None,
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the decoder would rather answer with an anomaly."""
        return scores.measures["probability"] >= 0.5

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the messages without which a sequence would be less anomalous.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        self._fitted()
        strings = read_strings(sequences, self.config)
        vectors = self._vectors(strings)
        return explain(sequences, strings, lambda some: _log_odds(self._judge(some, vectors)))

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``model.json`` and ``model.safetensors``.

        They hold what was trained, adapters and projector, and what names the two pretrained
        models; these have to be there when the folder is loaded.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        network = self._fitted()
        write_json(folder / "config.json", self.config.model_dump(mode="json"))
        write_json(folder / "model.json", self._identity(network))
        trained = network.trainable()
        arrays = {name: value.detach().cpu().numpy() for name, value in trained.items()}
        save_arrays(folder / "model.safetensors", arrays)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote onto a device.

        Raises:
            ArtifactError: The folder is missing or damaged, or was fitted to other models than
                those that its settings name now.
            ConfigError: A model is not on this machine.
        """
        path = folder / "config.json"
        detector = cls(build_stored(LogLLMConfig, read_json(path), str(path)))
        stored, arrays = read_json(folder / "model.json"), load_arrays(folder / "model.safetensors")
        try:
            names = tuple(stored["classes"])
            if len(names) < 2 or names[0] != NORMAL or not all(isinstance(n, str) for n in names):
                raise ValueError("no classes")
            network = detector._build(names, device)
            detector._names = names
            detector._check(folder, stored, network)
            _fill(network, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector._network = network.eval()
        return detector

    def _fitted(self) -> Network:
        if self._network is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._network

    def _build(self, names: tuple[str, ...], device: str) -> Network:
        """Load the two models and make one network of them, its adapters new."""
        place = choose_device(device)
        self._bases = {
            "bert": load_bert(self.config, place),
            "llama": load_llama(self.config, place),
        }
        bert, llama = self._bases.values()
        add_adapters(bert.network, self.config.lora_bert)
        add_adapters(llama.network, self.config.lora_llama)
        prompt = make_prompt(llama.tokenizer, names, self.config.answers)
        return Network(bert.network, llama.network, prompt, self.config)

    def _learn(self, sequences: Sequences, names: tuple[str, ...]) -> Lessons:
        lessons, n_foreign = learn_lessons(sequences, names, self.config)
        if n_foreign:
            logger.warning("logllm: %d sequences of classes that training lacks", n_foreign)
        _tell_of_left_out(lessons.strings)
        return lessons

    def _prepare(self, network: Network, lessons: Lessons) -> Material:
        texts = self._tokenize(lessons.strings)
        return Material(lessons, texts, network.embed_all(texts))

    def _tokenize(self, strings: Strings) -> Tokenized:
        tokenizer = self._bases["bert"].tokenizer
        return tokenize(tokenizer, strings.texts, self.config.max_tokens)

    def _vectors(self, strings: Strings) -> torch.Tensor:
        return self._fitted().embed_all(self._tokenize(strings))

    def _judge(self, distinct: Distinct, vectors: torch.Tensor) -> NDArray[np.float64]:
        """Return (d, K) logits of the classes' tokens for each distinct string."""
        network = self._fitted()
        found = np.empty((len(distinct), len(self._names)))
        if not len(distinct):
            return found
        prefix = network.read_prefix()
        n_words = len(network.prompt.before) + len(network.prompt.asked)
        for part in batch_ranges(distinct.lengths + n_words, self.config.batch_tokens):
            codes, mask = pad_left(distinct, part)
            own = vectors[codes.to(network.device)]
            found[part] = network.evidence(own, mask, prefix).cpu().numpy()
        return found

    def _identity(self, network: Network) -> dict[str, object]:
        """Return what a model folder holds of classes, prompt and pretrained models."""
        return {
            "classes": list(self._names),
            "prompt": json.loads(json.dumps(asdict(network.prompt))),
            "bases": {name: base.fingerprint for name, base in self._bases.items()},
        }

    def _check(self, folder: Path, stored: dict[str, Any], network: Network) -> None:
        """Make sure that the models are those that the folder was fitted to.

        Raises:
            ArtifactError: They are not.
        """
        own = self._identity(network)
        for name in ("bert", "llama"):
            if stored["bases"][name] != self._bases[name].fingerprint:
                raise ArtifactError(
                    f"{folder}: was fitted to another model than {getattr(self.config, name)!r} is "
                    f"now ({name} in config.json); put that one there, or fit the model again"
                )
        if stored["prompt"] != own["prompt"]:
            raise ArtifactError(
                f"{folder}: the decoder {self.config.llama!r} has another tokenizer than the one "
                "that the model was fitted with; put that one there, or fit the model again"
            )


def _fill(network: Network, arrays: Mapping[str, NDArray]) -> None:
    """Copy named arrays into the trained parameters.

    Raises:
        ValueError: One is missing, left over, or of another shape.
    """
    trained = network.trainable()
    if differing := sorted(trained.keys() ^ arrays.keys()):
        raise ValueError(f"weights do not fit the network: {differing[:3]}")
    with torch.no_grad():
        for name, parameter in trained.items():
            if parameter.shape != arrays[name].shape:
                raise ValueError(f"weights do not fit the network: shape of {name}")
            parameter.copy_(torch.from_numpy(arrays[name]))


def _log_odds(evidence: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n,) the logarithm of p(any anomaly) / p(normal) from (n, K) logits."""
    return np.logaddexp.reduce(evidence[:, 1:], axis=1) - evidence[:, 0]


def _tell_of_left_out(strings: Strings) -> None:
    if n_cut := int(np.count_nonzero(strings.n_left_out)):
        logger.warning(
            "logllm: %d of %d sequences are longer than max_messages: %d messages are not read",
            n_cut,
            len(strings.n_left_out),
            int(strings.n_left_out.sum()),
        )
