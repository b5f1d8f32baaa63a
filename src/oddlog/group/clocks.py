"""Clocks of a stream's sources: the latest time seen so far, and when each one began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class Clocks:
    """Microseconds since 1970 by place; a place whose events had no time yet is absent."""

    first: dict[str, int] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    n_late: int = 0
    n_untimed: int = 0

    def tick(self, place: str, time: int | None) -> int | None:
        """Let an event pass and return the clock at which it happened."""
        now = self.latest.get(place)
        if now is None:
            if time is None:
                self.n_untimed += 1
                return None
            self.first[place] = self.latest[place] = time
            return time
        if time is None or time == now:
            return now
        if time < now:
            self.n_late += 1
            return now
        self.latest[place] = time
        return time

    def advance(self, places: Iterable[str], time: int) -> None:
        """Set the clocks that are behind a time to it; one that never began stays so."""
        for place in places:
            self.latest[place] = max(self.latest[place], time)

    def restart(self) -> None:
        """Forget the clocks and keep the counts."""
        self.first, self.latest = {}, {}

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """Return clocks as ``state`` described them."""
        return cls(**state)
