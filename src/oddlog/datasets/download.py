"""Getting a public set: downloaded or copied, checked against its digest, unpacked, written down.

Nothing is fetched unless it is asked for. A download that breaks off is continued where it stopped;
a file appears at its place only when it is whole and its digest is right; what was fetched from
where, with the SHA-256 of each file, is kept in ``downloads.json`` of the data folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from oddlog.artifact import read_json, write_json
from oddlog.datasets.catalogue import ORIGINS, Origin
from oddlog.datasets.unpack import unpack
from oddlog.errors import ConfigError, EndpointError, FormatError
from oddlog.run import Progress, silent

RECEIPTS = "downloads.json"
PARTS = ".downloads"
BLOCK = 1 << 20
TIMEOUT_S = 60
SCHEMES = ("http", "https")


def fetch(
    name: str, folder: Path, *, mirror: str | None = None, progress: Progress = silent
) -> list[Path]:
    """Put a public set into a data folder.

    Args:
        name: One of ``ORIGINS``.
        folder: The data folder; made where it is missing.
        mirror: A folder that holds the archive, or a URL below which it lies, instead of the
            publisher's.
        progress: Called as bytes arrive.

    Returns:
        The files of the set, below ``folder``. None is fetched again that is there and right.

    Raises:
        ConfigError: No set of that name, or a mirror that is neither a folder nor a URL.
        EndpointError: The server cannot be reached, refuses, or broke off; what has arrived is
            kept, and the same call goes on from there.
        FormatError: The file is not the one that was published (its digest differs; it is removed),
            or it is damaged (removed as well where no digest vouches for it).
        OSError: The disk is full, or the folder may not be written to; what has arrived is kept.
    """
    if name not in ORIGINS:
        raise ConfigError(f"no set named {name!r} to fetch; there are: {', '.join(ORIGINS)}")
    origin, receipts = ORIGINS[name], read_receipts(folder)
    if name in receipts and not wrong_files(folder, receipts[name]):
        return [folder / place for place in receipts[name]["files"]]
    parts = folder / PARTS
    parts.mkdir(parents=True, exist_ok=True)
    archive = parts / origin.file
    if not archive.exists():
        _get(_source(origin, mirror), archive, progress)
    known = receipts.get(name, {}).get("archive")
    sha256 = _check(archive, origin.digest or (known and f"sha256:{known}"), progress)
    try:
        places = _place(name, origin, archive, folder)
    except FormatError:
        if origin.digest is None:  # nothing says that it arrived whole: let it be fetched again
            archive.unlink()
        raise
    receipts[name] = {
        "from": mirror or origin.url,
        "archive": sha256,
        "published": origin.digest,
        "fetched": datetime.now(UTC).strftime("%Y-%m-%d"),
        "files": {str(place): _sha256(folder / place) for place in places},
    }
    write_json(folder / RECEIPTS, receipts)
    archive.unlink(missing_ok=True)
    return [folder / place for place in places]


def read_receipts(folder: Path) -> dict[str, Any]:
    """Return what was fetched into a folder, by name of the set; nothing where nothing was."""
    path = folder / RECEIPTS
    return read_json(path) if path.exists() else {}


def wrong_files(folder: Path, receipt: Mapping[str, Any]) -> list[str]:
    """Return the files of a receipt that are missing, or not what was fetched."""
    return [
        place
        for place, sha256 in receipt["files"].items()
        if not (folder / place).is_file() or _sha256(folder / place) != sha256
    ]


def _source(origin: Origin, mirror: str | None) -> str | Path:
    """Return the URL or the path to take the archive from."""
    if mirror is None:
        return origin.url
    if urlsplit(mirror).scheme in SCHEMES:
        return f"{mirror.rstrip('/')}/{quote(origin.file)}"
    path = Path(mirror) / origin.file
    if not path.is_file():
        raise ConfigError(f"{path}: not there; a mirror is a folder with that file, or a URL")
    return path


def _get(source: str | Path, archive: Path, progress: Progress) -> None:
    """Bring the archive here, whole or as a part that is continued next time."""
    part = archive.with_name(f"{archive.name}.part")
    if isinstance(source, Path):
        shutil.copyfile(source, part)
    else:
        _download(source, part, progress)
    part.replace(archive)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)


def _download(url: str, part: Path, progress: Progress) -> None:
    """Append what is missing of a file to its part."""
    tag = part.with_name(f"{part.name}.json")
    begun = json.loads(tag.read_text()) if part.exists() and tag.exists() else {}
    have = part.stat().st_size if begun else 0
    if begun and have == begun["total"]:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "oddlog"})  # noqa: S310 -- http(s) only, see _source
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", begun["tag"])
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
            going_on = answer.status == 206
            have = have if going_on else 0
            total = have + int(answer.headers.get("Content-Length") or 0)
            _room(part, total - have)
            if mark := answer.headers.get("ETag") or answer.headers.get("Last-Modified"):
                write_json(tag, {"tag": mark, "total": total})
            else:
                tag.unlink(missing_ok=True)
            with part.open("ab" if going_on else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
                    have += len(block)
                    progress(f"fetching {part.stem}", have, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the file there is shorter than what is here: another one
            tag.unlink(missing_ok=True)
        raise EndpointError(f"{url}: the server answers {error.code} {error.reason}") from None
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise EndpointError(_broke_off(url, part, str(reason))) from None
    if total and have < total:
        raise EndpointError(_broke_off(url, part, f"{have:,} of {total:,} bytes arrived"))


def _broke_off(url: str, part: Path, reason: str) -> str:
    kept = f"; {part.stat().st_size:,} bytes are kept" if part.exists() else ""
    return f"{url}: {reason}{kept}; the same command goes on, --from names a mirror or a folder"


def _room(part: Path, wanted: int) -> None:
    """Refuse what cannot fit before a byte of it is written."""
    free = shutil.disk_usage(part.parent).free
    if wanted > free:
        text = f"{wanted:,} bytes are needed and {free:,} free"
        raise OSError(errno.ENOSPC, text, str(part.parent))


def _check(archive: Path, digest: str | None, progress: Progress) -> str:
    """Hold the archive against its digest; return its SHA-256."""
    kind, _, wanted = (digest or "sha256:").partition(":")
    sha256, published = hashlib.sha256(), hashlib.new(kind, usedforsecurity=False)
    size, done = archive.stat().st_size, 0
    with archive.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            published.update(block)
            done += len(block)
            progress("checking", done, size)
    if wanted and published.hexdigest() != wanted:
        archive.unlink()
        raise FormatError(
            f"{archive.name}: its {kind} is {published.hexdigest()} and should be {wanted}: "
            "another file, or damaged on its way; removed, fetch it again"
        )
    return sha256.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(name: str, origin: Origin, archive: Path, folder: Path) -> list[Path]:
    """Unpack beside the data folder's files, then move each to its place."""
    if not origin.members:
        target = folder / origin.place
        target.parent.mkdir(parents=True, exist_ok=True)
        archive.replace(target)
        return [Path(origin.place)]
    staging = folder / PARTS / name
    shutil.rmtree(staging, ignore_errors=True)
    try:
        places = unpack(archive, origin.members, staging, origin.most)
        for place in places:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (staging / place).replace(folder / place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return places
