"""Nearest neighbour on counts: the class of the labelled sequence that is most alike.

Source: Yu, Yao, Fu, Chen & Zhang, "Deep Learning or Classical Machine Learning? An Empirical Study
on Log-Based Anomaly Detection" (ICSE 2024), where it is on a par with the best on public logs.

Equations, with d_k the Euclidean distance from a sequence's counts to the nearest training vector
of class k, and d_a the least of those of the anomalous classes::

    score         p(anomalous) = d_normal / (d_normal + d_a); where both are 0 the share of training
                  sequences with these counts that are anomalous
    p(k)          of the kinds of anomaly: p(anomalous) divided in proportion to 1 / d_k
    paper's rule  p(anomalous) >= .5: the nearest neighbour is anomalous

Deviations and their reasons: the paper decides by the neighbour's label; the two distances give the
same decision and a rank besides. An unknown template has a column of its own, in which every
training vector is 0: it lengthens both distances alike, and what was like a normal sequence is less
so. There are no event scores; ``explain`` puts the count of the nearest normal training vector in
place of each. Not causal: a prefix lacks events that the whole sequence has.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.blame import by_occlusion, explain
from oddlog.classes import (
    Taught,
    join_classes,
    learn_classes,
    load_taught,
    save_taught,
    score_classes,
    with_labels,
)
from oddlog.encode import training_templates
from oddlog.errors import NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.run import Run
from oddlog.vectors import Rows, find_nearest_rows


class NearestNeighbourConfig(settings.Config):
    """Settings of the nearest neighbour: there are none."""


class NearestNeighbour:
    """Compare a sequence's template counts with the most alike normal and anomalous ones."""

    name: ClassVar[str] = "nearest_neighbour"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = NearestNeighbourConfig

    def __init__(self, config: NearestNeighbourConfig) -> None:
        self.config = config
        self._fit: Taught | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Remember the distinct vectors of ``train`` and their classes; ``valid`` has no use here.

        Raises:
            ConfigError: ``train`` holds no known template.
            LabelsError: ``train`` has no normal sequence, or no anomaly.
        """
        labelled = with_labels(train, self.name)
        self._fit = learn_classes(labelled, training_templates(labelled, self.name))

    def score(self, sequences: Sequences) -> Scores:
        """Score by p(anomalous), which ``measures`` holds as ``probability`` (n,) float64.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        return score_classes(sequences, self._fitted(), self._probability)

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether an anomaly is at least as likely as not."""
        return scores.measures["probability"] >= 0.5

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the events of templates whose normal count would make an anomaly least likely.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        taught = self._fitted()
        blame = by_occlusion(lambda rows: 1 - self._probability(rows)[:, 0], taught.normal.vectors)
        return explain(sequences, taught.known.count(sequences), taught.normal, blame)

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``classes.json`` and ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        save_taught(folder, self.config, self._fitted(), {})

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        config, taught, _ = load_taught(folder, NearestNeighbourConfig, dict)
        detector = cls(config)
        detector._fit = taught
        return detector

    def _fitted(self) -> Taught:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _probability(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, K) class probabilities."""
        taught = self._fitted()
        distance = np.empty((len(rows), len(taught.names)))
        times = np.empty_like(distance)
        for k in range(len(taught.names)):
            own = np.flatnonzero(taught.times[:, k])
            near, squared = find_nearest_rows(rows, taught.known.vectors.take(own))
            distance[:, k] = np.sqrt(squared)
            times[:, k] = np.where(squared == 0, taught.times[own[near], k], 0)
        seen = times.sum(axis=1) > 0
        normal, odd = distance[:, 0], distance[:, 1:].min(axis=1)
        far = np.where(seen, 1.0, normal + odd)
        anomalous = np.where(
            seen, 1 - times[:, 0] / np.where(seen, times.sum(axis=1), 1), normal / far
        )
        kinds = np.where(
            seen[:, None], times[:, 1:], 1 / np.where(seen[:, None], 1, distance[:, 1:])
        )
        return join_classes(anomalous, kinds)
