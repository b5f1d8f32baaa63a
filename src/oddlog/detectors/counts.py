"""Count vectors: how often each template occurs, compared with the nearest training sequence.

Source: the event count vector clustering (ECVC) of Landauer, Skopik & Wurzenberger, "A critical
review of common log data sets used for evaluation of sequence-based anomaly detection techniques"
(FSE 2024). The order of events plays no part.

Equations, for a sequence with counts a_j of template j, the distinct training vectors b and
weights w_j (1, or with ``idf`` log10((1 + N) / df_j) for N training sequences of which df_j hold
template j)::

    distance      d(a, b) = sum_j w_j |a_j - b_j| / sum_j w_j (a_j + b_j)          in [0, 1]
    score         min over b of d(a, b)
    paper's rule  no b equals a, that is score > 0
    event score   an event of template j with nearest b: w_j max(a_j - b_j, 0) / a_j, over the same
                  denominator, so that a sequence's event scores sum to the part of its score that
                  comes from surplus; the rest is missing events, which ``explain`` names

Deviations and choices that the paper leaves open: the paper's threshold is tuned on the test
set, here it is calibrated or, as ``paper_rule``, "never seen", which needs none. A template that
training never held has df = 1, so that it weighs at least as much as any known one, and matches
nothing. Among equally near vectors the one most frequent in training is the nearest. No sequence
is too short or too long: none gets a default score. Not causal: a prefix lacks events that the
whole sequence has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.encode import training_templates
from oddlog.errors import ArtifactError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.run import Run
from oddlog.vectors import Vectors, columns_of, distinct, join, look_up

BLOCK_CELLS = 2**22  # float64 cells of one block: 32 MB
BLOCK_ROWS = 2048


class CountsConfig(settings.Config):
    """Settings of the count-vector detector.

    Attributes:
        idf: Weigh templates by inverse document frequency.
        rule: What the score is: "nearest" is the distance, "unseen" is 1 for a vector that no
            training sequence has, else 0.
    """

    idf: bool = False
    rule: Literal["nearest", "unseen"] = "nearest"


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        vocabulary: (V,) int32 known templates, ascending.
        vectors: The distinct count vectors.
        share: (V,) float64 share of training sequences that hold each template.
        weights: (V + 1,) float64 weight of each template, and of any unknown one.
    """

    vocabulary: NDArray[np.int32]
    vectors: Vectors
    share: NDArray[np.float64]
    weights: NDArray[np.float64]

    @staticmethod
    def build(vocabulary: NDArray[np.int32], vectors: Vectors, *, idf: bool) -> Model:
        """Derive shares and weights from the vectors."""
        n, width = int(vectors.frequency.sum()), len(vocabulary) + 1
        held = np.bincount(vectors.columns, vectors.frequency[vectors.owners], minlength=width)
        held[-1] = 1  # an unknown template weighs what one held by a single sequence would
        weights = np.log10((1 + n) / held) if idf else np.ones(width)
        return Model(vocabulary, vectors, held[:-1] / n, weights)


@dataclass(frozen=True, eq=False)
class Verdict:
    """Distinct vectors of the scored sequences, and the nearest training vector of each.

    Attributes:
        queries: The Q distinct vectors.
        inverse: (n,) the vector of each sequence.
        columns: (m,) column of each event.
        nearest: (Q,) the nearest training vector.
        distance: (Q,) float64 distance to it.
        unseen: (Q,) bool: no training vector is equal.
    """

    queries: Vectors
    inverse: NDArray[np.int64]
    columns: NDArray[np.int64]
    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]
    unseen: NDArray[np.bool_]


@dataclass(frozen=True)
class Missing:
    """Templates that a sequence lacks: (template id, share of training sequences), and a score.

    The score is what one event of the heaviest of them adds to the distance.
    """

    expected: tuple[tuple[int, float], ...]
    score: float


