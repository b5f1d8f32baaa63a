"""Clusters of weighted count vectors: how far a sequence is from the nearest kind of normal one.

Source: Lin, Zhang, Lou, Zhang & Chen, "Log Clustering Based Problem Identification for Online
Service Systems" (ICSE-SEIP 2016).

Equations, for a sequence with counts x_j of template j and N training sequences of which n_j hold
template j::

    weight        w_j = 1 / (1 + exp(-log(N / n_j))) = N / (N + n_j)                  in [.5, 1]
    vector        v_j = w_j log(1 + x_j), scaled to length 1
    clusters      of the distinct training vectors, agglomerative by cosine distance and complete
                  linkage, merged while no two members are farther apart than ``threshold``
    score         min over clusters of 1 - v c, c the mean of the cluster's vectors, of length 1
    paper's rule  score > ``threshold``: the sequence would open a cluster of its own
    event score   an event of template j: (v_j - c_j)^2 / 2 / x_j where v_j > c_j; where v_j < c_j
                  it is missing. Over all templates these sum to the score

Deviations and their reasons: the paper weighs, besides, templates that occur in production only,
which needs two systems; its representative is the member nearest to the others, here the mean, as
in later implementations. Logarithms of counts, since retries would else outweigh all that is rare.
``threshold`` is .001 by the area under precision and recall of validation normals against
corruptions of them (``pipeline.synthetic``), by which it should be small: with .001, .01 and .3 it
is .88, .80 and .52 on HDFS, .37, .35 and .21 on the simulated cluster, .05, .05 and .04 on Blue
Gene/L, and .04 on ADFA-LD. What remains is close to the nearest neighbour by cosine. An unknown
template has a column of its own, held by no training sequence, hence of weight 1, and is in no
cluster's centre: it can only raise the score. Distances between all vectors would not fit into
memory where there are many: the ``BATCH`` most frequent are clustered first, then those of the
others that are outside every cluster, batch by batch. Not causal: a prefix lacks events that the
whole sequence has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oddlog import config as settings
from oddlog.blame import event_scores, explain
from oddlog.encode import training_templates
from oddlog.errors import NotFittedError
from oddlog.events import Sequences
from oddlog.extras import import_extra
from oddlog.findings import Explanation, Scores
from oddlog.run import Run
from oddlog.vectors import Known, Rows, by_blocks, learn_vectors, load_fitted, save_fitted

BATCH = 4096  # distinct vectors clustered at once: 134 MB of distances


class LogClusterConfig(settings.Config):
    """Settings of log clustering.

    Attributes:
        threshold: Largest cosine distance between two members of a cluster.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.001


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        weights: (V + 1,) of each template, and of any unknown one.
        centres: (C, V + 1) of the clusters, of length 1.
    """

    weights: NDArray[np.float64]
    centres: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.centres.shape[1:] != self.weights.shape or not len(self.centres):
            raise ValueError("centres and weights do not belong together")

    def embed(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, V + 1) weighted vectors of length 1."""
        return to_unit(np.log1p(rows) * self.weights)

    def nearest(self, vectors: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray]:
        """Return (rows,) the nearest centre of each vector, and the cosine distance to it."""
        near = np.zeros(len(vectors), dtype=np.int64)
        best = np.full(len(vectors), -np.inf)
        for first in range(0, len(self.centres), BATCH):
            cosine = vectors @ self.centres[first : first + BATCH].T
            place = cosine.argmax(axis=1)
            value = cosine[np.arange(len(place)), place]
            near = np.where(value > best, first + place, near)
            best = np.maximum(best, value)
        return near, np.maximum(1 - best, 0)

    def distance(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows,) the cosine distance to the nearest centre."""
        return self.nearest(self.embed(rows))[1]

    def blame(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, V + 1) each template's part of the distance, with its sign."""
        vectors = self.embed(rows)
        away = vectors - self.centres[self.nearest(vectors)[0]]
        return np.sign(away) * away**2 / 2


class LogCluster:
    """Compare weighted template counts with the centres of clusters of normal ones."""

    name: ClassVar[str] = "log_cluster"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = LogClusterConfig

    def __init__(self, config: LogClusterConfig) -> None:
        self.config = config
        self._fit: tuple[Known, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Cluster the distinct vectors of ``train``; ``valid`` has no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template; or scikit-learn is not
                installed.
        """
        known, _ = learn_vectors(train, training_templates(train, self.name))
        weights = known.n_sequences / (known.n_sequences + known.held)
        self._fit = known, Model(weights, self._centres(known, weights, run))

    def score(self, sequences: Sequences) -> Scores:
        """Score by the cosine distance to the nearest cluster.

        ``measures`` holds ``distance`` (n,) float64. Event scores are the event's part of it.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        counted = known.count(sequences)
        distance = by_blocks(counted.vectors, known.width, model.distance)[counted.inverse]
        return Scores(
            sequence=distance.astype(np.float32),
            event=event_scores(sequences, counted, known, model.blame),
            measures={"distance": distance},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the sequence would open a cluster of its own."""
        return scores.measures["distance"] > self.config.threshold

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates that differ most from the cluster, and what is missing.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        return explain(sequences, known.count(sequences), known, model.blame)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        save_fitted(folder, self.config, known, vars(model))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        config, known, model = load_fitted(folder, LogClusterConfig, Model)
        detector = cls(config)
        detector._fit = known, model
        return detector

    def _fitted(self) -> tuple[Known, Model]:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _centres(self, known: Known, weights: NDArray[np.float64], run: Run) -> NDArray[np.float64]:
        """Cluster batch by batch, and take what is inside no cluster yet into the next one."""
        cluster = import_extra("sklearn.cluster", self.name)
        left = np.arange(len(known.vectors))
        centres = np.empty((0, known.width))
        while len(left):
            run.progress(self.name, len(known.vectors) - len(left), len(known.vectors))
            own = known.vectors.take(left[:BATCH])
            vectors = to_unit(np.log1p(own.dense(0, len(own), known.width)) * weights)
            found = np.zeros(len(own), dtype=np.int64)
            if len(own) > 1:
                found = cluster.AgglomerativeClustering(
                    n_clusters=None,
                    metric="cosine",
                    linkage="complete",
                    distance_threshold=self.config.threshold,
                ).fit_predict(vectors)
            sums = np.zeros((found.max() + 1, known.width))
            np.add.at(sums, found, vectors)
            centres = np.concatenate([centres, to_unit(sums)])
            rest = known.vectors.take(left[BATCH:])
            distance = by_blocks(rest, known.width, Model(weights, centres).distance)
            left = left[BATCH:][distance > self.config.threshold]
        return centres


def to_unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, width) the vectors, none of which is zero, scaled to length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
