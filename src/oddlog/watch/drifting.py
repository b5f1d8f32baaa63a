"""Whether the log as a whole still looks like the calibration's: one alert, not thousands.

Two things tell. The scores of the last ``WINDOWS`` windows are compared with the calibration's,
as ``oddlog score`` does for a file (``drift.Shift``). And many different unknown templates within
a short time mean that the software has changed: from the ``MOST_UNKNOWN`` th story of one within
``story_s`` on. While either lasts, what is odd for an unknown template is counted on the drift
alert and not raised.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.drift import Shift, compare_scores

WINDOWS = 1_000
"""At which a distance of ``drift.MIN_DISTANCE`` by chance has a probability of 1e-8."""
EVERY = 250
MOST_UNKNOWN = 20


class DriftWatch:
    """The last windows' scores, and when stories of unknown templates began.

    Args:
        calibration: (n,) scores.
        story_s: Seconds for which a story lasts.
    """

    def __init__(self, calibration: NDArray[np.float64], story_s: float) -> None:
        self._calibration = calibration
        self._story_s = story_s
        self._recent: deque[float] = deque(maxlen=WINDOWS)
        self._unknown: deque[float] = deque(maxlen=MOST_UNKNOWN)
        self._n_since = 0
        self.shift: Shift | None = None

    @property
    def recent(self) -> list[float]:
        """Scores of the last windows."""
        return list(self._recent)

    def add(self, scores: NDArray[np.float64]) -> None:
        """Take in the scores of windows as they are judged."""
        self._recent.extend(scores.tolist())
        self._n_since += len(scores)
        if len(self._recent) == WINDOWS and self._n_since >= EVERY:
            self._n_since = 0
            self.shift = compare_scores(self._calibration, self.recent)

    def begin_unknown(self, now: float) -> None:
        """Take in that a story of an unknown template begins."""
        self._unknown.append(now)

    def active(self, now: float) -> bool:
        """Tell whether the log has drifted."""
        return bool(self.shift and self.shift.matters) or self._many(now)

    def _many(self, now: float) -> bool:
        crowded = len(self._unknown) == MOST_UNKNOWN
        return crowded and now - self._unknown[0] <= self._story_s

    def note(self, now: float) -> str:
        """Say what has changed, and what to do."""
        told = []
        if self.shift and self.shift.matters:
            way = "higher" if self.shift.is_higher else "lower"
            told.append(
                f"at least {self.shift.distance:.0%} of the last {self.shift.n_sequences:,} "
                f"windows score {way} than the calibration's"
            )
        if self._many(now):
            told.append(f"{MOST_UNKNOWN} stories of unknown templates within the time of one")
        return (
            f"{' and '.join(told)}. If the system has changed, run `oddlog update` on a normal log "
            "of it; if not, something is wrong with it"
        )

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            "recent": self.recent,
            "unknown": list(self._unknown),
            "n_since": self._n_since,
            "shift": None if self.shift is None else asdict(self.shift),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` described."""
        self._recent.extend(state["recent"])
        self._unknown.extend(state["unknown"])
        self._n_since = state["n_since"]
        self.shift = None if state["shift"] is None else Shift(**state["shift"])
