"""What a record holds of one detector: figures on the test, on slices, over time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.bench.blind import Blinded, blind
from oddlog.bench.curves import histogram, precision_recall
from oddlog.bench.protocols import Cut
from oddlog.bench.slices import Masks, slices_of
from oddlog.detectors import Detector
from oddlog.evaluate import (
    Resampling,
    average_precision,
    consecutive_blocks,
    culprit_accuracy,
    evaluate,
    evaluate_lines,
    rank,
    recall_by_class,
)
from oddlog.evaluate.decision import decide
from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.pipeline import Judge

N_RESAMPLES = 200
N_BLOCKS = 50
FEW = 100
"""Of fewer anomalies nothing is claimed without an interval."""
N_PIECES = 5
"""Pieces of a test that lies in time: a rate that holds at first may not hold later."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A benchmark's data for one seed, and what of it is the same for every detector."""

    name: str
    seed: int
    cut: Cut

    @cached_property
    def shown(self) -> Blinded:
        """The test as a detector is shown it."""
        return blind(self.cut.test, self.seed)

    @cached_property
    def digest(self) -> str:
        """Tell one test from another."""
        digest = hashlib.sha256(self.cut.test.offsets.tobytes())
        digest.update("\n".join(self.cut.test.keys).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def slices(self) -> Masks:
        """(n,) which sequences of the test are in each slice."""
        return slices_of(self.cut)

    @property
    def resampling(self) -> Resampling:
        """How intervals are made: what stands or falls together is drawn together.

        In a test that lies in time these are neighbours, ``N_BLOCKS`` runs of them.
        """
        blocks = self.cut.groups
        if self.cut.in_time and blocks is None:
            n = len(self.cut.test)
            blocks = np.empty(n, dtype=np.int64)
            blocks[in_order_of_time(self.cut.test)] = consecutive_blocks(n, -(-n // N_BLOCKS))
        return Resampling(n=N_RESAMPLES, seed=self.seed, blocks=blocks)

    def facts(self) -> dict[str, Any]:
        """Return what a record holds of the data."""
        labelled = self.cut.parts[:2]
        return {
            "sizes": [len(part) for part in self.cut.parts],
            "anomalous": [int(part.anomalous.sum()) for part in labelled],
            "test": len(self.cut.test),
            "test_sha256": self.digest,
            "left_out": self.cut.n_left_out,
        }


def measure(bench: Bench, judge: Judge, scores: Scores) -> dict[str, Any]:
    """Judge a detector's scores of the test, in the order of the test."""
    test, how, rates = bench.cut.test, bench.resampling, bench.cut.rates
    p_values = judge.calibration.p_values(scores.sequence)
    flags = p_values <= rates[0]
    found = evaluate(
        scores.sequence, test.anomalous, flags, p_values=p_values, rates=rates, resampling=how
    )
    record: dict[str, Any] = {
        "evaluation": found.to_dict(),
        "slices": {
            name: slice_of(scores.sequence, test.anomalous, flags, chosen, how)
            for name, chosen in bench.slices.items()
        },
        "by_class": {c.name: c.recall.value for c in recall_by_class(test.labels, flags)},
        "curve": precision_recall(scores.sequence, test.anomalous),
        "histogram": histogram(
            scores.sequence, test.anomalous, judge.calibration.threshold(rates[0])
        ),
    }
    if bench.cut.in_time:
        record["over_time"] = over_time(flags, test)
    if test.event_anomalous().any():
        record["lines"] = lines(test, judge.detector, scores, bench.seed)
    own = judge.detector.paper_rule(scores)
    if own is not None:
        rule = decide(own, test.anomalous, how)
        names = ("precision", "recall", "f1", "false_alarm_rate")
        record["own_rule"] = {name: getattr(rule, name).value for name in names}
    return record


def slice_of(
    scores: NDArray,
    anomalous: NDArray[np.bool_],
    flags: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
    how: Resampling,
) -> dict[str, Any]:
    """Return sizes, AUPRC and what the flags are worth on a slice; None where it is not defined.

    The AUPRC of few anomalies has its interval besides.
    """
    odd, flagged = anomalous[chosen], flags[chosen]
    n_hits, n_flagged, n_odd = int((odd & flagged).sum()), int(flagged.sum()), int(odd.sum())
    n_normal = len(odd) - n_odd
    found = {
        "n": len(odd),
        "n_anomalous": n_odd,
        "auprc": average_precision(scores[chosen], odd) if n_odd else None,
        "recall": n_hits / n_odd if n_odd else None,
        "false_alarm_rate": (n_flagged - n_hits) / n_normal if n_normal else None,
        "f1": 2 * n_hits / (n_flagged + n_odd) if n_odd else None,
    }
    if 0 < n_odd < FEW:
        inner = how if how.blocks is None else replace(how, blocks=how.blocks[chosen])
        ranking = rank(np.asarray(scores[chosen], dtype=np.float64), odd, inner)
        found["auprc_interval"] = [ranking.auprc.low, ranking.auprc.high]
    return found


def in_order_of_time(test: Sequences) -> NDArray[np.int64]:
    """Return (n,) the numbers of sequences, earliest first event first."""
    return np.argsort(test.rows[test.offsets[:-1]], kind="stable")


def over_time(flags: NDArray[np.bool_], test: Sequences) -> list[dict[str, Any]]:
    """Return sizes, false-alarm rate and recall of each fifth of a test, earliest first.

    A sequence belongs where it begins; a rate of nothing is None.
    """
    pieces = []
    for piece in np.array_split(in_order_of_time(test), N_PIECES):
        flagged, odd = flags[piece], test.anomalous[piece]
        pieces.append(
            {
                "n": len(piece),
                "n_anomalous": int(odd.sum()),
                "false_alarm_rate": float(flagged[~odd].mean()) if not odd.all() else None,
                "recall": float(flagged[odd].mean()) if odd.any() else None,
            }
        )
    return pieces


def lines(
    test: Sequences, detector: Detector, scores: Scores, seed: int
) -> dict[str, float | None]:
    """Return how well culprits and event scores point at labelled lines."""
    anomalous = test.take(test.anomalous)
    blinded = blind(anomalous, seed)
    explained = blinded.put_back_blame(detector.explain(blinded.sequences), anomalous)
    culprits = culprit_accuracy(anomalous, explained, Resampling(n=2))
    found: dict[str, float | None] = {
        "n": culprits.n,
        "first": culprits.first.value,
        "first_three": culprits.first_three.value,
        "chance_first": culprits.chance_first,
        "chance_first_three": culprits.chance_first_three,
    }
    if scores.event is not None:
        judged = evaluate_lines(test, scores.event, Resampling(n=2))
        found["line_auprc"] = judged.ranking.auprc.value
        found["line_auprc_by_chance"] = judged.n_anomalous / judged.n_lines
    return found
