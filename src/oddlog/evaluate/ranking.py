"""Scores against labels: what they can tell apart, whatever the threshold.

Exact, with ties counted as scikit-learn does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.evaluate.bootstrap import Estimate, Figures, Resampling, estimates, ratio

FALSE_POSITIVE_RATES = (0.001, 0.01)


@dataclass(frozen=True)
class RecallAt:
    """The highest recall of any threshold with at most this false-positive rate."""

    false_positive_rate: float
    recall: Estimate


@dataclass(frozen=True)
class Ranking:
    """What scores can tell apart, whatever the threshold.

    Attributes:
        auroc: Area under the ROC curve, a tie counted half.
        auprc: Average precision, the sum of (rise in recall) * precision over distinct scores.
        recall_at: At each of ``FALSE_POSITIVE_RATES``. Thresholds are chosen with the labels at
            hand: a bound on what a calibration can reach, not a claim.
    """

    auroc: Estimate
    auprc: Estimate
    recall_at: tuple[RecallAt, ...]


def rank(scores: NDArray[np.float64], truth: NDArray[np.bool_], how: Resampling) -> Ranking:
    """Judge scores by labels, with intervals."""
    figures = estimates(_ranking_figures, *_cells(scores, truth), how)
    recall_at = tuple(RecallAt(rate, figures[str(rate)]) for rate in FALSE_POSITIVE_RATES)
    return Ranking(figures["auroc"], figures["auprc"], recall_at)


def average_precision(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], base_rate: float | None = None
) -> float:
    """Return the area under precision and recall, as if anomalies were a share of all sequences.

    Args:
        scores: (n,) higher is more anomalous; equal ones count as one threshold.
        truth: (n,) bool, at least one of each.
        base_rate: Share of anomalies that each is weighed to, above 0 and below 1; None for the
            share that is there.
    """
    cells, n_cells = _cells(scores, truth)
    counts = np.bincount(cells, minlength=n_cells).astype(np.float64)[None]
    normal, anomalous = counts[:, 0::2], counts[:, 1::2]  # (1, G)
    if base_rate is not None:
        anomalous *= base_rate / (1 - base_rate) * normal.sum() / anomalous.sum()
    sums = normal.cumsum(axis=1), anomalous.cumsum(axis=1)
    return float(_average_precision(anomalous, *sums)[0])


def _cells(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """Return the cell (n,) of each sequence, and how many cells there are.

    A cell is a group of sequences that no figure can tell apart, by label: 2 g for the normal ones
    of group g, 2 g + 1 for the anomalous ones. Groups are the distinct scores, highest first;
    neighbouring groups without an anomaly are one, which changes no figure: recall does not rise
    inside, and the ROC curve is flat there.
    """
    distinct, group = np.unique(-scores, return_inverse=True)
    has_anomaly = np.bincount(group[truth], minlength=len(distinct)) > 0
    opens = has_anomaly | np.concatenate([[True], has_anomaly[:-1]])
    merged = np.cumsum(opens) - 1
    return 2 * merged[group] + truth, 2 * int(merged[-1] + 1)


def _ranking_figures(counts: NDArray[np.float64]) -> Figures:
    """Return the figures of Ranking, (b,) each, from (b, 2 G) counts of G groups, worst first."""
    normal, anomalous = counts[:, 0::2], counts[:, 1::2]  # (b, G)
    false, true = normal.cumsum(axis=1), anomalous.cumsum(axis=1)
    n_normal, n_anomalous = false[:, -1], true[:, -1]
    won = (anomalous * (n_normal[:, None] - false + normal / 2)).sum(axis=1)
    figures = {
        "auroc": ratio(won, n_anomalous * n_normal),
        "auprc": _average_precision(anomalous, false, true),
    }
    share = false / np.maximum(n_normal, 1)[:, None]
    before = np.concatenate([np.zeros((len(true), 1)), true], axis=1)  # (b, G + 1)
    for rate in FALSE_POSITIVE_RATES:
        n_within = (share <= rate).sum(axis=1)
        recall = ratio(before[np.arange(len(true)), n_within], n_anomalous)
        figures[str(rate)] = np.where(n_normal > 0, recall, np.nan)
    return figures


def _average_precision(
    anomalous: NDArray[np.float64], false: NDArray[np.float64], true: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (b,), NaN of no anomaly.

    Args:
        anomalous: (b, G) counts, or weights, of G groups, worst first.
        false: (b, G) normal ones of a group and all before it.
        true: (b, G) anomalous ones of a group and all before it.
    """
    n_flagged = true + false
    precision = np.divide(true, n_flagged, out=np.zeros_like(true), where=n_flagged > 0)
    return ratio((anomalous * precision).sum(axis=1), true[:, -1])
