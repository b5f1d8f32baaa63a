"""A judged log as one HTML file: no network, no server, nothing that a log could make it do.

``render`` gathers what ``page/page.html.jinja`` shows. Charts are numbers (``charts``,
``axes``) that the template writes as SVG, sequences are bounded rows (``rows``), and ``html`` does
the escaping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import write_text
from oddlog.calibrate import Calibration
from oddlog.drift import Drift
from oddlog.evaluate import class_title
from oddlog.events import Sequences
from oddlog.explain import TextOf, likely_kind
from oddlog.report.charts import Chart, Timeline, histogram, rates, timeline
from oddlog.report.html import page
from oddlog.report.rows import Limits, Row, make_rows

__all__ = ["Judged", "Limits", "render", "write"]
N_SOURCES = 3
N_HIGHEST = 10  # sequences to show where nothing can be flagged
WIDE = 15  # characters of a key that need a wider column


class Told(Protocol):
    """What a report needs of the sequences it tells of; ``oddlog.pipeline.Result`` describes it."""

    @property
    def sequences(self) -> Sequences: ...
    @property
    def text_of(self) -> TextOf: ...
    def table(self) -> pl.DataFrame: ...
    def explain(self, index: NDArray[np.integer] | None = None) -> list[list[dict[str, Any]]]: ...
    def also_flagged(self, index: NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]: ...


@dataclass(frozen=True, eq=False)
class Judged:
    """A judged log of n sequences: a little of all, and all of the k that are told of.

    Attributes:
        spans: n rows in the order of the log: ``score``, ``flagged``, ``source`` of the first
            event, ``first_time`` and ``last_time`` (null where not known).
        n_events: In all sequences.
        told: The k sequences, worst first: those flagged, or, where nothing can be flagged, those
            that score highest.
        numbers: (k,) their numbers in the order of the log.
        calibration: What they were judged by.
        drift: How the log compares with the calibration.
        notes: What a person should know before trusting this, one line each.
        foreign: What says that the model hardly knows this kind of log, if it does not.
    """

    spans: pl.DataFrame
    n_events: int
    told: Told
    numbers: NDArray[np.int64]
    calibration: Calibration
    drift: Drift
    notes: tuple[str, ...] = ()
    foreign: str | None = None


def write(path: Path, judged: Judged, *, about: Mapping[str, str] | None = None) -> None:
    """Write a report to a file, whole or not at all; ``about`` as for ``render``."""
    write_text(path, render(judged, about=about))


def render(
    judged: Judged, *, about: Mapping[str, str] | None = None, limits: Limits | None = None
) -> str:
    """Return the report of a judged log as HTML, whole and self-contained.

    Args:
        judged: What to report.
        about: What made it, shown as it is: such as command, model, version.
        limits: How much of what was flagged is in the file; the rest is counted there.
    """
    limits = limits or Limits()
    calibration, spans, drift = judged.calibration, judged.spans, judged.drift
    flags = spans["flagged"].to_numpy()
    n_flagged = int(flags.sum())
    n_missing = calibration.n_missing()
    most = min(N_HIGHEST, limits.sequences) if n_missing else limits.sequences
    drawn = _timeline(spans, flags, calibration.false_alarm_rate) if len(flags) else None
    rows = _rows(judged.told, judged.numbers[:most], limits, drawn)
    return page(
        {
            "n_sequences": len(flags),
            "n_flagged": n_flagged,
            "n_left_out": max(n_flagged - len(rows), 0),
            "rate": calibration.false_alarm_rate,
            "calibration": calibration,
            "threshold": calibration.threshold(),
            "n_missing": n_missing,
            "n_events": judged.n_events,
            "span": (spans["first_time"].min(), spans["last_time"].max()),
            "sources": _sources(spans),
            "n_sources_shown": N_SOURCES,
            "histogram": _histogram(spans, calibration) if len(flags) else None,
            "timeline": drawn,
            "drift": drift,
            "rates": rates(drift.over_time, calibration.false_alarm_rate)
            if drift.over_time
            else None,
            "rows": rows,
            "wide": any(len(row.record["key"]) > WIDE for row in rows),
            "first_of_bin": _first_of_bin(rows),
            "also": _also_counts(rows),
            "notes": list(judged.notes),
            "foreign": judged.foreign,
            "about": dict(about or {}),
        }
    )


def _timeline(spans: pl.DataFrame, flags: NDArray[np.bool_], rate: float) -> Timeline:
    times = spans["first_time"].dt.epoch("us")
    return timeline(times.fill_null(0).to_numpy(), times.is_not_null().to_numpy(), flags, rate)


def _sources(spans: pl.DataFrame) -> list[str]:
    """Return the sources, that of most sequences first."""
    counts = spans.group_by("source", maintain_order=True).len()
    return counts.sort("len", descending=True, maintain_order=True)["source"].to_list()


def _histogram(spans: pl.DataFrame, calibration: Calibration) -> Chart:
    return histogram(spans["score"].to_numpy(), calibration.scores, calibration.threshold())


def _rows(
    told: Told, numbers: NDArray[np.int64], limits: Limits, drawn: Timeline | None
) -> list[Row]:
    """Return the rows to show, with the simple rules' verdict and their places in time."""
    if not len(numbers):
        return []
    index = np.arange(len(numbers))
    records = told.table()[index].to_dicts()
    for number, record in zip(numbers.tolist(), records, strict=True):
        record["order"] = number
        record["truth"] = class_title(record["label"]) if record["label"] is not None else None
        record["kind"] = likely_kind(record)
    chosen = told.sequences.take(index)
    rows = make_rows(chosen, records, told.explain(index), told.text_of, limits)
    also = told.also_flagged(index)
    bins = drawn.bin_of[numbers].tolist() if drawn else [-1] * len(rows)
    return [
        replace(row, bin=bins[i], also=tuple(name for name, flags in also.items() if flags[i]))
        for i, row in enumerate(rows)
    ]


def _first_of_bin(rows: list[Row]) -> dict[int, int]:
    """Return the rank of the worst row of each bin of the timeline."""
    return {row.bin: row.rank for row in reversed(rows)}


def _also_counts(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(name for row in rows for name in row.also).most_common())
