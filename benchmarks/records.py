"""Where benchmarks keep what they measured: JSON lines, and which oddlog gave them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import oddlog

RESULTS = Path(__file__).parent / "results"
Record = dict[str, Any]


def source() -> dict[str, str | None]:
    """Return which oddlog is measured: version, and commit with "dirty" where it was changed."""
    folder = Path(oddlog.__file__).parents[2]
    commit = _git(folder, "rev-parse", "HEAD")
    where = ("src", "benchmarks", ":!benchmarks/results")
    if commit and _git(folder, "status", "--porcelain", "--", *where):
        commit += " dirty"
    return {"version": oddlog.__version__, "commit": commit}


def _git(folder: Path, *arguments: str) -> str | None:
    asked = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or installed elsewhere
        return None


def read(path: Path) -> list[Record]:
    """Return the records of a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records to a file, all or none of them."""
    lines = "".join(json.dumps(record) + "\n" for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(lines)


def rows_by_detector(records: list[Record]) -> dict[str, list[Record]]:
    """Return the records of each detector, in the order of their first."""
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record["detector"], []).append(record)
    return grouped


def measured_at(records: list[Record]) -> str:
    """Name the version and the commits that gave the records, where they tell."""
    known = {(r["version"], r["commit"][:9] + r["commit"][40:]) for r in records if r.get("commit")}
    if not known:
        return ""
    return "Measured with " + ", ".join(f"{v} at {c}" for v, c in sorted(known)) + "."
