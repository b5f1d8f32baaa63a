"""How well scores and flags agree with labels: every figure with the interval it deserves.

What is not defined (recall without an anomaly, say) is None, never 0 and never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from oddlog.evaluate.bootstrap import (
    Estimate,
    Resampling,
    check_columns,
    consecutive_blocks,
    wilson,
)
from oddlog.evaluate.classes import (
    ClassEvaluation,
    ClassFigures,
    class_title,
    evaluate_classes,
)
from oddlog.evaluate.decision import Decision, decide
from oddlog.evaluate.lines import (
    CulpritAccuracy,
    LineEvaluation,
    culprit_accuracy,
    evaluate_lines,
)
from oddlog.evaluate.ranking import (
    FALSE_POSITIVE_RATES,
    Ranking,
    RecallAt,
    average_precision,
    rank,
)
from oddlog.events import NORMAL

RATES = (0.01, 0.005, 0.001)

__all__ = [
    "FALSE_POSITIVE_RATES",
    "RATES",
    "AtRate",
    "ClassEvaluation",
    "ClassFigures",
    "ClassRecall",
    "CulpritAccuracy",
    "Decision",
    "Estimate",
    "Evaluation",
    "LineEvaluation",
    "Ranking",
    "RecallAt",
    "Resampling",
    "average_precision",
    "class_title",
    "consecutive_blocks",
    "culprit_accuracy",
    "evaluate",
    "evaluate_classes",
    "evaluate_lines",
    "rank",
    "recall_by_class",
    "table",
]


@dataclass(frozen=True)
class AtRate:
    """Flags by p-values at an asked false-alarm rate; ``decision`` holds the realised one."""

    asked: float
    decision: Decision


@dataclass(frozen=True)
class Evaluation:
    """Scores and flags of labelled sequences, judged.

    Attributes:
        n_sequences: All of them.
        n_anomalous: Those labelled anomalous.
        decision: The flags as given.
        at_rates: Flags by p-value at asked rates; empty without p-values.
        ranking: The scores.
        confidence: Of every interval.
        n_resamples: Behind every interval.
        classes: The kinds of anomaly told apart, where the detector does; else None.
    """

    n_sequences: int
    n_anomalous: int
    decision: Decision
    at_rates: tuple[AtRate, ...]
    ranking: Ranking
    confidence: float
    n_resamples: int
    classes: ClassEvaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ClassRecall:
    """Recall on the anomalies of one class, with its Wilson interval."""

    name: str
    n: int
    recall: Estimate


def evaluate(
    scores: ArrayLike,
    anomalous: ArrayLike,
    flags: ArrayLike,
    *,
    p_values: ArrayLike | None = None,
    rates: Sequence[float] = RATES,
    resampling: Resampling | None = None,
) -> Evaluation:
    """Judge scores and flags by labels.

    Args:
        scores: (n,) higher is more anomalous; infinite is allowed.
        anomalous: (n,) bool. Leave out sequences of unknown label.
        flags: (n,) bool, the decision to judge.
        p_values: (n,) from a calibration that has seen none of these sequences, or None.
        rates: Asked false-alarm rates at which the p-values are judged.
        resampling: How intervals are made; independent sequences by default.

    Raises:
        LabelsError: No sequence.
        ValueError: Lengths differ, or a score or a p-value is NaN.
    """
    how = resampling or Resampling()
    score, truth = np.asarray(scores, dtype=np.float64), np.asarray(anomalous, dtype=bool)
    decisions = [np.asarray(flags, dtype=bool)]
    if p_values is not None:
        p = np.asarray(p_values, dtype=np.float64)
        decisions += [p <= rate for rate in rates]
        check_columns(len(truth), p_values=p)
    check_columns(len(truth), scores=score, flags=decisions[0], blocks=how.blocks)
    judged = [decide(flag, truth, how) for flag in decisions]
    return Evaluation(
        n_sequences=len(truth),
        n_anomalous=int(truth.sum()),
        decision=judged[0],
        at_rates=tuple(AtRate(*pair) for pair in zip(rates, judged[1:], strict=False)),
        ranking=rank(score, truth, how),
        confidence=how.confidence,
        n_resamples=how.n,
    )


def recall_by_class(
    labels: pl.Series, flags: ArrayLike, confidence: float = 0.95
) -> tuple[ClassRecall, ...]:
    """Return the recall on each class of anomaly, the most frequent class first.

    Args:
        labels: (n,) String: null unknown, "" normal, else the anomaly's class.
        flags: (n,) bool.
        confidence: Of the Wilson intervals.
    """
    frame = pl.DataFrame({"name": labels, "flag": np.asarray(flags, dtype=bool)})
    classes = (
        frame.filter(pl.col("name") != NORMAL)
        .group_by("name")
        .agg(n=pl.len(), hits=pl.col("flag").sum())
        .sort("n", "name", descending=[True, False])
    )
    return tuple(
        ClassRecall(name, n, Estimate(hits / n, *wilson(hits, n, confidence)))
        for name, n, hits in classes.iter_rows()
    )


def table(evaluations: Mapping[str, Evaluation]) -> list[dict[str, str]]:
    """Return one row of text cells for each named evaluation, for a terminal or a document."""
    rows = []
    for name, found in evaluations.items():
        row = {"detector": name, "sequences": f"{found.n_sequences:,}"}
        row["anomalous"] = f"{found.n_anomalous:,}"
        for figure in ("precision", "recall", "f1", "mcc", "false_alarms_per_1000"):
            row[figure] = getattr(found.decision, figure).text()
        row |= {"auroc": found.ranking.auroc.text(), "auprc": found.ranking.auprc.text()}
        for at in found.ranking.recall_at:
            row[f"recall at {at.false_positive_rate:.1%} FPR"] = at.recall.text()
        for at in found.at_rates:
            row[f"realised of {at.asked:.1%} asked"] = at.decision.false_alarm_rate.text(5)
            row[f"recall at {at.asked:.1%} asked"] = at.decision.recall.text()
        rows.append(row)
    return rows
