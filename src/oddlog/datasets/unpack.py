"""Files out of an archive that nobody vouches for: those asked for, and no more bytes than said.

A member's own path decides nothing but which member it is: the place it goes to is ours. Links,
devices and paths that climb are refused, and what is written is counted as it is written, since an
archive may lie about sizes.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from oddlog.errors import FormatError

BLOCK = 1 << 20
Member = tuple[str, int, Callable[[], IO[bytes]]]
"""Path in the archive, said size, and what opens it."""
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,  # an encrypted member of a zip
)


def unpack(archive: Path, members: Mapping[str, str], out: Path, most: int) -> list[Path]:
    """Write members of a zip or tar archive below a folder.

    Args:
        archive: The file; what kind it is is read from its content.
        members: Path in the archive to place below ``out``. A path that ends with "/", or "",
            stands for all regular files below it; its place ends with "/".
        out: An empty folder.
        most: Bytes that may be written in all.

    Returns:
        The places of the files written, relative to ``out``, sorted.

    Raises:
        FormatError: The archive is damaged, lacks a member, holds a path that climbs or a link
            where a file was asked for, or unpacks to more than ``most`` bytes.
    """
    left, written = most, set()
    try:
        with _opened(archive) as found:
            for name, size, stream in found:
                place = _place(archive, name, members)
                if place is None:
                    continue
                if size > left:
                    raise FormatError(_too_large(archive, most))
                target = out / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with stream() as source, target.open("wb") as file:
                    left -= _copy(source, file, left, archive, most)
                written.add(place)
    except _DAMAGED as error:
        raise FormatError(f"{archive}: damaged, or no zip or tar archive: {error}") from None
    for asked, place in members.items():
        if not any(_below(found, place) for found in written):
            raise FormatError(f"{archive}: nothing called {asked or 'a file'!r} in it")
    return sorted(Path(place) for place in written)


def _place(archive: Path, name: str, members: Mapping[str, str]) -> str | None:
    """Return where a member goes, None for one that nobody asked for."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise FormatError(f"{archive}: it holds the path {name!r}, which leaves its folder")
    clean = str(path)  # without "./" and double slashes
    if clean in members:
        return members[clean]
    for asked, place in members.items():
        if place.endswith("/") and (not asked or clean.startswith(asked)):
            return place + clean.removeprefix(asked)
    return None


def _below(found: str, place: str) -> bool:
    return found.startswith(place) if place.endswith("/") else found == place


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[Member]]:
    """Yield each regular file of a zip or tar archive."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield (
                (info.filename, info.file_size, partial(zipped.open, info.filename))
                for info in zipped.infolist()
                if not info.is_dir()
            )
        return
    with tarfile.open(archive, "r:*") as packed:
        yield (
            (member.name, member.size, partial(_content, packed, member))
            for member in packed
            if member.isreg()
        )


def _content(packed: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = packed.extractfile(member)
    if content is None:
        raise tarfile.TarError(f"{member.name} has no content")
    return content


def _copy(source: IO[bytes], file: IO[bytes], most: int, archive: Path, limit: int) -> int:
    n = 0
    while block := source.read(BLOCK):
        n += len(block)
        if n > most:
            raise FormatError(_too_large(archive, limit))
        file.write(block)
    return n


def _too_large(archive: Path, limit: int) -> str:
    return f"{archive}: it unpacks to more than {limit:,} bytes, more than this set has"
