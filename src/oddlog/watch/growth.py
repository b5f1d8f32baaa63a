"""Which open windows are looked at before they end, and how much of each: a bounded share of work.

A detector whose event scores depend on a few events back needs no more than those and the new ones.
For another one a look costs the whole window. So a push looks at what has grown, the cheapest
first, while that stays within ``PER_EVENT`` for each event pushed and ``PER_PUSH`` besides; what
has no room waits for the next push, in which it stands again, or is looked at when its window has
grown by the share of ``GROWTH``. A quiet log is thus looked at at every event, and in a flood a
window costs no more than a multiple of its length, and never its square.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from oddlog.group import Grouper

GROWTH = 1.125
"""A window that has so many times the events of the last look is looked at whatever it costs."""
PER_EVENT = 8
PER_PUSH = 4_096
"""Events looked at in a push: so many for each event of it, and so many besides."""
SLACK = 1_000


@dataclass
class Growth:
    """What is not looked at yet in open windows.

    Attributes:
        memory: How many events before an event its score depends on; None for all of them.
        seen: By session or place the number of the last event that was looked at.
        waiting: Sessions or places that had no room.
    """

    memory: int | None
    seen: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)

    def choose(self, grouper: Grouper, names: Iterable[str], n_events: int) -> dict[str, int]:
        """Return what is looked at now, and the last event of each that needs no look.

        Args:
            grouper: Holds the windows.
            names: Sessions or places to which events were added.
            n_events: How many events the push brought.
        """
        room = PER_EVENT * n_events + PER_PUSH
        chosen: dict[str, int] = {}
        others: list[tuple[int, str]] = []
        for name in self.waiting | dict.fromkeys(names):
            n_rows, before = grouper.n_rows(name), self.seen.get(name, -1)
            n_new = grouper.n_rows_after(name, before)
            cost = n_rows if self.memory is None else min(n_rows, n_new + self.memory)
            if n_new and n_rows >= GROWTH * (n_rows - n_new):
                chosen[name] = before
                room -= cost
            elif n_new:
                others.append((cost, name))
        others.sort(key=lambda other: other[0])
        for cost, name in others:
            room -= cost
            if room < 0:
                break
            chosen[name] = self.seen[name]
        self.waiting = {name: None for _, name in others if name not in chosen}
        self.seen |= {name: grouper.last_row(name) for name in chosen}
        if len(self.seen) > 2 * grouper.n_open + SLACK:
            self.seen = {name: row for name, row in self.seen.items() if grouper.n_rows(name)}
        return chosen

    def clear(self) -> None:
        """Forget every window."""
        self.seen.clear()
        self.waiting.clear()

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {"seen": dict(self.seen), "waiting": list(self.waiting)}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what ``state`` described."""
        self.seen = dict(state["seen"])
        self.waiting = dict.fromkeys(state["waiting"])
