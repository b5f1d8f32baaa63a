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
from oddlog.group.packed import unpack

NUMBER = {"number": pl.Int64()}
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

    def compact(self, living: Callable[[], Ints]) -> None:
        """Drop dead events if there may be many.

        Args:
            living: Gives the rising numbers of the events that are still needed; only asked when
                it is time.
        """
        if self.n_held <= self._limit:
            return
        numbers = living()
        self._frames = [(numbers, own_text(self.gather(numbers)))] if len(numbers) else []
        self._limit = 2 * len(numbers) + SLACK

    def snapshot(self, living: Callable[[], Ints]) -> dict[str, Any]:
        """Return the events that are still needed; see ``packed``.

        Args:
            living: As for ``compact``.
        """
        now = EventStore()  # polars locks a table while another thread reads it: one's own
        now._frames = [(numbers, table.clone()) for numbers, table in self._frames]
        return {
            "n_added": self.n_added,
            "numbers": lambda: pl.DataFrame({"number": living()}, schema=NUMBER),
            "events": lambda: now.gather(living()),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> EventStore:
        """Return a store as ``snapshot`` described it, made plain.

        Raises:
            ValueError: It is damaged.
        """
        store = cls()
        store.n_added = state["n_added"]
        numbers = unpack(state["numbers"], NUMBER)["number"].to_numpy()
        events = unpack(state["events"], EVENT_COLUMNS)
        if len(numbers) != events.height:
            raise ValueError("a stream's events and their numbers do not fit each other")
        if len(numbers):
            store._frames = [(numbers, events)]
        return store


def _present(table: pl.DataFrame, columns: Collection[str]) -> list[str]:
    return [name for name in table.columns if name in columns]


def own_text(table: pl.DataFrame) -> pl.DataFrame:
    """Return the table with text of its own: rows that were gathered keep all text alive."""
    lists = [name for name, kind in table.schema.items() if kind == pl.List(pl.String)]
    return table.with_columns(pl.col(pl.String) + "", pl.col(lists).list.eval(pl.element() + ""))
