"""One-class support vector machine on counts: outside the region that holds most of training.

Source: Schölkopf, Platt, Shawe-Taylor, Smola & Williamson, "Estimating the Support of a
High-Dimensional Distribution" (Neural Computation 2001).

Equations, for the vector z_j = log(1 + x_j) of a sequence's counts, the support vectors s with
their coefficients a_s, and the offset rho::

    kernel        k(z, s) = exp(-``gamma`` |z - s|^2)
    decision      f(z) = sum over s of a_s k(z, s) - rho, at least 0 for a share of about 1 - ``nu``
                  of training
    score         log(rho) - log(sum over s of a_s k(z, s))
    paper's rule  f(z) < 0, that is score > 0

Deviations and their reasons: the score is the decision on another scale, as f itself is -rho for
all that is far away, so that a long session and the same with a fault in it would tie. Each
distinct vector weighs as often as it occurs, as in the paper. Logarithms of counts, since retries
would outweigh all that is rare. ``nu`` and ``gamma`` by the area under precision and recall of
validation normals against corruptions of them (``pipeline.synthetic``): .88 on HDFS, .36 on the
simulated cluster, .07 on Blue Gene/L and .03 on ADFA-LD; .69, .31, .06 and .03 with ``gamma`` 1,
and .19, .18, .05 and .03 with a ``nu`` of .5, which is usual. An unknown template has a column of
its own, in which every support vector is 0: it moves a sequence away from all of them. Fitting
takes time by the square of the number of distinct vectors. There are no event scores, as a kernel
has no terms; ``explain`` puts the count of the nearest training vector in place of each. Not
causal: a prefix lacks events that the whole sequence has.
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
from oddlog.vectors import (
    Known,
    Rows,
    block_rows,
    by_blocks,
    learn_vectors,
    load_fitted,
    save_fitted,
)


class OneClassSVMConfig(settings.Config):
    """Settings of the one-class support vector machine.

    Attributes:
        nu: Share of training that may be outside, at most.
        gamma: Width of the kernel: 1 / (2 sigma^2), of logarithms of counts.
    """

    nu: Annotated[float, Field(gt=0, le=1)] = 0.01
    gamma: Annotated[float, Field(gt=0)] = 3.0


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        support: (S,) int64 which of the known vectors are support vectors.
        weight: (S,) float64 logarithm of each coefficient over the offset.
    """

    support: NDArray[np.int64]
    weight: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.support.shape != self.weight.shape or not len(self.support):
            raise ValueError("support vectors and coefficients do not belong together")


class OneClassSVM:
    """Tell whether a sequence's template counts lie in the region of normal ones."""

    name: ClassVar[str] = "one_class_svm"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = OneClassSVMConfig

    def __init__(self, config: OneClassSVMConfig) -> None:
        self.config = config
        self._fit: tuple[Known, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Find the support vectors among those of ``train``; ``valid`` has no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template; or scikit-learn is not
                installed.
        """
        svm = import_extra("sklearn.svm", self.name)
        known, _ = learn_vectors(train, training_templates(train, self.name))
        points = np.log1p(known.vectors.dense(0, len(known.vectors), known.width))
        times = known.vectors.frequency.astype(np.float64)
        machine = svm.OneClassSVM(nu=self.config.nu, gamma=self.config.gamma)
        machine.fit(points, sample_weight=times * (len(times) / times.sum()))
        offset = max(float(machine.offset_[0]), np.finfo(np.float64).tiny)
        weight = np.log(machine.dual_coef_[0]) - np.log(offset)
        self._fit = known, Model(machine.support_.astype(np.int64), weight)

    def score(self, sequences: Sequences) -> Scores:
        """Score by how far the decision is on the odd side; see the module.

        ``measures`` holds ``outside`` (n,) float64, above 0 where the decision is "anomalous".

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, _ = self._fitted()
        counted = known.count(sequences)
        outside = by_blocks(counted.vectors, known.width, self._outside)[counted.inverse]
        return Scores(sequence=outside.astype(np.float32), measures={"outside": outside})

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the decision function is below 0."""
        return scores.measures["outside"] > 0

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates whose normal count would bring the sequence nearest.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        known, _ = self._fitted()
        blame = by_occlusion(self._outside, known.vectors)
        return explain(sequences, known.count(sequences), known, blame)

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
        config, known, model = load_fitted(folder, OneClassSVMConfig, Model)
        detector = cls(config)
        detector._fit = known, model
        return detector

    def _fitted(self) -> tuple[Known, Model]:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _outside(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows,) scores, the sum over support vectors taken block by block."""
        known, model = self._fitted()
        points, step = np.log1p(rows), block_rows(known.width)
        squares = (points * points).sum(axis=1, keepdims=True)
        inside = np.full(len(rows), -np.inf)
        for first in range(0, len(model.support), step):
            own = slice(first, first + step)
            vectors = known.vectors.take(model.support[own])
            support = np.log1p(vectors.dense(0, len(vectors), known.width))
            squared = squares + (support * support).sum(axis=1) - 2 * points @ support.T
            terms = model.weight[own] - self.config.gamma * np.maximum(squared, 0)
            highest = terms.max(axis=1, keepdims=True, initial=-np.inf)
            block = highest[:, 0] + np.log(np.exp(terms - highest).sum(axis=1))
            inside = np.logaddexp(inside, block)
        return -inside
