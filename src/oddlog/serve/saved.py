"""What a service has in mind, in one file: how far it came, open windows, minutes.

It is written whole or not at all, and on disk before the journal forgets the lines that it covers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from oddlog.errors import ArtifactError
from oddlog.group import plain

FILE = "state.json.zst"
VERSION = 2


@dataclass(frozen=True, eq=False)
class Saved:
    """A state.

    Attributes:
        position: How many lines it has seen.
        watcher: The watcher's; None before the first line. ``save`` takes a snapshot, too.
        marks: How far Kafka's partitions have been read; see ``Entry``.
        minutes: See ``Minutes``.
    """

    position: int = 0
    watcher: dict[str, Any] | None = None
    marks: Mapping[str, int] = field(default_factory=dict)
    minutes: Sequence[Sequence[Any]] = ()


def save(folder: Path, saved: Saved) -> None:
    """Write a state into a folder, and have it on disk."""
    text = json.dumps({"version": VERSION, **plain(vars(saved))}, ensure_ascii=False)
    packed = zstandard.compress(text.encode("utf-8", "surrogatepass"), 1)
    staging = folder / f".{FILE}"
    with staging.open("wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    staging.replace(folder / FILE)


def load(folder: Path) -> Saved:
    """Read the state in a folder, an empty one where there is none.

    Raises:
        ArtifactError: It is damaged, or of another version.
    """
    path = folder / FILE
    if not path.exists():
        return Saved()
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            value = json.loads(reader.read().decode("utf-8", "surrogatepass"))
        if value.pop("version") != VERSION:
            raise ArtifactError(f"{path}: of another version of oddlog; begin with a new folder")
        return Saved(**value)
    except (OSError, ValueError, TypeError, KeyError, zstandard.ZstdError) as error:
        raise ArtifactError(
            f"{path}: damaged: {error}; move it and the journal away to begin anew"
        ) from None
