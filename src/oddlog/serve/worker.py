"""The one thread that judges: lines from the inbox into the watcher, alerts into the store.

After each push its alerts are stored; only then does the inbox forget the lines. The journal
forgets them later, once a saved state holds what the watcher has seen; a second thread writes it,
from a snapshot that the first takes in passing. So a crash at any moment
loses nothing: from the saved state on, the journal's lines are judged again, at the times at which
they arrived, and give the same alerts, which replace themselves in the store.
"""

from __future__ import annotations

import logging
import threading
import time as clocks
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences
from oddlog.findings import Alert
from oddlog.serve.inbox import Inbox
from oddlog.serve.journal import Entry, Journal
from oddlog.serve.minutes import Minutes
from oddlog.serve.saved import Saved, save
from oddlog.serve.store import Store, StoreError
from oddlog.watch import Watcher, WatchStats

LOGGER = logging.getLogger(__name__)
SAVE_SHARE = 30  # of the time; what came since the last state is judged again after a crash
Latencies = Callable[[float, int], None]
"""Called with the seconds from arrival to stored alerts, and how many lines waited so long."""


@dataclass(frozen=True)
class Pacing:
    """How the worker divides its time.

    Attributes:
        push_lines: Lines judged at once, if so many are waiting.
        tick_s: Seconds after which time passes for the watcher though no line came.
        save_s: Seconds between saved states, at least; writing one never takes more than a
            thirtieth of the time.
        retry_s: Seconds between attempts to store alerts.
    """

    push_lines: int = 20_000
    tick_s: float = 0.5
    save_s: float = 30.0
    retry_s: float = 1.0


@dataclass(frozen=True, eq=False)
class Desk:
    """What the worker works with.

    Attributes:
        folder: Where the state is saved.
        journal: Where lines are that no state holds.
        inbox: Where new ones come from.
        store: Where alerts go.
        sinks: Names of where new alerts are to be delivered.
    """

    folder: Path
    journal: Journal
    inbox: Inbox
    store: Store
    sinks: tuple[str, ...] = ()


