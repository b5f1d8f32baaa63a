"""One story, one alert: what is odd in the same way within a time is counted, not repeated."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from oddlog.findings import Alert

MAX_STORIES = 10_000


@dataclass(frozen=True)
class Story:
    """An alert that was raised, and what was folded into it.

    Attributes:
        alert: With the count and the last time of all that was folded into it.
        scores: Of the first ``MAX_SCORES`` sequences, for the calibration if it was a false alarm.
        last_seen: When something was folded into it last.
    """

    alert: Alert
    scores: tuple[float, ...]
    last_seen: datetime


MAX_SCORES = 1_000


def _scores(alert: Alert) -> tuple[float, ...]:
    """Return the score of each sequence that an alert stands for; a changed log is none."""
    return () if alert.kind == "drift" else (alert.score,) * min(alert.count, MAX_SCORES)


class Stories:
    """The alerts of the last time by signature, and those that a person may still judge.

    Memory is bounded: of more than ``MAX_STORIES`` the oldest are forgotten.

    Args:
        story_s: Seconds for which a story goes on after it was last seen.
    """

    def __init__(self, story_s: float) -> None:
        self.story_s = story_s
        self._by_id: OrderedDict[str, Story] = OrderedDict()
        self._current: dict[str, str] = {}  # signature -> id
        self.n_folded = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, alert_id: object) -> bool:
        return alert_id in self._by_id

    def __getitem__(self, alert_id: str) -> Story:
        return self._by_id[alert_id]

    def alerts(self) -> list[Alert]:
        """Return the alerts that are remembered, oldest first, as they are now."""
        return [story.alert for story in self._by_id.values()]

    def fold(self, alerts: Iterable[Alert], now: datetime) -> tuple[list[Alert], list[Alert]]:
        """Take in alerts.

        Returns:
            Those that begin a story, and as they are now the older ones that others were folded
            into.
        """
        begun: dict[str, Alert] = {}
        grown: dict[str, Alert] = {}
        for alert in alerts:
            story = self._story_of(alert, now)
            if story is None:
                self._begin(alert, now)
                begun[alert.id] = alert
                continue
            told = self._grow(story, alert, now)
            (begun if told.id in begun else grown)[told.id] = told
        return list(begun.values()), list(grown.values())

    def _story_of(self, alert: Alert, now: datetime) -> Story | None:
        if alert.id in self._by_id:  # a replay
            return self._by_id[alert.id]
        story = self._by_id.get(self._current.get(alert.signature, ""))
        return story if story and (now - story.last_seen).total_seconds() <= self.story_s else None

    def _begin(self, alert: Alert, now: datetime) -> None:
        self._by_id[alert.id] = Story(alert, _scores(alert), now)
        self._current[alert.signature] = alert.id
        if len(self._by_id) > MAX_STORIES:
            gone, story = self._by_id.popitem(last=False)
            if self._current.get(story.alert.signature) == gone:
                del self._current[story.alert.signature]

    def _grow(self, story: Story, alert: Alert, now: datetime) -> Alert:
        self.n_folded += alert.count
        times = [t for t in (story.alert.last_time, alert.last_time) if t is not None]
        told = replace(
            story.alert,
            count=story.alert.count + alert.count,
            last_time=max(times) if times else None,
        )
        scores = (*story.scores, *_scores(alert))[:MAX_SCORES]
        self._by_id[told.id] = Story(told, scores, now)
        return told

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            "n_folded": self.n_folded,
            "stories": [
                [story.alert.to_dict(), list(story.scores), story.last_seen.isoformat()]
                for story in self._by_id.values()
            ],
        }

    @classmethod
    def restore(cls, story_s: float, state: Mapping[str, Any]) -> Self:
        """Return stories that go on where ``state`` was taken."""
        stories = cls(story_s)
        stories.n_folded = state["n_folded"]
        for value, scores, last_seen in state["stories"]:
            alert = Alert.from_dict(value)
            story = Story(alert, tuple(scores), datetime.fromisoformat(last_seen))
            stories._by_id[alert.id] = story
            stories._current[alert.signature] = alert.id
        return stories
