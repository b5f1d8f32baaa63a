"""Edit distance: how many events to insert, remove or replace until a sequence is a known one.

Source: the edit distance detector of Landauer, Skopik & Wurzenberger, "A critical review of common
log data sets used for evaluation of sequence-based anomaly detection techniques" (FSE 2024);
Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals" (1966), by
RapidFuzz, bit-parallel (Hyyro 2003).

Equations, for a sequence a and the distinct training sequences b::

    score         min over b of lev(a, b) / max(|a|, |b|)                               in [0, 1]
    rule          no b equals a, that is score > 0
    event score   1 / max(|a|, |b|) for an event that the fewest edits into the nearest b remove
                  or replace, else 0; what they insert is missing, which ``explain`` names

Pruning: with the counts a_j and b_j of template j, no fewer than

    max(sum_j max(a_j - b_j, 0), sum_j max(b_j - a_j, 0))

edits are needed. Training sequences are compared in the order of this bound, and not at all where
it, or the edits counted so far, exceed the best distance found: the minimum stays exact.

Deviations and choices: the paper's threshold is the best one on the test, here it is calibrated. A
comparison of sequences of thousands of events takes a quarter of a million steps and more, so that
for each distinct sequence at most ``max_steps`` are made, nearest counts first; where that is not
enough for all, the score is the least distance found, an upper bound: ``measures["exact"]`` says of
which it is the minimum. A template that training never held matches nothing. Among equally near
sequences the one with the nearest counts, then the one most frequent in training is the nearest.
Whether a window holds its session's beginning or end makes no difference, so that one that goes on
is as far away as what it still lacks. No sequence gets a default score. Not causal: a prefix lacks
events that the whole sequence has.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import extractOne

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import PAD, UNKNOWN, Chunks, Vocabulary, training_templates
from oddlog.errors import ArtifactError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.nn.suspects import N_CULPRITS
from oddlog.run import Run

logger = logging.getLogger(__name__)
Ints = NDArray[np.int64]
BLOCK_CELLS = 2**22
"""Cells of a block of bounds or counts, of four bytes: 16 MB."""
WORD = 64
"""Events that one step of a comparison covers."""
ROUND = 8
"""Comparisons before the next look at which others are still worth making."""


class EditDistanceConfig(settings.Config):
    """Settings of the edit distance.

    Attributes:
        max_steps: Steps of comparison for one distinct sequence, each of 64 events against one:
            8 comparisons of 4,000 events with 4,000, 500 of 500 with 500.
    """

    max_steps: PositiveInt = 2**21


@dataclass(frozen=True, eq=False)
class Strings:
    """D distinct strings of tokens, with no marks.

    Attributes:
        tokens: (t,) int64, one string after the other.
        offsets: (D + 1,) int64.
        frequency: (D,) int64 sequences that are the string.
    """

    tokens: Ints
    offsets: Ints
    frequency: Ints

    def __len__(self) -> int:
        return len(self.frequency)

    @property
    def lengths(self) -> Ints:
        """(D,) number of tokens in each string."""
        return np.diff(self.offsets)

    def text(self, index: int) -> str:
        """Return a string with a character for each token, as RapidFuzz compares them."""
        tokens = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        return tokens.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def counts(self, first: int, last: int, width: int) -> NDArray[np.int32]:
        """Return (last - first, width) how often each token occurs in some strings."""
        owners = np.repeat(np.arange(last - first), self.lengths[first:last])
        tokens = self.tokens[self.offsets[first] : self.offsets[last]]
        cells = np.bincount(owners * width + tokens, minlength=(last - first) * width)
        return cells.reshape(last - first, width).astype(np.int32)

    def by_frequency(self) -> Strings:
        """Return the strings with the most frequent first, equally frequent ones as they are."""
        order = np.argsort(-self.frequency, kind="stable")
        lengths = self.lengths[order]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        place = np.repeat(self.offsets[:-1][order], lengths) + within
        return Strings(self.tokens[place], offsets, self.frequency[order])

    def check(self, n_tokens: int) -> None:
        """Raise ValueError if these cannot be strings of so many tokens."""
        fits = len(self.offsets) == len(self.frequency) + 1 and len(self.frequency)
        if not fits or self.offsets[0] or self.offsets[-1] != len(self.tokens):
            raise ValueError("strings and their offsets do not fit")
        if self.lengths.min() < 1 or self.tokens.min() < UNKNOWN or self.tokens.max() >= n_tokens:
            raise ValueError("strings of something else than tokens")


def distinct_strings(tokens: Ints, offsets: Ints) -> Distinct:
    """Find the distinct ones among flat strings."""
    lengths = np.diff(offsets)
    return find_distinct(tokens, Chunks(offsets[:-1], lengths, np.zeros_like(lengths)))


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest training string of each of Q distinct strings.

    Attributes:
        index: (Q,) int64, its number.
        distance: (Q,) float64, normalised.
        exact: (Q,) bool: no training string is nearer.
    """

    index: Ints
    distance: NDArray[np.float64]
    exact: NDArray[np.bool_]


