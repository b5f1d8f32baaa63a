"""Windows of lines and of time of a stream that are still open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from oddlog.group.clocks import Clocks
from oddlog.group.cut import first_number, line_spans, places, time_spans, times
from oddlog.group.open_windows import Closed
from oddlog.group.window import Window


@dataclass(slots=True)
class OpenLines:
    """A place's last events; the first ``n_covered`` of them were in a window already."""

    n_covered: int = 0
    rows: list[int] = field(default_factory=list)


class LineWindows:
    """Cuts a stream every so many lines of a place."""

    n_cut = 0
    n_forgotten = 0
    n_outside = 0

    def __init__(self, window: Window) -> None:
        self.clocks = Clocks()  # stand still: times do not matter here
        self.n_held = 0
        self._window = window
        self._open: OrderedDict[str, OpenLines] = OrderedDict()

    @property
    def holders(self) -> OrderedDict[str, OpenLines]:
        """Open windows by place, longest untouched first."""
        return self._open

    def push(self, events: pl.DataFrame, first: int) -> list[Closed]:
        """Take events numbered from ``first`` on and return the windows that they fill."""
        touched = places(events, self._window).to_list()
        for row, place in enumerate(touched, first):
            lines = self._open.get(place)
            if lines is None:
                lines = self._open[place] = OpenLines()
            lines.rows.append(row)
        self.n_held += len(touched)
        return [window for place in dict.fromkeys(touched) for window in self._filled(place)]

    def _filled(self, place: str) -> list[Closed]:
        self._open.move_to_end(place)
        lines = self._open[place]
        size, step = self._window.span
        n_full = (len(lines.rows) - size) // step + 1
        if n_full < 1:
            return []
        full = [_closed(lines.rows[at : at + size]) for at in range(0, n_full * step, step)]
        del lines.rows[: n_full * step]
        self.n_held -= n_full * step
        lines.n_covered = size - step
        if not lines.rows:
            del self._open[place]
        return full

    def advance(self, places: Iterable[str]) -> list[Closed]:
        """Return nothing: time closes no window of lines."""
        return []

    def evict(self, name: str) -> list[Closed]:
        """Close a place's windows before they are full."""
        closed = self.peek(name)
        self.n_held -= len(self._open.pop(name).rows)
        return closed

    def peek(self, name: str, *, ended: bool = False) -> list[Closed]:
        """Return a place's windows as they are now, and close nothing; none holds an end."""
        lines = self._open[name]
        if len(lines.rows) <= lines.n_covered:
            return []
        bounds = np.array([0, len(lines.rows)])
        _, begin, end = line_spans(bounds, *self._window.span)
        return [_closed(lines.rows[b:e]) for b, e in zip(begin, end, strict=True)]

    def finish(self) -> list[Closed]:
        """Close every window, full or not."""
        return [window for place in list(self._open) for window in self.evict(place)]

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held; see ``packed``."""
        return {"open": {place: asdict(lines) for place, lines in self._open.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        for place, values in state["open"].items():
            self._open[place] = OpenLines(**values)
            self.n_held += len(values["rows"])


def _closed(rows: list[int], place: str = "", begin: int = 0) -> Closed:
    return Closed(rows, place, begin, starts=False, ends=False)


@dataclass(slots=True)
class OpenTimes:
    """A place's last events and their clocks; windows numbered below ``next`` are closed."""

    next: int | None = None
    clocks: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


class TimeWindows:
    """Cuts a stream by the clocks of its places."""

    n_cut = 0
    n_forgotten = 0

    def __init__(self, window: Window) -> None:
        self.clocks = Clocks()
        self.n_held = 0
        self._window = window
        self._size, self._step = window.span
        self._open: OrderedDict[str, OpenTimes] = OrderedDict()

    @property
    def n_outside(self) -> int:
        """Events that belong to no window, as their place had no time yet."""
        return self.clocks.n_untimed

    @property
    def holders(self) -> OrderedDict[str, OpenTimes]:
        """Open windows by place, longest untouched first."""
        return self._open

    def push(self, events: pl.DataFrame, first: int) -> list[Closed]:
        """Take events numbered from ``first`` on and return the windows that they close."""
        touched = places(events, self._window).to_list()
        lines = zip(touched, times(events).to_list(), strict=True)
        for row, (place, time) in enumerate(lines, first):
            now = self.clocks.tick(place, time)
            if now is None:
                continue
            held = self._open.get(place)
            if held is None:
                held = self._open[place] = OpenTimes()
            held.rows.append(row)
            held.clocks.append(now)
            self.n_held += 1
        present = [place for place in dict.fromkeys(touched) if place in self._open]
        for place in present:
            self._open.move_to_end(place)
        return self.advance(present)

    def advance(self, places: Iterable[str]) -> list[Closed]:
        """Return the windows that end at or before the places' clocks."""
        closed: list[Closed] = []
        for place in places:
            held = self._open.get(place)
            if held is not None:
                closed += self._passed(place, held)
        return closed

    def _passed(self, place: str, held: OpenTimes) -> list[Closed]:
        still = self._first_number(self.clocks.latest[place])
        if self._next(held) >= still:
            return []
        done = self._windows(place, held, before=still)
        held.next = still
        n_past = int(np.searchsorted(held.clocks, still * self._step))
        del held.rows[:n_past], held.clocks[:n_past]
        self.n_held -= n_past
        if not held.rows:
            del self._open[place]
        return done

    def _first_number(self, clock: int) -> int:
        return int(first_number(np.array(clock), self._size, self._step))

    def _next(self, held: OpenTimes) -> int:
        earliest = self._first_number(held.clocks[0])
        return earliest if held.next is None else max(earliest, held.next)

    def _windows(self, place: str, held: OpenTimes, before: int | None = None) -> list[Closed]:
        next_number = self._next(held)
        clock, bounds = np.array(held.clocks), np.array([0, len(held.clocks)])
        _, *spans = time_spans(clock, bounds, self._size, self._step)
        numbers, begins, ends = (span.tolist() for span in spans)
        return [
            _closed(held.rows[begin:end], place, number * self._step)
            for number, begin, end in zip(numbers, begins, ends, strict=True)
            if number >= next_number and (before is None or number < before)
        ]

    def evict(self, name: str) -> list[Closed]:
        """Close a place's windows early; what arrives for them later is in one of the same key."""
        closed = self.peek(name)
        self.n_held -= len(self._open.pop(name).rows)
        return closed

    def peek(self, name: str, *, ended: bool = False) -> list[Closed]:
        """Return a place's windows as they are now, and close nothing; none holds an end."""
        return self._windows(name, self._open[name])

    def finish(self) -> list[Closed]:
        """Close every window."""
        closed = [window for place in list(self._open) for window in self.evict(place)]
        self.clocks.restart()
        return closed

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held; see ``packed``."""
        held = {place: asdict(held) for place, held in self._open.items()}
        return {"clocks": self.clocks.state(), "open": held}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        self.clocks = Clocks.restore(state["clocks"])
        for place, values in state["open"].items():
            self._open[place] = OpenTimes(**values)
            self.n_held += len(values["rows"])
