"""Cut a whole event table into windows: by column, without a loop over events or sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences, column
from oddlog.group.cut import (
    NO_TIME,
    Cut,
    Ints,
    changes,
    count_up,
    line_spans,
    places,
    take_spans,
    time_spans,
    times,
    to_sequences,
)
from oddlog.group.report import GroupReport
from oddlog.group.window import Window, microseconds


@dataclass(frozen=True, eq=False)
class LogClock:
    """The clocks of a log's sources, beside some of its events, in microseconds since 1970.

    Events of several sources are merged by these clocks: what comes later in the table is no
    earlier by its own source's clock than by that of any other source.

    Attributes:
        at: (N,) its source's clock at each event, null before the source's first time.
        spans: Of each source that has times, its clock when it began and when the log ended.
    """

    at: pl.Series
    spans: Mapping[str, tuple[int, int]]


def group(
    events: pl.DataFrame, window: Window, log: LogClock | None = None
) -> tuple[Sequences, GroupReport]:
    """Cut an event table into windows, ordered by their first event.

    Args:
        events: The table (see ``EVENT_COLUMNS``): each source's events in the order of its file.
        window: The rule; ``oddlog.group`` says what each one means.
        log: Where the events are all of some sessions, and not all of the log: the log's clocks.

    Returns:
        The windows, as row numbers of ``events`` (not copied), and what was counted on the way.
        There may be no window at all: the report says why.
    """
    clock, n_late = _clocks(events, window, log) if window.clocked else (None, 0)
    cut = _cut(events, window, clock, log)
    sequences = to_sequences(events, _by_first_row(cut), window)
    inside = np.zeros(events.height, dtype=bool)
    inside[cut.rows] = True
    return sequences, GroupReport(
        window,
        n_events=events.height,
        n_windows=len(sequences),
        n_outside=int((~inside).sum()),
        n_untimed=0 if clock is None else int((clock == NO_TIME).sum()),
        n_late=n_late,
        n_cut=int((cut.numbers == 2).sum()) if window.by == "session" else 0,
    )


def _cut(events: pl.DataFrame, window: Window, clock: Ints | None, log: LogClock | None) -> Cut:
    if window.by == "session":
        known = None if clock is None else _Log.of(events, clock, log)
        return _by_session(events, window, known)
    if clock is None:
        return _by_lines(events, window)
    return _by_time(events, window, clock)


def _clocks(events: pl.DataFrame, window: Window, log: LogClock | None) -> tuple[Ints, int]:
    """Return (N,) each event's clock in microseconds, NO_TIME before its start, and n_late."""
    clock = pl.col("time").cum_max().forward_fill().over("place")
    table = pl.DataFrame({"place": places(events, window), "time": times(events)})
    table = table.with_columns(clock=clock if log is None else log.at)
    n_late = table.select((pl.col("time") < pl.col("clock")).sum()).item()
    return table["clock"].fill_null(NO_TIME).to_numpy(), n_late


def _members(names: pl.Series, rows: pl.Series) -> tuple[pl.Series, Ints, Ints]:
    """Return the distinct names, in order, and (members, bounds): the rows that bear each."""
    groups = (
        pl.DataFrame({"name": names, "row": rows})
        .group_by("name", maintain_order=True)
        .agg("row", length=pl.len())
    )
    members = groups["row"].explode(empty_as_null=False).to_numpy()
    bounds = np.append(0, np.cumsum(groups["length"].to_numpy())).astype(np.int64)
    return groups["name"], members, bounds


def _by_lines(events: pl.DataFrame, window: Window) -> Cut:
    names, members, bounds = _members(places(events, window), _row_numbers(events.height))
    place, begin, end = line_spans(bounds, *window.span)
    rows, offsets = take_spans(members, begin, end)
    return _unmarked(rows, offsets, names.gather(place), np.zeros(len(place), dtype=np.int64))


def _by_time(events: pl.DataFrame, window: Window, clock: Ints) -> Cut:
    timed = np.flatnonzero(clock != NO_TIME)
    names, members, bounds = _members(
        places(events, window).gather(timed), pl.Series(timed, dtype=pl.Int64)
    )
    size, step = window.span
    place, number, begin, end = time_spans(clock[members], bounds, size, step)
    rows, offsets = take_spans(members, begin, end)
    return _unmarked(rows, offsets, names.gather(place), number * step)


def _unmarked(rows: Ints, offsets: Ints, names: pl.Series, numbers: Ints) -> Cut:
    no = np.zeros(len(offsets) - 1, dtype=bool)
    return Cut(rows, offsets, names, numbers, starts=no, ends=no)


def _by_session(events: pl.DataFrame, window: Window, log: _Log | None) -> Cut:
    ids, rows, owner = _session_rows(events)
    first = changes(owner)
    after_gap, opens = np.zeros(len(rows), dtype=bool), first
    if log is not None:
        after_gap, opens = _idle_or_aged(rows, first, log, window)
    if window.max_length is not None:
        lengths = np.diff(np.append(np.flatnonzero(opens), len(rows)))
        opens = count_up(lengths) % window.max_length == 0
    begin = np.flatnonzero(opens)
    of_window = owner[begin]
    part = 1 + count_up(np.unique(of_window, return_counts=True)[1])
    offsets = np.append(begin, len(rows)).astype(np.int64)
    starts, ends = _marks(part, rows, offsets, log, window)
    ends |= np.append(after_gap[begin], False)[1:]
    return Cut(rows, offsets, ids.gather(of_window), part, starts, ends)


