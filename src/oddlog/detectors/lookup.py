"""Lookup of counts: what the label of the very same counts was.

Source: our own, as the rule that a classifier has to beat. Where later sequences repeat those of
training, remembering is enough.

Equations, with n_k training sequences of class k that have a sequence's counts::

    p(k)          n_k / (sum over i of n_i)
    score         p(anomalous) = 1 - p(normal); ``UNSEEN`` where no training sequence has the counts
    rule          p(anomalous) >= .5: most are anomalous, or none was seen

Choices: counts that were never seen are taken for anomalous, as by ``counts``,
yet less surely so than counts of which every sequence was; the kinds of anomaly are then as likely
as in training. Such sequences are counted as not judged (``Scores.n_unjudged``). An unknown
template has a column of its own, in which every training vector is 0: with one, counts are never
seen. There are no event scores; ``explain`` puts the count of the nearest normal training vector in
place of each. Not causal: a prefix lacks events that the whole sequence has.
"""

from __future__ import annotations

from dataclasses import replace
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
from oddlog.vectors import Rows, by_blocks, find_nearest_rows

UNSEEN = 0.9
"""Score of counts that no training sequence has."""


class LookupConfig(settings.Config):
    """Settings of the lookup: there are none."""


class Lookup:
    """Remember the labels of each count vector."""

    name: ClassVar[str] = "lookup"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "labelled"
    causal: ClassVar[bool] = False
    Config: ClassVar[type[settings.Config]] = LookupConfig

    def __init__(self, config: LookupConfig) -> None:
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
        taught = self._fitted()
        scores = score_classes(sequences, taught, self._probability)
        counted = taught.known.count(sequences)
        unseen = by_blocks(
            counted.vectors,
            taught.known.width,
            lambda rows: (find_nearest_rows(rows, taught.known.vectors)[1] > 0).astype(np.float64),
        )
        return replace(scores, n_unjudged=int(unseen[counted.inverse].sum()))

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
        config, taught, _ = load_taught(folder, LookupConfig, dict)
        detector = cls(config)
        detector._fit = taught
        return detector

    def _fitted(self) -> Taught:
        if self._fit is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._fit

    def _probability(self, rows: Rows) -> NDArray[np.float64]:
        """Return (rows, K) class probabilities; p(normal) is 1 - ``UNSEEN`` where none is known."""
        taught = self._fitted()
        near, squared = find_nearest_rows(rows, taught.known.vectors)
        seen, times = squared == 0, taught.times[near]
        anomalous = np.where(seen, 1 - times[:, 0] / times.sum(axis=1), UNSEEN)
        kinds = np.where(seen[:, None], times[:, 1:], taught.times[:, 1:].sum(axis=0))
        return join_classes(anomalous, kinds)
