"""Follow files by name while they are written, rotated, truncated and made anew.

Where the reading stands is an offset and what tells the file: its inode, and a hash of its first
bytes, for an inode is given out again and a truncated file keeps its own. What a rotation moved
away before it was read to its end is found beside the file, by the same marks:

- *rename*: the open handle is read to its end, and for ``LINGER_S`` more, as a program writes to
  the old file until it is told to open a new one.
- *copytruncate*: a file that is shorter than what was read, or begins otherwise, is read from its
  start, after the rest of the old content from the copy beside it.
- *restart*: the saved offset counts for the same file, which may stand beside it by now.

A line is given out when its end was written, and only then is the offset behind it: after a crash
no line is lost, and those since the last saved state come again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import stat
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import polars as pl

from oddlog.errors import ArtifactError, FormatError
from oddlog.formats.lines import to_lines

LOGGER = logging.getLogger(__name__)
HEAD_BYTES = 1_024
MAX_LINE_BYTES = 1 << 20
"""A longer line is given out in pieces."""
POLL_BYTES = 1 << 22
"""Most bytes that one poll reads of one file, so that a backlog comes in portions."""
LINGER_S = 10.0
NEWLINE = b"\n"
PIPE_BYTES = 1 << 16


@dataclass(frozen=True)
class Mark:
    """Where the reading of a file stands, and what tells the file.

    Attributes:
        device: Of the file.
        inode: Of the file.
        offset: Bytes of it that were given out as lines.
        n_head: How many of its first bytes are hashed.
        head: Their SHA-256.
    """

    device: int
    inode: int
    offset: int
    n_head: int
    head: str


class OpenFile:
    """A file that is read on from an offset, whatever its name is by now."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self._file: BinaryIO = path.open("rb")
        status = os.fstat(self._file.fileno())
        self.identity = status.st_dev, status.st_ino
        self.offset = offset
        self._head = self._read(0, min(offset, HEAD_BYTES))

    def close(self) -> None:
        """Let go of it."""
        self._file.close()

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        return os.fstat(self._file.fileno()).st_size

    @property
    def has_line(self) -> bool:
        """Whether there is a whole line that was not given out."""
        return NEWLINE in self._read(self.offset, POLL_BYTES)

    @property
    def mark(self) -> Mark:
        """Where the reading stands."""
        digest = hashlib.sha256(self._head).hexdigest()
        return Mark(*self.identity, self.offset, len(self._head), digest)

    def is_cut(self) -> bool:
        """Tell whether what was read is no longer there: truncated, or written anew."""
        return self.size < self.offset or self._read(0, len(self._head)) != self._head

    def restart(self) -> None:
        """Read from the start again."""
        self.offset, self._head = 0, b""

    def take(self, *, whole: bool = False) -> bytes:
        """Return the next whole lines, at most about ``POLL_BYTES``.

        Args:
            whole: The file will not go on: what has no line end is a line too.
        """
        block = self._read(self.offset, POLL_BYTES)
        end = block.rfind(NEWLINE) + 1
        if whole and len(block) < POLL_BYTES:
            end = len(block)
        elif not end and len(block) >= MAX_LINE_BYTES:
            end = MAX_LINE_BYTES
        self.offset += end
        if len(self._head) < HEAD_BYTES and end:
            self._head = self._read(0, min(self.offset, HEAD_BYTES))
        return block[:end]

    def _read(self, offset: int, most: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(most)


class Follower:
    """Follows files; ``poll`` gives what was added to them.

    Args:
        paths: Files, which need not be there yet.
        from_start: Read what is in them already; else only what is added from now on.
        state: What ``state`` gave, to go on there.

    Raises:
        ArtifactError: The state is damaged.
        FormatError: A path is a folder.

    Attributes:
        n_gaps: How often something was cut away before it was read, and not found again.
        ended: Never: a file may always go on.
    """

    ended = False

    def __init__(
        self,
        paths: Iterable[str | Path],
        *,
        from_start: bool = False,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.n_gaps = 0
        self._current: dict[str, OpenFile | None] = {str(path): None for path in paths}
        self._left: list[tuple[float, str, OpenFile]] = []  # until, source, file
        self._marks = _marks(state)
        for name in self._current:
            if Path(name).is_dir():
                raise FormatError(f"{name}: is a folder; name the files in it")
            if name not in self._marks and not from_start and Path(name).exists():
                self._current[name] = _at_end(Path(name))

    def poll(self, now: float) -> pl.DataFrame:
        """Return the lines that were added, columns source and text, in their order by source.

        Args:
            now: Seconds since 1970.
        """
        parts: list[tuple[str, bytes]] = []
        for name in self._current:
            self._look(name, now, parts)
        tables = [_table(_shown(name), block) for name, block in parts if block]
        return pl.concat(tables) if tables else _table("", b"")

    @property
    def behind(self) -> bool:
        """Tell whether there is more to read at once."""
        files = [*self._current.values(), *(file for *_, file in self._left)]
        return any(file is not None and file.size - file.offset >= POLL_BYTES for file in files)

    @property
    def missing(self) -> list[str]:
        """Names of files that are not there, or may not be read."""
        return [name for name, file in self._current.items() if file is None]

    def state(self) -> dict[str, Any]:
        """Return where the reading stands, as plain values that JSON can carry."""
        marks: dict[str, list[dict[str, Any]]] = {
            name: [asdict(mark) for mark in marks] for name, marks in self._marks.items()
        }
        for _, name, file in self._left:
            marks.setdefault(name, []).append(asdict(file.mark))
        for name, file in self._current.items():
            if file is not None:
                marks.setdefault(name, []).append(asdict(file.mark))
        return {"files": marks, "n_gaps": self.n_gaps}

    def close(self) -> None:
        """Let go of every file."""
        for file in [*self._current.values(), *(file for *_, file in self._left)]:
            if file is not None:
                file.close()

    def _look(self, name: str, now: float, parts: list[tuple[str, bytes]]) -> None:
        """Read what one name stands for, what it stood for before first."""
        file = self._current[name]
        if file is not None and file.is_cut():
            self._rest_of(name, file.mark, parts)
            file.restart()
        there = _identity(Path(name))
        if file is not None and there is not None and there != file.identity:
            self._left.append((now + LINGER_S, name, file))
            self._current[name] = file = None
        if file is None and there is not None:
            self._current[name] = file = self._open(name, parts)
        if self._finish(name, now, parts) and file is not None:
            parts.append((name, file.take()))

    def _finish(self, name: str, now: float, parts: list[tuple[str, bytes]]) -> bool:
        """Read what a name stood for before; return whether nothing of that is left for now."""
        done = True
        for item in [item for item in self._left if item[1] == name]:
            until, _, file = item
            parts.append((name, file.take()))
            if file.has_line:
                done = False
            elif now >= until:
                parts.append((name, file.take(whole=True)))
                file.close()
                self._left.remove(item)
        return done

    def _open(self, name: str, parts: list[tuple[str, bytes]]) -> OpenFile | None:
        """Open what is there now, where a saved state left off if it is the same file."""
        path, marks = Path(name), self._marks.pop(name, [])
        try:
            file = OpenFile(path)
        except (
            FileNotFoundError,
            PermissionError,
        ):  # it may be there, or readable, at a later look
            if marks:
                self._marks[name] = marks
            return None
        for mark in marks:
            if _is(path, mark):
                file.close()
                file = OpenFile(path, mark.offset)
            else:
                self._rest_of(name, mark, parts)
        return file

    def _rest_of(self, name: str, mark: Mark, parts: list[tuple[str, bytes]]) -> None:
        """Read from beside a file what it held before it was moved or cut."""
        path = Path(name)
        others = [p for p in path.parent.glob(f"{_quoted(path.name)}?*") if p.is_file()]
        others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
        for other in others:
            if mark.n_head and _begins_as(other, mark):
                rest = OpenFile(other, mark.offset)
                while block := rest.take(whole=True):
                    parts.append((name, block))
                rest.close()
                return
        if mark.offset:
            self.n_gaps += 1
            LOGGER.warning("%s: was rotated, and what was not read yet is not beside it", name)


class Pipe:
    """Reads what is written to a pipe, such as standard input or another program's output.

    Args:
        file: Its end for reading.
        name: What to call it.
    """

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.name = name
        self.ended = False
        self.behind = False
        self._file = file
        self._pending = b""

    def poll(self, now: float) -> pl.DataFrame:
        """Return the lines that have come since, columns source and text; waits for none.

        Args:
            now: Seconds since 1970; makes no difference.
        """
        parts = [self._pending]
        size = len(self._pending)
        while size < POLL_BYTES and not self.ended and self._ready():
            part = os.read(self._file.fileno(), PIPE_BYTES)
            self.ended = not part
            parts.append(part)
            size += len(part)
        block = b"".join(parts)
        self.behind = size >= POLL_BYTES
        end = len(block) if self.ended else block.rfind(NEWLINE) + 1
        if not end and len(block) >= MAX_LINE_BYTES:
            end = MAX_LINE_BYTES
        self._pending = block[end:]
        return _table(self.name, block[:end])

    def _ready(self) -> bool:
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):
            return True  # select takes pipes and terminals; the end of a file is its end
        return bool(select.select([self._file], [], [], 0)[0])

    def state(self) -> dict[str, Any]:
        """Return nothing: a pipe cannot be read again."""
        return {}

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def _shown(name: str) -> str:
    """Return a file's name as text; bytes of it that are not UTF-8 are spelled out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _at_end(path: Path) -> OpenFile:
    """Open a file behind its last whole line."""
    file = OpenFile(path)
    size = file.size
    file.close()
    with path.open("rb") as reader:
        reader.seek(max(0, size - MAX_LINE_BYTES))
        end = reader.read(MAX_LINE_BYTES).rfind(NEWLINE) + 1
    return OpenFile(path, max(0, size - MAX_LINE_BYTES) + end)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _is(path: Path, mark: Mark) -> bool:
    return _identity(path) == (mark.device, mark.inode) and _begins_as(path, mark)


def _begins_as(path: Path, mark: Mark) -> bool:
    """Tell whether a file begins with the bytes that were hashed, and has all that was read."""
    try:
        with path.open("rb") as file:
            head = file.read(mark.n_head)
            whole = os.fstat(file.fileno()).st_size >= mark.offset
    except OSError:
        return False
    return whole and hashlib.sha256(head).hexdigest() == mark.head


def _marks(state: Mapping[str, Any] | None) -> dict[str, list[Mark]]:
    if state is None:
        return {}
    try:
        return {name: [Mark(**mark) for mark in marks] for name, marks in state["files"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ArtifactError(f"state of a follower: damaged: {error!r}; begin without it") from None


def _quoted(name: str) -> str:
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _table(source: str, block: bytes) -> pl.DataFrame:
    lines = to_lines(block)[0] if block else pl.Series([], dtype=pl.String)
    return pl.DataFrame({"source": pl.repeat(source, len(lines), eager=True), "text": lines})
