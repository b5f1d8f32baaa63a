"""Files of a model folder: written whole or not at all, JSON and safetensors only, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from oddlog.errors import ArtifactError

FORMAT_VERSION = 1
READABLE_VERSIONS = (1,)
MANIFEST = "manifest.json"
CONFIG = "config.toml"
DIGESTS = "digests.json"
MODEL_FILES = {
    MANIFEST,
    DIGESTS,
    CONFIG,
    "templates.json",
    "endings.json",
    "calibration.json",
    "trimmed.jsonl",
    "detector",
    "baselines",
}


@contextmanager
def new_folder(path: Path, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that takes its place when the block succeeds.

    An older folder at ``path`` stays whole until the new one is complete; if the block raises, or
    is interrupted, nothing of the new one remains. Between two renames there is none at ``path``:
    a crash just then leaves the older one under the name of ``keep``, or a hidden one.

    Args:
        path: Where the folder is to be.
        keep: Name for the older folder, beside it; None to delete it.

    Raises:
        ArtifactError: ``path`` is something else than a folder that oddlog wrote (one with a
            manifest) or an empty one.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        staging.chmod(0o755)
        with writing(path):
            yield staging
        _swap(staging, path, keep)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Name the place in an error of the system while it is written to.

    What says that there is no room names nothing, and a file under its temporary name tells nobody
    anything. Polars reports as an error of its own what is one of the system.

    Raises:
        OSError: As it was, with ``place`` for its name.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(place)) from None
    except pl.exceptions.PolarsError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(place)) from None


def check_replaceable(path: Path) -> None:
    """Make sure that a model may be written to ``path``, best asked before the work is done.

    Raises:
        ArtifactError: ``path`` is something else than a folder that oddlog wrote (one with a
            manifest) or an empty one, or nothing may be written beside it.
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or _is_model(path))):
        raise ArtifactError(f"{path}: exists and is no oddlog model; name another folder")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ArtifactError(f"{path}: cannot write there; name another folder")


def _is_model(folder: Path) -> bool:
    """Tell whether all there is in a folder is what a model has: it will be deleted whole."""
    if not {item.name for item in folder.iterdir()} <= MODEL_FILES:
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except ArtifactError:
        return False
    return isinstance(manifest, dict) and "oddlog" in manifest and "format_version" in manifest


def _swap(staging: Path, path: Path, keep: Path | None) -> None:
    if not path.exists():
        staging.replace(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    kept = keep or old / "model"
    try:
        path.replace(kept)
        staging.replace(path)
    except BaseException:
        if not path.exists():
            kept.replace(path)
        shutil.rmtree(old)
        raise
    shutil.rmtree(old)


def kept_name(path: Path) -> Path:
    """Return the first free of ``path.1``, ``path.2`` ...: where an older model is kept."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(1))
    return next(name for name in numbered if not name.exists())


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, flush it to disk, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with writing(path), os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, atomically."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read it: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: damaged: {error}; fit the model again") from None


def save_arrays(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write named numpy arrays as safetensors, atomically.

    Raises:
        ArtifactError: There is no room for it, or another reason of the library's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, staging)
        staging.chmod(0o644)  # safetensors lets only the owner read
        staging.replace(path)
    except SafetensorError as error:
        staging.unlink(missing_ok=True)
        raise ArtifactError(f"{path}: cannot write it: {error}") from None
    except BaseException:
        staging.unlink(missing_ok=True)
        raise


def load_arrays(path: Path) -> dict[str, NDArray]:
    """Read named numpy arrays.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot read it: {error}; fit the model again") from None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: Path) -> None:
    """Write down what is in the files of a model folder, so that damage to any is noticed.

    The manifest is left out: it is read first, and says itself what it is.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in files}
    told = {name: file_digest(p) for name, p in named.items() if name != MANIFEST}
    write_json(folder / DIGESTS, told)


def check_digests(folder: Path, under: str = "", but: tuple[str, ...] = ()) -> None:
    """Compare files of a model folder with what ``write_digests`` wrote down, if it did.

    Args:
        folder: The model folder.
        under: How the names of the files to look at begin.
        but: How the names of those to leave out begin.

    Raises:
        ArtifactError: One is not there, is not what was written, or lies elsewhere.
    """
    if not (folder / DIGESTS).exists():
        return
    digests = read_json(folder / DIGESTS)
    if not isinstance(digests, dict):
        raise ArtifactError(f"{folder / DIGESTS}: damaged: no digests; fit the model again")
    for name, digest in digests.items():
        if not name.startswith(under) or name.startswith(but):
            continue
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise ArtifactError(f"{folder / DIGESTS}: names a file outside the model: {name!r}")
        try:
            found = file_digest(folder / name)
        except OSError as error:
            raise ArtifactError(f"{folder / name}: cannot read it: {error.strerror}") from None
        if found != digest:
            raise ArtifactError(
                f"{folder / name}: damaged: not what was written there; fit the model again"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a model folder's manifest and check its format version.

    Raises:
        ArtifactError: No model there, or one of a version that cannot be read.
    """
    if not (folder / MANIFEST).exists():
        raise ArtifactError(f"{folder}: no oddlog model there; {_way_out(folder)}")
    manifest = read_json(folder / MANIFEST)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version not in READABLE_VERSIONS:
        readable = " and ".join(map(str, READABLE_VERSIONS))
        raise ArtifactError(
            f"{folder}: model format {version}, this oddlog reads {readable}; "
            "fit the model again, or use the oddlog that wrote it"
        )
    return manifest


def _way_out(folder: Path) -> str:
    """Say how to get a model: an update that was killed at its very end left the one before it."""
    folder = folder.absolute()
    free = kept_name(folder) if folder.name else folder
    if free.suffix in ("", ".1"):
        return "`oddlog fit` makes one"
    kept = free.with_suffix(f".{int(free.suffix[1:]) - 1}")
    return f"{kept} is the one before an update: rename it to go on with that"
