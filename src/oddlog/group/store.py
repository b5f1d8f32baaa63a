"""The events that open windows of a stream hold, numbered in the order of their arrival.

Frames are merged as in a log-structured tree and compacted when half of what is held may be dead,
so that an event is copied a bounded number of times on average and memory follows the windows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from oddlog.events import EVENT_COLUMNS
from oddlog.group.cut import Ints

SLACK = 4096  # events that may lie dead whatever is held


class EventStore:
    """Events by number; those that no window holds are dropped from time to time."""

    def __init__(self) -> None:
        self.n_added = 0
        self._frames: list[tuple[Ints, pl.DataFrame]] = []
        self._limit = SLACK

    @property
    def n_held(self) -> int:
        """Events in memory, dead ones included."""
        return sum(len(numbers) for numbers, _ in self._frames)

    def add(self, events: pl.DataFrame) -> int:
        """Keep events under the next numbers and return the first of these."""
        first = self.n_added
        self.n_added += events.height
        frames = self._frames
        frames.append((np.arange(first, self.n_added), events))
        while len(frames) > 1 and 2 * frames[-1][1].height >= frames[-2][1].height:
            (some, upper), (more, lower) = frames[-2:]
            table = pl.concat([upper, lower], how="diagonal", rechunk=True)
            frames[-2:] = [(np.concatenate([some, more]), table)]
        return first

    def gather(self, numbers: Ints, columns: Collection[str] | None = None) -> pl.DataFrame:
        """Return the events of (n,) rising numbers as a table of n rows.

        ``columns`` are those that are needed, None for all: text is what takes long to copy.
        """
        parts = []
        for held, table in self._frames:
            low, high = np.searchsorted(numbers, [held[0], held[-1] + 1])
            if high > low:
                kept = table if columns is None else table.select(_present(table, columns))
                parts.append(kept[np.searchsorted(held, numbers[low:high])])
        return pl.concat(parts, how="diagonal") if parts else pl.DataFrame()

    def compact(self, living: Callable[[], Ints], *, force: bool = False) -> None:
        """Drop dead events if there may be many.

        Args:
            living: Gives the rising numbers of the events that are still needed; only asked when
                it is time.
            force: It is time.
        """
        if not force and self.n_held <= self._limit:
            return
        numbers = living()
        self._frames = [(numbers, self.gather(numbers))] if len(numbers) else []
        self._limit = 2 * len(numbers) + SLACK

    def state(self) -> dict[str, Any]:
        """Return the held events as plain values, times in microseconds since 1970."""
        numbers = np.concatenate([np.empty(0, dtype=np.int64), *(held for held, _ in self._frames)])
        table = self.gather(numbers)
        columns = {
            name: (table[name].cast(pl.Int64) if name == "time" else table[name]).to_list()
            for name in table.columns
        }
        return {"n_added": self.n_added, "numbers": numbers.tolist(), "columns": columns}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> EventStore:
        """Return a store as ``state`` described it."""
        store = cls()
        store.n_added = state["n_added"]
        if state["numbers"]:
            series = [_column(name, values) for name, values in state["columns"].items()]
            numbers = np.array(state["numbers"], dtype=np.int64)
            store._frames = [(numbers, pl.DataFrame(series))]
        return store


def _present(table: pl.DataFrame, columns: Collection[str]) -> list[str]:
    return [name for name in table.columns if name in columns]


def _column(name: str, values: list[Any]) -> pl.Series:
    dtype = EVENT_COLUMNS[name]
    return pl.Series(name, values, dtype=pl.Int64 if name == "time" else dtype).cast(dtype)
