"""Run recorded cells of the honest track once more, and say whether their figures come out again.

    python benchmarks/again.py                              the first seed of all that is recorded
    python benchmarks/again.py bgl-raw adfa --detectors counts loggpt --seed 2
    python benchmarks/again.py --table                      write the table of docs/benchmarks.md

Each cell is run with the settings of its record by the code as it is now, in a process of its own,
and compared with the record: by AUPRC and by what is flagged at the first asked rate.

- same: both to the last digit;
- within the seeds: the AUPRC is apart by no more than the largest and the smallest of the recorded
  seeds are, that is by what the tables say a seed changes;
- one seed: apart, with no second seed to say what a seed changes;
- moved: by more than that;
- failed: refused, as the test or the data are not those of the record, or not runnable.

Cells that took more than ``--most-s`` processor seconds are left out. One JSON line per cell goes
to benchmarks/results/again.jsonl; what is there of the same commit is not run again. When the table
is written, seeds that were recorded since count, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from oddlog.bench.config import BenchConfig, config_names, read_config
from oddlog.bench.records import RESULTS, Record, append, read, rows_by_detector, source
from oddlog.bench.render import insert, markdown
from oddlog.bench.runner import Failure, Task, run_tasks
from oddlog.bench.show import board
from oddlog.bench.work import Cell

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
OUT = RESULTS / "again.jsonl"
OUTCOMES = ("same", "within the seeds", "one seed", "moved", "failed")


@dataclass(frozen=True)
class Figures:
    """What a record says of a cell, as far as it is compared."""

    auprc: float
    n_hits: int
    n_false_alarms: int

    @classmethod
    def of(cls, record: Record) -> Figures:
        """Read them from a record of the honest track."""
        found = record["evaluation"]
        flagged = found["at_rates"][0]["decision"]
        auprc = found["ranking"]["auprc"]["value"] or 0.0
        return cls(auprc, flagged["n_hits"], flagged["n_false_alarms"])


def outcome(then: Figures, now: Figures, seeds: Sequence[float]) -> str:
    """Compare a cell with its record, by what the AUPRC of the recorded seeds differs."""
    if then == now:
        return "same"
    if len(seeds) == 1:
        return "one seed"
    is_within = abs(then.auprc - now.auprc) <= max(seeds) - min(seeds)
    return "within the seeds" if is_within else "moved"


def configs(names: list[str]) -> dict[str, BenchConfig]:
    """Return the honest benchmarks of these names, all if there are none."""
    found = {name.removeprefix("honest/"): read_config(name) for name in config_names("honest")}
    if unknown := [name for name in names if name not in found]:
        raise SystemExit(f"no benchmark {unknown[0]!r}: {', '.join(found)}")
    chosen = {name: config for name, config in found.items() if not names or name in names}
    return {name: each for name, each in chosen.items() if isinstance(each, BenchConfig)}


def seconds(record: Record) -> float:
    """Return how long a recorded cell took; one that was taken up did not say, and is long."""
    known = [record["fit_s"], record["score_s"]]
    return sum(known) if None not in known else float("inf")


def again(name: str, config: BenchConfig, options: argparse.Namespace) -> list[Record]:
    """Run what is recorded of a benchmark again; return a record of each comparison."""
    records = read(options.results / f"{name}.jsonl")
    chosen = {
        record["detector"]: record
        for record in records
        if record["seed"] == options.seed
        and (not options.detectors or record["detector"] in options.detectors)
        and seconds(record) <= options.most_s
    }
    commit = source()["commit"]
    done = {
        (each["benchmark"], each["detector"], each["seed"])
        for each in read(options.out)
        if each["commit"] == commit
    }
    missing = [one for one in chosen if (name, one, options.seed) not in done]
    found, failed = measured(name, config, [chosen[one] for one in missing])
    seeds = rows_by_detector(records)
    return [
        compared(chosen[one], found.get(one), failed.get(one, ""), seeds[one]) for one in missing
    ]


def measured(
    name: str, config: BenchConfig, records: list[Record]
) -> tuple[dict[str, Record], dict[str, str]]:
    """Run the cells of records; return what each detector found, and why others did not."""
    folder = Path(os.environ["ODDLOG_DATA"]) if config.datasets else None
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.jsonl"
        tasks = [
            Task(cell(name, config, record, folder), path, config.memory_mb) for record in records
        ]
        shown = board(Console(stderr=True), len(tasks))
        failures: list[Failure] = run_tasks(tasks, jobs=1, board=shown)
        failed = {failure.name.split()[1]: failure.message for failure in failures}
        return {record["detector"]: record for record in read(path)}, failed


def cell(name: str, config: BenchConfig, record: Record, folder: Path | None) -> Cell:
    """Return the cell that a record is of."""
    return Cell(
        benchmark=name,
        protocol=config.protocol,
        datasets=config.datasets,
        detector=record["detector"],
        seed=record["seed"],
        set=tuple(record["set"]),
        folder=folder,
        test=record["test_sha256"],
    )


def compared(then: Record, now: Record | None, why: str, seeds: list[Record]) -> Record:
    """Return what becomes a line of the results."""
    line = {key: then[key] for key in ("benchmark", "detector", "seed")}
    line |= {"recorded_at": then["commit"], **source(), "why": why}
    before = Figures.of(then)
    if now is None:
        return judged(line | {"auprc": [before.auprc, None]}, seeds)
    after = Figures.of(now)
    figures = {
        "auprc": [before.auprc, after.auprc],
        "hits": [before.n_hits, after.n_hits],
        "false_alarms": [before.n_false_alarms, after.n_false_alarms],
    }
    return judged(line | figures, seeds)


def judged(line: Record, seeds: list[Record]) -> Record:
    """Return a line of the results with its outcome, by the seeds that are recorded now."""
    known = [Figures.of(record).auprc for record in seeds]
    line = {**line, "n_seeds": len(known), "seeds_range": max(known) - min(known)}
    if line["auprc"][1] is None:
        return line | {"outcome": "failed"}
    both = zip(line["auprc"], line["hits"], line["false_alarms"], strict=True)
    return line | {"outcome": outcome(*(Figures(*each) for each in both), seeds=known)}


def judged_now(lines: list[Record], results: Path) -> list[Record]:
    """Return lines of the results by the seeds that are recorded now."""
    names = {line["benchmark"] for line in lines}
    seeds = {name: rows_by_detector(read(results / f"{name}.jsonl")) for name in names}
    return [judged(line, seeds[line["benchmark"]][line["detector"]]) for line in lines]


def table(records: list[Record]) -> str:
    """Return how many cells of each benchmark came out again, and each that did not."""
    latest = {(r["benchmark"], r["detector"], r["seed"]): r for r in records}
    header = ["benchmark", "cells", *OUTCOMES]
    rows = []
    for name in dict.fromkeys(benchmark for benchmark, _, _ in latest):
        of_it = [record for record in latest.values() if record["benchmark"] == name]
        counts = [sum(r["outcome"] == each for r in of_it) for each in OUTCOMES]
        rows.append([name, str(len(of_it)), *map(str, counts)])
    text = markdown(header, rows)
    others = [record for record in latest.values() if record["outcome"] != "same"]
    if not others:
        return text
    header = ["benchmark", "detector", "seed", "AUPRC", "again", "range of the seeds", "outcome"]
    return f"{text}\n\nNot the same:\n\n{markdown(header, map(row, others))}"


def row(record: Record) -> list[str]:
    """Return the line of a cell that did not come out the same."""
    then, now = record["auprc"]
    return [
        record["benchmark"],
        f"`{record['detector']}`",
        str(record["seed"]),
        f"{then:.4f}",
        "-" if now is None else f"{now:.4f}",
        f"{record['seeds_range']:.4f}",
        f"{record['outcome']}: {record['why']}" if record["why"] else record["outcome"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="benchmarks of the honest track; all by default")
    parser.add_argument("--detectors", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-s", type=float, default=30.0, help="processor seconds of a cell")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="only write the table")
    options = parser.parse_args()
    if not options.table:
        for name, config in configs(options.names).items():
            append(options.out, again(name, config, options))
    insert(DOCUMENT, "again", table(judged_now(read(options.out), options.results)))


if __name__ == "__main__":
    main()
