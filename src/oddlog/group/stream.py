"""Cut a stream of events into windows as it arrives, with the rules of ``group``."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Self

import numpy as np
import polars as pl

from oddlog.config import build
from oddlog.events import Sequences
from oddlog.group.cut import Cut, Ints, to_sequences
from oddlog.group.open_sessions import OpenSessions
from oddlog.group.open_spans import LineWindows, TimeWindows
from oddlog.group.open_windows import Closed, Cutter
from oddlog.group.packed import plain
from oddlog.group.report import GroupReport
from oddlog.group.store import EventStore
from oddlog.group.window import MICROSECONDS, Window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Tails:
    """What is new in n open windows, and a little of what came before it.

    Attributes:
        windows: Of each window its last events; one whose beginning is left out says so.
        n_before: (n,) how many events of each are not new.
        names: (n,) the session or place of each.
    """

    windows: Sequences
    n_before: Ints
    names: tuple[str, ...]


class Grouper:
    """Windows over a stream, closed as soon as the rule allows, and the open ones' events.

    Memory is bounded: beyond ``max_open`` the windows that were touched longest ago are closed
    early, and beyond ``max_events`` the longest ones. Their ``ends`` is False, they are counted,
    and from then on the stream is no longer promised to agree with the batch.

    Args:
        window: The rule.
        max_open: Sessions (or sources or hosts, for windows of lines and time) to hold open.
        max_events: Events to hold in open windows.
        max_remembered: Closed sessions whose part number is kept, so that their next part is
            named ``<id>~2``.
    """

    def __init__(
        self,
        window: Window,
        *,
        max_open: int = 100_000,
        max_events: int = 1_000_000,
        max_remembered: int = 1_000_000,
    ) -> None:
        self.window = window
        self._limits = {
            "max_open": max_open,
            "max_events": max_events,
            "max_remembered": max_remembered,
        }
        self._cutter = _cutter(window, max_remembered)
        self._store = EventStore()
        self._n_windows = 0
        self._n_evicted = 0

    @property
    def n_open(self) -> int:
        """Sessions, or places, that have a window open."""
        return len(self._cutter.holders)

    @property
    def n_evicted(self) -> int:
        """Windows closed early to keep to the limits."""
        return self._n_evicted

    @property
    def report(self) -> GroupReport:
        """What was counted so far; ``n_windows`` are those that were given out."""
        cutter = self._cutter
        return GroupReport(
            self.window,
            n_events=self._store.n_added,
            n_windows=self._n_windows,
            n_outside=cutter.n_outside,
            n_untimed=cutter.clocks.n_untimed,
            n_late=cutter.clocks.n_late,
            n_cut=cutter.n_cut,
            n_evicted=self._n_evicted,
            n_forgotten=cutter.n_forgotten,
        )

    def push(self, events: pl.DataFrame) -> Sequences | None:
        """Take the next events, in the order of their arrival.

        Args:
            events: A table as for ``group``; the chunks may be of any height, none included.

        Returns:
            The windows that these events closed, over a table of only their events and in the
            order of their first ones; None if there are none.
        """
        if not events.height:
            return None
        closed = self._cutter.push(events, self._store.add(events))
        closed += self._evict()
        return self._give_out(closed)

    def n_rows(self, name: str) -> int:
        """Return how many events a session or a place holds in open windows; 0 if it has none."""
        holder = self._cutter.holders.get(name)
        return 0 if holder is None else len(holder.rows)

    def n_rows_after(self, name: str, row: int) -> int:
        """Return how many of the events under a name were numbered higher than ``row``."""
        holder = self._cutter.holders.get(name)
        return 0 if holder is None else len(holder.rows) - bisect_right(holder.rows, row)

    def last_row(self, name: str) -> int:
        """Return the number of the last event of what is open under a name; -1 if nothing is."""
        holder = self._cutter.holders.get(name)
        return -1 if holder is None else holder.rows[-1]

    def peek(
        self,
        names: Iterable[str],
        *,
        ended: bool = False,
    ) -> Sequences | None:
        """Return open windows as they are now, and close nothing.

        Args:
            names: Sessions, or places for windows of lines and time; what is not open is left out.
            ended: Mark the sessions as ended.
        """
        holders = self._cutter.holders
        found = [w for n in names if n in holders for w in self._cutter.peek(n, ended=ended)]
        return self._sequences(found) if found else None

    def tails(
        self, seen: Mapping[str, int], n_before: int | None, columns: Collection[str]
    ) -> Tails | None:
        """Return the ends of open windows as they are now, and close nothing.

        Args:
            seen: By session or place, which must be open, the number of the last event that is not
                new; all later ones are.
            n_before: Events before the first new one to give as well, None for all there are.
            columns: Of the events, source and line among them.
        """
        found = [
            (*_tail(window, row, n_before), name)
            for name, row in seen.items()
            for window in self._cutter.peek(name, ended=False)
        ]
        if not found:
            return None
        found.sort(key=lambda one: one[0].rows[0])  # as ``_sequences`` does
        windows, before, names = zip(*found, strict=True)
        return Tails(self._sequences(list(windows), columns), np.array(before), names)

    def advance(self, time: datetime, sources: Iterable[str] | None = None) -> Sequences | None:
        """Let time pass without events: close what has ended by ``time`` in silent sources.

        An event that arrives later with an earlier time is late and counts as of ``time``, so a
        stream agrees with the batch only where no source lags behind the times given here.

        Args:
            time: With a zone.
            sources: For which of them (or of the hosts) it passes; by default for all.

        Raises:
            ValueError: The time has no time zone.
        """
        if time.tzinfo is None:
            raise ValueError(f"Grouper.advance: {time} has no time zone")
        clocks = self._cutter.clocks
        places = [p for p in (clocks.latest if sources is None else sources) if p in clocks.latest]
        since = time - EPOCH
        clocks.advance(
            places, (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds
        )
        return self._give_out(self._cutter.advance(places))

    def flush(self) -> Sequences | None:
        """Close every window, as at the end of a log, and begin anew; the counts go on."""
        return self._give_out(self._cutter.finish())

    def state(self) -> dict[str, Any]:
        """Return all that is held as plain values (text, numbers, lists) that JSON can carry."""
        return plain(self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held, quickly: ``packed.plain`` makes of it what ``state`` gives."""
        cutter = self._cutter.snapshot()
        rows = self._rows()
        return {
            "window": self.window.model_dump(),
            "limits": dict(self._limits),
            "counts": [self._n_windows, self._n_evicted],
            "store": self._store.snapshot(lambda: _distinct(rows)),
            "cutter": cutter,
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """Return a grouper that goes on where ``state`` was taken.

        Raises:
            ConfigError: The state's window is not one that this version knows.
        """
        window = build(Window, state["window"], "state of a stream: window")
        grouper = cls(window, **state["limits"])
        grouper._n_windows, grouper._n_evicted = state["counts"]
        grouper._store = EventStore.restore(state["store"])
        grouper._cutter.load(state["cutter"])
        return grouper

    def _evict(self) -> list[Closed]:
        cutter, closed = self._cutter, []
        while len(cutter.holders) > self._limits["max_open"]:
            closed += cutter.evict(next(iter(cutter.holders)))
        if cutter.n_held > self._limits["max_events"]:
            longest = sorted(cutter.holders, key=lambda name: -len(cutter.holders[name].rows))
            for name in longest:
                closed += cutter.evict(name)
                if cutter.n_held <= self._limits["max_events"] // 2:  # so that sorting stays rare
                    break
        self._n_evicted += len(closed)
        return closed

    def _give_out(self, closed: list[Closed]) -> Sequences | None:
        sequences = self._sequences(closed) if closed else None
        self._n_windows += len(closed)
        self._store.compact(self._living)
        return sequences

    def _sequences(self, closed: list[Closed], columns: Collection[str] | None = None) -> Sequences:
        closed.sort(key=lambda window: window.rows[0])
        lengths = [len(window.rows) for window in closed]
        numbers, rows = np.unique(
            np.concatenate([np.array(window.rows, dtype=np.int64) for window in closed]),
            return_inverse=True,
        )
        cut = Cut(
            rows=rows.astype(np.int64),
            offsets=np.append(0, np.cumsum(lengths)).astype(np.int64),
            names=pl.Series("name", [window.name for window in closed], dtype=pl.String),
            numbers=np.array([window.number for window in closed], dtype=np.int64),
            starts=np.array([window.starts for window in closed], dtype=bool),
            ends=np.array([window.ends for window in closed], dtype=bool),
        )
        return to_sequences(self._store.gather(numbers, columns), cut, self.window)

    def _living(self) -> Ints:
        return _distinct(self._rows())

    def _rows(self) -> Ints:
        """Return the numbers of the events that open windows hold, more than once if several do."""
        rows = (holder.rows for holder in self._cutter.holders.values())
        return np.fromiter(chain.from_iterable(rows), np.int64)


def _distinct(numbers: Ints) -> Ints:
    """Return all numbers, rising, each once."""
    numbers = np.sort(numbers)
    return numbers[np.diff(numbers, prepend=-1) > 0]  # np.unique takes twenty times as long


def _tail(window: Closed, seen: int, n_before: int | None) -> tuple[Closed, int]:
    """Return the end of a window, and how many events of it are not new."""
    n_seen = min(bisect_right(window.rows, seen), len(window.rows) - 1)
    begin = 0 if n_before is None else max(0, n_seen - n_before)
    if not begin:
        return window, n_seen
    rows, number = window.rows[begin:], window.number
    return Closed(rows, window.name, number, starts=False, ends=window.ends), n_seen - begin


def _cutter(window: Window, max_remembered: int) -> Cutter:
    if window.by == "session":
        return OpenSessions(window, max_remembered)
    return LineWindows(window) if window.by == "lines" else TimeWindows(window)
