"""Logistic regression on counts: a weight for each template, the plainest classifier.

Source: He, Zhu, He & Lyu, "Experience Report: System Log Analysis for Anomaly Detection" (ISSRE
2016), and for the failures of services that it was first used on Bodik, Goldszmidt, Fox, Woodard &
Andersen, "Fingerprinting the Datacenter" (EuroSys 2010).

Equations, for a sequence with counts x_j, weights w_kj and intercepts b_k of the classes k::

    p(k)          exp(z_k) / sum over i of exp(z_i),  z_k = b_k + sum over j of w_kj log(1 + x_j)
    training      least  sum over sequences of -log p(true class) + |w|^2 / (2 ``strength``)
    score         p(anomalous) = 1 - p(normal)
    paper's rule  p(anomalous) >= .5

Deviations and their reasons: logarithms of counts, since a line that is repeated a thousand times
would else decide alone. With two classes the weights of "normal" are 0, with more each class has
its own. The weight of unknown templates cannot be learned, as training holds none. So a sequence
with an unknown template is as likely anomalous as labelled validation sequences with one were, if
the weights do not find it likelier: p(normal) is multiplied by 1 - (a + 1) / (n + 2) where n such
validation sequences had a anomalies; it can only fall. ``strength`` is scikit-learn's default and
not tuned. There are no event scores; ``explain`` puts the count of the nearest normal training
vector in place of each. Not causal: a prefix lacks events that the whole sequence has.
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
from oddlog.classes import (
    Taught,
    add_novelty,
    learn_classes,
    load_taught,
    novelty_risk,
    save_taught,
    score_classes,
    with_labels,
)
from oddlog.encode import training_templates
from oddlog.errors import NotFittedError
from oddlog.events import Sequences
from oddlog.extras import import_extra
from oddlog.findings import Explanation, Scores
from oddlog.run import Run
from oddlog.vectors import Rows

MAX_STEPS = 5000


class LogisticRegressionConfig(settings.Config):
    """Settings of logistic regression.

    Attributes:
        strength: How much weights may grow: the inverse of the penalty.
    """

    strength: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        weights: (K, V + 1) of the classes; 0 for unknown templates.
        intercepts: (K,) of the classes.
        risk: (1,) of an unknown template, see ``novelty_risk``.
    """

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    risk: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.intercepts) or self.risk.shape != (1,):
            raise ValueError("weights and intercepts do not belong together")


class LogisticRegression:
    """Weigh each template's count for and against each class."""

    name: ClassVar[str] = "logistic_regression"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = LogisticRegressionConfig

    def __init__(self, config: LogisticRegressionConfig) -> None:
        self.config = config
        self._fit: tuple[Taught, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Fit the weights to ``train``; ``valid`` tells what an unknown template means.

        Raises:
            ConfigError: ``train`` holds no known template; or scikit-learn is not installed.
            LabelsError: ``train`` has no normal sequence, or no anomaly.
        """
        linear = import_extra("sklearn.linear_model", self.name)
        labelled = with_labels(train, self.name)
        taught = learn_classes(labelled, training_templates(labelled, self.name))
        rows, label, times = taught.pairs()
        classifier = linear.LogisticRegression(C=self.config.strength, max_iter=MAX_STEPS)
        classifier.fit(np.log1p(rows), label, sample_weight=times)
        weights, intercepts = classifier.coef_, classifier.intercept_
        if len(taught.names) == 2:  # scikit-learn tells the anomaly's weights alone
            weights = np.concatenate([np.zeros_like(weights), weights])
            intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
        risk = np.array([novelty_risk(valid, taught.known.vocabulary)])
        self._fit = taught, Model(weights, intercepts, risk)

    def score(self, sequences: Sequences) -> Scores:
        """Score by p(anomalous), which ``measures`` holds as ``probability`` (n,) float64.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        return score_classes(sequences, self._fitted()[0], self._probability)

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether an anomaly is at least as likely as not."""
        return scores.measures["probability"] >= 0.5

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates whose normal count would make an anomaly least likely.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        taught = self._fitted()[0]
        blame = by_occlusion(lambda rows: 1 - self._probability(rows)[:, 0], taught.normal.vectors)
        return explain(sequences, taught.known.count(sequences), taught.normal, blame)

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``classes.json`` and ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        taught, model = self._fitted()
        save_taught(folder, self.config, taught, vars(model))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        config, taught, model = load_taught(folder, LogisticRegressionConfig, Model)
        detector = cls(config)
        detector._fit = taught, model
        return detector

    def _fitted(self) -> tuple[Taught, Model]:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _probability(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, K) class probabilities."""
        _, model = self._fitted()
        evidence = np.log1p(rows) @ model.weights.T + model.intercepts
        odds = np.exp(evidence - evidence.max(axis=1, keepdims=True))
        probability = odds / odds.sum(axis=1, keepdims=True)
        return add_novelty(probability, rows[:, -1] > 0, float(model.risk[0]))
