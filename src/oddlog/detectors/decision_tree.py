"""Decision tree on counts: the classifier that deep ones have to beat.

Source: Yu, Yao, Fu, Chen & Zhang, "Deep Learning or Classical Machine Learning? An Empirical Study
on Log-Based Anomaly Detection" (ICSE 2024), and Breiman, Friedman, Olshen & Stone, "Classification
and Regression Trees" (1984).

Equations, for a sequence whose counts lead to a leaf with n_k training sequences of class k::

    split         of a node by the count of one template, for the largest fall of the Gini impurity
                  1 - sum over k of (n_k / n)^2, until leaves are pure
    p(k)          n_k / n in the leaf
    score         p(anomalous) = 1 - p(normal)
    paper's rule  p(anomalous) >= .5

Choices of ours: classes are the labels as they are, of which there may be several
kinds of anomaly. No tree asks for a template that training never held. So a sequence with an
unknown template is as likely anomalous as labelled validation sequences with one were, if the tree
does not find it likelier: p(normal) is multiplied by 1 - (a + 1) / (n + 2) where n such validation
sequences had a anomalies; it can only fall. ``min_leaf`` is 1, as in the paper. There are no event
scores, as a leaf has no terms; ``explain`` puts the count of the nearest normal training vector in
place of each. Not causal: a prefix lacks events that the whole sequence has.
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
from oddlog.trees import Trees
from oddlog.vectors import Rows


class DecisionTreeConfig(settings.Config):
    """Settings of the decision tree.

    Attributes:
        min_leaf: Distinct training vectors, times their classes, in a leaf at least.
    """

    min_leaf: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True, eq=False)
class Model:
    """What training left.

    Attributes:
        tree: One tree.
        leaves: (nodes, K) class probabilities.
        risk: Of an unknown template, see ``novelty_risk``.
    """

    tree: Trees
    leaves: NDArray[np.float64]
    risk: float


class DecisionTree:
    """Ask for the counts of a few templates, and tell what training had there."""

    name: ClassVar[str] = "decision_tree"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = DecisionTreeConfig

    def __init__(self, config: DecisionTreeConfig) -> None:
        self.config = config
        self._fit: tuple[Taught, Model] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Grow the tree from ``train``; ``valid`` tells what an unknown template means.

        Raises:
            ConfigError: ``train`` holds no known template; or scikit-learn is not installed.
            LabelsError: ``train`` has no normal sequence, or no anomaly.
        """
        sklearn_tree = import_extra("sklearn.tree", self.name)
        labelled = with_labels(train, self.name)
        taught = learn_classes(labelled, training_templates(labelled, self.name))
        rows, label, times = taught.pairs()
        classifier = sklearn_tree.DecisionTreeClassifier(
            min_samples_leaf=self.config.min_leaf, random_state=run.seed
        )
        grown = classifier.fit(rows, label, sample_weight=times).tree_
        leaves = grown.value[:, 0] / grown.value[:, 0].sum(axis=1, keepdims=True)
        risk = novelty_risk(valid, taught.known.vocabulary)
        self._fit = taught, Model(Trees.of([grown]), leaves, risk)

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
        arrays = {"leaves": model.leaves, "risk": np.array([model.risk])}
        save_taught(folder, self.config, taught, {**vars(model.tree), **arrays})

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """

        def stored(leaves: NDArray, risk: NDArray, **tree: NDArray) -> Model:
            if len(leaves) != len(tree["left"]):
                raise ValueError("leaves of another tree")
            return Model(Trees(**tree), leaves, float(risk[0]))

        config, taught, model = load_taught(folder, DecisionTreeConfig, stored)
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
        leaf = model.tree.leaves(rows)[:, 0]
        return add_novelty(model.leaves[leaf], rows[:, -1] > 0, model.risk)