def find_nearest(queries: Strings, known: Strings, width: int, max_steps: int) -> Nearest:
    """Return the nearest known string of each query; see the module for what is not compared."""
    texts = [known.text(i) for i in range(len(known))]
    found = Nearest(
        np.zeros(len(queries), dtype=np.int64),
        np.zeros(len(queries)),
        np.zeros(len(queries), dtype=bool),
    )
    # One turn per distinct query: strings differ in length, and each prunes by its own best.
    for query, bounds in enumerate(_bounds(queries, known, width)):
        steps = -(-int(queries.lengths[query]) // WORD) * known.lengths
        best = _compare(queries.text(query), texts, bounds, steps, max_steps)
        found.index[query], found.distance[query], found.exact[query] = best
    return found


def _bounds(queries: Strings, known: Strings, width: int) -> Iterator[NDArray[np.float64]]:
    """Yield for each query (D,) the least normalised distances that the counts leave possible."""
    n_queries = max(1, min(BLOCK_CELLS // len(known), BLOCK_CELLS // width))
    n_known = max(1, BLOCK_CELLS // width)
    for first in range(0, len(queries), n_queries):
        last = min(first + n_queries, len(queries))
        asked = queries.counts(first, last, width)
        apart = np.zeros((last - first, len(known)), dtype=np.int32)
        for start in range(0, len(known), n_known):
            stop = min(start + n_known, len(known))
            held = known.counts(start, stop, width)
            for column in np.flatnonzero(asked.any(axis=0) | held.any(axis=0)):
                apart[:, start:stop] += np.abs(asked[:, column, None] - held[:, column])
        lengths = queries.lengths[first:last, None]
        edits = (apart + np.abs(lengths - known.lengths)) / 2  # the larger of surplus and deficit
        yield from edits / np.maximum(lengths, known.lengths)


def _compare(
    text: str, texts: list[str], bounds: NDArray[np.float64], steps: Ints, max_steps: int
) -> tuple[int, float, bool]:
    """Return number and distance of the nearest text, and whether no other can be nearer."""
    order = np.argsort(bounds, kind="stable")
    affordable = max(1, int(np.searchsorted(np.cumsum(steps[order]), max_steps, side="right")))
    nearest, best, done = int(order[0]), np.inf, 0
    while done < len(order) and bounds[order[done]] < best:
        if done >= affordable:
            return nearest, best, False
        begin, done = done, min(done + ROUND, affordable)
        some = order[begin:done]
        some = some[bounds[some] < best]
        choices = [texts[i] for i in some]
        cutoff = min(best, 1.0)
        closest = extractOne(
            text, choices, scorer=Levenshtein.normalized_distance, score_cutoff=cutoff
        )
        if closest is not None and closest[1] < best:
            nearest, best = int(some[closest[2]]), float(closest[1])
    return nearest, best, True


@dataclass(frozen=True, eq=False)
class _Model:
    """What training left: the vocabulary, and the distinct strings, the most frequent first."""

    vocabulary: Vocabulary
    known: Strings

    @property
    def share(self) -> NDArray[np.float64]:
        """(n_tokens,) share of training sequences that hold each token."""
        owners = np.repeat(np.arange(len(self.known)), self.known.lengths)
        cells = np.unique(owners * self.vocabulary.size + self.known.tokens)
        owner, token = np.divmod(cells, self.vocabulary.size)
        held = np.bincount(token, self.known.frequency[owner], minlength=self.vocabulary.size)
        return held / self.known.frequency.sum()


@dataclass(frozen=True, eq=False)
class _Verdict:
    """The distinct strings of the scored sequences, which each sequence is, and their nearest."""

    queries: Strings
    of_sequence: Ints
    nearest: Nearest


class EditDistance:
    """Count the edits from a sequence to the nearest one of training."""

    name: ClassVar[str] = "edit_distance"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = EditDistanceConfig

    def __init__(self, config: EditDistanceConfig) -> None:
        self.config = config
        self._model: _Model | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Remember the distinct sequences of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template.
        """
        training_templates(train, self.name)  # says what is not learned from, or that nothing is
        vocabulary = Vocabulary.of(train.template_ids())
        found = distinct_strings(vocabulary.encode(train.template_ids()), train.offsets)
        known = Strings(found.tokens, found.offsets, found.counts).by_frequency()
        self._model = _Model(vocabulary, known)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that remembers the sequences of ``train`` as well.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        old = self._fitted()
        vocabulary = old.vocabulary.with_more(train.template_ids())
        tokens = np.concatenate([old.known.tokens, vocabulary.encode(train.template_ids())])
        offsets = np.concatenate([old.known.offsets, old.known.offsets[-1] + train.offsets[1:]])
        found = distinct_strings(tokens, offsets)
        often = np.concatenate([old.known.frequency, np.ones(len(train), dtype=np.int64)])
        frequency = np.bincount(found.of_chunk, often).astype(np.int64)
        adapted = type(self)(self.config)
        known = Strings(found.tokens, found.offsets, frequency).by_frequency()
        adapted._model = _Model(vocabulary, known)
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the normalised edit distance to the nearest training sequence.

        ``measures`` holds ``distance`` (n,) float64 and ``exact`` (n,) bool, False where
        ``max_steps`` ended the search before it was certain that no other sequence is nearer.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        verdict = self._judge(sequences)
        distance = verdict.nearest.distance[verdict.of_sequence]
        return Scores(
            sequence=distance.astype(np.float32),
            event=self._event_scores(sequences, verdict),
            measures={"distance": distance, "exact": verdict.nearest.exact[verdict.of_sequence]},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether no training sequence is equal."""
        return scores.measures["distance"] > 0

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the worst events: those to be removed or replaced, or before which some are missing.

        ``expected`` lists what the nearest training sequence has there, in its order, with the
        share of training sequences that hold the template anywhere. What is missing at the end is
        told behind the last event.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        verdict, share = self._judge(sequences), self._fitted().share
        faults = {
            query: self._faults(verdict, query, share)
            for query in np.unique(verdict.of_sequence).tolist()
        }
        explanations = []
        # One turn per sequence: an explanation is an object of its own, asked for flagged ones.
        for i, key in enumerate(sequences.keys):
            first, last = int(sequences.offsets[i]), int(sequences.offsets[i + 1])
            culprits = [
                Culprit(
                    int(sequences.rows[min(first + position, last - 1)]), position, score, expected
                )
                for position, score, expected in faults[int(verdict.of_sequence[i])]
            ]
            explanations.append(Explanation(key, tuple(culprits)))
        return explanations

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``vocab.json`` and the sequences as ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(folder / "vocab.json", model.vocabulary.to_json())
        save_arrays(folder / "model.safetensors", vars(model.known))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(EditDistanceConfig, read_json(where), str(where))
        vocabulary = Vocabulary.from_json(read_json(folder / "vocab.json"))
        try:
            known = Strings(**load_arrays(folder / "model.safetensors"))
            known.check(vocabulary.size)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._model = _Model(vocabulary, known)
        return detector

    def _fitted(self) -> _Model:
        if self._model is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._model

    def _judge(self, sequences: Sequences) -> _Verdict:
        model = self._fitted()
        tokens = model.vocabulary.encode(sequences.template_ids())
        tokens[tokens == UNKNOWN] = PAD  # not what was unknown in training: equal to nothing
        found = distinct_strings(tokens, sequences.offsets)
        queries = Strings(found.tokens, found.offsets, found.counts)
        size = model.vocabulary.size
        nearest = find_nearest(queries, model.known, size, self.config.max_steps)
        if n_open := int(np.count_nonzero(~nearest.exact[found.of_chunk])):
            logger.warning(
                "%s: %d of %d sequences were not compared with all that may be nearer; their "
                "distance is an upper bound (max_steps)",
                self.name,
                n_open,
                len(sequences),
            )
        return _Verdict(queries, found.of_chunk, nearest)

    def _edits(self, verdict: _Verdict, query: int) -> list[tuple[str, int, int, int, int]]:
        """Return the fewest edits to the nearest string: kind, and from where to where in both."""
        near = self._fitted().known.text(int(verdict.nearest.index[query]))
        edits = Levenshtein.opcodes(verdict.queries.text(query), near)
        return [
            (op.tag, op.src_start, op.src_end, op.dest_start, op.dest_end)
            for op in edits
            if op.tag != "equal"
        ]

    def _weight(self, verdict: _Verdict, query: int) -> float:
        """Return what one edit adds to the distance."""
        near = int(verdict.nearest.index[query])
        return 1.0 / max(verdict.queries.lengths[query], self._fitted().known.lengths[near])

    def _event_scores(self, sequences: Sequences, verdict: _Verdict) -> NDArray[np.float32]:
        """Return (m,) what removing or replacing each event adds to the distance, else 0."""
        queries = verdict.queries
        of_token = np.zeros(len(queries.tokens), dtype=np.float32)
        for query in np.flatnonzero(verdict.nearest.distance > 0).tolist():
            begin, weight = int(queries.offsets[query]), self._weight(verdict, query)
            for _, first, last, _, _ in self._edits(verdict, query):
                of_token[begin + first : begin + last] = weight
        within = np.arange(len(sequences.rows)) - np.repeat(
            sequences.offsets[:-1], sequences.lengths
        )
        begins = queries.offsets[:-1][verdict.of_sequence]
        return of_token[np.repeat(begins, sequences.lengths) + within]

    def _faults(
        self, verdict: _Verdict, query: int, share: NDArray[np.float64]
    ) -> list[tuple[int, float, tuple[tuple[int, float], ...]]]:
        """Return position, score and what was expected of the worst few edits of a string."""
        model, weight = self._fitted(), self._weight(verdict, query)
        near = int(verdict.nearest.index[query])
        usual = model.known.tokens[model.known.offsets[near] : model.known.offsets[near + 1]]
        faults = []
        for kind, first, last, start, stop in self._edits(verdict, query):
            if kind == "insert":  # all of them are missing before one event
                faults.append((first, weight * (stop - start), usual[start:stop]))
            else:
                instead = usual[start:stop]
                faults += [(at, weight, instead[at - first :][:1]) for at in range(first, last)]
        faults.sort(key=lambda fault: (-fault[1], fault[0]))
        return [
            (at, float(score), _expected(tokens, model.vocabulary, share))
            for at, score, tokens in faults[:N_CULPRITS]
        ]


def _expected(
    tokens: Ints, vocabulary: Vocabulary, share: NDArray[np.float64]
) -> tuple[tuple[int, float], ...]:
    """Return the templates of the first few known tokens, each with its share."""
    shown = [token for token in tokens.tolist() if token != UNKNOWN][:N_CULPRITS]
    return tuple((vocabulary.template_of(token), float(share[token])) for token in shown)
