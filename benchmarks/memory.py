"""Measure what a log of any length takes: peak memory and lines per second of a command.

python benchmarks/memory.py --work DIR [--lines 1e6 3e6 11e6 50e6] [--detector NAME] [--distinct]
python benchmarks/memory.py --work DIR --lines 11e6 --commands fit update evaluate templates
python benchmarks/memory.py --work DIR --lines 11e6 --commands fit update --window lines:100

The log is the HDFS sample (``ODDLOG_DATA``) again and again, each time with block ids of its own
and days later, until it has as many lines as asked. With ``--distinct`` no session is like another
one: after its first line each has ``N_DIGITS`` more, which spell its number, counted through the
whole log, in lines of the four kinds that every writer of a block logs. So what is computed once
for equal sessions is computed for each.

A model is fitted on the log's first repeat; ``score``, ``evaluate`` and ``update`` start from it.
``report`` is ``score --out report.html``. Each command runs in a process of its own, whose peak of
resident memory the kernel counts; a record for each command and length goes to
``benchmarks/results/memory.jsonl``, and what is there is not measured again, unless ``--again`` is
given. ``--into`` puts the table of the latest records into a document.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from oddlog.bench.records import append, read, source
from oddlog.bench.render import insert, markdown

RESULTS = Path(__file__).parent / "results" / "memory.jsonl"
LENGTHS = (1_000_000, 3_000_000, 11_000_000, 50_000_000)
COMMANDS = ("score", "report", "evaluate", "fit", "update", "templates")
ODDLOG = (sys.executable, "-c", "from oddlog.cli import main; main()")
_BLOCK = re.compile(rb"blk_-?[0-9]+")
_TIME = len("081109 203530 ")
_DAY = re.compile(rb"(?m)^[0-9]{6}")
N_DIGITS = 11  # to the base of the number of kinds: 4 million sessions
DIGITS = (
    b"dfs.DataNode$DataXceiver: Receiving block",
    b"dfs.FSNamesystem: BLOCK* NameSystem.addStoredBlock",
    b"dfs.DataNode$PacketResponder: PacketResponder",
    b"dfs.DataNode$PacketResponder: Received block",
)
"""How the four kinds of lines begin after their time and thread, and the word for severity."""
Key = tuple[str, str, str, bool, int]  # command, detector, window, distinct, lines
KB = 1_000  # of ru_maxrss: kibibytes on Linux; the table says MB


def data(name: str) -> Path:
    if "ODDLOG_DATA" not in os.environ:
        raise SystemExit("set ODDLOG_DATA to the folder of real logs")
    return Path(os.environ["ODDLOG_DATA"]) / "hdfs" / name


def sample() -> bytes:
    return gzip.decompress(data("HDFS_2pct.log.gz").read_bytes())


def repeats(text: bytes, n_lines: int, *, distinct: bool = False) -> Iterator[bytes]:
    """Yield the text again and again, each time later and with ids of its own, up to n lines.

    Each block's id gets four digits more, which count the repeats.
    """
    numbered = Numbered(text) if distinct else None
    days = sorted(set(_DAY.findall(text)))
    span = (_day(days[-1]) - _day(days[0])).days + 1
    left = n_lines
    for copy in count():
        block = numbered.copy(copy) if numbered else text
        later = {day: _later(day, span * copy) for day in days}
        block = _DAY.sub(lambda found, to=later: to[found[0]], block)
        block = _BLOCK.sub(lambda found, k=copy: found[0] + b"%04d" % k, block)
        n_own = block.count(b"\n")
        yield block if left >= n_own else b"".join(block.splitlines(keepends=True)[:left])
        left -= n_own
        if left <= 0:
            return


class Numbered:
    """A text in which the sessions of each copy are told apart by a number, spelled in lines."""

    def __init__(self, text: bytes) -> None:
        self._lines = text.splitlines(keepends=True)
        self._digits = [_BLOCK.sub(b"%b", next(filter(_is(d), self._lines))) for d in DIGITS]
        seen: dict[bytes, int] = {}  # block to its number
        self._first = [
            (number, block, seen.setdefault(block, len(seen)))
            for number, line in enumerate(self._lines)
            for block in _BLOCK.findall(line)
            if block not in seen
        ]

    def copy(self, number: int) -> bytes:
        """Return the text with its sessions numbered on from those of the copy before."""
        lines = list(self._lines)
        for row, block, session in self._first:
            time = self._lines[row][:_TIME]
            rest = number * len(self._first) + session
            for _ in range(N_DIGITS):
                rest, digit = divmod(rest, len(DIGITS))
                lines[row] += time + self._digits[digit][_TIME:] % block
        return b"".join(lines)


def _is(beginning: bytes) -> Callable[[bytes], bool]:
    return lambda line: beginning in line and len(_BLOCK.findall(line)) == 1


def _day(text: bytes) -> datetime:
    return datetime.strptime(text.decode(), "%y%m%d")


def _later(day: bytes, days: int) -> bytes:
    return (_day(day) + timedelta(days=days)).strftime("%y%m%d").encode()


def write_log(path: Path, n_lines: int, *, distinct: bool) -> None:
    staging = path.with_suffix(".tmp")
    with staging.open("wb") as file:
        file.writelines(repeats(sample(), n_lines, distinct=distinct))
    staging.replace(path)


def fit(work: Path, detector: str, window: str, *, distinct: bool) -> Path:
    model = work / f"model-{detector}-{window.replace(':', '-')}{'-distinct' * distinct}"
    if not model.exists():
        log, text = work / "sample.log", sample()
        log.write_bytes(Numbered(text).copy(0) if distinct else text)
        command = ["fit", str(log), "--model", str(model), "--format", "hdfs"]
        command += ["--detector", detector, "--window", window]
        subprocess.run([*ODDLOG, *command], check=True, stdout=subprocess.DEVNULL)
    return model


def write_labels(path: Path, n_lines: int) -> None:
    """Write the label of every block of every repeat that a log of n lines begins."""
    with data("anomaly_label_2pct.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    n_copies = -(-n_lines // sample().count(b"\n"))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(
            [f"{block}{k:04d}", label] for k in range(n_copies) for block, label in rows
        )


def arguments_of(
    command: str, log: Path, model: Path, arguments: argparse.Namespace
) -> tuple[list[str], Path]:
    """Return what follows ``oddlog``, and the place that is written to."""
    suffixes = {"score": ".jsonl", "report": ".html", "evaluate": ".json", "templates": ".parquet"}
    place = log.with_name(f"{command}-{log.stem}-{model.name}")
    out = place.with_suffix(suffixes.get(command, ""))
    given = ["score" if command == "report" else command, str(log)]
    if command in ("fit", "templates"):
        given += ["--format", "hdfs"]
    if command != "templates":
        given += ["--model", str(out if command == "fit" else model)]
    if command == "fit":
        given += ["--detector", arguments.detector, "--window", arguments.window]
    if command == "evaluate":
        given += ["--labels", str(log.with_suffix(".csv"))]
    return given if command == "fit" else [*given, "--out", str(out)], out


def measure(
    command: str, log: Path, model: Path, arguments: argparse.Namespace
) -> dict[str, float]:
    """Run a command once; return its peak of memory, its times, and the flagged of ``score``."""
    scratch = log.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    given, out = arguments_of(command, log, model, arguments)
    begin = time.monotonic()
    process = subprocess.Popen(
        [*ODDLOG, *given],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)  # waited for here, for what it used
    if process.returncode:
        raise SystemExit(f"oddlog {command} failed on {log.name}")
    found = {
        "bytes": log.stat().st_size,
        "peak_mb": used.ru_maxrss / KB,
        "cpu_s": used.ru_utime + used.ru_stime,
        "wall_s": wall,
    }
    if command == "score":
        with out.open(encoding="utf-8") as file:
            found["flagged"] = sum(1 for _ in file)
    shutil.rmtree(out) if out.is_dir() else out.unlink()
    return found


def table() -> str:
    """Return the latest record of each detector, kind of log and length."""
    latest = {_key(r): r for r in read(RESULTS)}
    head = ["command", "detector", "window", "sessions", "lines", "GB", "peak MB"]
    head += ["lines/s of a processor", "lines/s", "seconds", "flagged"]
    rows = [
        [
            f"`{command}`",
            "" if command == "templates" else name,
            "" if command == "templates" else window,
            "all distinct" if distinct else "repeated",
            f"{lines:,}",
            f"{r['bytes'] / 1e9:.2f}",
            f"{r['peak_mb']:,.0f}",
            f"{lines / r['cpu_s']:,.0f}",
            f"{lines / r['wall_s']:,.0f}",
            f"{r['wall_s']:,.0f}",
            f"{r['flagged']:,}" if "flagged" in r else "",
        ]
        for (command, name, window, distinct, lines), r in sorted(latest.items(), key=_order)
    ]
    return markdown(head, rows)


def _key(record: dict[str, Any]) -> Key:
    command, window = record.get("command", "score"), record.get("window", "session")
    return command, record["detector"], window, record.get("distinct", False), record["lines"]


def _order(item: tuple[Key, Any]) -> tuple[int, Key]:
    return COMMANDS.index(item[0][0]), item[0]


def measure_all(keys: list[dict[str, Any]], model: Path, arguments: argparse.Namespace) -> None:
    """Write the log of one length, run the commands on it and record each."""
    n_lines, distinct = keys[0]["lines"], arguments.distinct
    log = arguments.work / f"hdfs-{n_lines}{'-distinct' * distinct}.log"
    if not log.exists():
        write_log(log, n_lines, distinct=distinct)
    write_labels(log.with_suffix(".csv"), n_lines)
    for key in keys:
        found = measure(key["command"], log, model, arguments)
        append(RESULTS, [{**key, **found, **source()}])
    if not arguments.keep:
        log.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="a folder with room for twice the longest log")
    parser.add_argument("--lines", type=float, nargs="*", default=LENGTHS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=["score"])
    parser.add_argument("--detector", default="key_set")
    parser.add_argument("--window", default="session", help="as for oddlog fit")
    parser.add_argument("--distinct", action="store_true", help="no session like another one")
    parser.add_argument("--again", action="store_true", help="measure what is recorded, too")
    parser.add_argument("--keep", action="store_true", help="leave the logs there")
    parser.add_argument("--into", type=Path, help="a document with marks for the table")
    arguments = parser.parse_args()
    if arguments.work:
        arguments.work.mkdir(parents=True, exist_ok=True)
        done = set() if arguments.again else {_key(r) for r in read(RESULTS)}
        detector, window = arguments.detector, arguments.window
        model = fit(arguments.work, detector, window, distinct=arguments.distinct)
        for n_lines in map(int, arguments.lines):
            kind = {"detector": detector, "window": window, "distinct": arguments.distinct}
            keys = [{"command": c, **kind, "lines": n_lines} for c in arguments.commands]
            if missing := [key for key in keys if _key(key) not in done]:
                measure_all(missing, model, arguments)
    text = table()
    print(text)
    if arguments.into:
        insert(arguments.into, "memory", text)


if __name__ == "__main__":
    main()
