"""So many alerts a day: a budget becomes a false-alarm rate, and the calibration a threshold.

With N sequences a day and a rate alpha, alpha N alerts a day are to be expected from normal
sequences alone; so alpha is the budget divided by N, N as it was in the day that ended just now. It
is a limit for false alarms, not for real ones: on a day on which much is wrong there are more.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from oddlog.errors import ConfigError

DAY_S = 86_400.0
BIN_S = 600.0
MIN_SPAN_S = 3_600.0
"""A shorter beginning is taken for an hour, as a few minutes say little about a day."""
_BUDGET = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/|per)\s*(hour|day|week)\s*")
_DAYS = {"hour": 1 / 24, "day": 1.0, "week": 7.0}


def parse_budget(text: str) -> float:
    """Return how many alerts a day a text such as ``20/day`` allows.

    Raises:
        ConfigError: It is no such text, or allows none.

    Example:
        >>> parse_budget("20/day"), parse_budget("14 per week")
        (20.0, 2.0)
    """
    match = _BUDGET.fullmatch(text)
    if match is None or not float(match[1]):
        raise ConfigError(f"budget {text!r}: write one like 20/day, 2/hour or 5/week")
    return float(match[1]) / _DAYS[match[2]]


@dataclass(frozen=True)
class Rate:
    """The false-alarm rate in force.

    Attributes:
        value: The rate.
        per_day: Sequences a day, as they come now; None before any came.
        expected: Alerts a day to be expected from normal sequences at this rate; None likewise.
    """

    value: float
    per_day: float | None = None
    expected: float | None = None


class Pace:
    """How many sequences a day there are, counted over the last day in the log's own time.

    Without times in the log, the time is when its lines arrived.
    """

    def __init__(self) -> None:
        self._bins: deque[tuple[float, int]] = deque()  # begin in seconds since 1970, sequences
        self._first: float | None = None
        self._latest = 0.0

    def add(self, n: int, time: datetime) -> None:
        """Count n sequences that were judged at a time; one that runs backwards stands still."""
        at = time.timestamp()
        if self._first is None:
            self._first = self._latest = at
        self._latest = max(self._latest, at)
        begin = self._latest - self._latest % BIN_S
        if self._bins and self._bins[-1][0] == begin:
            self._bins[-1] = (begin, self._bins[-1][1] + n)
        else:
            self._bins.append((begin, n))
        while self._bins[0][0] < self._latest - DAY_S:
            self._bins.popleft()

    @property
    def per_day(self) -> float | None:
        """Sequences a day; None before any was counted."""
        if self._first is None:
            return None
        span = min(max(self._latest - self._first, MIN_SPAN_S), DAY_S)
        return sum(n for _, n in self._bins) * DAY_S / span

    def rate(self, asked: float, budget: float | None, n_calibration: int) -> Rate:
        """Return the false-alarm rate that keeps to a budget, and is at most the one asked for.

        It is never finer than the calibration can tell: 1 / (n + 1) of n sequences.

        Args:
            asked: The model's own rate.
            budget: Alerts a day, or None.
            n_calibration: Sequences of the calibration.
        """
        per_day = self.per_day
        if not per_day:
            return Rate(asked)
        value = asked
        if budget is not None:
            value = min(asked, max(budget / per_day, 1 / (n_calibration + 1)))
        return Rate(value, per_day, value * per_day)

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {"bins": list(self._bins), "first": self._first, "latest": self._latest}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Self:
        """Return a pace that goes on where ``state`` was taken."""
        pace = cls()
        pace._bins = deque((float(begin), int(n)) for begin, n in state["bins"])
        pace._first, pace._latest = state["first"], state["latest"]
        return pace
