"""Accepted lines on disk until they have been judged: append-only segments, replayed after a crash.

An entry is what one commit wrote: the lines of every request that was waiting, with the time of
their arrival, so that a replay sees the same lines at the same times. It is on disk (``fsync``)
before any of those requests is acknowledged. What a crash tore off at the very end was never
acknowledged and is cut away; damage anywhere else is an error, not something to skip.

Positions count lines: the position of an entry is how many lines were accepted before it, and is
the number of its first line. ``drop`` deletes whole segments, all of whose lines are in a saved
state.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

import polars as pl

from oddlog.errors import ArtifactError, ConfigError, OddlogError
from oddlog.serve.lines import LINE_COLUMNS

SEGMENT_BYTES = 64 << 20
SUFFIX = ".journal"
_HEAD = struct.Struct("<II")  # bytes of the payload, its CRC-32; then the CRC-32 of these two
_CHECK = struct.Struct("<I")
N_HEAD = _HEAD.size + _CHECK.size
_FIXED = struct.Struct("<QQdI")  # first line, lines, time of arrival, bytes of the marks


class JournalError(OddlogError):
    """The journal cannot be written: a full disk, most of the time."""


@dataclass(frozen=True, eq=False)
class Entry:
    """Lines that were accepted together.

    Attributes:
        first: Number of the first line; how many were accepted before.
        n_lines: How many there are.
        time: When they arrived, in seconds since 1970.
        lines: In the columns of ``LINE_COLUMNS``.
        marks: How far places that can be read again have been read: Kafka's partitions, by
            ``topic/partition``, and the offset that comes next.
    """

    first: int
    n_lines: int
    time: float
    lines: pl.DataFrame
    marks: Mapping[str, int] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The position after it."""
        return self.first + self.n_lines


