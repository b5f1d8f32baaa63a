"""What a command writes: JSON lines, tables, and by which command a report was made.

Nothing heavy is imported here at the top: the command line imports it before it knows what to do.
"""

from __future__ import annotations

import errno
import json
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddlog import __version__

if TYPE_CHECKING:
    import polars as pl


def origin() -> dict[str, str]:
    """Say by which command a report is made, and when."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {
        "command": shlex.join(["oddlog", *sys.argv[1:]]),
        "written": f"{now} by oddlog {__version__}",
    }


def print_json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object a line, plain ASCII but at a terminal."""
    from oddlog.artifact import writing

    with writing("standard output"):
        sys.stdout.writelines(_json_lines(records))
        sys.stdout.flush()


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, the file whole or not at all."""
    with _staged(path) as staging, staging.open("w", encoding="utf-8") as file:
        file.writelines(_json_lines(records))


def _json_lines(records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record, ensure_ascii=sys.stdout.isatty(), allow_nan=False) + "\n"


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write parquet, the file whole or not at all."""
    with _staged(path) as staging:
        table.write_parquet(staging)


def write_tables(path: Path, tables: Iterable[pl.DataFrame]) -> None:
    """Write tables as one of parquet, the file whole or not at all, holding one at a time.

    There has to be one.
    """
    import polars as pl

    from oddlog.artifact import writing

    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        writing(path),
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder,
    ):
        parts = []
        for number, table in enumerate(tables):
            parts.append(Path(folder) / f"{number}.parquet")
            table.write_parquet(parts[-1])
        with _staged(path) as staging:
            pl.scan_parquet(parts).sink_parquet(staging)


@contextmanager
def _staged(path: Path) -> Iterator[Path]:
    """Yield where to write what takes the path's place once it is whole."""
    from oddlog.artifact import writing

    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")
    try:
        with writing(path):
            yield staging
            staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def check_out(out: Path | None, known: Sequence[str]) -> None:
    """Refuse what cannot be written before the work is done, not after it.

    Raises:
        ConfigError: A suffix that is not among the known ones.
        OSError: The file's folder cannot be made, or not be written to.
    """
    from oddlog.errors import ConfigError

    if out is None:
        return
    if out.suffix not in known:
        raise ConfigError(f"--out {out}: unknown suffix; use {' or '.join(known)}")
    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; name a file in it")
    from oddlog.artifact import writing

    out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out), tempfile.TemporaryFile(dir=out.parent):
        pass


def reason(error: OSError) -> str:
    """Say why something could not be written, and what to do."""
    if error.errno == errno.ENOSPC:
        return f"{error.strerror}; make room there, or name another place"
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "is no folder, so nothing can be written below it; name another place"
    return error.strerror or str(error)
