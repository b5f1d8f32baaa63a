"""What detectors share that learn from labels: classes, probabilities, novelties.

Classes are the labels of training: normal ("") first, then the kinds of anomaly by name. A sequence
without a label teaches nothing; how many there are is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import read_json, write_json
from oddlog.config import Config
from oddlog.errors import ArtifactError, LabelsError
from oddlog.events import NORMAL, Sequences
from oddlog.findings import Scores
from oddlog.vectors import Known, Rows, by_blocks, learn_vectors, load_fitted, save_fitted

logger = logging.getLogger(__name__)
FILE = "classes.json"
TIMES = "times"

Probability = Callable[[Rows], NDArray[np.float64]]
"""From (rows, V + 1) counts to (rows, K) class probabilities, normal first."""


@dataclass(frozen=True, eq=False)
class Taught:
    """The distinct count vectors of labelled training sequences, and their classes.

    Attributes:
        known: The vectors.
        times: (D, K) float64 how many sequences of each class have each vector.
        names: The K classes, normal first.
    """

    known: Known
    times: NDArray[np.float64]
    names: tuple[str, ...]

    @cached_property
    def normal(self) -> Known:
        """The vectors that normal sequences have, as often as these have them."""
        index = np.flatnonzero(self.times[:, 0])
        vectors = self.known.vectors.take(index)
        frequency = self.times[index, 0].astype(np.int64)
        return Known(self.known.vocabulary, replace(vectors, frequency=frequency))

    def pairs(self) -> tuple[Rows, NDArray[np.int64], NDArray[np.float64]]:
        """Return each pair of vector and class: counts (p, V + 1), class (p,), sequences (p,)."""
        vector, label = np.nonzero(self.times)
        own = self.known.vectors.take(vector)
        return own.dense(0, len(own), self.known.width), label, self.times[vector, label]


def with_labels(train: Sequences, detector: str) -> Sequences:
    """Return the training sequences whose label is known.

    Raises:
        LabelsError: No normal one among them, or no anomaly.
    """
    known = train if train.labelled.all() else train.take(train.labelled)
    n_odd = int(known.anomalous.sum())
    if n_odd in (0, len(known)):
        raise LabelsError(
            f"{detector} learns from labels: of {len(train):,} training sequences {n_odd:,} are "
            f"labelled anomalous and {len(known) - n_odd:,} normal, and both are needed; name a "
            "label file, or cut the log so that training has anomalies"
        )
    if unlabelled := len(train) - len(known):
        logger.warning("%s: %d training sequences without a label", detector, unlabelled)
    return known


def number_classes(labelled: Sequences) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the K names of the classes, normal first, and (n,) the class of each sequence.

    Args:
        labelled: n sequences, all of them labelled.
    """
    names = (NORMAL, *sorted(set(labelled.labels.to_list()) - {NORMAL}))
    place = {name: number for number, name in enumerate(names)}
    return names, labelled.labels.replace_strict(place, return_dtype=pl.Int64).to_numpy()


def learn_classes(labelled: Sequences, vocabulary: NDArray[np.int32]) -> Taught:
    """Count templates and classes of labelled sequences over an ascending vocabulary (V,)."""
    known, counted = learn_vectors(labelled, vocabulary)
    names, label = number_classes(labelled)
    cells = counted.inverse * len(names) + label
    times = np.bincount(cells, minlength=len(known.vectors) * len(names))
    return Taught(known, times.reshape(-1, len(names)).astype(np.float64), names)


def novelty_risk(valid: Sequences, vocabulary: NDArray[np.int32]) -> float:
    """Return the probability that a sequence with an event of unknown template is anomalous.

    It is (a + 1) / (n + 2) for n labelled validation sequences that hold one, of which a are
    anomalous: a half where there is none.

    Args:
        valid: Validation sequences.
        vocabulary: (V,) templates that training held.
    """
    unknown = ~np.isin(valid.template_ids(), vocabulary)
    holds = np.bincount(valid.owners, unknown, minlength=len(valid)) > 0
    asked = holds & valid.labelled
    return (np.count_nonzero(asked & valid.anomalous) + 1) / (np.count_nonzero(asked) + 2)


def add_novelty(
    probability: NDArray[np.float64], novel: NDArray[np.bool_], risk: float
) -> NDArray[np.float64]:
    """Return class probabilities (rows, K) that know of unknown templates: never less anomalous.

    A sequence is normal if the classifier finds it so and its unknown templates are harmless:
    p(normal) is multiplied by 1 - ``risk`` where there are any. The other classes gain in
    proportion, or equally where they had nothing.

    Args:
        probability: (rows, K), normal first, each row summing to 1.
        novel: (rows,) whether there are any.
        risk: From ``novelty_risk``.
    """
    normal = probability[:, 0] * np.where(novel, 1 - risk, 1.0)
    return join_classes(1 - normal, probability[:, 1:])


def join_classes(
    anomalous: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (rows, K) probabilities from that of any anomaly and the shares of its kinds.

    Args:
        anomalous: (rows,) p(anomalous).
        shares: (rows, K - 1) of the kinds, on any scale; all 0 stands for all alike.
    """
    whole = shares.sum(axis=1, keepdims=True)
    alike = np.full_like(shares, 1 / shares.shape[1])
    parts = np.divide(shares, whole, out=alike, where=whole > 0)
    return np.concatenate([1 - anomalous[:, None], anomalous[:, None] * parts], axis=1)


def score_classes(sequences: Sequences, taught: Taught, probability: Probability) -> Scores:
    """Score by p(anomalous), with class probabilities where there are more than two classes.

    ``measures`` holds ``probability`` (n,) float64, p(anomalous).
    """
    counted = taught.known.count(sequences)
    found = by_blocks(counted.vectors, taught.known.width, probability)[counted.inverse]
    return scores_of(found, taught.names)


def scores_of(probability: NDArray[np.float64], names: tuple[str, ...]) -> Scores:
    """Return scores of class probabilities (n, K); see ``score_classes``."""
    anomalous = 1 - probability[:, 0]
    several = len(names) > 2
    return Scores(
        sequence=anomalous.astype(np.float32),
        measures={"probability": anomalous},
        class_names=names if several else (),
        class_probs=probability.astype(np.float32) if several else None,
    )


def save_taught(
    folder: Path, config: Config, taught: Taught, arrays: Mapping[str, NDArray]
) -> None:
    """Write ``config.json``, ``classes.json`` and ``model.safetensors``."""
    write_json(folder / FILE, list(taught.names))
    save_fitted(folder, config, taught.known, {TIMES: taught.times, **arrays})


C = TypeVar("C", bound=Config)
M = TypeVar("M")


def load_taught(folder: Path, config: type[C], model: Callable[..., M]) -> tuple[C, Taught, M]:
    """Read what ``save_taught`` wrote; ``model`` is called with the arrays by their names.

    Raises:
        ArtifactError: The folder is missing or damaged.
    """
    names = read_json(folder / FILE)

    def stored(times: NDArray, **arrays: NDArray) -> tuple[NDArray, M]:
        return times, model(**arrays)

    settings, known, (times, fitted) = load_fitted(folder, config, stored)
    if not (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and names[:1] == [NORMAL]
        and times.shape == (len(known.vectors), len(set(names)))
        and times[:, 0].any()
    ):
        raise ArtifactError(f"{folder}: damaged: classes and counts differ; fit the model again")
    return settings, Taught(known, times, tuple(names)), fitted
