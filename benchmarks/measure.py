"""What a record of ``honest`` holds of one detector: figures on the test, on slices, over time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from protocols import Cut

from oddlog import Sequences
from oddlog.detectors import Detector
from oddlog.evaluate import (
    Resampling,
    average_precision,
    culprit_accuracy,
    evaluate,
    evaluate_lines,
    recall_by_class,
)
from oddlog.evaluate.decision import decide
from oddlog.findings import Scores
from oddlog.pipeline import Judge

N_RESAMPLES = 200
N_PIECES = 5
"""Pieces of a test that lies in time: a rate that holds at first may not hold later."""


@dataclass(frozen=True, eq=False)
class Bench:
    """A benchmark's data for one seed, and what of it is the same for every detector."""

    name: str
    seed: int
    cut: Cut

    @cached_property
    def test(self) -> Sequences:
        """The test as a detector sees it."""
        return self.cut.test.without_labels()

    @cached_property
    def digest(self) -> str:
        """Tell one test from another."""
        digest = hashlib.sha256(self.cut.test.offsets.tobytes())
        digest.update("\n".join(self.cut.test.keys).encode())
        return digest.hexdigest()[:16]

    @cached_property
    def slices(self) -> dict[str, NDArray[np.bool_]]:
        """(n,) which sequences of the test close a shortcut, by the shortcut's name.

        ``no_unseen_key``: every template occurs in the normal training sequences. ``known_counts``:
        the counts of all templates are those of one of them besides, so that an anomaly can be
        known by its order alone.
        """
        train, test = self.cut.learned("normal")[0], self.test
        unseen = ~np.isin(test.template_ids(), np.unique(train.template_ids()))
        no_unseen = np.bincount(test.owners, weights=unseen, minlength=len(test)) == 0
        return {
            "no_unseen_key": no_unseen,
            "known_counts": no_unseen & holds_counts(test, train),
        }

    def facts(self) -> dict[str, Any]:
        """Return what a record holds of the data."""
        labelled = self.cut.parts[:2]
        return {
            "sizes": [len(part) for part in self.cut.parts],
            "anomalous": [int(part.anomalous.sum()) for part in labelled],
            "test": len(self.test),
            "test_sha256": self.digest,
        }


def holds_counts(sequences: Sequences, train: Sequences) -> NDArray[np.bool_]:
    """Return (n,) whether a training sequence has the same number of events of every template.

    Counts are compared by the sum over events, modulo 2^64, of a random number for each template;
    two that differ agree about once in 10^19 pairs.
    """
    own, known = sequences.template_ids(), train.template_ids()
    ids = np.unique(np.concatenate([own, known]))
    numbers = np.random.default_rng(0).integers(2**64 - 1, size=len(ids), dtype=np.uint64)
    sums = np.add.reduceat(numbers[np.searchsorted(ids, own)], sequences.offsets[:-1])
    known_sums = np.add.reduceat(numbers[np.searchsorted(ids, known)], train.offsets[:-1])
    return np.isin(sums, known_sums)


def measure(bench: Bench, judge: Judge, scores: Scores) -> dict[str, Any]:
    """Judge a detector's scores of the test."""
    test, how = bench.cut.test, Resampling(n=N_RESAMPLES, seed=bench.seed)
    p_values = judge.calibration.p_values(scores.sequence)
    flags = judge.calibration.flags(scores.sequence)
    found = evaluate(scores.sequence, test.anomalous, flags, p_values=p_values, resampling=how)
    record = {
        "evaluation": found.to_dict(),
        "slices": {
            name: slice_of(scores.sequence, test.anomalous, chosen)
            for name, chosen in bench.slices.items()
        },
        "by_class": {c.name: c.recall.value for c in recall_by_class(test.labels, flags)},
    }
    if bench.cut.in_time:
        record["over_time"] = over_time(flags, test)
    if test.event_anomalous().any():
        record["lines"] = lines(test, judge.detector, scores)
    own = judge.detector.paper_rule(scores)
    if own is not None:
        rule = decide(own, test.anomalous, how)
        names = ("precision", "recall", "f1", "false_alarm_rate")
        record["own_rule"] = {name: getattr(rule, name).value for name in names}
    return record


def slice_of(
    scores: NDArray, anomalous: NDArray[np.bool_], chosen: NDArray[np.bool_]
) -> dict[str, Any]:
    """Return sizes and AUPRC of a slice, None where it has no anomaly."""
    n_anomalous = int(anomalous[chosen].sum())
    auprc = average_precision(scores[chosen], anomalous[chosen]) if n_anomalous else None
    return {"n": int(chosen.sum()), "n_anomalous": n_anomalous, "auprc": auprc}


def over_time(flags: NDArray[np.bool_], test: Sequences) -> list[dict[str, Any]]:
    """Return sizes, false-alarm rate and recall of each fifth of a test, earliest first.

    A sequence belongs where it begins; a rate of nothing is None.
    """
    in_order = np.argsort(test.rows[test.offsets[:-1]], kind="stable")
    pieces = []
    for piece in np.array_split(in_order, N_PIECES):
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


def lines(test: Sequences, detector: Detector, scores: Scores) -> dict[str, float | None]:
    """Return how well culprits and event scores point at labelled lines."""
    anomalous = test.take(test.anomalous)
    explained = detector.explain(anomalous.without_labels())
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
