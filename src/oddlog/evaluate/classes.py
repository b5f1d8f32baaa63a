"""Which kind of anomaly: the likeliest class of each sequence against its label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from oddlog.evaluate.bootstrap import (
    Estimate,
    Figures,
    Resampling,
    check_columns,
    estimates,
    ratio,
)
from oddlog.events import NORMAL


@dataclass(frozen=True)
class ClassFigures:
    """How one class fared against all others.

    Attributes:
        name: The class, "" for normal.
        n: Sequences that are labelled so.
        precision: Share of those taken for it that are of it; None where none is taken for it.
        recall: Share of its sequences that are taken for it; None where it has none.
        f1: Harmonic mean of the two; 0 where it has sequences, or is named, and none is right.
    """

    name: str
    n: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class ClassEvaluation:
    """How well classes are told apart, normal being one of them.

    Attributes:
        names: K classes: those that the detector knows in its order, then those of labels that it
            does not know.
        confusion: K rows of K numbers of sequences: row the label, column the likeliest class.
        accuracy: Share of sequences whose likeliest class is their label.
        macro_f1: Mean F1 of the classes that are among the labels, each counting the same.
        classes: Figures of each, in the order of ``names``.
    """

    names: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    accuracy: Estimate
    macro_f1: Estimate
    classes: tuple[ClassFigures, ...]


def evaluate_classes(
    labels: pl.Series,
    class_names: Sequence[str],
    class_probs: ArrayLike,
    *,
    resampling: Resampling | None = None,
) -> ClassEvaluation:
    """Judge the likeliest class of each sequence by its label.

    No threshold has a part in it: a sequence is taken for normal where that is the likeliest.

    Args:
        labels: (n,) String, "" normal, else the anomaly's class. Leave out sequences of unknown
            label.
        class_names: Names of the columns of ``class_probs``.
        class_probs: (n, K) float, of which the largest of a row is its likeliest class, the first
            of several.
        resampling: How intervals are made; independent sequences by default.

    Raises:
        LabelsError: No sequence.
        ValueError: Lengths differ, a label is null, or a probability is NaN.
    """
    how = resampling or Resampling()
    probs = np.asarray(class_probs, dtype=np.float64)
    check_columns(len(labels), class_probs=probs, blocks=how.blocks)
    if labels.null_count():
        raise ValueError("evaluate_classes: a label is unknown; leave that sequence out")
    if probs.ndim != 2 or probs.shape[1] != len(class_names):
        raise ValueError(
            f"evaluate_classes: probabilities of shape {probs.shape} for {len(class_names)} classes"
        )
    names = (*class_names, *sorted(set(labels.unique()) - set(class_names)))
    place = {name: number for number, name in enumerate(names)}
    truth = labels.replace_strict(place, return_dtype=pl.Int64).to_numpy()
    return _judge(names, truth, probs.argmax(axis=1), how)


def _judge(
    names: tuple[str, ...], truth: NDArray[np.int64], found: NDArray[np.int64], how: Resampling
) -> ClassEvaluation:
    k = len(names)
    cells = truth * k + found
    confusion = np.bincount(cells, minlength=k * k).reshape(k, k)
    asked = confusion.sum(axis=1) > 0

    def figures(counts: NDArray[np.float64]) -> Figures:
        """Return all figures, (b,) each, from (b, k * k) counts."""
        table = counts.reshape(-1, k, k)
        hits = np.einsum("bii->bi", table)
        labelled, taken = table.sum(axis=2), table.sum(axis=1)
        f1 = ratio(2 * hits, labelled + taken)
        drawn = {"accuracy": ratio(hits.sum(axis=1), counts.sum(axis=1))}
        # a class that a resample left out weighs nothing in it
        drawn["macro_f1"] = _mean(np.where(labelled[:, asked] > 0, f1[:, asked], np.nan))
        for name, values in (
            ("precision", ratio(hits, taken)),
            ("recall", ratio(hits, labelled)),
            ("f1", f1),
        ):
            drawn |= {f"{name} {i}": values[:, i] for i in range(k)}
        return drawn

    judged = estimates(figures, cells, k * k, how)
    of_class = tuple(
        ClassFigures(
            names[i],
            int(confusion[i].sum()),
            *(judged[f"{name} {i}"] for name in ("precision", "recall", "f1")),
        )
        for i in range(k)
    )
    rows = tuple(tuple(row) for row in confusion.tolist())
    return ClassEvaluation(names, rows, judged["accuracy"], judged["macro_f1"], of_class)


def class_title(name: str) -> str:
    """Return what a class is called where a person reads it."""
    return name if name != NORMAL else "normal"


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of each row over what is defined in it, NaN where nothing is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float))
