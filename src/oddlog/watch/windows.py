"""The windows of a stream that are to be judged now.

Three things make a window worth a look: the window rule closed it; its session has been silent for
longer than any of training (``waiting``), and is judged as if it had ended; or it has grown, and
the detector can say something of a window that is still open (``growth``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from oddlog.endings import Silences
from oddlog.events import Sequences, column
from oddlog.group import Grouper, GroupReport, Tails, Window
from oddlog.group.cut import places
from oddlog.watch.growth import Growth
from oddlog.watch.intake import Source
from oddlog.watch.waiting import ARRIVAL, Waiting

IDS = ("source", "line", "time", "template_id")


@dataclass(frozen=True, eq=False)
class Looks:
    """Windows to be judged, those of each kind None where there are none.

    Attributes:
        closed: For good.
        silent: Still open, but as good as ended.
        grown: Still open; what is new in them, without text (``IDS``). ``OpenWindows.whole`` gives
            those that are raised.
    """

    closed: Sequences | None = None
    silent: Sequences | None = None
    grown: Tails | None = None


class OpenWindows:
    """Windows over a stream of events with template ids.

    Args:
        window: The rule.
        silences: What training showed of the ends of sessions.
        idle_s: See ``Waiting``.
        limits: ``max_open`` and ``max_events``; see ``Grouper``.
        growth: Chooses among the windows that have grown; None where nothing is said of them.
    """

    def __init__(
        self,
        window: Window,
        silences: Silences,
        idle_s: float,
        limits: Mapping[str, int],
        growth: Growth | None,
    ) -> None:
        self._window = window
        self._silences = silences
        self._grouper = Grouper(window, **limits)
        self._waiting = Waiting(silences, idle_s)
        self._waits = window.by == "session" and window.gap_s is None
        self._limited = window.max_length is not None or window.age_s is not None
        self._settled: dict[str, int] = {}  # key -> events, of silent windows that were judged
        self._growth = growth
        self.n_retired = 0

    @property
    def n_open(self) -> int:
        """Sessions, or places, that have a window open."""
        return self._grouper.n_open

    @property
    def n_evicted(self) -> int:
        """Windows closed early to keep to the limits, but for silent ones that were judged."""
        return self._grouper.n_evicted - self.n_retired

    @property
    def report(self) -> GroupReport:
        """What the cutting counted."""
        return self._grouper.report

    def push(self, events: pl.DataFrame | None, sources: Mapping[str, Source], now: float) -> Looks:
        """Take the next events and return the windows that are worth a look.

        Args:
            events: With template ids.
            sources: Where the reading of each source stands.
            now: Seconds since 1970.
        """
        clocks = _clocks(sources, now)
        parts = [self._let_pass(sources, clocks, now)]
        names: list[str] = []
        if events is not None:
            parts.append(self._grouper.push(events))
            last = _last_events(events, self._window)
            names = last["name"].to_list()
            if self._waits:
                rows = pl.Series("row", [self._grouper.last_row(name) for name in names])
                self._waiting.enter(last.with_columns(rows).filter(pl.col("row") >= 0), now)
        closed = [part for part in parts if part is not None]
        return Looks(
            self._final(Sequences.concat(closed), sources, clocks) if closed else None,
            self._silent(clocks) if self._waits else None,
            self._grown(names, 0 if events is None else events.height),
        )

    def whole(self, names: Iterable[str]) -> Sequences | None:
        """Return the open windows of sessions or places, with all there is of their events."""
        return self._grouper.peek(names)

    def flush(self, sources: Mapping[str, Source]) -> Looks:
        """Close every window, as at the end of a log."""
        closed = self._grouper.flush()
        ends = {name: None if p.last is None else p.last.timestamp() for name, p in sources.items()}
        looks = Looks(None if closed is None else self._final(closed, sources, {**ends}))
        self._waiting.clear()
        self._settled.clear()
        if self._growth is not None:
            self._growth.clear()
        return looks

    def _let_pass(
        self, sources: Mapping[str, Source], clocks: Mapping[str | None, float | None], now: float
    ) -> Sequences | None:
        """Let the clocks of sources that write nothing go on with the time that passes."""
        if not self._window.clocked:
            return None
        parts = []
        for name, place in sources.items():
            clock = clocks[name]
            if now > place.quiet_since and clock is not None:
                of = [name] if self._window.per == "source" else None
                parts.append(self._grouper.advance(datetime.fromtimestamp(clock, UTC), of))
        found = [part for part in parts if part is not None]
        return Sequences.concat(found) if found else None

    def _final(
        self,
        closed: Sequences,
        sources: Mapping[str, Source],
        clocks: Mapping[str | None, float | None],
    ) -> Sequences | None:
        """Leave out what was judged already and did not go on; mark what has ended."""
        known = [self._settled.pop(key, 0) for key in closed.keys]
        judged = closed.lengths == np.array(known)
        if self._limited:  # without an end it may have gone on, in its next window
            judged &= closed.ends
        self.n_retired += int((judged & ~closed.ends).sum())
        if judged.all():
            return None
        return self._marked(closed.take(~judged) if judged.any() else closed, clocks)

    def _marked(self, sequences: Sequences, clocks: Mapping[str | None, float | None]) -> Sequences:
        known = [(name, c) for name, c in clocks.items() if name is not None and c is not None]
        times = [datetime.fromtimestamp(clock, UTC) for _, clock in known]
        ends = pl.DataFrame(
            {"source": [name for name, _ in known], "end": times},
            schema={"source": pl.String, "end": pl.Datetime("us", "UTC")},
        )
        return self._silences.mark(sequences, ends)

    def _silent(self, clocks: Mapping[str | None, float | None]) -> Sequences | None:
        ready = {name: clock for name, clock in clocks.items() if clock is not None}
        due = [name for name, row in self._waiting.due(ready) if row == self._last(name)]
        found = self._grouper.peek(dict.fromkeys(due), ended=True)
        if found is None:
            return None
        self._settled.update(zip(found.keys, found.lengths.tolist(), strict=True))
        return found

    def _last(self, name: str) -> int:
        return self._grouper.last_row(name)

    def _grown(self, names: list[str], n_events: int) -> Tails | None:
        if self._growth is None:
            return None
        seen = self._growth.choose(self._grouper, names, n_events)
        return self._grouper.tails(seen, self._growth.memory, IDS)

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held; see ``oddlog.group.packed``."""
        return {
            "grouper": self._grouper.snapshot(),
            "waiting": self._waiting.snapshot(),
            "settled": dict(self._settled),
            "growth": None if self._growth is None else self._growth.state(),
            "n_retired": self.n_retired,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        self._grouper = Grouper.restore(state["grouper"])
        self._waiting.load(state["waiting"])
        self._settled = dict(state["settled"])
        if self._growth is not None and state["growth"] is not None:
            self._growth.load(state["growth"])
        self.n_retired = state["n_retired"]


def _clocks(sources: Mapping[str, Source], now: float) -> dict[str | None, float | None]:
    """Return what time it is by each source's own times, in seconds since 1970.

    That of its last event, and what has passed since the last line came.
    """
    clocks: dict[str | None, float | None] = {ARRIVAL: now}
    for name, place in sources.items():
        passed = max(0.0, now - place.quiet_since)
        clocks[name] = None if place.last is None else place.last.timestamp() + passed
    return clocks


def _last_events(events: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return the sessions or places that events belong to: name, source, time and template_id."""
    table = events.select(
        "source", "template_id", column(events, "time"), name=_names(events, window)
    )
    if window.by == "session":
        table = table.explode("name").filter(pl.col("name").fill_null("") != "")
    return table.group_by("name", maintain_order=True).agg(
        pl.col("source", "time", "template_id").last()
    )


def _names(events: pl.DataFrame, window: Window) -> pl.Series:
    return column(events, "sessions") if window.by == "session" else places(events, window)