class Journal:
    """Entries in a folder; one process at a time.

    Args:
        folder: Made if it is missing.
        begin: The position of an empty journal: where the saved state is.
        segment_bytes: Size at which a new segment is begun.

    Attributes:
        end: The position after the last entry.
        n_torn: Bytes of an entry that a crash left unfinished, cut away on opening.

    Raises:
        ConfigError: Another process has it open.
        ArtifactError: A segment is damaged elsewhere than at the journal's end, or it ends before
            ``begin``.
    """

    def __init__(self, folder: Path, *, begin: int = 0, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._lock = _locked(folder)
        self._file: BinaryIO | None = None
        self._last: Path | None = None  # the segment to go on with
        self._size = 0
        self.n_torn = 0
        try:
            self.end = self._mend(begin)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, lines: pl.DataFrame, time: float, marks: Mapping[str, int]) -> Entry:
        """Write lines down; once it returns they survive a crash.

        Raises:
            JournalError: They could not be written; the journal is as it was before.
        """
        entry = Entry(self.end, lines.height, time, lines, dict(marks))
        payload = _encode(entry)
        try:
            file = self._segment()
            _write(file, _head(payload) + payload)
            os.fsync(file.fileno())
        except OSError as error:
            self._take_back()
            raise JournalError(f"{self._folder}: cannot write it: {error.strerror}") from None
        self._size += N_HEAD + len(payload)
        self.end = entry.end
        return entry

    def replay(self, position: int, end: int) -> Iterator[Entry]:
        """Yield the entries from one position to another, in their order.

        An entry that lies across the first position is yielded without the lines before it. New
        entries may be appended meanwhile.

        Raises:
            ArtifactError: Lines from the position on are missing.
        """
        expected = position
        for path in self._segments() if position < end else ():
            for entry, _ in _read(path):
                if entry.end <= position:
                    continue
                if entry.first > expected:
                    raise ArtifactError(
                        f"{path}: begins with line {entry.first:,}, after {expected:,}; a segment "
                        "of the journal is missing"
                    )
                yield _from(entry, position)
                expected = entry.end
                if expected >= end:
                    return

    def drop(self, position: int) -> int:
        """Delete the segments that end at or before a position; return how many."""
        segments = self._segments()
        firsts = [_first(path) for path in segments]
        done = [p for p, end in zip(segments, firsts[1:], strict=False) if end <= position]
        for path in done:
            path.unlink()
        return len(done)

    @property
    def n_bytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self._segments())

    def close(self) -> None:
        """Close the files; the folder may be opened again."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.close()

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob(f"*{SUFFIX}"))

    def _segment(self) -> BinaryIO:
        """Return the segment to write to, a new one where the last is full."""
        if self._file is not None and self._size >= self._segment_bytes:
            self._file.close()
            self._file = None
            self._last = None
        if self._file is None:
            path = self._last or self._folder / f"{self.end:020d}{SUFFIX}"
            self._file = path.open("ab", buffering=0)
            self._size = path.stat().st_size
            _sync_folder(self._folder)
        return self._file

    def _take_back(self) -> None:
        """Cut away what a failed write left."""
        if self._file is not None:
            self._file.truncate(self._size)

    def _mend(self, begin: int) -> int:
        """Cut a torn end away, and return the position after the last entry."""
        segments = self._segments()
        if not segments:
            return begin
        last, end, size = segments[-1], _first(segments[-1]), 0
        self._last = last
        for entry, size in _read(last, torn=True):  # noqa: B007 -- the last one counts
            end = entry.end
        self.n_torn = last.stat().st_size - size
        if self.n_torn:
            os.truncate(last, size)
        if end < begin:
            raise ArtifactError(
                f"{last}: ends with line {end:,}, but {begin:,} have been judged; the journal and "
                "the saved state are not of the same service"
            )
        return end


def _locked(folder: Path) -> BinaryIO:
    file = (folder / "lock").open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ConfigError(
            f"{folder}: in use by another process; give each its own folder (--state)"
        ) from None
    return file


def _first(path: Path) -> int:
    try:
        return int(path.name.removesuffix(SUFFIX))
    except ValueError:
        raise ArtifactError(f"{path}: not a name of a segment; move it away") from None


def _encode(entry: Entry) -> bytes:
    marks = json.dumps(dict(entry.marks)).encode()
    buffer = BytesIO()
    buffer.write(_FIXED.pack(entry.first, entry.n_lines, entry.time, len(marks)))
    buffer.write(marks)
    entry.lines.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


def _decode(payload: bytes, where: str) -> Entry:
    try:
        first, n_lines, time, n_marks = _FIXED.unpack_from(payload)
        marks = json.loads(payload[_FIXED.size : _FIXED.size + n_marks])
        lines = pl.read_ipc_stream(BytesIO(payload[_FIXED.size + n_marks :]))
    except (struct.error, ValueError, pl.exceptions.PolarsError, OSError) as error:
        raise ArtifactError(f"{where}: not an entry of this version: {error}") from None
    if dict(lines.schema) != LINE_COLUMNS or lines.height != n_lines:
        raise ArtifactError(f"{where}: not an entry of this version")
    return Entry(first, n_lines, time, lines, marks)


def _read(path: Path, *, torn: bool = False) -> Iterator[tuple[Entry, int]]:
    """Yield entries, and the size of the file up to the end of each.

    Args:
        path: A segment.
        torn: Its end may be torn off: then it ends with the last whole entry.
    """
    n_bytes = path.stat().st_size
    size = 0
    with path.open("rb") as file:
        while head := file.read(N_HEAD):
            length = _length(head)
            payload = file.read(length) if length and size + length < n_bytes else b""
            if length and zlib.crc32(payload) == _HEAD.unpack_from(head)[1]:
                size += N_HEAD + length
                yield _decode(payload, f"{path}: byte {size:,}"), size
                continue
            file.seek(size)
            if torn and (size + N_HEAD + length >= n_bytes or not any(file.read())):
                return
            raise ArtifactError(
                f"{path}: damaged at byte {size:,}; move it away to go on without its lines"
            )


def _head(payload: bytes) -> bytes:
    head = _HEAD.pack(len(payload), zlib.crc32(payload))
    return head + _CHECK.pack(zlib.crc32(head))


def _length(head: bytes) -> int:
    """Return how long the payload is, or 0 where the head is damaged or not whole."""
    if len(head) < N_HEAD or _CHECK.unpack_from(head, _HEAD.size)[0] != zlib.crc32(
        head[: _HEAD.size]
    ):
        return 0
    return _HEAD.unpack_from(head)[0]


def _write(file: BinaryIO, content: bytes) -> None:
    """Write all of it; a file without a buffer may take less at once."""
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _from(entry: Entry, position: int) -> Entry:
    skip = max(position - entry.first, 0)
    if not skip:
        return entry
    lines = entry.lines[skip:]
    return Entry(position, lines.height, entry.time, lines, entry.marks)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
