"""LogBERT as a detector: mask keys of normal sequences, predict them, and keep them in a sphere.

Paper: Guo, Yuan, Wu, "LogBERT: Log Anomaly Detection via BERT", IJCNN 2021, arXiv:2103.04475. A
BERT from random weights is trained on normal sequences to minimise

    L = L_MLKP + alpha L_VHM
    L_MLKP = -(1/|M|) sum_{i in M} log p(k_i | sequence without the masked keys M)
    L_VHM  = ||h_DIST - c||^2 / D,   c the mean of h_DIST over the training sequences

(``model``). The paper's rule masks a random share of a sequence's keys once and calls it anomalous
if more than r of them are not among the g likeliest; the distance to c plays no part in it.

Ours is deterministic: every key is masked exactly once, in a few passes that each mask every
``passes``-th key, and its event score is its surprise, -log p, there. A second network of the same
kind reads how often each template occurs, whatever the order (``strings``; ``config.reads`` is
"order" for the paper's alone).

Deviations, and why: BERT as in ``transformers`` (normalised after each layer, the released code
before); marks for the beginning,
in the place of [DIST], and for the end, a key to be predicted, only on windows that hold them; the
centre is the training sequences' alone, in evaluation mode, before each epoch (the released code
takes the validation's too, with dropout); equal sequences count once (``config.learn``,
"frequency" for the paper's); some keys are shown as unknown and some beginnings cut off in
training; sequences longer than the context are scored in overlapping chunks (theirs are cut off);
**no sequence is left out for being short** (theirs are below 10 keys, in training and in the test);
the best validation epoch is restored; a continuous score. ``preset`` is "paper" or "code" for what
either trains and decides by.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.config import build_stored
from oddlog.detectors.logbert.adapt import learn_on
from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.detectors.logbert.culprits import OddCounts, of_counts
from oddlog.detectors.logbert.model import draw_misses, export_graph
from oddlog.detectors.logbert.readers import (
    COUNTS,
    ORDER,
    Reader,
    blank,
    from_arrays,
    train_reader,
)
from oddlog.detectors.logbert.strings import count_strings
from oddlog.distinct import Distinct
from oddlog.encode import END, FIRST_CANDIDATE, UNKNOWN, Vocabulary
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.device import seed_torch
from oddlog.nn.export import Graph
from oddlog.nn.replay import bare, no_windows, sample_windows, to_arrays
from oddlog.nn.replay import from_arrays as windows_from
from oddlog.nn.strings import Encoded, in_order, judged_marks, marks_of
from oddlog.nn.suspects import Odd, of_order
from oddlog.nn.tail import Tail
from oddlog.nn.validation import synthetic_auprc
from oddlog.run import Run

Part = TypeVar("Part")
DISTANCE_WEIGHTS = (0.0, 0.1, 0.3, 1.0)
DRAW_SEED = 0
STORED = ("model", "replay")
N_AT_ONCE = 65_536
"""Windows whose counts are laid out at once: bounds memory where there are many templates."""


@dataclass(frozen=True)
class Scale:
    """What puts the parts of a score on one scale, fitted to validation windows.

    Attributes:
        order: Of the worst surprise of a window's keys.
        distance: Of its distance to the centre.
        counts: Of the worst surprise of its counts plus the mean one, if there is a second reader.
        weight: How much the distance beyond what is usual adds, in nats for a nat.
    """

    order: Tail
    distance: Tail
    counts: Tail | None
    weight: float = 0.0


@dataclass(frozen=True, eq=False)
class _Reading:
    """What the first reader found in n windows of t tokens, marks included.

    Attributes:
        encoded: The windows as token strings.
        surprise: (t,) in nats.
        rank: (t,) from 0.
        worst: (n,) the highest surprise.
        worst_known: (n,) the highest of known templates and the end.
        distance: (n,) to the centre; of a long window, its farthest chunk's.
        likeliest: (t, k) tokens expected; k may be 0.
        probability: (t, k).
    """

    encoded: Encoded
    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]
    worst: NDArray[np.float32]
    worst_known: NDArray[np.float32]
    distance: NDArray[np.float32]
    likeliest: NDArray[np.int64]
    probability: NDArray[np.float32]


class LogBERT:
    """BERT that predicts masked events of normal sequences; see the module for the equations.

    Scores are in nats, -log of the share of normal windows that score as high (``tail.Tail``,
    fitted to the validation windows). The event score is the event's surprise when it is masked, on
    that scale. The sequence score is the higher of two: of its worst event, the end of the session
    counting as one where the window holds it, and, with two readers, of its counts, where a window
    scores the worst surprise of a count plus the mean one. To it the distance to the centre is
    added, as far as it is beyond that of nine in ten normal windows, by the weight out of
    ``DISTANCE_WEIGHTS`` that best tells validation windows from corruptions of them. A template
    that training never saw has rank ``n_keys + 1`` and the surprise
    ``log(n + 1) + log(n_keys + 1)`` after n training events without it; where counts are judged it
    is one more of these and no event of the first reader, so that among windows with one unseen
    template those rank first in which the rest is odd too. The counts of a session that may still
    go on are not judged (``strings.judged_marks``). No sequence is left out. Not
    causal: what comes later tells of what came before.

    Measures: ``surprise`` and ``rank`` (m,), ``end_surprise`` and ``end_rank`` (n,), 0 where the
    window does not hold its end; ``distance`` (n,); ``n_missed`` and ``n_masked`` (n,) for the
    paper's rule: of every key, or of the drawn ones (``config.rule``).
    """

    name: ClassVar[str] = "logbert"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[LogBERTConfig]] = LogBERTConfig

    def __init__(self, config: LogBERTConfig | None = None) -> None:
        self.config = config or LogBERTConfig()
        self._vocabulary: Vocabulary | None = None
        self._order: Reader | None = None
        self._counts: Reader | None = None
        self._scale: Scale | None = None
        self._judged = np.zeros(4, dtype=bool)
        """Of which windows the counts are judged, by ``marks_of``."""
        self._n_training_events = 0
        self._replayed = no_windows()
        self.history: list[dict[str, float]] = []
        """One record per epoch of training: epoch, train_loss, valid_loss."""
        self.counts_history: list[dict[str, float]] = []
        """The same of the second reader, if there is one."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn masked events on ``train``; keep the epoch with the best loss on ``valid``."""
        vocabulary = Vocabulary.of(train.template_ids())
        strings = [self._encode(part, vocabulary).distinct for part in (train, valid)]
        if not (strings[1].tokens > END).any():
            raise ConfigError(
                "no known template in the validation windows: nothing to choose the epoch by; "
                "give more log, or a larger valid_share"
            )
        self._vocabulary, self._counts = vocabulary, None
        self._n_training_events = len(train.rows)
        seed_torch(run.seed)
        network = blank(ORDER, self.config, vocabulary, run.device)
        pair = (strings[0], strings[1])
        self._order, self.history = train_reader(network, ORDER, pair, self.config, run)
        if self.config.reads == "both":
            pair = (self._count(train), self._count(valid))
            seed_torch(run.seed, 1)
            network = blank(COUNTS, self.config, vocabulary, run.device)
            found = train_reader(network, COUNTS, pair, self.config, run)
            self._counts, self.counts_history = found
        self._replayed = sample_windows(train, run.seed)
        self._judged = judged_marks(train)
        self._scale = self._fit_scale(valid)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> LogBERT:
        """Return a detector that has learned on, old windows beside ``train``; see ``adapt``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        vocabulary, _ = self._fitted()
        together = Sequences.concat([self._replayed, bare(train)])
        grown = vocabulary.with_more(train.template_ids())
        adapted = LogBERT(self.config)
        adapted._vocabulary = grown
        adapted._n_training_events = self._n_training_events + len(train.rows)
        adapted._replayed = sample_windows(together, run.seed)
        if self._order is not None:
            encoded = [self._encode(part, grown).distinct for part in (together, valid)]
            pair = (encoded[0], encoded[1])
            found = learn_on(self._order, ORDER, pair, grown, self.config, run)
            adapted._order, adapted.history = found
        if self._counts is not None:
            pair = (adapted._count(together), adapted._count(valid))
            found = learn_on(self._counts, COUNTS, pair, grown, self.config, run)
            adapted._counts, adapted.counts_history = found
        adapted._judged = judged_marks(together)
        adapted._scale = adapted._fit_scale(valid)
        return adapted

    def _fit_scale(self, valid: Sequences) -> Scale:
        """Learn how each part scores normal windows, and how much the distance is to count."""
        order, tail = self._read_order(valid), None
        if self._counts is not None:
            judged = self._judged[marks_of(valid)]
            counts = self._read_counts(valid)
            tail = Tail.of(counts[judged] if judged.any() else counts)
        scale = Scale(Tail.of(order.worst), Tail.of(order.distance), tail)

        def quality(weight: float) -> float:
            trial = replace(scale, weight=weight)
            return synthetic_auprc(
                lambda part: self._combine(part, self._read_order(part), trial), valid
            )

        best = max(DISTANCE_WEIGHTS, key=quality)  # the first among equals, or if all are nan
        return replace(scale, weight=best)

    def score(self, sequences: Sequences) -> Scores:
        """Score by the worst event, the counts and the distance; see the class."""
        _, scale = self._fitted()
        order = self._read_order(sequences)
        tokens = order.encoded.tokens
        is_event = tokens.entries >= 0
        first, last = tokens.offsets[:-1], tokens.offsets[1:] - 1
        at_end = np.where(self._ends(sequences), last, first)  # the first mark carries zeros
        n_missed, n_masked = self._misses(order)
        return Scores(
            sequence=self._combine(sequences, order, scale).astype(np.float32),
            event=scale.order.nats(order.surprise[is_event]).astype(np.float32),
            measures={
                "surprise": order.surprise[is_event],
                "rank": order.rank[is_event],
                "end_surprise": order.surprise[at_end],
                "end_rank": order.rank[at_end],
                "distance": order.distance,
                "n_missed": n_missed,
                "n_masked": n_masked,
            },
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether more than r masked keys, or that share, were not in the top g."""
        allowed = self.config.misses
        if isinstance(allowed, int):
            return scores.measures["n_missed"] > allowed
        return scores.measures["n_missed"] > allowed * scores.measures["n_masked"]

    @property
    def top_g(self) -> int:
        """G of the paper's rule, at least 1."""
        if isinstance(self.config.top_g, int):
            return self.config.top_g
        return max(1, int(self.config.top_g * self._fitted()[0].n_keys))

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the worst events of each sequence and the likeliest templates in their places."""
        vocabulary, scale = self._fitted()
        n_expected = self.config.n_expected
        order = self._read_order(sequences, n_expected)
        odd = Odd(scale.order.nats(order.surprise), order.likeliest, order.probability)
        suspects = of_order(order.encoded, odd)
        if self._counts is not None and scale.counts is not None:
            strings = self._count(sequences)
            judged = self._counts.judge(strings, self.config.passes, n_expected=1)
            counts = OddCounts(strings, judged, scale.counts, self._judged[marks_of(sequences)])
            blamed = of_counts(sequences, vocabulary, counts, order.likeliest.shape[1])
            suspects = suspects.and_counts(blamed, sequences.lengths)
        return suspects.explain(sequences, vocabulary.template_of)

    def graphs(self) -> list[Graph]:
        """Return the network of the order; that of the counts reads no templates."""
        return [export_graph(_learned(self._order).network, self._known())]

    def save(self, folder: Path) -> None:
        """Write config.json, vocab.json, and safetensors: networks, and windows to replay."""
        vocabulary, scale = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(
            folder / "vocab.json",
            {
                "templates": vocabulary.to_json(),
                "n_training_events": self._n_training_events,
                "scale": asdict(scale),
                "judged_marks": self._judged.tolist(),
            },
        )
        save_arrays(folder / "replay.safetensors", to_arrays(self._replayed))
        for name, reader in (("model", self._order), ("counts", self._counts)):
            if reader is not None:
                save_arrays(folder / f"{name}.safetensors", reader.to_arrays())

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> LogBERT:
        """Read what ``save`` wrote onto a device."""
        config, vocab = read_json(folder / "config.json"), read_json(folder / "vocab.json")
        arrays, replayed = (load_arrays(folder / f"{name}.safetensors") for name in STORED)
        try:
            detector = cls(build_stored(LogBERTConfig, config, str(folder / "config.json")))
            vocabulary = Vocabulary.from_json(vocab["templates"])
            settings = (detector.config, vocabulary, device)
            detector._order = from_arrays(arrays, ORDER, *settings)
            if detector.config.reads == "both":
                arrays = load_arrays(folder / "counts.safetensors")
                detector._counts = from_arrays(arrays, COUNTS, *settings)
            detector._replayed = windows_from(replayed)
            detector._n_training_events = max(0, int(vocab["n_training_events"]))
            detector._scale = _read_scale(vocab["scale"], detector.config.reads == "both")
            detector._judged = np.array(vocab["judged_marks"], dtype=bool).reshape(4)
        except (ConfigError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector._vocabulary = vocabulary
        return detector

    def _fitted(self) -> tuple[Vocabulary, Scale]:
        return self._known(), _learned(self._scale)

    def _known(self) -> Vocabulary:
        return _learned(self._vocabulary)

    @property
    def _unknown_surprise(self) -> float:
        return float(np.log1p(self._n_training_events) + np.log1p(self._known().n_keys))

    def _ends(self, sequences: Sequences) -> NDArray[np.bool_]:
        return sequences.ends & self.config.end_mark

    def _encode(self, sequences: Sequences, vocabulary: Vocabulary) -> Encoded:
        marked = replace(sequences, ends=self._ends(sequences))
        return in_order(marked, vocabulary, self.config.context)

    def _count(self, sequences: Sequences) -> Distinct:
        return count_strings(sequences, self._known(), self.config.context)

    def _read_order(self, sequences: Sequences, n_expected: int = 0) -> _Reading:
        vocabulary, reader = self._known(), _learned(self._order)
        encoded = self._encode(sequences, vocabulary)
        judged = reader.judge(encoded.distinct, self.config.passes, n_expected)
        surprise, rank = encoded.spread(judged.surprise), encoded.spread(judged.rank)
        unknown = encoded.tokens.tokens == UNKNOWN
        rank[unknown] = vocabulary.n_keys + 1
        first = encoded.tokens.offsets[:-1]
        worst_known = np.maximum.reduceat(np.where(unknown, 0.0, surprise), first)
        surprise[unknown] = self._unknown_surprise
        far = judged.distance(reader.centre)[encoded.distinct.of_chunk]
        distance = np.zeros(len(sequences), dtype=np.float32)
        np.maximum.at(distance, _owners(encoded), far)
        return _Reading(
            encoded,
            surprise,
            rank,
            np.maximum.reduceat(surprise, first),
            worst_known,
            distance,
            encoded.spread(judged.likeliest),
            encoded.spread(judged.probability),
        )

    def _read_counts(self, sequences: Sequences) -> NDArray[np.float64]:
        """Return (n,) the worst surprise of each window's counts plus the mean one.

        Each kind of unknown template counts as one more place, with the surprise of its event.
        """
        assert self._counts is not None  # noqa: S101 -- asked for with two readers only
        found = [np.zeros(0)]
        for first in range(0, len(sequences), N_AT_ONCE):
            index = np.arange(first, min(first + N_AT_ONCE, len(sequences)))
            strings = self._count(sequences.take(index))
            surprise = self._counts.judge(strings, self.config.passes).surprise
            table = surprise.reshape(len(strings), -1).astype(np.float64)
            n_unknown = self._count_unknown(sequences.take(index))
            worst = table.max(axis=1)[strings.of_chunk]
            worst = np.maximum(worst, self._unknown_surprise * (n_unknown > 0))
            total = table.sum(axis=1)[strings.of_chunk] + self._unknown_surprise * n_unknown
            found.append(worst + total / (table.shape[1] + n_unknown))
        return np.concatenate(found)

    def _count_unknown(self, sequences: Sequences) -> NDArray[np.int64]:
        """Return (n,) how many different templates of each window training never held."""
        vocabulary = self._known()
        ids, owners = sequences.template_ids(), sequences.owners
        unknown = vocabulary.encode(ids) == UNKNOWN
        pairs = np.unique(np.stack([owners[unknown], ids[unknown]]), axis=1)
        return np.bincount(pairs[0], minlength=len(sequences))

    def _combine(self, sequences: Sequences, order: _Reading, scale: Scale) -> NDArray[np.float64]:
        """Return (n,) the score of each window, in nats."""
        worst = scale.order.nats(order.worst)
        if scale.counts is not None:
            counts = scale.counts.nats(self._read_counts(sequences))
            known = scale.order.nats(order.worst_known)
            judged = self._judged[marks_of(sequences)]
            worst = np.where(judged, np.maximum(known, counts), worst)
        return worst + scale.weight * np.maximum(scale.distance.nats(order.distance), 0.0)

    def _misses(self, order: _Reading) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (n,) the keys that were not in the top g, and (n,) the keys that were masked."""
        tokens = order.encoded.tokens
        n = len(tokens.lengths)
        if self.config.rule == "drawn" and self._order is not None:
            found = draw_misses(
                self._order.network,
                order.encoded.distinct,
                self.config.mask_share,
                self.top_g,
                DRAW_SEED,
            )
            owners, of_chunk = _owners(order.encoded), order.encoded.distinct.of_chunk
            missed, masked = (np.bincount(owners, part[of_chunk], n) for part in found)
            return missed.astype(np.int64), masked.astype(np.int64)
        owner = np.repeat(np.arange(n), tokens.lengths)
        asked = (tokens.tokens >= FIRST_CANDIDATE) | (tokens.tokens == UNKNOWN)
        asked[tokens.offsets[:-1]] = False
        missed = asked & (order.rank >= self.top_g)
        return np.bincount(owner[missed], minlength=n), np.bincount(owner[asked], minlength=n)


def _learned(part: Part | None) -> Part:
    if part is None:
        raise NotFittedError("logbert has not learned yet: call fit or load first")
    return part


def _owners(encoded: Encoded) -> NDArray[np.int64]:
    """Return (c,) the window of each chunk."""
    return np.searchsorted(encoded.tokens.offsets, encoded.chunks.begins, side="right") - 1


def _read_scale(value: dict, has_counts: bool) -> Scale:
    """Read what ``asdict`` gave of a scale.

    Raises:
        KeyError: A part is missing.
        TypeError: A part is not what it should be.
        ValueError: A tail without extent.
    """
    counts = Tail(**value["counts"]) if has_counts else None
    order, distance = Tail(**value["order"]), Tail(**value["distance"])
    return Scale(order, distance, counts, float(value["weight"]))
