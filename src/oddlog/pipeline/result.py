"""What scoring yields: every sequence with score, p-value and flag; the culprits on request."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.calibrate import Calibration
from oddlog.detectors import Detector
from oddlog.events import Sequences, column
from oddlog.explain import TextOf, culprit_records
from oddlog.findings import Alert, Scores


@dataclass(frozen=True, eq=False)
class Result:
    """Scored sequences under one calibration; another rate costs nothing (``at``).

    Attributes:
        sequences: What was scored, n windows.
        scores: What the detector said.
        calibration: What turns scores into p-values and flags.
        detector: For explanations.
        text_of: Template id to text, novel ones included.
        notes: What a person should know, one line each.
    """

    sequences: Sequences
    scores: Scores
    calibration: Calibration
    detector: Detector
    text_of: TextOf
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def p_values(self) -> NDArray[np.float64]:
        """(n,) share of normal sequences that would score as high or higher."""
        return self.calibration.p_values(self.scores.sequence)

    @property
    def flags(self) -> NDArray[np.bool_]:
        """(n,) whether each sequence is flagged at the calibration's rate."""
        return self.calibration.flags(self.scores.sequence)

    def at(self, false_alarm_rate: float) -> Result:
        """Return the same scores, flagged at another rate."""
        return replace(self, calibration=self.calibration.at(false_alarm_rate))

    def flagged(self) -> NDArray[np.int64]:
        """Return the numbers of the flagged sequences, worst first."""
        index = np.flatnonzero(self.flags)
        return index[np.argsort(-self.scores.sequence[index], kind="stable")]

    def table(self) -> pl.DataFrame:
        """Return one row per sequence, in the order of the log.

        Columns: key, score, p_value, threshold, flagged, n_events, source, first_line, last_line,
        first_time, last_time, label. ``threshold`` is null where the calibration set is too small
        for the rate.
        """
        first = self.sequences.rows[self.sequences.offsets[:-1]]
        last = self.sequences.rows[self.sequences.offsets[1:] - 1]
        events, time = self.sequences.events, column(self.sequences.events, "time")
        threshold = self.calibration.threshold()
        return pl.DataFrame(
            {
                "key": self.sequences.keys,
                "score": self.scores.sequence,
                "p_value": self.p_values,
                "threshold": pl.Series([threshold if np.isfinite(threshold) else None])
                .cast(pl.Float64)
                .new_from_index(0, len(self)),
                "flagged": self.flags,
                "n_events": self.sequences.lengths,
                "source": events["source"].gather(first),
                "first_line": events["line"].gather(first),
                "last_line": events["line"].gather(last),
                "first_time": time.gather(first),
                "last_time": time.gather(last),
                "label": self.sequences.labels,
            }
        )

    def explain(self, index: NDArray[np.integer] | None = None) -> list[list[dict[str, Any]]]:
        """Return the culprits of the chosen sequences, or of the flagged ones, worst first.

        Each culprit is a mapping as ``oddlog.explain.culprit_records`` describes it.
        """
        chosen = self.sequences.take(self.flagged() if index is None else index)
        explanations = self.detector.explain(chosen) if len(chosen) else []
        return [culprit_records(found, chosen, self.text_of) for found in explanations]

    def records(self, *, every: bool = False, explain: bool = False) -> list[dict[str, Any]]:
        """Return one JSON-ready mapping per flagged sequence, worst first, or per sequence.

        Args:
            every: All sequences in the order of the log, not only the flagged ones.
            explain: Add ``culprits``; to the flagged ones, where all are asked for.
        """
        flagged = self.flagged()
        index = np.arange(len(self)) if every else flagged
        table = self.table().with_columns(
            pl.col("first_time", "last_time").dt.to_string("iso:strict")
        )
        records = table[index].to_dicts()
        if explain:
            place = {int(row): number for number, row in enumerate(index)}
            for row, culprits in zip(flagged, self.explain(flagged), strict=True):
                records[place[int(row)]]["culprits"] = culprits
        return records

    def alerts(self) -> list[Alert]:
        """Return one alert per flagged sequence, worst first, with its lines and culprits."""
        flagged = self.flagged()
        table = self.table()[flagged].to_dicts()
        alerts = []
        for row, record, culprits in zip(flagged, table, self.explain(flagged), strict=True):
            lines = self.sequences.lines(int(row))
            alerts.append(
                Alert(
                    key=record["key"],
                    score=record["score"],
                    p_value=record["p_value"],
                    threshold=self.calibration.threshold(),
                    first_time=record["first_time"],
                    last_time=record["last_time"],
                    sources=tuple(lines["source"].unique(maintain_order=True)),
                    lines=tuple(
                        zip(lines["source"], lines["line"], column(lines, "raw"), strict=True)
                    ),
                    culprits=tuple(culprits),
                    count=1,
                    model=self.detector.name,
                )
            )
        return alerts
