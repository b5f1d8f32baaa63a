"""Flags against labels: the 2 x 2 table and its figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.evaluate.bootstrap import (
    Estimate,
    Figures,
    Resampling,
    estimates,
    ratio,
    with_wilson,
)


@dataclass(frozen=True)
class Decision:
    """How one set of flags fared.

    Attributes:
        n_hits: Anomalous and flagged.
        n_false_alarms: Normal and flagged.
        n_missed: Anomalous and not flagged.
        n_passed: Normal and not flagged.
        precision: Share of flags that are anomalous; None without flags.
        recall: Share of anomalies that are flagged.
        f1: Harmonic mean of the two, 0 where anomalies exist and none is flagged.
        mcc: Matthews correlation; None where a row or column of the 2 x 2 table is empty.
        specificity: Share of normal sequences that are not flagged.
        false_alarm_rate: Share of normal sequences that are flagged.
        false_alarms_per_1000: False alarms per 1,000 sequences of any kind.
    """

    n_hits: int
    n_false_alarms: int
    n_missed: int
    n_passed: int
    precision: Estimate
    recall: Estimate
    f1: Estimate
    mcc: Estimate
    specificity: Estimate
    false_alarm_rate: Estimate
    false_alarms_per_1000: Estimate


def decide(flags: NDArray[np.bool_], truth: NDArray[np.bool_], how: Resampling) -> Decision:
    """Judge one set of flags; its cells are the four of the 2 x 2 table."""
    cells = 2 * flags.astype(np.int64) + truth
    counts = np.bincount(cells, minlength=4)
    passed, missed, false_alarms, hits = (int(count) for count in counts)
    figures = estimates(_decision_figures, cells, 4, how)
    shares = {
        "precision": (hits, hits + false_alarms, 1),
        "recall": (hits, hits + missed, 1),
        "specificity": (passed, passed + false_alarms, 1),
        "false_alarm_rate": (false_alarms, passed + false_alarms, 1),
        "false_alarms_per_1000": (false_alarms, len(truth), 1000),
    }
    for name, (part, whole, unit) in shares.items():
        figures[name] = with_wilson(figures[name], part, whole, unit, how)
    return Decision(hits, false_alarms, missed, passed, **figures)


def _decision_figures(counts: NDArray[np.float64]) -> Figures:
    """Return the figures of Decision, (b,) each, from (b, 4) counts."""
    passed, missed, false_alarms, hits = counts.T
    anomalous, normal = hits + missed, passed + false_alarms
    flagged, unflagged = hits + false_alarms, passed + missed
    f1 = ratio(2 * hits, 2 * hits + false_alarms + missed)
    covariance = hits * passed - false_alarms * missed
    # Square roots one by one: the product of four counts of millions would lose digits.
    spread = np.sqrt(anomalous) * np.sqrt(normal) * np.sqrt(flagged) * np.sqrt(unflagged)
    return {
        "precision": ratio(hits, flagged),
        "recall": ratio(hits, anomalous),
        "f1": np.where(anomalous > 0, f1, np.nan),
        "mcc": ratio(covariance, spread),
        "specificity": ratio(passed, normal),
        "false_alarm_rate": ratio(false_alarms, normal),
        "false_alarms_per_1000": 1000 * ratio(false_alarms, anomalous + normal),
    }
