"""Which open sessions have been silent for longer than any silence of training.

Without a gap in the window rule a session never ends by itself. Once it has been silent for longer
than a session of training ever was after the same template, it is judged as if it had ended, and
judged again should it go on (see ``endings``).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import numpy as np
import polars as pl

from oddlog.endings import MICROSECONDS, Silences

ARRIVAL = None
"""In place of a source: the clock is that of the arrival of lines."""


class Waiting:
    """Sessions by the time at which their silence will have been long enough.

    A session that goes on is entered anew, and its older entry found stale: see ``due``.

    Args:
        silences: What training showed.
        idle_s: How long to wait in a log without times, in seconds of arrival.
    """

    def __init__(self, silences: Silences, idle_s: float) -> None:
        self._silences = silences
        self._idle_s = idle_s
        self._queues: dict[str | None, list[tuple[float, int, str]]] = {}

    def enter(self, last: pl.DataFrame, now: float) -> None:
        """Enter sessions with their last event.

        Args:
            last: Columns name, row (number of the event), source, time, template_id.
            now: Arrival, in seconds since 1970.
        """
        if not last.height:
            return
        known = len(self._silences.template_ids)
        waits = (
            self._silences.wait_s(last["template_id"].to_numpy())
            if known
            else np.zeros(last.height)
        )
        times = last["time"].cast(pl.Int64).to_list()
        rows = zip(last["name"], last["row"], last["source"], times, waits.tolist(), strict=True)
        for name, row, source, time, wait in rows:
            place, until = ARRIVAL, now + self._idle_s
            if known and time is not None:
                place, until = source, time / MICROSECONDS + wait
            heappush(self._queues.setdefault(place, []), (until, row, name))

    def due(self, clocks: dict[str | None, float]) -> list[tuple[str, int]]:
        """Return the sessions whose time is past, each with the row that was then its last.

        Args:
            clocks: Seconds since 1970 by source, and of arrivals under ``ARRIVAL``.
        """
        found = []
        for source, queue in self._queues.items():
            clock = clocks.get(source)
            while queue and clock is not None and queue[0][0] < clock:
                _, row, name = heappop(queue)
                found.append((name, row))
        return found

    def clear(self) -> None:
        """Forget every session."""
        self._queues.clear()

    def snapshot(self) -> Callable[[], list[list[object]]]:
        """Return what gives plain values; see ``oddlog.group.packed``."""
        queues = {source: list(queue) for source, queue in self._queues.items()}
        return lambda: [
            [source, *entry] for source, queue in queues.items() for entry in sorted(queue)
        ]

    def load(self, state: list[list]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        for source, until, row, name in state:
            heappush(self._queues.setdefault(source, []), (until, row, name))
