"""What each minute of the last day held, for the dashboard's charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_MINUTES = 24 * 60
MAX_SCORES = 20_000


@dataclass
class Minute:
    """What one minute held.

    Attributes:
        minute: Its number since 1970.
        n_lines: Lines that arrived.
        n_unknown: Events of a template not known at fit time.
        n_windows: Windows judged.
        n_alerts: Alerts raised.
        high: Highest score of a window, None where there was none.
        middle: About the median score.
    """

    minute: int
    n_lines: int = 0
    n_unknown: int = 0
    n_windows: int = 0
    n_alerts: int = 0
    high: float | None = None
    middle: float | None = None


class Minutes:
    """The last day by the minute, by the time of arrival.

    Args:
        rows: Minutes to go on from, as ``state`` gave them.
    """

    def __init__(self, rows: Iterable[Sequence[Any]] = ()) -> None:
        self._minutes = {row[0]: Minute(*row) for row in rows}
        self._scores: list[NDArray[np.floating]] = []
        self._of = -1

    def add(self, now: float, counts: tuple[int, int, int], scores: NDArray[np.floating]) -> None:
        """Count what one push brought.

        Args:
            now: When it arrived, in seconds since 1970.
            counts: Lines, events of unknown templates, alerts.
            scores: (n,) of the windows that were judged.
        """
        number = int(now // 60)
        minute = self._minutes.setdefault(number, Minute(number))
        minute.n_lines += counts[0]
        minute.n_unknown += counts[1]
        minute.n_alerts += counts[2]
        minute.n_windows += len(scores)
        if number != self._of:
            self._scores, self._of = [], number
            self._forget(number - N_MINUTES)
        finite = scores[np.isfinite(scores)]
        if len(finite):
            self._scores.append(finite)
            pooled = np.concatenate(self._scores)[-MAX_SCORES:]
            self._scores = [pooled]
            minute.middle = float(np.median(pooled))
            minute.high = max(minute.high or float(finite.max()), float(finite.max()))

    def rows(self) -> list[Minute]:
        """Return the minutes in order; those in which nothing came may be missing."""
        return [self._minutes[number] for number in sorted(self._minutes.copy())]

    def state(self) -> list[Sequence[Any]]:
        """Return plain values that JSON can carry."""
        return [astuple(minute) for minute in self.rows()]

    def _forget(self, oldest: int) -> None:
        for number in [number for number in self._minutes if number < oldest]:
            del self._minutes[number]
