r"""Bytes to lines: open, unpack, cut at line ends, make text of it; nothing lost, all counted.

A line ends at ``\n``, and the carriage returns before it belong to its end. A source that has none
in its first block, but carriage returns, ends its lines with those. Nothing else ends a line:
U+2028, U+0085, vertical tab and form feed are text.
"""

from __future__ import annotations

import bz2
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import polars as pl

from oddlog.errors import ConfigError, FormatError
from oddlog.shapes import split_lines

STDIN = "-"
PACKED_BYTES = 1 << 16  # unpacked at once, so that a small file cannot fill the memory
BLOCK_BYTES = 1 << 21
MAX_LINE_BYTES = 1 << 26
SNIFF_BYTES = 1 << 16
UTF_16_SHARE = 0.7  # of every other byte that is NUL
N_CONTROLS, CONTROL_SHARE = 64, 0.05  # more than both in the first bytes: binary
_CONTROLS = bytes(sorted({*range(32)} - {8, 9, 10, 11, 12, 13, 27})) + b"\x7f"
_NOT_UTF8 = re.compile(r"[\udc80-\udcff][^\n]*")
_CR = re.compile(rb"\r(?:\n|$)")
_NUL = re.compile(rb"\x00[^\n]*")
_BOM = b"\xef\xbb\xbf"
_COLOUR = r"\x1b\[[0-9;]*m"  # of ANSI: a colour, bold and so on, or the end of it


@dataclass(frozen=True)
class Repairs:
    """Lines that were not plain text: see ``ReadReport``."""

    n_repaired: int = 0
    n_nul: int = 0
    n_cr: int = 0
    n_coloured: int = 0

    def __add__(self, other: Repairs) -> Repairs:
        """Add up, field by field."""
        return Repairs(
            self.n_repaired + other.n_repaired,
            self.n_nul + other.n_nul,
            self.n_cr + other.n_cr,
            self.n_coloured + other.n_coloured,
        )


class Block(NamedTuple):
    """Lines of a source.

    Attributes:
        lines: (n,) String.
        repairs: What was repaired in them.
        text: The same lines as bytes of UTF-8, each with a line feed but perhaps the last; None
            where that is not what was read.
    """

    lines: pl.Series
    repairs: Repairs
    text: bytes | None


def iter_lines(source: str) -> Iterator[Block]:
    """Yield a source's lines in blocks of about ``BLOCK_BYTES`` bytes.

    Raises:
        FormatError: The source is missing, no file, damaged, binary, or has a line of more than
            ``MAX_LINE_BYTES``.
    """
    with _opened(source) as file:
        pieces = _unpacked(source, file)
        start = _start(pieces)
        _check_text(source, start)
        ends_cr = b"\n" not in start and b"\r" in start.rstrip(b"\r\n")
        text = _chain(start.removeprefix(_BOM), pieces)
        for block in _whole_lines(source, text, b"\r" if ends_cr else b"\n"):
            yield to_lines(
                block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if ends_cr else block
            )


def modified(source: str) -> datetime | None:
    """Return when the source was last changed, or None where that is not known."""
    try:
        status = Path(source).stat() if source != STDIN else Path("/dev/stdin").stat()
    except OSError:
        return None
    return datetime.fromtimestamp(status.st_mtime, UTC)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with Path(source).open("rb") as file:
            yield file
    except FileNotFoundError:
        raise FormatError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise FormatError(f"{source}: is a folder; name the files in it") from None
    except OSError as error:
        raise FormatError(f"{source}: cannot read it: {error.strerror}") from None


def _zstd() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError:
        raise ConfigError("a zstd file needs zstandard: pip install zstandard") from None
    return zstandard.ZstdDecompressor().decompressobj()


def _damage() -> tuple[type[Exception], ...]:
    """What the unpackers raise; zstandard's error only if it is loaded."""
    zstandard = sys.modules.get("zstandard")
    zstd = (zstandard.ZstdError,) if zstandard else ()
    return (zlib.error, OSError, EOFError, lzma.LZMAError, *zstd)


_UNPACKERS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    b"\x1f\x8b": ("gzip", lambda: zlib.decompressobj(wbits=31)),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
    b"BZh": ("bzip2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMADecompressor),
}


def _unpacked(source: str, file: BinaryIO) -> Iterator[bytes]:
    """Yield the source's bytes, unpacked if its first bytes say that they are packed."""
    chunks = iter(lambda: file.read(PACKED_BYTES), b"")
    head = next(chunks, b"")
    for magic, (kind, unpacker) in _UNPACKERS.items():
        if head.startswith(magic):
            return _inflate(source, kind, unpacker, _chain(head, chunks))
    rest = iter(lambda: file.read(BLOCK_BYTES), b"")
    return _chain(head, rest)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from rest