def _session_rows(events: pl.DataFrame) -> tuple[pl.Series, Ints, Ints]:
    """Return the ids in order of appearance, and (m,) rows with (m,) their id's number."""
    ids = pl.DataFrame({"row": _row_numbers(events.height), "id": column(events, "sessions")})
    ids = ids.explode("id", empty_as_null=False, keep_nulls=False).filter(pl.col("id") != "")
    names, rows, bounds = _members(ids["id"], ids["row"])
    owner = np.repeat(np.arange(len(names)), np.diff(bounds))
    once = changes(rows) | changes(owner)  # an id that a line names twice
    return names, rows[once], owner[once]


@dataclass(frozen=True, eq=False)
class _Log:
    """(N,) beside the event table: each event's source, as a number, and its clock.

    ``first`` and ``last`` are (g,) the first and the last clock of each source.
    """

    source: Ints
    clock: Ints
    first: Ints
    last: Ints

    @classmethod
    def of(cls, events: pl.DataFrame, clock: Ints, log: LogClock | None) -> _Log:
        source = _codes(events["source"])
        if log is not None:
            names = events["source"].unique(maintain_order=True)
            spans = [log.spans.get(name, (NO_TIME, NO_TIME)) for name in names]
            first, last = np.array(spans, dtype=np.int64).reshape(-1, 2).T
            return cls(source, clock, first, last)
        timed = np.flatnonzero(clock != NO_TIME)
        first = np.full(int(source.max(initial=-1)) + 1, NO_TIME)
        last = first.copy()
        first[source[timed][::-1]] = clock[timed][::-1]  # the first is written last
        last[source[timed]] = clock[timed]
        return cls(source, clock, first, last)

    def clock_then(self, rows: Ints, before: Ints) -> Ints:
        """Return (m,) the clock of the source of the event ``before`` each, as ``rows`` arrive."""
        then = self.clock[before]
        moved = np.flatnonzero(self.source[rows] != self.source[before])  # else its own is later
        if len(moved):
            n = len(self.source)
            line_up = np.argsort(self.source, kind="stable")
            place = self.source[line_up] * n + line_up
            wanted = self.source[before[moved]] * n + rows[moved]
            then[moved] = self.clock[line_up[np.searchsorted(place, wanted) - 1]]
        return then


def _idle_or_aged(
    rows: Ints, first: NDArray[np.bool_], log: _Log, window: Window
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (m,) which events come after a gap, and which open a window by gap or age."""
    before = np.append(rows[:1], rows[:-1])
    now = np.maximum(log.clock[rows], log.clock_then(rows, before))
    after_gap = np.zeros(len(rows), dtype=bool)
    if window.gap_s is not None:
        after_gap = ~first & _apart(log.clock[before], now, microseconds(window.gap_s))
    opens = first | after_gap
    if window.age_s is not None and len(rows):
        now = np.where(opens, log.clock[rows], now)
        opens = opens | _ages(now, opens, microseconds(window.age_s))
    return after_gap, opens


def _ages(now: Ints, opens: NDArray[np.bool_], age: int) -> NDArray[np.bool_]:
    """Return (m,) which events are in a later cell of the grid than those before them.

    The grid's zero is the first known time after each event that ``opens``.
    """
    begin = np.flatnonzero(opens)
    stretch = np.cumsum(opens) - 1
    position = np.where(now != NO_TIME, np.arange(len(now)), len(now) - 1)
    zero = now[np.minimum.reduceat(position, begin)][stretch]
    known = (now != NO_TIME) & (zero != NO_TIME)
    cell = np.zeros(len(now), dtype=np.int64)
    cell[known] = np.maximum((now[known] - zero[known]) // age, 0)
    reached = pl.DataFrame({"stretch": stretch, "cell": cell}).select(
        pl.col("cell").cum_max().over("stretch")  # sources' clocks differ; no session goes back
    )
    return changes(reached["cell"].to_numpy()) & ~opens


def _marks(
    part: Ints, rows: Ints, offsets: Ints, log: _Log | None, window: Window
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (n,) which windows hold their session's start and, if no gap shows it, its end.

    With a gap they do only if one without the session lies between them and their source's
    beginning or end.
    """
    starts = part == 1
    ends = np.append(starts, True)[1:]
    if log is None or window.gap_s is None or not len(rows):
        return starts, ends
    gap = microseconds(window.gap_s)
    first, last = rows[offsets[:-1]], rows[offsets[1:] - 1]
    starts &= _apart(log.first[log.source[first]], log.clock[first], gap)
    ends &= _apart(log.clock[last], log.last[log.source[last]], gap)
    return starts, ends


def _apart(earlier: Ints, later: Ints, gap: int) -> NDArray[np.bool_]:
    known = (earlier != NO_TIME) & (later != NO_TIME)
    apart = known.copy()
    apart[known] = later[known] - earlier[known] > gap
    return apart


def _by_first_row(cut: Cut) -> Cut:
    first = cut.rows[cut.offsets[:-1]]
    if np.all(first[1:] >= first[:-1]):
        return cut
    order = np.argsort(first, kind="stable")
    rows, offsets = take_spans(cut.rows, cut.offsets[:-1][order], cut.offsets[1:][order])
    names = cut.names.gather(order)
    return Cut(
        rows, offsets, names, cut.numbers[order], starts=cut.starts[order], ends=cut.ends[order]
    )


def _row_numbers(n: int) -> pl.Series:
    return pl.int_range(0, n, dtype=pl.Int64, eager=True)


def _codes(names: pl.Series) -> Ints:
    """Return (N,) the number of each value, in order of appearance."""
    _, members, bounds = _members(names, _row_numbers(len(names)))
    codes = np.empty(len(names), dtype=np.int64)
    codes[members] = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return codes