class Counts:
    """Compare a sequence's template counts with those of training sequences."""

    name: ClassVar[str] = "counts"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = CountsConfig

    def __init__(self, config: CountsConfig) -> None:
        self.config = config
        self._model: Model | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Remember the distinct count vectors of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template.
        """
        vocabulary = training_templates(train, self.name)
        vectors, _ = distinct(
            train, columns_of(train.template_ids(), vocabulary), len(vocabulary) + 1
        )
        self._model = Model.build(vocabulary, vectors, idf=self.config.idf)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that remembers the vectors of ``train`` as well.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        old, ids = self._fitted(), train.template_ids()
        vocabulary = np.union1d(old.vocabulary, ids[ids >= 0]).astype(np.int32)
        vectors, _ = distinct(train, columns_of(ids, vocabulary), len(vocabulary) + 1)
        vectors = join(old.vectors.over(old.vocabulary, vocabulary), vectors)
        adapted = type(self)(self.config)
        adapted._model = Model.build(vocabulary, vectors, idf=self.config.idf)
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the distance to the nearest training vector.

        ``measures`` holds ``distance`` (n,) float64 and ``unseen`` (n,) bool. Event scores are the
        event's share of the distance, see the module's equations.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        verdict = self._judge(sequences)
        distance = verdict.distance[verdict.inverse]
        unseen = verdict.unseen[verdict.inverse]
        return Scores(
            sequence=(distance if self.config.rule == "nearest" else unseen).astype(np.float32),
            event=self._event_scores(sequences, verdict).astype(np.float32),
            measures={"distance": distance, "unseen": unseen},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether no training sequence has the sequence's count vector."""
        return scores.measures["unseen"]

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name surplus and unknown events, and after the last event what is missing.

        ``expected`` lists the templates that the nearest training vector has more of, with the
        share of training sequences that hold them.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        verdict = self._judge(sequences)
        scores = self._event_scores(sequences, verdict)
        bounds = zip(sequences.offsets[:-1], sequences.offsets[1:], strict=True)
        missing = [self._missing(verdict, query) for query in range(len(verdict.queries))]
        explanations = []
        # One turn per sequence: an explanation is an object of its own, asked for flagged ones.
        for key, query, (first, last) in zip(sequences.keys, verdict.inverse, bounds, strict=True):
            lack = missing[query]
            culprits = [
                Culprit(int(sequences.rows[place]), int(place - first), float(score), lack.expected)
                for place, score in enumerate(scores[first:last], first)
                if score > 0
            ]
            if lack.expected:
                row = int(sequences.rows[last - 1])
                culprits.append(Culprit(row, int(last - first), lack.score, lack.expected))
            culprits.sort(key=lambda culprit: -culprit.score)
            explanations.append(Explanation(key, tuple(culprits)))
        return explanations

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the training vectors as ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        arrays = {"vocabulary": model.vocabulary, **vars(model.vectors)}
        save_arrays(folder / "model.safetensors", arrays)

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(CountsConfig, read_json(where), str(where))
        arrays = load_arrays(folder / "model.safetensors")
        try:
            vocabulary = arrays.pop("vocabulary")
            vectors = Vectors(**arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._model = Model.build(vocabulary, vectors, idf=config.idf)
        return detector

    def _fitted(self) -> Model:
        if self._model is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._model

    def _judge(self, sequences: Sequences) -> Verdict:
        model = self._fitted()
        columns = columns_of(sequences.template_ids(), model.vocabulary)
        queries, inverse = distinct(sequences, columns, len(model.weights))
        plain = np.ones_like(model.weights)
        nearest, distance = find_nearest(queries, model.vectors, plain)
        unseen = distance > 0  # exact: sums of integers
        if self.config.idf:
            nearest_idf, distance = find_nearest(queries, model.vectors, model.weights)
            nearest = np.where(unseen, nearest_idf, nearest)
            distance = np.where(unseen, distance, 0)
        return Verdict(queries, inverse, columns, nearest, distance, unseen)

    def _event_scores(self, sequences: Sequences, verdict: Verdict) -> NDArray[np.float64]:
        """Return (m,) each event's share of its sequence's distance."""
        model, queries = self._fitted(), verdict.queries
        width = len(model.weights)
        usual = look_up(
            model.vectors, verdict.nearest[queries.owners] * width + queries.columns, width
        )
        usual[queries.columns == width - 1] = 0
        whole = queries.totals(model.weights) + model.vectors.totals(model.weights)[verdict.nearest]
        surplus = np.maximum(queries.counts - usual, 0) * model.weights[queries.columns]
        share = surplus / (queries.counts * whole[queries.owners])
        events = np.repeat(verdict.inverse, sequences.lengths) * width + verdict.columns
        return share[np.searchsorted(queries.keys(width), events)]

    def _missing(self, verdict: Verdict, query: int) -> Missing:
        """Say what the vector's nearest training vector has more of."""
        model = self._fitted()
        width, near = len(model.weights), int(verdict.nearest[query])
        found = verdict.queries.dense(query, query + 1, width)[0]
        usual = model.vectors.dense(near, near + 1, width)[0]
        lacking = np.flatnonzero(usual[:-1] > found[:-1])
        if not len(lacking):
            return Missing((), 0.0)
        lacking = lacking[np.argsort(-model.share[lacking], kind="stable")]
        templates = (int(template) for template in model.vocabulary[lacking])
        expected = zip(templates, model.share[lacking].tolist(), strict=True)
        score = model.weights[lacking].max() / (model.weights * (found + usual)).sum()
        return Missing(tuple(expected), float(score))


def find_nearest(
    queries: Vectors, known: Vectors, weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each query's nearest known vector (Q,) and the distance to it (Q,).

    |a - b| = a + b - 2 min(a, b), and min(a, b) is a product: with the counts v_1 < v_2 < ... that
    a template has in the known vectors, min(a, b) = sum_i clip(a - v_(i-1), 0, v_i - v_(i-1)) *
    [b >= v_i]. So all pairs are matrix products, in blocks of bounded memory; with weights of 1
    every number is an integer and exact.
    """
    column, count = _levels(known, len(weights) - 1)
    rows = max(1, min(BLOCK_ROWS, BLOCK_CELLS // len(column)))
    query_totals, known_totals = queries.totals(weights), known.totals(weights)
    nearest = np.zeros(len(queries), dtype=np.int64)
    best = np.full(len(queries), np.inf)
    for start in range(0, len(known), rows):
        stop = min(start + rows, len(known))
        reached = (known.dense(start, stop, len(weights))[:, column] >= count).astype(np.float64)
        for first in range(0, len(queries), rows):
            block = slice(first, min(first + rows, len(queries)))
            steps = _steps(queries.dense(first, block.stop, len(weights)), column, count)
            whole = query_totals[block, None] + known_totals[start:stop]  # (queries, known)
            distance = (whole - 2 * (steps * weights[column]) @ reached.T) / whole
            near = distance.argmin(axis=1)
            value = distance[np.arange(len(near)), near]
            closer = value < best[block]
            nearest[block] = np.where(closer, start + near, nearest[block])
            best[block] = np.where(closer, value, best[block])
    return nearest, best


def _levels(known: Vectors, n_known: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (L,) columns and counts that occur in the known vectors, ascending."""
    inside = known.columns < n_known
    pairs = np.unique(np.stack([known.columns[inside], known.counts[inside]], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def _steps(
    counts: NDArray[np.int64], column: NDArray[np.int64], count: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (rows, L) how much of each step between levels the counts (rows, width) climb."""
    same = np.concatenate([[False], column[1:] == column[:-1]])
    below = np.where(same, np.concatenate([[0], count[:-1]]), 0)
    return np.clip(counts[:, column] - below, 0, count - below).astype(np.float64)
