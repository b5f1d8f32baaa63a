"""Lines on their way to be judged: a bounded queue behind the journal.

``submit`` says yes only to lines that fit; they are acknowledged once they are on disk. One thread
writes everything that is waiting with one ``fsync``, so that many small requests cost one.
"""

from __future__ import annotations

import threading
import time as clocks
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import polars as pl

from oddlog.errors import OddlogError
from oddlog.serve.journal import Entry, Journal, JournalError

MAX_RETRY_S = 30
MEMORY = 0.2  # weight of the last speed in the mean
OVERHEAD = 64  # bytes of a line beside its text


class FullError(OddlogError):
    """There is no room now; nothing was taken.

    Attributes:
        retry_s: Seconds after which there may be.
    """

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__(message)
        self.retry_s = retry_s


@dataclass(frozen=True)
class Room:
    """How much may wait.

    Attributes:
        n_lines: Lines.
        n_bytes: Bytes of them in memory.
    """

    n_lines: int = 200_000
    n_bytes: int = 256 << 20


@dataclass(frozen=True, eq=False)
class _Waiting:
    lines: pl.DataFrame
    marks: Mapping[str, int]
    accepted: Future[int]


class Inbox:
    """The queue between those who send lines and the worker that judges them.

    Args:
        journal: Where lines are written before they are acknowledged.
        room: How much may wait.
        clock: Tells the time, in seconds since 1970.
    """

    def __init__(
        self, journal: Journal, room: Room | None = None, clock: Callable[[], float] = clocks.time
    ) -> None:
        self._journal = journal
        self._room = room or Room()
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._ready: deque[Entry] = deque()
        self._closed = False
        self._n_lines = self._n_bytes = 0
        self._speed = 0.0  # lines a second
        self._writer = threading.Thread(target=self._write, name="oddlog-journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()

    @property
    def n_lines(self) -> int:
        """Lines that were taken and are not yet judged."""
        return self._n_lines

    @property
    def n_bytes(self) -> int:
        """Bytes of them in memory."""
        return self._n_bytes

    def submit(self, lines: pl.DataFrame, marks: Mapping[str, int] | None = None) -> Future[int]:
        """Offer lines.

        Args:
            lines: In the columns of ``LINE_COLUMNS``.
            marks: See ``Entry``.

        Returns:
            The number of lines, once they are on disk; a ``JournalError`` if they cannot be.

        Raises:
            FullError: They do not fit, or nothing is taken any more.
        """
        accepted: Future[int] = Future()
        if not lines.height and not marks:
            accepted.set_result(0)
            return accepted
        accepted.set_running_or_notify_cancel()  # whoever waits for it may go; the lines stay
        n_bytes = _n_bytes(lines)
        with self._changed:
            self._check_room(lines.height, n_bytes)
            self._n_lines += lines.height
            self._n_bytes += n_bytes
            self._waiting.append(_Waiting(lines, marks or {}, accepted))
            self._changed.notify_all()
        return accepted

    def take(self, n_lines: int, timeout: float) -> list[Entry]:
        """Return the next entries, about ``n_lines`` lines; none if none came in ``timeout``."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closed, timeout)
            taken, n = [], 0
            while self._ready and n < n_lines:
                taken.append(self._ready.popleft())
                n += taken[-1].n_lines
            return taken

    def release(self, entries: list[Entry], seconds: float) -> None:
        """Make room for as much as was in entries, which were judged in so many seconds."""
        n = sum(entry.n_lines for entry in entries)
        with self._changed:
            self._n_lines -= n
            self._n_bytes -= sum(_n_bytes(entry.lines) for entry in entries)
            speed = n / max(seconds, 1e-3)
            self._speed = MEMORY * speed + (1 - MEMORY) * self._speed if self._speed else speed

    def close(self) -> None:
        """Take no more; what was taken is written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._writer.is_alive():
            self._writer.join()

    def _check_room(self, n_lines: int, n_bytes: int) -> None:
        if self._closed:
            raise FullError("the service is shutting down", 5)
        over = (
            self._n_lines + n_lines > self._room.n_lines
            or self._n_bytes + n_bytes > self._room.n_bytes
        )
        if over and self._n_lines:  # what is larger than all the room is taken when there is all
            wait = self._n_lines / (2 * self._speed) if self._speed else 1.0
            raise FullError(
                f"{self._n_lines:,} lines wait to be judged; try again later",
                min(max(1, round(wait)), MAX_RETRY_S),
            )

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                waiting, self._waiting = self._waiting, []
            if not waiting:
                return
            self._write_group(waiting)

    def _write_group(self, waiting: list[_Waiting]) -> None:
        lines = pl.concat([one.lines for one in waiting])
        marks = {name: value for one in waiting for name, value in one.marks.items()}
        try:
            entry = self._journal.append(lines, self._clock(), marks)
        except JournalError as error:
            with self._changed:
                self._n_lines -= lines.height
                self._n_bytes -= _n_bytes(lines)
            for one in waiting:
                one.accepted.set_exception(error)
            return
        with self._changed:
            self._ready.append(entry)
            self._changed.notify_all()
        for one in waiting:
            one.accepted.set_result(one.lines.height)


def _n_bytes(lines: pl.DataFrame) -> int:
    """Return about how many bytes of memory lines take; parts add up to the whole."""
    return OVERHEAD * lines.height + int(lines["text"].str.len_bytes().sum() or 0)
