"""GPT-2 with a classification head: reads a sequence, tells the probability of each class.

Paper: Zhang, Yin & Li, arXiv:2510.16044 (2025). A GPT-2 reads a session's event ids and is trained
on labels with focal loss (Lin, Goyal, Girshick, He & Dollár, "Focal Loss for Dense Object
Detection", ICCV 2017). With h the hidden state of the last token and y the class::

    p             softmax(W h)
    FL            - a_y (1 - p_y)^gamma log p_y,    a_y = alpha of an anomaly, 1 - alpha of a normal
    score         p(anomalous) = 1 - p(normal)
    paper's rule  p(anomalous) >= .5

The abstract is all that was to be had of the paper, and no code: sizes, tokens, rates, alpha and
gamma are not known. ``preset = "paper"`` is what it says, with customary numbers for the rest.

Deviations, and why. Ours starts from small random weights, or from a LogGPT that has read the log
without labels, as pretraining on English says little of event ids and takes minutes a session. A
token for each template (``reads``), as byte pairs of "E22" are two tokens of no meaning. Each
distinct session is shown the square root of n times an epoch, not all n times that it occurs
(``weigh``): 518,000 sessions of HDFS are 17,000 distinct ones. The best validation loss is kept.
Long sequences are read in overlapping chunks that all bear the sequence's label in training, and
the chunk with the highest p(anomalous) speaks for the sequence; ``long = "cut"`` is the usual cut.
An unknown template says nothing to the network; as in the other classifiers, p(normal) is
multiplied by 1 - risk, the risk being that of validation sequences with one (``classes``). Several
classes of anomaly are told apart. Not causal: only the whole sequence has a score.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.classes import add_novelty, novelty_risk, number_classes, scores_of, with_labels
from oddlog.config import build_stored
from oddlog.detectors.gpt2_classifier.config import GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.culprits import Case, explain_cases
from oddlog.detectors.gpt2_classifier.inputs import (
    KeyReader,
    Reader,
    TextReader,
    load_tokenizer,
    save_tokenizer,
)
from oddlog.detectors.gpt2_classifier.loss import class_factors, named_factors
from oddlog.detectors.gpt2_classifier.model import (
    Classifier,
    ClassProbabilities,
    Shape,
    Taught,
    chunk_owners,
    classifier_task,
    make_stage,
    new_network,
    probabilities,
)
from oddlog.detectors.gpt2_classifier.start import EMBEDDING, find_start, first_network, make_reader
from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import Vocabulary, cut_into_chunks
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import NORMAL, Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.device import choose_device, load_parameters, parameters_of
from oddlog.nn.export import MARKS, Graph
from oddlog.nn.strings import Encoded
from oddlog.nn.training import run_stage
from oddlog.run import Run

logger = logging.getLogger(__name__)
EVENTS_AT_ONCE = 2**18
"""Events whose messages are read at once: text is long, and seldom the same."""


@dataclass(frozen=True, eq=False)
class _Model:
    """What training left.

    Attributes:
        reader: Sequences to token strings.
        network: Token strings to class probabilities.
        shape: The network's sizes.
        names: The K classes, normal first.
        risk: Of an unknown template, see ``novelty_risk``.
    """

    reader: Reader
    network: Classifier
    shape: Shape
    names: tuple[str, ...]
    risk: float


class GPT2Classifier:
    """GPT-2 that is shown labelled sequences and tells the probability of each class.

    ``measures`` holds ``probability`` (n,) float64, p(anomalous), which is the score. See the
    module for equations and deviations.
    """

    name: ClassVar[str] = "gpt2_classifier"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    reads_messages: ClassVar[bool] = True
    Config: ClassVar[type[GPT2ClassifierConfig]] = GPT2ClassifierConfig

    def __init__(self, config: GPT2ClassifierConfig | None = None) -> None:
        self.config = config or GPT2ClassifierConfig()
        self._model: _Model | None = None
        self.history: list[dict[str, float]] = []
        """One record per part of training: epoch, train_loss, valid_loss."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn the classes of ``train``; keep the weights with the best loss on ``valid``.

        Raises:
            ConfigError: Nothing to start from, or to read; see ``start``.
            LabelsError: ``train`` has no normal sequence, or no anomaly.
        """
        labelled = with_labels(train, self.name)
        start = find_start(self.config)
        reader = make_reader(labelled, self.config, start)
        names, label = number_classes(labelled)
        network = first_network(reader, len(names), self.config, start, run)
        shape = start.shape if start else Shape.wanted(self.config)
        learned = Taught.of(self._encode(labelled, reader, shape), label, len(names))
        chosen_by = self._validation(valid, reader, shape, names) or learned
        config = self.config
        if chosen_by is learned and config.keep == "best":
            logger.warning(
                "%s: no validation sequence with a label of training: the last weights are kept",
                self.name,
            )
            config = config.model_copy(update={"keep": "last"})
        shown = learned.shown(config.weigh)
        totals = shown @ learned.shares()
        factors = class_factors(config.loss, config.alpha, totals)
        factors = factors * named_factors(names, config.class_weights)
        stage, n_batches = make_stage(shown.sum(), config)
        task = classifier_task(network, (learned, chosen_by), factors, n_batches, config)
        identity = config.model_dump_json() + (start.digest() if start else "")
        identity += _fingerprint(learned) + _fingerprint(chosen_by)
        self.history = run_stage(network, stage, task, run, identity)
        known = reader.known
        risk = 0.0 if known is None else novelty_risk(valid, known)
        self._model = _Model(reader, network, shape, names, risk)

    def _validation(
        self, valid: Sequences, reader: Reader, shape: Shape, names: tuple[str, ...]
    ) -> Taught | None:
        """Return what the weights are chosen by; a class unknown to training tells nothing."""
        known = valid.take(valid.labels.is_in(names).fill_null(value=False).to_numpy())
        if not len(known):
            return None
        place = {name: number for number, name in enumerate(names)}
        label = known.labels.replace_strict(place, return_dtype=pl.Int64).to_numpy()
        return Taught.of(self._encode(known, reader, shape), label, len(names))

    def score(self, sequences: Sequences) -> Scores:
        """Score by p(anomalous); see the class.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
            ConfigError: Messages are read, and the events have none.
        """
        model = self._fitted()
        found = [
            self._probabilities(part, model)
            for part in _blocks(sequences, self.config.reads == "raw")
        ]
        return scores_of(np.concatenate([np.empty((0, len(model.names))), *found]), model.names)

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether an anomaly is at least as likely as not."""
        return scores.measures["probability"] >= 0.5

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events without which the odds of an anomaly would be lower; see ``culprits``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()

        def odds(
            strings: Distinct, of_variant: NDArray[np.int64], novel: NDArray[np.bool_]
        ) -> NDArray[np.float64]:
            found = probabilities(model.network, strings)[of_variant]
            found = add_novelty(found, novel, model.risk)
            normal = found[:, 0].clip(1e-15, 1 - 1e-15)
            return np.log1p(-normal) - np.log(normal)

        return explain_cases(sequences, self._cases(sequences, model), odds)

    def graphs(self) -> list[Graph]:
        """Return the network; the classes are in the order of the output.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model, reader = self._fitted(), self._fitted().reader
        if isinstance(reader, KeyReader):
            told, vocabulary, marks = "", reader.vocabulary, MARKS
        else:
            told = "; tokens are those of detector/tokenizer.json in the model folder"
            vocabulary, marks = None, {"BEGIN": reader.mark}
        graph = Graph(
            name="classes",
            network=ClassProbabilities(model.network),
            inputs={"tokens": ("batch", "length"), "lengths": ("batch",)},
            output=("probabilities", ("batch", len(model.names))),
            about=f"of each string, the probability of {', '.join(map(repr, model.names))}{told}",
            longest=model.shape.places,
            vocabulary=vocabulary,
            marks=marks,
        )
        return [graph]

    def save(self, folder: Path) -> None:
        """Write config.json, classes.json, network.json, model.safetensors, and how it reads.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(folder / "network.json", model.shape.model_dump())
        reader = model.reader
        keys = Vocabulary(reader.known).to_json() if reader.known is not None else None
        mark = reader.mark if isinstance(reader, TextReader) else None
        write_json(
            folder / "classes.json",
            {"names": model.names, "risk": model.risk, "templates": keys, "mark": mark},
        )
        if isinstance(reader, TextReader):
            save_tokenizer(folder, reader.tokenizer)
        save_arrays(folder / "model.safetensors", parameters_of(model.network))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> GPT2Classifier:
        """Read what ``save`` wrote onto a device; what it once started from is not asked for.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = build_stored(GPT2ClassifierConfig, read_json(where), str(where))
        shape = build_stored(Shape, read_json(folder / "network.json"), f"{folder}/network.json")
        classes = read_json(folder / "classes.json")
        weights = load_arrays(folder / "model.safetensors")
        detector = cls(config)
        try:
            names, risk = _classes(classes)
            reader = _reader(folder, config, classes)
            _check_sizes(shape, weights)
            n_tokens = len(weights[EMBEDDING])
            if n_tokens < reader.n_tokens:
                raise ValueError("fewer embeddings than tokens")
            network = new_network(shape, n_tokens, len(names), config.dropout)
            load_parameters(network, weights)
        except (ConfigError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        network.to(choose_device(device))
        detector._model = _Model(reader, network, shape, names, risk)
        return detector

    def _fitted(self) -> _Model:
        if self._model is None:
            raise NotFittedError(f"{self.name} has not learned yet: call fit or load first")
        return self._model

    def _encode(self, sequences: Sequences, reader: Reader, shape: Shape) -> Encoded:
        """Return sequences as chunks that fit the context."""
        context = min(self.config.context, shape.places)
        tokens = reader.read(sequences)
        if self.config.long == "chunks":
            return Encoded.of(tokens, context)
        chunks = cut_into_chunks(tokens.offsets, context, context // 2)
        first = chunks.n_context == 0
        if n_cut := int(np.count_nonzero(tokens.lengths > context)):
            logger.warning(
                "%s: %d of %d sequences are longer than %d tokens and were cut to their beginning",
                *(self.name, n_cut, len(sequences), context),
            )
        chunks = type(chunks)(chunks.begins[first], chunks.sizes[first], chunks.n_context[first])
        return Encoded(tokens, chunks, find_distinct(tokens.tokens, chunks))

    def _probabilities(self, sequences: Sequences, model: _Model) -> NDArray[np.float64]:
        """Return (n, K) class probabilities: of each sequence's most anomalous chunk."""
        encoded = self._encode(sequences, model.reader, model.shape)
        found = probabilities(model.network, encoded.distinct)[encoded.distinct.of_chunk]
        found = found[deciding_chunks(encoded, found[:, 0])]
        novel = np.bincount(sequences.owners, model.reader.novel(sequences), len(sequences)) > 0
        return add_novelty(found, novel, model.risk)

    def _cases(self, sequences: Sequences, model: _Model) -> Iterator[Case]:
        for part in _blocks(sequences, self.config.reads == "raw"):
            encoded = self._encode(part, model.reader, model.shape)
            found = probabilities(model.network, encoded.distinct)[encoded.distinct.of_chunk]
            kinds, novel = model.reader.kinds(part), model.reader.novel(part)
            for i, chunk in enumerate(deciding_chunks(encoded, found[:, 0])):
                events = slice(part.offsets[i], part.offsets[i + 1])
                begin = encoded.chunks.begins[chunk]
                own = slice(begin, begin + encoded.chunks.sizes[chunk])
                entries = encoded.tokens.entries[own]
                place = np.where(entries >= 0, entries - part.offsets[i], -1)
                yield Case(encoded.tokens.tokens[own], place, kinds[events], novel[events])