def _inflate(
    source: str, kind: str, unpacker: Callable[[], Any], chunks: Iterator[bytes]
) -> Iterator[bytes]:
    """Yield what is packed, member after member; a member may be followed by zeros."""
    member = None
    for chunk in chunks:
        left = chunk
        while left:
            if member is None:
                left = left.lstrip(b"\0")
                if not left:
                    break
                member = unpacker()
            try:
                yield member.decompress(left)
            except _damage() as error:
                raise FormatError(f"{source}: damaged {kind} data: {error}") from None
            left = member.unused_data if member.eof else b""
            member = None if member.eof else member
    if member is not None:
        raise FormatError(
            f"{source}: the {kind} data ends too early; what is whole can be unpacked "
            "with the format's own tool and read from standard input"
        )


def _start(pieces: Iterator[bytes]) -> bytes:
    """Return the first bytes, enough to judge them by, unless the source has fewer."""
    parts: list[bytes] = []
    for piece in pieces:
        parts.append(piece)
        if sum(map(len, parts)) >= SNIFF_BYTES:
            break
    return b"".join(parts)


def _check_text(source: str, start: bytes) -> None:
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise FormatError(
            f"{source}: is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {source} | oddlog ... -"
        )
    # a file that was cut while it was written begins with NULs, and is a log all the same
    sample = start.lstrip(b"\0")[:SNIFF_BYTES]
    n_controls = len(sample) - len(sample.translate(None, _CONTROLS))
    if n_controls <= max(N_CONTROLS, CONTROL_SHARE * len(sample)):
        return
    if order := _utf_16(start):
        raise FormatError(
            f"{source}: looks like UTF-16; convert it: iconv -f {order} -t UTF-8 {source} | "
            "oddlog ... -"
        )
    raise FormatError(
        f"{source}: looks binary ({n_controls:,} control bytes in the first {len(sample):,}); "
        "give a text log, or one packed by gzip, zstd, bzip2 or xz"
    )


def _utf_16(start: bytes) -> str | None:
    """Name the UTF-16 that bytes without a mark look like: of ASCII every other byte is NUL."""
    for name, zero, other in (("UTF-16LE", 1, 0), ("UTF-16BE", 0, 1)):
        zeros = start[zero::2].count(0)
        if zeros > UTF_16_SHARE * len(start) / 2 and start[other::2].count(0) < zeros / 10:
            return name
    return None


def _whole_lines(source: str, pieces: Iterator[bytes], end: bytes) -> Iterator[bytes]:
    """Yield blocks that end where a line does; only the last may lack the end."""
    pending: list[bytes] = []
    size = tail = 0  # bytes pending, and those of them since the last line end
    for piece in pieces:
        cut = piece.rfind(end) + 1
        size += len(piece)
        tail = len(piece) - cut if cut else tail + len(piece)
        if tail > MAX_LINE_BYTES:
            raise FormatError(
                f"{source}: a line of more than {MAX_LINE_BYTES:,} bytes; this is no log of lines"
            )
        if size >= BLOCK_BYTES and cut:
            yield b"".join([*pending, piece[:cut]])
            pending, size = [piece[cut:]], tail
        else:
            pending.append(piece)
    if size:
        yield b"".join(pending)


def to_lines(block: bytes) -> Block:
    """Return the lines of bytes that end where a line does, and what was repaired in them."""
    n_repaired = 0
    whole: bytes | None = block
    if not _is_utf8(block):
        n_repaired = len(_NOT_UTF8.findall(block.decode(errors="surrogateescape")))
        block, whole = block.decode(errors="backslashreplace").encode(), None
    n_nul = len(_NUL.findall(block)) if b"\0" in block else 0
    series = split_lines(block)
    n_cr = 0
    if b"\r" in block:
        n_cr, whole = len(_CR.findall(block)), None
        series = series.str.strip_chars_end("\r")
    n_coloured = 0
    if b"\x1b" in block:  # two characters take twenty times as long to look for
        series, n_coloured, whole = *without_colours(series), None
    return Block(series, Repairs(n_repaired, n_nul, n_cr, n_coloured), whole)


def _is_utf8(block: bytes) -> bool:
    if block.isascii():
        return True
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def without_colours(lines: pl.Series) -> tuple[pl.Series, int]:
    """Return (n,) String without the codes by which a terminal colours them, and how many had one.

    They stand before times and levels, where no header's pattern expects them, and say nothing.
    """
    n_coloured = int(lines.str.contains(_COLOUR).sum())
    return (lines.str.replace_all(_COLOUR, "") if n_coloured else lines), n_coloured
