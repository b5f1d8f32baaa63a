"""Files and systemd's journal, read into a service from where the reading stood.

What is read goes the way of every line, through the journal and the worker, with a number that
rises by one each time. Beforehand the place behind the lines is written down under that number,
next to the place before them. After a crash the service's journal says which of the two is right:
the one whose number it has. So no line is lost, and none is judged twice.
"""

from __future__ import annotations

import json
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from oddlog.artifact import read_json, write_text
from oddlog.errors import ArtifactError, OddlogError
from oddlog.serve.inbox import FullError
from oddlog.serve.journal import JournalError
from oddlog.serve.lines import LINE_COLUMNS, N_NAME, Limits
from oddlog.serve.service import Service
from oddlog.watch.running import POLL_S, Feed

LOGGER = logging.getLogger(__name__)
WAIT_S, LONGEST_S = 0.2, 10.0
Place = dict[str, Any]
Opener = Callable[[Place | None], Feed]
"""Opens what is read: where a saved place is, or None at the first time."""


def hand_over(
    service: Service, lines: pl.DataFrame, marks: Mapping[str, int], stopping: threading.Event
) -> bool:
    """Hand lines to a service until it has taken them, or all ends.

    Returns:
        Whether they were taken, and are on disk.
    """
    while not stopping.is_set():
        try:
            service.submit(lines, marks).result()
        except FullError as full:
            stopping.wait(min(full.retry_s, LONGEST_S))
        except JournalError as error:
            LOGGER.warning("lines wait to be written down: %s", error)
            stopping.wait(LONGEST_S)
        else:
            return True
    return False


class Reader(ABC):
    """Reads lines into a service, in a thread of its own, until it is stopped.

    Args:
        name: Of the thread, and of what is told.
        service: What takes the lines.
    """

    def __init__(self, name: str, service: Service) -> None:
        self._name = name
        self._service = service
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"oddlog-{name}", daemon=True)
        self.failure: str | None = None

    def start(self) -> None:
        """Begin to read, once the service has replayed its journal."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def close(self) -> None:  # noqa: B027 -- not every reader holds something
        """Let go of what is read, once the service has judged what was taken."""

    @abstractmethod
    def _read(self) -> None:
        """Read until it is stopped."""

    def _run(self) -> None:
        try:
            while not self._service.worker.replayed.wait(WAIT_S):
                if self._stopping.is_set():
                    return
            self._read()
        except BaseException as error:
            foreseen = isinstance(error, OddlogError)
            why = error if foreseen else f"{type(error).__name__}; see the service's log"
            self.failure = f"{self._name}: {why}"
            LOGGER.critical("reading %s stopped: %s", self._name, why)
            raise


class FollowReader(Reader):
    """Reads on what is followed; the place is written down with every reading.

    Args:
        name: Of its numbers in the journal, and of its file in the service's folder.
        opener: See ``Opener``.
        service: What takes the lines.
    """

    def __init__(self, name: str, opener: Opener, service: Service) -> None:
        super().__init__(name, service)
        self._opener = opener
        self._path = service.config.folder / f"{name}.json"

    def _read(self) -> None:
        number = self._service.worker.marks.get(self._name, 0)
        feed = self._opener(self._saved(number))
        try:
            self._read_on(feed, number)
        finally:
            feed.close()

    def _read_on(self, feed: Feed, number: int) -> None:
        place = feed.state()
        self._save({number: place})
        while not self._stopping.is_set():
            lines = feed.poll(self._service.clock())
            if lines.height:
                before, place = place, feed.state()
                self._save({number: before, number + 1: place})
                number += 1
                if not hand_over(
                    self._service, _received(lines), {self._name: number}, self._stopping
                ):
                    return
            if not feed.behind:
                self._stopping.wait(POLL_S)

    def _save(self, places: Mapping[int, Place]) -> None:
        write_text(self._path, json.dumps({str(n): place for n, place in places.items()}))

    def _saved(self, number: int) -> Place | None:
        """Return the place whose number the journal has, None if nothing was ever read."""
        if not self._path.exists():
            return None
        places = read_json(self._path)
        if not isinstance(places, dict) or not places:
            raise ArtifactError(f"{self._path}: damaged; move it away to read from now on")
        if str(number) not in places:  # the service began anew, with an empty journal
            LOGGER.warning("%s: of another journal; goes on from the place in it", self._path)
            return places[max(places, key=int)]
        return places[str(number)]


def _received(lines: pl.DataFrame) -> pl.DataFrame:
    """Return lines in the columns of what is received."""
    most = Limits().line_chars
    nothing = [pl.lit(None, kind).alias(name) for name, kind in LINE_COLUMNS.items()]
    return lines.select(
        pl.col("source").str.slice(0, N_NAME), pl.col("text").str.slice(0, most), *nothing[2:]
    )
