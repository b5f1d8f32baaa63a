"""Many files scored by one process, by several, and by a Dask cluster on this machine.

    python benchmarks/scale.py --work DIR [--lines 11e6] [--files 8] [--ways one workers:2 dask:2]
    python benchmarks/scale.py --work DIR --into docs/scale.md

The log is that of ``memory.py`` (the HDFS sample again and again), cut into files of as many lines,
so that a session has lines in several of them. Every way is ``oddlog score`` with ``--all``, and
what it writes is held against what one process writes: a difference ends the run. A Dask cluster is
a scheduler and workers with a thread each, begun before the clock; what its workers take is in the
memory, but not in the processor seconds.

A record for each way goes to ``benchmarks/results/scale.jsonl``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

import memory
import polars as pl
import psutil
from polars.testing import assert_frame_equal

from oddlog.bench.records import append, read, source
from oddlog.bench.render import insert, markdown

RESULTS = Path(__file__).parent / "results" / "scale.jsonl"
WAYS = ("one", "workers:1", "workers:2", "dask:2")
KEYS = ["source", "first_line", "key"]
EVERY_S = 0.2


def write_files(work: Path, n_lines: int, n_files: int) -> list[Path]:
    """Write the log as files of consecutive lines."""
    folder = work / f"{n_files}-files-{n_lines}"
    paths = [folder / f"hdfs-{number:02d}.log" for number in range(n_files)]
    if not folder.exists():
        whole = work / "whole.log"
        memory.write_log(whole, n_lines, distinct=False)
        staging = folder.with_suffix(".tmp")
        staging.mkdir(exist_ok=True)
        with whole.open("rb") as lines:
            for path in paths:
                with (staging / path.name).open("wb") as file:
                    file.writelines(islice(lines, -(-n_lines // n_files)))
        whole.unlink()
        staging.replace(folder)
    return paths


@contextmanager
def cluster(n: int, scratch: Path) -> Iterator[list[str]]:
    """Yield the options that send work to a cluster of n workers of one thread."""
    from distributed import LocalCluster

    os.environ.update(POLARS_MAX_THREADS="1", OMP_NUM_THREADS="1")
    try:
        with LocalCluster(
            n_workers=n, threads_per_worker=1, dashboard_address=None, memory_limit=0
        ) as made:
            yield ["--dask", made.scheduler_address, "--scratch", str(scratch)]
    finally:
        del os.environ["POLARS_MAX_THREADS"], os.environ["OMP_NUM_THREADS"]


class Peak:
    """The most memory that this process's descendants had at one time, in megabytes."""

    def __init__(self) -> None:
        self.mb = 0.0
        self._over = Event()
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            self.mb = max(self.mb, sum(map(_own_mb, psutil.Process().children(recursive=True))))


def _own_mb(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 1e6
    except psutil.NoSuchProcess:
        return 0.0


def measure(way: str, logs: list[Path], model: Path, work: Path) -> tuple[dict[str, Any], Path]:
    """Score the files in one way; return what it took, and where the verdicts are."""
    scratch, out = work / "scratch", work / f"{way.replace(':', '-')}.parquet"
    scratch.mkdir(exist_ok=True)
    name, _, n = way.partition(":")
    given = cluster(int(n), scratch) if name == "dask" else nullcontext([])
    with given as options, Peak() as peak:
        options = ["--workers", n] if name == "workers" else options
        command = ["score", *map(str, logs), "--model", str(model), "--all", "--out", str(out)]
        begin = time.monotonic()
        process = subprocess.Popen(
            [*memory.ODDLOG, *command, *options], env={**os.environ, "TMPDIR": str(scratch)}
        )
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"oddlog score failed: {way}")
    took = {"wall_s": wall_s, "peak_mb": peak.mb}
    if name != "dask":
        took["cpu_s"] = used.ru_utime + used.ru_stime
    return took, out


def table() -> str:
    latest = {(r["lines"], r["files"], r["way"]): r for r in read(RESULTS)}
    head = ["lines", "files", "by", "seconds", "lines/s", "processor seconds", "peak MB, all"]
    rows = []
    for (lines, files, way), record in latest.items():
        name, _, n = way.partition(":")
        told = {"one": "one process", "workers": f"`--workers {n}`"}
        rows.append(
            [
                f"{lines:,}",
                str(files),
                told.get(name, f"`--dask`, {n} workers"),
                f"{record['wall_s']:,.0f}",
                f"{lines / record['wall_s']:,.0f}",
                f"{record['cpu_s']:,.0f}" if "cpu_s" in record else "",
                f"{record['peak_mb']:,.0f}",
            ]
        )
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--lines", type=float, default=11e6)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--ways", nargs="*", default=WAYS)
    parser.add_argument("--detector", default="key_set")
    parser.add_argument("--into", type=Path, help="a document with marks for the table")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    expected: pl.DataFrame | None = None
    if asked.ways:
        model = memory.fit(asked.work, asked.detector, "session", distinct=False)
        logs = write_files(asked.work, int(asked.lines), asked.files)
    for way in asked.ways:
        took, out = measure(way, logs, model, asked.work)
        found = pl.read_parquet(out).sort(KEYS)
        if expected is None:
            expected = found
        assert_frame_equal(found, expected, check_exact=True)
        key = {"lines": int(asked.lines), "files": asked.files, "way": way}
        append(RESULTS, [{**key, "detector": asked.detector, **took, **source()}])
        print(way, took, file=sys.stderr)
    print(table())
    if asked.into:
        insert(asked.into, "scale", table())


if __name__ == "__main__":
    main()
