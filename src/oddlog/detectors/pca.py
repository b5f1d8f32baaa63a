"""Principal components of count vectors: what does not fit the correlations of normal counts.

Source: Xu, Huang, Fox, Patterson & Jordan, "Detecting Large-Scale System Problems by Mining Console
Logs" (SOSP 2009), and for the limit Jackson & Mudholkar, "Control Procedures for Residuals
Associated with Principal Component Analysis" (Technometrics 1979).

Equations, for a sequence with counts x_j of template j, N training sequences of which n_j hold
template j, and P the first k eigenvectors of the training covariance, with eigenvalues l_1 >= ...::

    y_j           w_j x_j - mean_j,  w_j = 1 + log(N / n_j)  (``idf = "paper"``: log(N / n_j))
    score         squared prediction error  SPE = |r|^2,  r = (I - P P') y
    k             the least for which l_1 + ... + l_k >= ``variance`` of all
    paper's rule  SPE > Q_alpha = t_1 (c sqrt(2 t_2 h^2) / t_1 + 1 + t_2 h (h - 1) / t_1^2)^(1/h),
                  t_i = sum over j > k of l_j^i,  h = 1 - 2 t_1 t_3 / (3 t_2^2),  and c the
                  normal deviate of 1 - alpha
    event score   an event of template j: r_j^2 / x_j where r_j > 0; where r_j < 0 it is missing

Deviations and their reasons: a template that every training sequence holds weighs log(1) = 0 in the
paper, so that it is not missed where it lacks; here it weighs 1. ``variance`` is .9999, not the
paper's .95, by the area under precision and recall of validation normals against corruptions of
them (``pipeline.synthetic``): on HDFS .86 instead of .05 with the paper's weights and share, on the
simulated cluster .80 instead of .05, on Blue Gene/L .08 instead of .04, on ADFA-LD .03, chance,
with both. Fitted on normal sequences alone; the paper takes the whole log. An unknown template has
a column of its own, weighs as much as one that a single training sequence holds, and varies nowhere
in training, so that all of it is residual: it can only raise the score. Not causal: a prefix lacks
events that the whole sequence has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from oddlog import config as settings
from oddlog.blame import event_scores, explain
from oddlog.encode import training_templates
from oddlog.errors import NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.run import Run
from oddlog.vectors import Known, Rows, by_blocks, learn_vectors, load_fitted, save_fitted

ROUNDING = 1e-9  # of the squared length of a vector: what float64 leaves of a residual of zero


class PCAConfig(settings.Config):
    """Settings of principal component analysis.

    Attributes:
        variance: Share of the variance that the principal components explain at least.
        idf: Weights of templates: "smooth" or the paper's.
        alpha: Of the paper's limit Q_alpha.
    """

    variance: Annotated[float, Field(gt=0, le=1)] = 0.9999
    idf: Literal["smooth", "paper"] = "smooth"
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.001


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        weights: (V + 1,) of each template, and of any unknown one.
        mean: (V + 1,) of the weighted counts.
        components: (V + 1, k) orthonormal eigenvectors.
        eigenvalues: (V + 1,) of the covariance, descending.
    """

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]

    def __post_init__(self) -> None:
        n_rows, n_components = self.components.shape
        if {len(self.weights), len(self.mean), len(self.eigenvalues)} != {n_rows}:
            raise ValueError("principal components and weights do not belong together")
        if n_components > n_rows:
            raise ValueError("more principal components than templates")

    @staticmethod
    def of(known: Known, config: PCAConfig) -> Model:
        """Take the eigenvectors of the covariance; each distinct vector counts as often as it is.

        The covariance has (V + 1)^2 cells, whatever the number of sequences.
        """
        times, n = known.vectors.frequency.astype(np.float64), known.n_sequences
        first = 1.0 if config.idf == "smooth" else 0.0
        weights = first + np.log(n / np.maximum(known.held, 1))
        mean = weights * np.bincount(
            known.vectors.columns,
            known.vectors.counts * times[known.vectors.owners],
            minlength=known.width,
        )
        mean /= n
        covariance = np.zeros((known.width, known.width))
        step = 2048
        for at in range(0, len(known.vectors), step):
            last = min(at + step, len(known.vectors))
            away = known.vectors.dense(at, last, known.width) * weights - mean
            covariance += (away * times[at:last, None]).T @ away / max(n - 1, 1)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values[::-1], 0)
        explained = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
        k = min(int(np.searchsorted(explained, config.variance - 1e-12)) + 1, len(values))
        k = min(k, int(np.count_nonzero(values > ROUNDING * values[0])))
        return Model(weights, mean, vectors[:, ::-1][:, :k], values)

    def residual(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, V + 1) the part of weighted counts that components do not explain."""
        away = rows * self.weights - self.mean
        found = away - (away @ self.components) @ self.components.T
        error = ROUNDING * (away * away).sum(axis=1, keepdims=True)
        return np.where((found * found).sum(axis=1, keepdims=True) > error, found, 0.0)

    def limit(self, alpha: float) -> float:
        """Return Q_alpha; 0 where the components explain all of training."""
        rest = self.eigenvalues[self.components.shape[1] :]
        rest = rest[rest > ROUNDING * max(self.eigenvalues[0], np.finfo(float).tiny)]
        if not len(rest):
            return 0.0
        t1, t2, t3 = (float((rest**power).sum()) for power in (1, 2, 3))
        h = 1 - 2 * t1 * t3 / (3 * t2**2)
        c = NormalDist().inv_cdf(1 - alpha)
        base = c * math.sqrt(2 * t2 * h**2) / t1 + 1 + t2 * h * (h - 1) / t1**2
        return t1 * max(base, 0.0) ** (1 / h) if h else math.inf


class PCA:
    """Measure what of a sequence's template counts normal correlations do not explain."""

    name: ClassVar[str] = "pca"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = PCAConfig

    def __init__(self, config: PCAConfig) -> None:
        self.config = config
        self._fit: tuple[Known, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Take the principal components of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template.
        """
        known, _ = learn_vectors(train, training_templates(train, self.name))
        self._fit = known, Model.of(known, self.config)

    def score(self, sequences: Sequences) -> Scores:
        """Score by the squared prediction error.

        ``measures`` holds ``error`` (n,) float64 and ``above_limit`` (n,) bool, whether it is above
        Q_alpha. Event scores are the event's share of the error, see the module's equations.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, model = self._fitted()
        counted = known.count(sequences)
        error = by_blocks(
            counted.vectors, known.width, lambda rows: (model.residual(rows) ** 2).sum(axis=1)
        )[counted.inverse]
        return Scores(
            sequence=error.astype(np.float32),
            event=event_scores(sequences, counted, known, self._blame),
            measures={"error": error, "above_limit": error > model.limit(self.config.alpha)},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the squared prediction error is above Q_alpha."""
        return scores.measures["above_limit"]

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates with the largest residuals, and what is missing.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, _ = self._fitted()
        return explain(sequences, known.count(sequences), known, self._blame)

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
        config, known, model = load_fitted(folder, PCAConfig, Model)
        detector = cls(config)
        detector._fit = known, model
        return detector

    def _fitted(self) -> tuple[Known, Model]:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _blame(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, V + 1) squared residuals with the sign of the residual."""
        residual = self._fitted()[1].residual(rows)
        return np.sign(residual) * residual**2
