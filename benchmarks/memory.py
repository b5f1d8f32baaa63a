"""Measure what a log of any length takes: peak memory and lines per second of ``oddlog score``.

python benchmarks/memory.py --work DIR [--lines 1e6 3e6 11e6 50e6] [--detector NAME] [--keep]

The log is the HDFS sample (``ODDLOG_DATA``) again and again, each time with block ids of its own
and a day later, until it has as many lines as asked. A model is fitted on the sample itself. Each
length is scored by the command line in a process of its own, whose peak of resident memory the
kernel counts; a record a length goes to ``benchmarks/results/memory.jsonl``, and what is there is
not measured again. ``--into`` puts the table of all records into a document.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from oddlog.bench.records import append, read, source
from oddlog.bench.render import insert, markdown

RESULTS = Path(__file__).parent / "results" / "memory.jsonl"
LENGTHS = (1_000_000, 3_000_000, 11_000_000, 50_000_000)
ODDLOG = (sys.executable, "-c", "from oddlog.cli import main; main()")
_BLOCK = re.compile(rb"blk_-?[0-9]+")
_DAY = re.compile(rb"(?m)^[0-9]{6}")
KB = 1_000  # of ru_maxrss: kibibytes on Linux; the table says MB


def sample() -> bytes:
    if "ODDLOG_DATA" not in os.environ:
        raise SystemExit("set ODDLOG_DATA to the folder of real logs")
    path = Path(os.environ["ODDLOG_DATA"]) / "hdfs" / "HDFS_2pct.log.gz"
    return gzip.decompress(path.read_bytes())


def repeats(text: bytes, n_lines: int) -> Iterator[bytes]:
    """Yield the text again and again, each time later and with ids of its own, up to n lines.

    Each block's id gets four digits more, which count the repeats.
    """
    per_copy = text.count(b"\n")
    days = sorted(set(_DAY.findall(text)))
    span = (_day(days[-1]) - _day(days[0])).days + 1
    for copy in range(-(-n_lines // per_copy)):
        later = {day: _later(day, span * copy) for day in days}
        block = _DAY.sub(lambda found, to=later: to[found[0]], text)
        block = _BLOCK.sub(lambda found, k=copy: found[0] + b"%04d" % k, block)
        left = n_lines - copy * per_copy
        yield block if left >= per_copy else b"".join(block.splitlines(keepends=True)[:left])


def _day(text: bytes) -> datetime:
    return datetime.strptime(text.decode(), "%y%m%d")


def _later(day: bytes, days: int) -> bytes:
    return (_day(day) + timedelta(days=days)).strftime("%y%m%d").encode()


def write_log(path: Path, n_lines: int) -> None:
    staging = path.with_suffix(".tmp")
    with staging.open("wb") as file:
        file.writelines(repeats(sample(), n_lines))
    staging.replace(path)


def fit(work: Path, detector: str) -> Path:
    model = work / f"model-{detector}"
    if not model.exists():
        log = work / "sample.log"
        log.write_bytes(sample())
        command = [
            "fit",
            str(log),
            "--model",
            str(model),
            "--detector",
            detector,
            "--format",
            "hdfs",
        ]
        subprocess.run([*ODDLOG, *command], check=True, stdout=subprocess.DEVNULL)
    return model


def measure(work: Path, model: Path, n_lines: int, *, keep: bool) -> dict[str, Any]:
    log, out = work / f"hdfs-{n_lines}.log", work / f"verdicts-{n_lines}.jsonl"
    if not log.exists():
        write_log(log, n_lines)
    scratch = work / "scratch"
    scratch.mkdir(exist_ok=True)
    command = [*ODDLOG, "score", str(log), "--model", str(model), "--out", str(out)]
    begin = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)})
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"oddlog score failed on {n_lines:,} lines")
    n_bytes = log.stat().st_size
    with out.open(encoding="utf-8") as file:
        n_flagged = sum(1 for _ in file)
    if not keep:
        log.unlink()
    cpu = used.ru_utime + used.ru_stime
    return {
        "lines": n_lines,
        "bytes": n_bytes,
        "flagged": n_flagged,
        "peak_mb": used.ru_maxrss / KB,
        "cpu_s": cpu,
        "wall_s": wall,
    }


def table() -> str:
    """Return the latest record of each detector and length."""
    latest = {(r["detector"], r["lines"]): r for r in read(RESULTS)}
    head = ["detector", "lines", "GB", "peak MB", "lines/s of a processor", "lines/s", "flagged"]
    rows = [
        [
            name,
            f"{lines:,}",
            f"{r['bytes'] / 1e9:.2f}",
            f"{r['peak_mb']:,.0f}",
            f"{lines / r['cpu_s']:,.0f}",
            f"{lines / r['wall_s']:,.0f}",
            f"{r['flagged']:,}",
        ]
        for (name, lines), r in sorted(latest.items())
    ]
    return markdown(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder with room for twice the longest log")
    parser.add_argument("--lines", type=float, nargs="*", default=LENGTHS)
    parser.add_argument("--detector", default="key_set")
    parser.add_argument("--keep", action="store_true", help="leave the logs there")
    parser.add_argument("--into", type=Path, help="a document with marks for the table")
    arguments = parser.parse_args()
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        done = {(r["detector"], r["lines"]) for r in read(RESULTS)}
        model = fit(arguments.work, arguments.detector)
        for n_lines in map(int, arguments.lines):
            if (arguments.detector, n_lines) in done:
                continue
            found = measure(arguments.work, model, n_lines, keep=arguments.keep)
            append(RESULTS, [{"detector": arguments.detector, **found, **source()}])
    text = table()
    print(text)
    if arguments.into:
        insert(arguments.into, "memory", text)


if __name__ == "__main__":
    main()
