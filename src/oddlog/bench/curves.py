"""Scores of a test in few numbers: precision along recall, and a histogram of each class."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.report.axes import ScoreAxis

N_RECALLS, N_BINS = 100, 40
DIGITS = 5


def precision_recall(scores: NDArray[np.floating], anomalous: NDArray[np.bool_]) -> list[float]:
    """Return the precision at the highest threshold that reaches each hundredth of recall.

    Args:
        scores: (n,) higher is more anomalous; equal ones are flagged together.
        anomalous: (n,) bool, at least one of them.

    Example:
        >>> found = precision_recall(np.array([4, 3, 2, 1]), np.array([True, False, True, False]))
        >>> found[49], round(found[50], 3), len(found)
        (1.0, 0.667, 100)
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(anomalous[order])[last]
    wanted = np.arange(1, N_RECALLS + 1) * hits[-1] / N_RECALLS
    at = np.searchsorted(hits, wanted - 1e-9)
    return [round(float(p), DIGITS) for p in hits[at] / (last[at] + 1)]


def histogram(
    scores: NDArray[np.floating], anomalous: NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    """Return how many scores of either class lie in each of ``N_BINS`` bins.

    Bins are equally wide, or, where a few scores are far out, wider there; infinite scores count in
    the last ones.

    Args:
        scores: (n,) scores; infinite ones are allowed.
        anomalous: (n,) bool.
        threshold: Score above which a sequence is flagged; None in what is returned if infinite.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    axis = ScoreAxis.of(finite if len(finite) else np.zeros(1))
    bins = np.minimum((axis.place(values) * N_BINS / 100).astype(np.int64), N_BINS - 1)
    edges = [axis.score(100 * i / N_BINS) for i in range(N_BINS + 1)]
    normal, odd = (
        np.bincount(bins[chosen], minlength=N_BINS).tolist() for chosen in (~anomalous, anomalous)
    )
    return {
        "edges": [float(f"{edge:.4g}") for edge in edges],
        "normal": normal,
        "anomalous": odd,
        "threshold": float(f"{threshold:.4g}") if math.isfinite(threshold) else None,
    }
