"""The loop of ``oddlog watch``: read, push, tell, save, wait; until it is told to stop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from oddlog.alerts import Feedback, FileFeedback, Outlets, Stories, Verdict
from oddlog.artifact import read_json, write_text
from oddlog.errors import ArtifactError, ConfigError
from oddlog.findings import Alert
from oddlog.watch.stats import WatchStats
from oddlog.watch.watcher import Watcher

POLL_S = 0.25
SAVE_S = 10.0
STATE, FEEDBACK = "state.json", "feedback.json"


class Feed(Protocol):
    """Where lines come from."""

    ended: bool
    """Nothing will come any more."""

    @property
    def behind(self) -> bool:
        """Whether there is more to read at once."""
        ...

    def poll(self, now: float) -> pl.DataFrame:
        """Return the lines that have come, columns source and text; waits for none."""
        ...

    def state(self) -> dict[str, Any]:
        """Return where the reading stands, as plain values that JSON can carry."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Shown(Protocol):
    """What a person or a program sees."""

    def alerts(self, begun: list[Alert]) -> None:
        """Show alerts that begin."""
        ...

    def status(self, stats: WatchStats, now: float) -> None:
        """Show how things stand."""
        ...


@dataclass(frozen=True)
class Clock:
    """Time, as the loop sees it.

    Attributes:
        now: Gives the seconds since 1970.
        wait: Waits for some seconds; returns True when it is time to stop.
    """

    now: Callable[[], float]
    wait: Callable[[float], bool]


class Keeper:
    """The folder in which a watcher's state outlives it: written whole or not at all.

    What was pushed and told after the last time comes again: lines once more, and their alerts
    under the same ids.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.feedback = FileFeedback(folder / FEEDBACK)

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, None if nothing was.

        Raises:
            ArtifactError: It is damaged.
        """
        if not (self.folder / STATE).exists():
            return None
        state = read_json(self.folder / STATE)
        if not isinstance(state, dict) or not {"watcher", "feed", "outlets"} <= set(state):
            raise ArtifactError(f"{self.folder / STATE}: damaged; move it away to begin anew")
        return state

    def save(self, watcher: Watcher, feed: Feed, outlets: Outlets) -> None:
        """Save all that is held."""
        state = {"watcher": watcher.state(), "feed": feed.state(), "outlets": outlets.state()}
        write_text(self.folder / STATE, json.dumps(state, allow_nan=False))

    def say(self, alert_id: str, verdict: Verdict, given: Mapping[str, Any]) -> Feedback:
        """Keep what a person says of an alert; a watcher that runs follows it at its next look.

        Args:
            alert_id: Of an alert that the state remembers.
            verdict: "real", "false_alarm" or "snooze".
            given: ``given``, and for a snooze ``until``, both with a zone.

        Raises:
            ArtifactError: Nothing was saved there.
            ConfigError: No such alert, or a snooze without an end.
        """
        state = self.load()
        if state is None:
            raise ArtifactError(f"{self.folder}: no state of a watcher there")
        stories = Stories.restore(0, state["watcher"]["raiser"]["stories"])
        if alert_id not in stories:
            raise ConfigError(f"no alert {alert_id!r} is remembered in {self.folder}")
        story = stories[alert_id]
        said = Feedback(alert_id, verdict, story.alert.signature, story.scores, **given)
        self.feedback.put(said)
        return said


def run(
    watcher: Watcher,
    feed: Feed,
    outlets: Outlets,
    shown: Shown,
    clock: Clock,
    *,
    keeper: Keeper | None = None,
) -> None:
    """Watch until the feed ends or the clock says stop; then save, and after an end flush first."""
    saved = clock.now()
    while True:
        now = clock.now()
        lines = feed.poll(now)
        _tell(watcher.push(lines, now), outlets, shown)
        if feed.ended:
            _tell(watcher.flush(now), outlets, shown)
        shown.status(watcher.stats, now)
        if keeper is not None and (now - saved >= SAVE_S or feed.ended):
            watcher.reload_feedback()
            keeper.save(watcher, feed, outlets)
            saved = now
        if feed.ended or (clock.wait(0.0) if feed.behind else clock.wait(POLL_S)):
            break
    if keeper is not None:
        keeper.save(watcher, feed, outlets)


def _tell(alerts: list[Alert], outlets: Outlets, shown: Shown) -> None:
    if alerts:
        outlets.tell(alerts)
        shown.alerts(alerts)
