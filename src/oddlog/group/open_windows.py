"""What the cutters of a stream have in common: the windows they hold open and those they close."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from oddlog.group.clocks import Clocks


@dataclass(frozen=True, slots=True)
class Closed:
    """A finished window: numbers of its events, and what ``Cut`` has for each window."""

    rows: list[int]
    name: str
    number: int
    starts: bool
    ends: bool


class Holder(Protocol):
    """What holds events until their windows close."""

    rows: list[int]


class Cutter(Protocol):
    """Windows of one kind over a stream; loops over events, as each can open or close one."""

    clocks: Clocks
    n_cut: int
    n_forgotten: int
    n_held: int

    @property
    def n_outside(self) -> int:
        """Events that belong to no window."""
        ...

    @property
    def holders(self) -> OrderedDict[str, Any]:
        """What is open (each a ``Holder``), by session or place, longest untouched first."""
        ...

    def push(self, events: pl.DataFrame, first: int) -> list[Closed]:
        """Take events numbered from ``first`` on and return the windows that they close."""
        ...

    def advance(self, places: Iterable[str]) -> list[Closed]:
        """Return the windows that the clocks of the places have closed."""
        ...

    def finish(self) -> list[Closed]:
        """Close everything, as at the end of a log."""
        ...

    def evict(self, name: str) -> list[Closed]:
        """Close what is open under a name."""
        ...

    def peek(self, name: str, *, ended: bool) -> list[Closed]:
        """Return what ``evict`` would, and close nothing; ``ended`` marks a session's end."""
        ...

    def snapshot(self) -> dict[str, Any]:
        """Return all that is held; see ``packed``."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``snapshot`` described, made plain."""
        ...