def deciding_chunks(encoded: Encoded, normal: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return (n,) the chunk of each sequence that is least likely normal, the first of equals.

    Args:
        encoded: n sequences in c chunks.
        normal: (c,) p(normal).
    """
    owner, _ = chunk_owners(encoded)
    order = np.lexsort((normal, owner))
    return order[np.unique(owner[order], return_index=True)[1]]


def _blocks(sequences: Sequences, apart: bool) -> Iterator[Sequences]:
    """Yield the sequences, in parts of about ``EVENTS_AT_ONCE`` if ``apart``."""
    if not apart or len(sequences.rows) <= EVENTS_AT_ONCE:
        if len(sequences):
            yield sequences
        return
    number = (sequences.offsets[1:] - 1) // EVENTS_AT_ONCE
    for part in np.unique(number):
        yield sequences.take(number == part)


def _fingerprint(taught: Taught) -> str:
    """Name training data, so that a checkpoint of other data is not resumed."""
    digest = hashlib.sha256()
    for array in (taught.strings.tokens, taught.strings.offsets, taught.times):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _classes(stored: object) -> tuple[tuple[str, ...], float]:
    """Read names and risk of ``classes.json``."""
    if not isinstance(stored, dict):
        raise ValueError("classes.json is no object")
    names, risk = stored["names"], float(stored["risk"])
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not named or names[:1] != [NORMAL] or len(set(names)) != len(names) or len(names) < 2:
        raise ValueError("classes.json: no names of classes, normal first")
    if not 0 <= risk <= 1:
        raise ValueError(f"classes.json: {risk} is no probability")
    return tuple(names), risk


def _reader(folder: Path, config: GPT2ClassifierConfig, stored: dict) -> Reader:
    templates = stored["templates"]
    known = None if templates is None else Vocabulary.from_json(templates)
    if config.reads == "event_id_token":
        return KeyReader(Vocabulary.from_json(templates))
    if (known is None) != (config.reads == "raw"):
        raise ValueError("classes.json and config.json disagree")
    tokenizer, mark = load_tokenizer(folder), int(stored["mark"])
    if not 0 <= mark < tokenizer.get_vocab_size():
        raise ValueError(f"no token {mark}")
    return TextReader(tokenizer, mark, None if known is None else known.template_ids)


def _check_sizes(shape: Shape, weights: dict[str, NDArray]) -> None:
    """Refuse sizes that are not those of the weights, before any memory is given to them."""
    found = (
        weights[EMBEDDING].shape[1:],
        weights["transformer.wpe.weight"].shape,
        weights["transformer.h.0.mlp.c_fc.weight"].shape,
        sum(name.endswith(".ln_1.weight") for name in weights),
    )
    wanted = ((shape.width,), (shape.places, shape.width), (shape.width, shape.inner), shape.layers)
    if found != wanted:
        raise ValueError("network.json tells other sizes than the weights have")
