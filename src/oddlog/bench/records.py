"""Where benchmarks keep what they measured: JSON lines, and which oddlog gave them.

A record is a line, added in one piece and under a lock, so that several runs may write to one
file; a line that was cut off by a kill is no record, and the next one takes its place.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import oddlog
from oddlog.errors import FormatError

Record = dict[str, Any]
RESULTS = Path("benchmarks/results")
"""Where records are kept if nothing else is said, from where a command is run."""


def source() -> dict[str, str | None]:
    """Return which oddlog is measured: version, and commit with "dirty" where it was changed.

    An oddlog that was installed from a package has a version and no commit.
    """
    package = Path(oddlog.__file__).parent
    folder = package.parents[1]
    commit = None
    if package == folder / "src" / "oddlog":
        commit = _git(folder, "rev-parse", "HEAD")
        where = ("src", "benchmarks", ":!benchmarks/results")
        if commit and _git(folder, "status", "--porcelain", "--", *where):
            commit += " dirty"
    return {"version": oddlog.__version__, "commit": commit}


def _git(folder: Path, *arguments: str) -> str | None:
    asked = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 -- ours
    except (OSError, subprocess.CalledProcessError):  # no git, or no checkout
        return None
    return done.stdout.strip()


def read(path: Path) -> list[Record]:
    """Return the records of a file, none if it is not there.

    Raises:
        FormatError: A whole line is not a record.
    """
    if not path.exists():
        return []
    *lines, _cut_off = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError:
            raise FormatError(
                f"{path}:{number}: not a record of a benchmark; take the line out"
            ) from None
    return records


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Add records to a file, all or none of them."""
    add(path, lambda _: [*records])


def add(path: Path, choose: Callable[[list[Record]], Iterable[Mapping[str, Any]]]) -> None:
    """Add the records that are chosen in view of those that are there, all or none of them.

    Args:
        path: The file; made, with its folder, if it is not there.
        choose: Given the file's records, returns those to add. Nobody else adds meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file, _locked(file):
        chosen = choose(read(path))
        lines = "".join(json.dumps(record) + "\n" for record in chosen)
        if lines:
            file.truncate(_end_of_last_line(file))
            file.write(lines.encode())


def _end_of_last_line(file: IO[bytes]) -> int:
    """Return how much of a file is whole lines."""
    file.seek(0)
    return file.read().rfind(b"\n") + 1


@contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Keep others from adding to a file; where the system has no such lock, nothing does."""
    try:
        from fcntl import LOCK_EX, LOCK_UN, flock
    except ImportError:
        yield
        return
    flock(file, LOCK_EX)
    try:
        yield
    finally:
        file.flush()
        flock(file, LOCK_UN)


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
