"""Are the data files those that were measured before? Their SHA-256, pinned in ``digests.toml``.

A figure is worth as much as the knowledge of what it was measured on: a file that differs by a byte
is refused, unless a digest was never pinned for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from oddlog.config import read_toml
from oddlog.datasets import dataset_files
from oddlog.errors import FormatError

PINNED = files("oddlog.bench") / "digests.toml"


def missing_files(datasets: Iterable[str], folder: Path | None) -> list[str]:
    """Return the files of data sets that a folder does not have; all of them without a folder."""
    names = [name for dataset in datasets for name in dataset_files(dataset)]
    return [name for name in names if folder is None or not (folder / name).is_file()]


def checked_digests(datasets: Iterable[str], folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of some data sets.

    Raises:
        FormatError: A file is not the one that was pinned, or cannot be read.
    """
    pinned = read_toml(Path(str(PINNED)))
    found = {}
    for name in (name for dataset in datasets for name in dataset_files(dataset)):
        path = folder / name
        try:
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FormatError(f"{path}: cannot read it: {error.strerror}") from None
        if found[name] != pinned.get(name, found[name]):
            raise FormatError(
                f"{path}: SHA-256 {found[name]}, but the benchmarks are of a file with "
                f"{pinned[name]}: it is damaged or another version; get it again"
            )
    return found