class Worker:
    """Judges until it is stopped.

    Attributes:
        position: How many lines have been judged, their alerts stored.
        minutes: What the last day's minutes held.
        watching: Held while the watcher works; whoever else asks it something has to hold it.
        changed: Notified when alerts were stored, or somebody judged one.
        n_changes: How often it was.
        replayed: Set once all that the journal held has been judged.
        failure: Why the thread ended of itself, or None.
        trouble: What the database said when alerts could not be stored, or None.

    Args:
        desk: What it works with.
        saved: The state to go on from; its watcher's is already in ``watcher``.
        pacing: How it divides its time.
        clock: Tells the time, in seconds since 1970.
        latencies: Told of every push.
    """

    def __init__(
        self,
        desk: Desk,
        saved: Saved,
        *,
        pacing: Pacing | None = None,
        clock: Callable[[], float] = clocks.time,
        latencies: Latencies = lambda seconds, n_lines: None,
    ) -> None:
        self._desk = desk
        self._pacing = pacing or Pacing()
        self._clock = clock
        self._latencies = latencies
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oddlog-worker", daemon=True)
        self._scores: list[NDArray[np.floating]] = []
        self._saver = ThreadPoolExecutor(1, "oddlog-saver")
        self._saving: Future[None] = Future()
        self._saving.set_result(None)
        self._saved_position = self.position = saved.position
        self._marks = dict(saved.marks)
        self._replay_end = desk.journal.end
        self._due = 0.0
        self.minutes = Minutes(saved.minutes)
        self.watching = threading.Lock()
        self.changed = threading.Condition()
        self.n_changes = 0
        self.replayed = threading.Event()
        self.failure: str | None = None
        self.trouble: str | None = None

    def start(self, watcher: Watcher) -> None:
        """Begin to judge, first what the journal holds beyond the saved state."""
        self.watcher = watcher
        self.stats: WatchStats = watcher.stats
        self._thread.start()

    def listen(self, windows: Sequences, scores: NDArray[np.floating]) -> None:
        """Take note of judged windows; the watcher's listener."""
        self._scores.append(scores)

    @property
    def marks(self) -> Mapping[str, int]:
        """How far Kafka's partitions have been judged, by ``topic/partition``."""
        return self._marks

    def stop(self) -> None:
        """Judge what is in the inbox, save the state, and end."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._replay()
            self.replayed.set()
            while not self._stopping.is_set() or self._desk.inbox.n_lines:
                self._turn()
            self._save()
            self._saving.result()
        except _StoppedError:
            LOGGER.warning("stopped before all lines were judged; they are safe in the journal")
        except BaseException as error:
            self.failure = f"{type(error).__name__}; see the service's log"
            LOGGER.critical("the worker stopped; accepted lines are safe in the journal")
            raise
        finally:
            self._saver.shutdown()

    def _replay(self) -> None:
        """Judge what the journal holds beyond the saved state."""
        group: list[Entry] = []
        for entry in self._desk.journal.replay(self.position, self._replay_end):
            group.append(entry)
            if sum(one.n_lines for one in group) >= self._pacing.push_lines:
                self._judge(group)
                group = []
            if self._stopping.is_set():
                raise _StoppedError
        if group:
            self._judge(group)

    def _turn(self) -> None:
        begun = clocks.monotonic()
        entries = self._desk.inbox.take(self._pacing.push_lines, self._pacing.tick_s)
        if not entries:
            self._push([], self._clock(), {})
        else:
            self._judge(entries)
            self._desk.inbox.release(entries, clocks.monotonic() - begun)
            now = self._clock()
            for entry in entries:
                self._latencies(now - entry.time, entry.n_lines)
        if (
            self._saving.done()
            and clocks.monotonic() >= self._due
            and self.position > self._saved_position
        ):
            self._save()

    def _judge(self, entries: list[Entry]) -> None:
        lines = pl.concat([entry.lines for entry in entries])
        marks = {name: value for entry in entries for name, value in entry.marks.items()}
        self._push(lines, entries[-1].time, marks)
        self.position = entries[-1].end

    def _push(self, lines: pl.DataFrame | list[str], now: float, marks: Mapping[str, int]) -> None:
        """Judge lines, and store what was found."""
        with self.watching:
            before = self.watcher.stats.n_unknown
            raised = self.watcher.push(lines, now)
            grown = self.watcher.grown
            self.stats = self.watcher.stats
        scores = np.concatenate([np.empty(0), *self._scores])
        self._scores.clear()
        if len(lines) or len(scores):
            self.minutes.add(now, (len(lines), self.stats.n_unknown - before, len(raised)), scores)
        self._keep(raised, grown, marks)
        self._marks |= marks

    def _keep(self, raised: list[Alert], grown: list[Alert], marks: Mapping[str, int]) -> None:
        """Store alerts, again and again until it is done, or the service ends."""
        if not raised and not grown and not marks:
            return
        while True:
            try:
                now = self._clock()
                self._desk.store.put(grown, now)
                self._desk.store.put(raised, now, sinks=self._desk.sinks, offsets=marks)
            except StoreError as error:
                self.trouble = str(error)
                LOGGER.warning("alerts wait to be stored: %s", error)
                if self._stopping.wait(self._pacing.retry_s):
                    raise _StoppedError from None
                continue
            self.trouble = None
            self.tell()
            return

    def tell(self) -> None:
        """Tell those who wait for it that alerts have changed."""
        with self.changed:
            self.n_changes += 1
            self.changed.notify_all()

    def _save(self) -> None:
        """Have a state of this moment written, once the one before it is."""
        self._saving.result()  # raises what went wrong with it
        with self.watching:
            snapshot = self.watcher.snapshot()
        saved = Saved(self.position, snapshot, dict(self._marks), self.minutes.state())
        self._saved_position = self.position
        self._saving = self._saver.submit(self._write, saved)

    def _write(self, saved: Saved) -> None:
        begun = clocks.monotonic()
        save(self._desk.folder, saved)
        self._desk.journal.drop(saved.position)
        ended = clocks.monotonic()
        self._due = ended + max(self._pacing.save_s, SAVE_SHARE * (ended - begun))


class _StoppedError(Exception):
    """The service ends before everything was done; the journal has the rest."""
