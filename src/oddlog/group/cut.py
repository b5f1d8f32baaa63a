"""What the cut of a table and the cut of a stream share: spans, names and labels of windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import NORMAL, Sequences, column
from oddlog.group.window import MICROSECONDS, Window

Ints = NDArray[np.int64]
NO_TIME = np.iinfo(np.int64).min  # a clock that has not started


@dataclass(frozen=True, eq=False)
class Cut:
    """n windows as rows of an event table, before they have keys and labels.

    Attributes:
        rows: (m,) rows of the table, rising within each window.
        offsets: (n + 1,) bounds of the windows in ``rows``.
        names: (n,) String: the session's id, or the place of a window of time.
        numbers: (n,) the session's part, from 1, or the beginning of a window of time in
            microseconds.
        starts: (n,) bool, as in ``Sequences``.
        ends: (n,) bool, as in ``Sequences``.
    """

    rows: Ints
    offsets: Ints
    names: pl.Series
    numbers: Ints
    starts: NDArray[np.bool_]
    ends: NDArray[np.bool_]


def places(events: pl.DataFrame, window: Window) -> pl.Series:
    """Return (N,) String, what has its own windows of lines or time: the source or the host."""
    if window.per == "source":
        return events["source"]
    host = column(events, "host")
    return host.zip_with(host.is_not_null(), events["source"])


def times(events: pl.DataFrame) -> pl.Series:
    """Return (N,) Int64, the events' times in microseconds since 1970, null where unknown."""
    return column(events, "time").cast(pl.Int64)


def line_spans(bounds: Ints, size: int, step: int) -> tuple[Ints, Ints, Ints]:
    """Return the windows of lines over places whose events stand together.

    Args:
        bounds: (g + 1,) where each place's events begin and end; no place is empty.
        size: Events in a window.
        step: Events from one beginning to the next.

    Returns:
        (n,) place, (n,) begin and (n,) end of each window.
    """
    lengths = np.diff(bounds)
    n_windows = 1 + -(-np.maximum(lengths - size, 0) // step)
    place = np.repeat(np.arange(len(lengths)), n_windows)
    begin = bounds[place] + step * count_up(n_windows)
    return place, begin, np.minimum(begin + size, bounds[place + 1])


def time_spans(clock: Ints, bounds: Ints, size: int, step: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Return the windows of time that hold an event, over places whose events stand together.

    Args:
        clock: (N,) microseconds, never falling within a place.
        bounds: (g + 1,) where each place's events begin and end.
        size: Microseconds in a window.
        step: Microseconds from one beginning to the next.

    Returns:
        (n,) place, (n,) window number k (it begins at k * step), (n,) begin and (n,) end.
    """
    first, last = first_number(clock, size, step), clock // step
    place = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    # Events between which neither bound moves are in the same windows: one run.
    new_run = changes(place) | changes(first) | changes(last)
    begin = np.flatnonzero(new_run)
    end = np.append(begin, len(clock))[1:]
    n_windows = (last - first + 1)[begin]
    run = np.repeat(np.arange(len(begin)), n_windows)
    number = first[begin][run] + count_up(n_windows)
    order = np.lexsort((number, place[begin][run]))  # stable: runs stay in order
    run, number = run[order], number[order]
    opens = np.flatnonzero(changes(place[begin][run]) | changes(number))
    closes = np.append(opens, len(run))[1:] - 1
    return place[begin][run[opens]], number[opens], begin[run[opens]], end[run[closes]]


def first_number(clock: Ints, size: int, step: int) -> Ints:
    """Return the number of the earliest window of time that is still open at a clock."""
    return (clock - size) // step + 1


def count_up(lengths: Ints) -> Ints:
    """Return 0, 1, ... length - 1 for each of the lengths, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)


def changes(values: NDArray) -> NDArray[np.bool_]:
    """Return (n,) bool: the first value, and each that differs from the one before it."""
    return np.append(np.ones(min(len(values), 1), dtype=bool), values[1:] != values[:-1])


def take_spans(ordered: Ints, begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Return (rows, offsets) of the windows ``ordered[begin[i]:end[i]]``."""
    lengths = end - begin
    rows = ordered[np.repeat(begin, lengths) + count_up(lengths)]
    return rows, np.append(0, np.cumsum(lengths)).astype(np.int64)


def to_sequences(events: pl.DataFrame, cut: Cut, window: Window) -> Sequences:
    """Give the windows their keys and labels."""
    return Sequences(
        events=events,
        rows=cut.rows,
        offsets=cut.offsets,
        keys=_keys(events, cut, window),
        labels=_labels(events, cut),
        starts=cut.starts,
        ends=cut.ends,
    )


def _keys(events: pl.DataFrame, cut: Cut, window: Window) -> pl.Series:
    if window.by == "lines":
        first = events.select("source", "line")[cut.rows[cut.offsets[:-1]]]
        return first.select(pl.concat_str("source", "line", separator=":").alias("key"))["key"]
    number = pl.col("number")
    if window.by == "time":
        whole = window.span[1] % MICROSECONDS == 0
        style = "%Y-%m-%dT%H:%M:%SZ" if whole else "%Y-%m-%dT%H:%M:%S%.6fZ"
        suffix = pl.lit("@") + number.cast(pl.Datetime("us")).dt.strftime(style)
    else:
        suffix = pl.when(number > 1).then(pl.lit("~") + number.cast(pl.String)).otherwise(None)
    names = pl.DataFrame({"name": cut.names, "number": cut.numbers})
    return names.select((pl.col("name") + suffix.fill_null("")).alias("key"))["key"]


def _labels(events: pl.DataFrame, cut: Cut) -> pl.Series:
    """Return (n,) String: the commonest class, else normal if all lines are, else null."""
    n = len(cut.offsets) - 1
    label = column(events, "label")
    labels = pl.Series("label", [None], dtype=pl.String).new_from_index(0, n)
    if n == 0 or label.null_count() == len(label):
        return labels
    known = label.is_not_null().to_numpy()[cut.rows]
    all_known = pl.Series(np.logical_and.reduceat(known, cut.offsets[:-1]))
    normal = pl.Series("label", [NORMAL], dtype=pl.String).new_from_index(0, n)
    labels = normal.zip_with(all_known, labels)
    odd_rows = (label != NORMAL).fill_null(value=False).to_numpy()
    entry = np.flatnonzero(odd_rows[cut.rows])
    if not len(entry):
        return labels
    owner = np.searchsorted(cut.offsets, entry, side="right") - 1
    worst = (
        pl.DataFrame({"owner": owner, "label": label.gather(cut.rows[entry]), "entry": entry})
        .group_by("owner", "label")
        .agg(count=pl.len(), first=pl.col("entry").min())
        .sort("owner", "count", "first", descending=[False, True, False])
        .unique("owner", keep="first", maintain_order=True)
    )
    return labels.scatter(worst["owner"], worst["label"])
