"""Sessions of a stream that are still open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np
import polars as pl

from oddlog.events import column
from oddlog.group.clocks import Clocks
from oddlog.group.cut import times
from oddlog.group.open_windows import Closed
from oddlog.group.packed import unpack
from oddlog.group.window import Window, microseconds


@dataclass(slots=True)
class OpenSession:
    """A session's current window; times are clocks in microseconds, None before they began."""

    part: int
    starts: bool
    source: str  # of the last event
    last: int | None  # clock of the last event
    zero: int | None  # of the grid of ages: the first known clock since the last gap
    cell: int  # of that grid
    rows: list[int]


OPEN_COLUMNS: dict[str, pl.DataType] = {
    "name": pl.String(),
    "n_rows": pl.Int64(),
    "part": pl.Int64(),
    "starts": pl.Boolean(),
    "source": pl.String(),
    "last": pl.Int64(),
    "zero": pl.Int64(),
    "cell": pl.Int64(),
}
"""Of the table of a snapshot: name, length, then all fields of ``OpenSession`` but its rows."""
_FIELDS_OF = attrgetter(*(name for name in OPEN_COLUMNS if name not in ("name", "n_rows")))
ROW = {"row": pl.Int64()}


class OpenSessions:
    """Cuts a stream by session id.

    A dictionary for each source keeps the sessions whose last event came from it in the order of
    those events, that is by its clock, so that only the sessions that expire are looked at.
    """

    def __init__(self, window: Window, max_remembered: int) -> None:
        self.clocks = Clocks()
        self.n_cut = 0
        self.n_forgotten = 0
        self.n_held = 0
        self.n_outside = 0
        self._clocked = window.clocked
        self._gap = None if window.gap_s is None else microseconds(window.gap_s)
        self._age = None if window.age_s is None else microseconds(window.age_s)
        self._max_length = window.max_length
        self._max_remembered = max_remembered
        self._open: OrderedDict[str, OpenSession] = OrderedDict()
        self._queues: dict[str, OrderedDict[str, None]] = {}
        self._parts: OrderedDict[str, int] = OrderedDict()  # of closed sessions

    @property
    def holders(self) -> OrderedDict[str, OpenSession]:
        """Open sessions by id, longest untouched first."""
        return self._open

    def push(self, events: pl.DataFrame, first: int) -> list[Closed]:
        """Take events numbered from ``first`` on and return the windows that they close."""
        closed: list[Closed] = []
        sources = events["source"].to_list()
        seen = times(events).to_list() if self._clocked else [None] * len(sources)
        sessions = column(events, "sessions").to_list()
        lines = zip(sources, seen, sessions, strict=True)
        for row, (source, time, ids) in enumerate(lines, first):
            now = self.clocks.tick(source, time) if self._clocked else None
            names = [name for name in ids or () if name]
            self.n_outside += not names
            for name in names:
                self._add(name, row, (source, now), closed)
        return closed + self.advance(dict.fromkeys(sources))

    def _add(
        self, name: str, row: int, event: tuple[str, int | None], closed: list[Closed]
    ) -> None:
        session = self._open.get(name)
        if session is None:
            session = self._begin(name, event)
        elif session.rows[-1] == row:  # the line names it twice
            return
        elif (done := self._cut(name, session, event)) is not None:
            closed.append(done)
        session.rows.append(row)
        self.n_held += 1
        self._open.move_to_end(name)
        if self._gap is not None:
            self._queue(name, session, event)
        session.source, session.last = event

    def _begin(self, name: str, event: tuple[str, int | None]) -> OpenSession:
        part = self._parts.pop(name, 0) + 1
        self.n_cut += part == 2
        source, now = event
        starts = part == 1
        if self._gap is not None and starts:
            starts = now is not None and now - self.clocks.first[source] > self._gap
        session = OpenSession(part, starts, source, None, now, 0, [])
        self._open[name] = session
        return session

    def _cut(self, name: str, session: OpenSession, event: tuple[str, int | None]) -> Closed | None:
        """Close the session's window if the event opens another one."""
        now = self._now(session, event)
        if self._idle(session, now):
            done = self._part(name, session, ends=True)
            session.zero, session.cell = event[1], 0
            return done
        cell = self._cell(session, now)
        if cell > session.cell:
            session.cell = cell
        elif len(session.rows) != self._max_length:
            return None
        return self._part(name, session, ends=False)

    def _idle(self, session: OpenSession, now: int | None) -> bool:
        if self._gap is None or session.last is None or now is None:
            return False
        return now - session.last > self._gap

    def _now(self, session: OpenSession, event: tuple[str, int | None]) -> int | None:
        source, own = event
        if source == session.source:
            return own
        other = self.clocks.latest.get(session.source)
        if own is None or other is None:
            return other if own is None else own
        return max(own, other)

    def _cell(self, session: OpenSession, now: int | None) -> int:
        if self._age is None or now is None:
            return 0
        if session.zero is None:
            session.zero = now
        return (now - session.zero) // self._age

    def _part(self, name: str, session: OpenSession, *, ends: bool) -> Closed:
        """Close the session's window and open the next one."""
        done = Closed(session.rows, name, session.part, session.starts, ends)
        self.n_held -= len(session.rows)
        session.rows, session.starts = [], False
        session.part += 1
        self.n_cut += session.part == 2
        return done

    def _queue(self, name: str, session: OpenSession, event: tuple[str, int | None]) -> None:
        """Put the session at the end of its source's queue; without a clock it is in none."""
        source, now = event
        if session.source != source and session.last is not None:
            del self._queues[session.source][name]
        if now is not None:
            queue = self._queues.setdefault(source, OrderedDict())
            queue[name] = None
            queue.move_to_end(name)

    def advance(self, places: Iterable[str]) -> list[Closed]:
        """Return the windows of sessions idle for longer than the gap by the sources' clocks."""
        closed: list[Closed] = []
        for source in places:
            queue, now = self._queues.get(source), self.clocks.latest.get(source)
            while queue and self._idle(self._open[name := next(iter(queue))], now):
                closed.append(self._close(name, ends=True))
        return closed

    def _close(self, name: str, *, ends: bool) -> Closed:
        session = self._open.pop(name)
        self.n_held -= len(session.rows)
        if self._gap is not None and session.last is not None:
            del self._queues[session.source][name]
        self._parts[name] = session.part
        if len(self._parts) > self._max_remembered:
            self._parts.popitem(last=False)
            self.n_forgotten += 1
        return Closed(session.rows, name, session.part, session.starts, ends)

    def evict(self, name: str) -> list[Closed]:
        """Close a session's window whose end is not known."""
        return [self._close(name, ends=False)]

    def peek(self, name: str, *, ended: bool) -> list[Closed]:
        """Return a session's window as it is now, and close nothing."""
        session = self._open[name]
        return [Closed(list(session.rows), name, session.part, session.starts, ended)]

    def finish(self) -> list[Closed]:
        """Close every window; without a gap the log is complete, and so are its sessions."""
        closed = [self._close(name, ends=self._gap is None) for name in list(self._open)]
        self._parts.clear()
        self._queues.clear()
        self.clocks.restart()
        return closed

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held; see ``packed``."""
        return {
            "clocks": self.clocks.state(),
            "n_cut": self.n_cut,
            "n_forgotten": self.n_forgotten,
            "n_outside": self.n_outside,
            **self._tables(),
            "parts": dict(self._parts),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        self.clocks = Clocks.restore(state["clocks"])
        for name in ("n_cut", "n_forgotten", "n_outside"):
            setattr(self, name, state[name])
        self._parts = OrderedDict(state["parts"])
        rows = unpack(state["rows"], ROW)["row"].to_list()
        end = 0
        for values in unpack(state["open"], OPEN_COLUMNS).iter_rows(named=True):
            name, begin, end = values.pop("name"), end, end + values.pop("n_rows")
            session = OpenSession(**values, rows=rows[begin:end])
            self._open[name] = session
            self.n_held += len(session.rows)
            if self._gap is not None and session.last is not None:
                self._queues.setdefault(session.source, OrderedDict())[name] = None

    def _tables(self) -> dict[str, Callable[[], pl.DataFrame]]:
        """Return the open sessions in ``OPEN_COLUMNS``, and their rows, one behind the other."""
        every = chain.from_iterable(session.rows for session in self._open.values())
        rows = np.fromiter(every, np.int64, self.n_held)
        values = [
            (name, len(session.rows), *_FIELDS_OF(session)) for name, session in self._open.items()
        ]
        return {
            "open": lambda: pl.DataFrame(values, schema=OPEN_COLUMNS, orient="row"),
            "rows": lambda: pl.DataFrame({"row": rows}),
        }
