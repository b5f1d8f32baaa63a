"""A running service: journal, inbox, worker, watcher and store, put together and taken apart."""

from __future__ import annotations

import math
import time as clocks
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from oddlog.alerts import Feedback, Verdict
from oddlog.errors import ConfigError
from oddlog.pipeline import Pipeline
from oddlog.serve.delivery import Deliverer, Sink
from oddlog.serve.inbox import Inbox, Room
from oddlog.serve.journal import Journal
from oddlog.serve.saved import load
from oddlog.serve.scoring import score_lines
from oddlog.serve.store import Store, StoredAlert, StoredFeedback
from oddlog.serve.worker import Desk, Latencies, Pacing, Worker
from oddlog.watch import WatchConfig, Watcher

OTHERS = "others"


class Feed(Protocol):
    """Something that lines are fetched from, in a thread of its own.

    Attributes:
        failure: Why it ended of itself, or None.
    """

    failure: str | None

    def start(self) -> None:
        """Begin to fetch."""
        ...

    def stop(self) -> None:
        """Fetch no more."""
        ...

    def close(self) -> None:
        """Say how far the service has come, and let go."""
        ...


@dataclass(frozen=True)
class ServiceConfig:
    """Settings of a service.

    Attributes:
        folder: Where journal, state and, unless ``db`` says otherwise, the database are.
        db: URL of the database, or None for ``alerts.db`` in the folder.
        room: How much may wait to be judged.
        pacing: How the worker divides its time.
        watch: Settings of the watcher.
        max_sources: Distinct sources; lines of further ones are of the source "others".
    """

    folder: Path
    db: str | None = None
    room: Room = field(default_factory=Room)
    pacing: Pacing = field(default_factory=Pacing)
    watch: WatchConfig = field(default_factory=WatchConfig)
    max_sources: int = 10_000

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.db or f"sqlite:///{self.folder.absolute() / 'alerts.db'}"


class Service:
    """Everything behind the HTTP endpoints.

    Args:
        pipeline: A fitted one.
        config: Settings.
        sinks: Where alerts are delivered, by name.
        clock: Tells the time, in seconds since 1970.
        latencies: Told of every push; see ``Worker``.

    Raises:
        ArtifactError: The saved state or the journal is damaged, or of another model.
        ConfigError: The folder is in use, or the database cannot be used.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        config: ServiceConfig,
        *,
        sinks: Mapping[str, Sink] | None = None,
        clock: Callable[[], float] = clocks.time,
        latencies: Latencies = lambda seconds, n_lines: None,
    ) -> None:
        self.pipeline = pipeline
        self.config = config
        self.clock = clock
        config.folder.mkdir(parents=True, exist_ok=True)
        saved = load(config.folder)
        self.journal = Journal(config.folder / "journal", begin=saved.position)
        try:
            self.store = Store(config.database)
        except BaseException:
            self.journal.close()
            raise
        self.inbox = Inbox(self.journal, config.room, clock)
        names = tuple(sinks or {})
        desk = Desk(config.folder, self.journal, self.inbox, self.store, names)
        self.worker = Worker(desk, saved, pacing=config.pacing, clock=clock, latencies=latencies)
        self._deliverers = [
            Deliverer(self.store, name, sink, self.worker.changed)
            for name, sink in (sinks or {}).items()
        ]
        self._feeds: list[Feed] = []
        self._sources = set((saved.watcher or {}).get("intake", {}).get("sources", ()))
        try:
            self.watcher = self._watcher(saved.watcher)
        except BaseException:
            self.journal.close()
            self.store.close()
            raise

    def _watcher(self, state: dict[str, Any] | None) -> Watcher:
        feedback = StoredFeedback(self.store, self.clock)
        parts = {"config": self.config.watch, "feedback": feedback, "listener": self.worker.listen}
        if state is None:
            return Watcher(self.pipeline, **parts)
        return Watcher.restore(self.pipeline, state, **parts)

    def start(self) -> None:
        """Begin to take lines, to judge and to deliver."""
        self.inbox.start()
        self.start_worker()

    def start_worker(self) -> None:
        """Begin to judge and to deliver what the inbox has."""
        self.worker.start(self.watcher)
        for part in (*self._deliverers, *self._feeds):
            part.start()

    def add_feed(self, feed: Feed) -> None:
        """Take lines from a feed, too, from ``start`` on."""
        self._feeds.append(feed)

    def stop(self) -> None:
        """Take nothing more, judge what was taken, save the state, and close everything."""
        for feed in self._feeds:
            feed.stop()
        self.inbox.close()
        self.worker.stop()
        for feed in self._feeds:
            feed.close()
        for deliverer in self._deliverers:
            deliverer.stop()
        self.journal.close()
        self.store.close()

    def submit(self, lines: pl.DataFrame, marks: Mapping[str, int] | None = None) -> Future[int]:
        """Take lines; see ``Inbox.submit``."""
        return self.inbox.submit(self._named(lines), marks)

    def _named(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return lines of at most so many sources over time, as each of them costs memory."""
        names = set(lines["source"].unique())
        room = self.config.max_sources - len(self._sources)
        new = sorted(names - self._sources)
        self._sources.update(new[:room])
        over = new[max(room, 0) :]
        if not over:
            return lines
        other = pl.when(pl.col("source").is_in(over)).then(pl.lit(OTHERS))
        return lines.with_columns(source=other.otherwise("source"))

    def score(self, lines: pl.DataFrame, *, every: bool = False) -> list[dict[str, Any]]:
        """Return the verdict on a batch of lines, which leaves no trace."""
        with self.worker.watching:
            return score_lines(self.pipeline, lines, self.clock(), every=every)

    def feedback(
        self, alert_id: str, verdict: Verdict | None, until: float | None = None
    ) -> StoredAlert | None:
        """Keep what a person says of an alert, or with None take it back.

        Returns:
            The alert as it is then; None if there is none of that id.

        Raises:
            ConfigError: A snooze without an end, or an end without a snooze.
        """
        stored = self.store.alert(alert_id)
        if stored is None:
            return None
        with self.worker.watching:
            if verdict is None:
                self.watcher.withdraw_feedback(alert_id)
            else:
                self._say(stored, verdict, until)
        self.worker.tell()
        return self.store.alert(alert_id)

    def _say(self, stored: StoredAlert, verdict: Verdict, until: float | None) -> None:
        now = self.clock()
        try:
            self.watcher.feedback(stored.id, verdict, now, until)
        except ConfigError:  # older than what the watcher remembers
            said = Feedback(
                alert_id=stored.id,
                verdict=verdict,
                signature=stored.signature,
                scores=(stored.score,),
                given=_time(now),
                until=None if until is None else _time(until),
            )
            self.watcher.feedback_store.put(said)
            self.watcher.reload_feedback()

    @property
    def changes(self) -> int:
        """How often alerts have been stored or judged by a person since the start."""
        return self.worker.n_changes

    @property
    def threshold(self) -> float | None:
        """The score above which a window is flagged; None where the calibration is too small."""
        found = self.pipeline.calibration.threshold(self.worker.stats.rate)
        return found if math.isfinite(found) else None

    def unhealthy(self) -> str | None:
        """Return why the service cannot go on, or None."""
        return next((p.failure for p in (self.worker, *self._feeds) if p.failure), None)

    def unready(self) -> str | None:
        """Return why the service should not be sent lines now, or None."""
        if trouble := self.unhealthy() or self.worker.trouble:
            return trouble
        return None if self.worker.replayed.is_set() else "the journal is being replayed"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
