"""A result as one HTML file: no network, no server, nothing that a log could make it do.

``render`` gathers what ``page/page.html.jinja`` shows. Charts are numbers (``charts``,
``axes``) that the template writes as SVG, sequences are bounded rows (``rows``), and ``html`` does
the escaping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.calibrate import Calibration
from oddlog.drift import Drift
from oddlog.evaluate import class_title
from oddlog.events import Sequences
from oddlog.explain import TextOf, likely_kind
from oddlog.findings import Scores
from oddlog.report.charts import Timeline, histogram, rates, timeline
from oddlog.report.html import page
from oddlog.report.rows import Limits, Row, make_rows

__all__ = ["Limits", "render"]
N_SOURCES = 3
N_HIGHEST = 10  # sequences to show where nothing can be flagged
WIDE = 15  # characters of a key that need a wider column


class Verdict(Protocol):
    """What a report needs of a ``Result``; the attributes and methods are described there."""

    @property
    def sequences(self) -> Sequences: ...
    @property
    def scores(self) -> Scores: ...
    @property
    def calibration(self) -> Calibration: ...
    @property
    def flags(self) -> NDArray[np.bool_]: ...
    @property
    def text_of(self) -> TextOf: ...
    def table(self) -> pl.DataFrame: ...
    def flagged(self) -> NDArray[np.int64]: ...
    def highest(self, n: int) -> NDArray[np.int64]: ...
    def lines(self) -> list[str]: ...
    def explain(self, index: NDArray[np.integer] | None = None) -> list[list[dict[str, Any]]]: ...
    def also_flagged(self, index: NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]: ...


def render(
    result: Verdict,
    drift: Drift,
    *,
    about: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> str:
    """Return the report of a result as HTML, whole and self-contained.

    Args:
        result: What to report.
        drift: How its log compares with the calibration.
        about: What made it, shown as it is: such as command, model, version.
        limits: How much of what was flagged is in the file; the rest is counted there.
    """
    limits = limits or Limits()
    table, flagged, flags = result.table(), result.flagged(), result.flags
    rate = result.calibration.false_alarm_rate
    times = table["first_time"].dt.epoch("us")
    timed = times.is_not_null().to_numpy()
    drawn = timeline(times.fill_null(0).to_numpy(), timed, flags, rate) if len(flags) else None
    n_missing = result.calibration.n_missing()
    told = result.highest(N_HIGHEST) if n_missing else flagged
    rows = _rows(result, table, told[: limits.sequences], limits, drawn)
    return page(
        {
            "n_sequences": len(flags),
            "n_flagged": len(flagged),
            "n_left_out": max(len(flagged) - len(rows), 0),
            "rate": rate,
            "calibration": result.calibration,
            "threshold": result.calibration.threshold(),
            "n_missing": n_missing,
            "n_events": len(result.sequences.rows),
            "span": _span(table),
            "sources": table["source"].value_counts(sort=True)["source"].to_list(),
            "n_sources_shown": N_SOURCES,
            "histogram": _histogram(result) if len(flags) else None,
            "timeline": drawn,
            "drift": drift,
            "rates": rates(drift.over_time, rate) if drift.over_time else None,
            "rows": rows,
            "wide": any(len(row.record["key"]) > WIDE for row in rows),
            "first_of_bin": _first_of_bin(rows),
            "also": _also_counts(rows),
            "notes": result.lines(),
            "about": dict(about or {}),
        }
    )


def _histogram(result: Verdict) -> Any:
    calibration = result.calibration
    return histogram(result.scores.sequence, calibration.scores, calibration.threshold())


def _rows(
    result: Verdict,
    table: pl.DataFrame,
    index: NDArray[np.int64],
    limits: Limits,
    drawn: Timeline | None,
) -> list[Row]:
    """Return the rows to show, with the simple rules' verdict and their places in time."""
    if not len(index):
        return []
    records = table[index].to_dicts()
    for number, record in zip(index.tolist(), records, strict=True):
        record["order"] = number
        record["truth"] = class_title(record["label"]) if record["label"] is not None else None
        record["kind"] = likely_kind(record)
    chosen = result.sequences.take(index)
    rows = make_rows(chosen, records, result.explain(index), result.text_of, limits)
    also = result.also_flagged(index)
    bins = drawn.bin_of[index].tolist() if drawn else [-1] * len(rows)
    return [
        replace(row, bin=bins[i], also=tuple(name for name, flags in also.items() if flags[i]))
        for i, row in enumerate(rows)
    ]


def _first_of_bin(rows: list[Row]) -> dict[int, int]:
    """Return the rank of the worst row of each bin of the timeline."""
    return {row.bin: row.rank for row in reversed(rows)}


def _also_counts(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(name for row in rows for name in row.also).most_common())


def _span(table: pl.DataFrame) -> tuple[Any, Any]:
    return table["first_time"].min(), table["last_time"].max()
