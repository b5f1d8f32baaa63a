"""Isolation forest on counts: how few random splits set a sequence apart.

Source: Liu, Ting & Zhou, "Isolation Forest" (ICDM 2008), on template counts as in the comparison of
He, Zhu, He & Lyu, "Experience Report: System Log Analysis for Anomaly Detection" (ISSRE 2016).

Equations, for trees that split on a random template at a random count, each grown from ``samples``
training vectors to a depth of log2(``samples``)::

    path length   h = depth of the sequence's leaf + c(training vectors in it)
    c(n)          2 (log(n - 1) + .5772...) - 2 (n - 1) / n;  c(2) = 1, c(1) = 0
    score         2^(-mean of h over trees / c(samples))                             in (0, 1)
    paper's rule  score > .5

Deviations and their reasons: trees are grown from distinct vectors, each once. No tree asks for a
template that training never held. So that such a template makes no sequence less odd, each of a
sequence's u unknown events counts as a further column that a split would have drawn with the same
probability as any of the V known ones, and that sets the sequence apart at once: a path of length h
then ends after (1 - q^h) / (1 - q) splits on average, q = V / (V + u). The number of trees and
samples are the paper's: by the area under precision and recall of validation normals against
corruptions of them (``pipeline.synthetic``) it makes no difference, nor would another choice help,
as all stay close to chance (.03): .04 on HDFS, .03 on the simulated cluster, ADFA-LD and Blue
Gene/L. Single counts say little of normal sequences. There are no event scores, as a path has no
terms; ``explain`` puts the count of the nearest training vector in place of each. Not causal: a
prefix lacks events that the whole sequence has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oddlog import config as settings
from oddlog.blame import by_occlusion, explain
from oddlog.encode import training_templates
from oddlog.errors import NotFittedError
from oddlog.events import Sequences
from oddlog.extras import import_extra
from oddlog.findings import Explanation, Scores
from oddlog.run import Run
from oddlog.trees import Trees
from oddlog.vectors import Known, Rows, by_blocks, learn_vectors, load_fitted, save_fitted

PAPER_LIMIT = 0.5


class IsolationForestConfig(settings.Config):
    """Settings of the isolation forest.

    Attributes:
        trees: Number of trees.
        samples: Training vectors that each tree is grown from, at most all.
    """

    trees: Annotated[int, Field(ge=1)] = 100
    samples: Annotated[int, Field(ge=2)] = 256


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        trees: The forest.
        length: (nodes,) path length that ends at a node.
        usual: Path length that counts as average, c(samples).
    """

    trees: Trees
    length: NDArray[np.float64]
    usual: float

    def score(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows,) scores."""
        path = self.length[self.trees.leaves(rows)]
        n_known, unknown = rows.shape[1] - 1, rows[:, -1:]
        stays = n_known / (n_known + np.maximum(unknown, 1))
        ended = (1 - stays**path) / (1 - stays)
        mean = np.where(unknown > 0, ended, path).mean(axis=1)
        return 2.0 ** (-mean / self.usual)


class IsolationForest:
    """Count the random splits that set a sequence's template counts apart."""

    name: ClassVar[str] = "isolation_forest"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = IsolationForestConfig

    def __init__(self, config: IsolationForestConfig) -> None:
        self.config = config
        self._fit: tuple[Known, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Grow the trees from the distinct vectors of ``train``; ``valid`` has no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template; or scikit-learn is not
                installed.
        """
        ensemble = import_extra("sklearn.ensemble", self.name)
        known, _ = learn_vectors(train, training_templates(train, self.name))
        rows = known.vectors.dense(0, len(known.vectors), known.width).astype(np.float32)
        samples = min(self.config.samples, len(rows))
        forest = ensemble.IsolationForest(
            n_estimators=self.config.trees, max_samples=samples, random_state=run.seed
        ).fit(rows)
        fitted = [tree.tree_ for tree in forest.estimators_]
        length = np.concatenate(
            [tree.compute_node_depths() - 1 + unsplit(tree.n_node_samples) for tree in fitted]
        )
        self._fit = known, Model(Trees.of(fitted), length, average_length(samples))

    def score(self, sequences: Sequences) -> Scores:
        """Score by the mean path length; ``measures`` holds ``score`` (n,) float64.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        counted = known.count(sequences)
        score = by_blocks(counted.vectors, known.width, model.score)[counted.inverse]
        return Scores(sequence=score.astype(np.float32), measures={"score": score})

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the path is shorter than the average."""
        return scores.measures["score"] > PAPER_LIMIT

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates whose normal count would lengthen the path most.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        blame = by_occlusion(model.score, known.vectors)
        return explain(sequences, known.count(sequences), known, blame)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        arrays = {"length": model.length, "usual": np.array([model.usual])}
        save_fitted(folder, self.config, known, {**vars(model.trees), **arrays})

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """

        def stored(length: NDArray, usual: NDArray, **trees: NDArray) -> Model:
            if length.shape != trees["left"].shape:
                raise ValueError("path lengths of other nodes")
            return Model(Trees(**trees), length, float(usual[0]))

        config, known, model = load_fitted(folder, IsolationForestConfig, stored)
        detector = cls(config)
        detector._fit = known, model
        return detector

    def _fitted(self) -> tuple[Known, Model]:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit


def unsplit(n: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return c(n), the average further path where n vectors were not split any more."""
    many = np.maximum(n, 3).astype(np.float64)
    average = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(n > 2, average, np.where(n == 2, 1.0, 0.0))


def average_length(samples: int) -> float:
    """Return c(samples), and 1 for a single sample, of which every path has length 0."""
    return max(float(unsplit(np.array(samples))), 1.0)
