"""What a changed system does to false alarms and recall, and when oddlog says so.

    python benchmarks/drift.py update --seeds 3     fit, release, update, judge
    python benchmarks/drift.py warn --seeds 3       how often a log is warned of, changed or not
    python benchmarks/drift.py real                 the same on real logs cut in time, rules only
    python benchmarks/drift.py table                write the tables of docs/drift.md

The system is the simulated cluster with the settings of the demo. A release adds a line ("insert":
after the allocation of a block) or words one anew ("reword": the receiving of a block) in one
session of five. The model is fitted on 3,000 normal sessions of the old system and updated with
3,000 of the new one, without labels, normal or with 2 % faulty ones, assumed or not; it is judged
on 4,000 sessions of the new system and of the old one, a fifth of them faulty. "calibrated" is an
update in which templates are adopted and nothing learns. One JSON line per seed, case and detector
goes to benchmarks/results/drift.jsonl; what is there is not run again.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import oddlog
from oddlog.bench.protocols import PROTOCOLS
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, span
from oddlog.datasets import attach_labels
from oddlog.demo import SETTINGS
from oddlog.detectors import BASELINES, detector_class
from oddlog.drift import compare_scores
from oddlog.pipeline import Judge, Pipeline, make_config, update_pipeline
from oddlog.run import Run
from oddlog.simulate import Simulation, simulate, write

FILE = RESULTS / "drift.jsonl"
DOCUMENT = Path(__file__).parents[1] / "docs" / "drift.md"
N_LEARNED, N_TEST, FAULTY, RELEASED = 3000, 4000, 0.2, 0.2
KINDS = ("insert", "reword")
CASES = ((0.0, 0.0), (0.02, 0.0), (0.02, 0.02))  # share faulty, share assumed (assume_anomalies)
SIZES, SHARES, REPEATS = (100, 300, 1000), (0.0, 0.05, 0.1, 0.15, 0.2, 0.3), 300
BLOCK, ALLOCATED = re.compile(r"blk_\d+"), "allocated "


class Deaf:
    """A detector that hides that it can learn on."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def __getattr__(self, name: str) -> Any:
        if name == "adapt":
            raise AttributeError(name)
        return getattr(self._detector, name)


def release(simulation: Simulation, kind: str, share: float, seed: int) -> Simulation:
    """Let the changed system write some of the sessions; every line stays that of its session."""
    rng = np.random.default_rng(seed)
    blocks = simulation.labels["session"].to_list()
    drawn = rng.random(len(blocks)) < share
    changed = {block for block, is_drawn in zip(blocks, drawn, strict=True) if is_drawn}
    lines = []
    for line in simulation.lines:
        found = BLOCK.search(line)
        is_changed = found is not None and found.group() in changed
        if is_changed and kind == "reword":
            line = line.replace(f"receiving {found.group()}", f"stream of {found.group()} opened")
        lines.append(line)
        if is_changed and kind == "insert" and ALLOCATED in line:
            head = line[: line.index(ALLOCATED)]
            lines.append(f"{head}lease of {found.group()} granted, epoch {rng.integers(1000)}")
    return replace(simulation, lines=pl.Series("line", lines))


def log_of(folder: Path, name: str, simulation: Simulation) -> Path:
    """Write a simulated log below a folder; return its path."""
    return write(simulation, folder / name)[0]


def fitted(folder: Path, seed: int) -> Pipeline:
    """Fit the demo's detector on normal sessions of the old system."""
    log = log_of(folder, "old", simulate(N_LEARNED, anomaly_share=0.0, seed=1000 * seed))
    return oddlog.fit([log], make_config(SETTINGS, "benchmark"), run=Run(seed))


def judges_of(pipeline: Pipeline) -> dict[str, Judge]:
    """Return all judges by name, the pipeline's own first."""
    return {pipeline.detector.name: pipeline.judge, **pipeline.baselines}


def deafened(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with detectors that cannot learn on."""
    deaf = {n: Judge(Deaf(j.detector), j.calibration) for n, j in judges_of(pipeline).items()}
    return replace(pipeline, judge=deaf.pop(pipeline.detector.name), baselines=deaf)


def judged(pipeline: Pipeline, log: Path, truth: pl.DataFrame) -> Iterator[Record]:
    """Yield what each judge flags of a labelled log."""
    sequences, _ = attach_labels(pipeline.score([log]).sequences, truth)
    faulty = sequences.anomalous
    unseen = (sequences.labels == "unseen_error").to_numpy()
    for name, judge in judges_of(pipeline).items():
        scores = judge.detector.score(sequences.without_labels()).sequence
        flags = judge.calibration.flags(scores)
        yield {
            "detector": name,
            "false_alarm_rate": float(flags[~faulty].mean()),
            "recall": float(flags[faulty].mean()),
            "recall_unseen_error": float(flags[unseen].mean()),
        }


def measure_update(seed: int, folder: Path) -> Iterator[Record]:
    """Yield the records of one seed: each kind of release, each case, each way."""
    base = 1000 * seed
    pipeline = fitted(folder, seed)
    old = simulate(N_TEST, anomaly_share=FAULTY, seed=base + 1)
    for kind in KINDS:
        new = simulate(N_TEST, anomaly_share=FAULTY, seed=base + 2)
        new = release(new, kind, RELEASED, base + 3)
        tests = {"old": (log_of(folder, "test-old", old), old.labels)}
        tests["new"] = (log_of(folder, f"test-{kind}", new), new.labels)
        for contamination, assumed in CASES:
            later = simulate(N_LEARNED, anomaly_share=contamination, seed=base + 4)
            log = log_of(folder, "later", release(later, kind, RELEASED, base + 5))
            settings = {"assume_anomalies": assumed}
            found = update_pipeline(pipeline, [log], settings=settings, run=Run(seed))
            ways = {"updated": found.pipeline}
            if not contamination:
                ways["before"] = pipeline
                ways["calibrated"] = update_pipeline(deafened(pipeline), [log]).pipeline
            about = {"part": "update", "seed": seed, "kind": kind, "contamination": contamination}
            about |= {"assumed": assumed, "n_adopted": len(found.adopted)}
            about["n_left"] = len(found.left)
            for way, model in ways.items():
                for system, (path, truth) in tests.items():
                    for record in judged(model, path, truth):
                        yield {**about, "way": way, "system": system, **record}


def measure_warnings(seed: int, folder: Path) -> Iterator[Record]:
    """Yield how often logs of some size are warned of, by the share that the new system wrote."""
    pipeline = fitted(folder, seed)
    pool = simulate(N_TEST, anomaly_share=0.0, seed=1000 * seed + 6)
    scores = {}
    for kind in (None, *KINDS):
        log = pool if kind is None else release(pool, kind, 1.0, seed)
        sequences = pipeline.score([log_of(folder, f"pool-{kind}", log)]).sequences
        for name, judge in judges_of(pipeline).items():
            scores[kind, name] = judge.detector.score(sequences).sequence
    for name, judge in judges_of(pipeline).items():
        for kind in KINDS:
            for n in SIZES:
                for share in SHARES:
                    warned = share_warned(
                        judge.calibration.scores, scores[None, name], scores[kind, name], n, share
                    )
                    about = {"part": "warn", "seed": seed, "detector": name, "kind": kind}
                    yield {**about, "n": n, "share": share, "warned": warned}


def share_warned(
    calibration: NDArray, usual: NDArray, changed: NDArray, n: int, share: float
) -> float:
    """Draw logs of n sequences, a share of them changed; return how many are warned of."""
    rng = np.random.default_rng(n)
    warned = 0
    for _ in range(REPEATS):
        is_changed = rng.random(n) < share
        drawn = np.where(is_changed, rng.choice(changed, n), rng.choice(usual, n))
        warned += compare_scores(calibration, drawn).matters
    return warned / REPEATS


def measure_real(name: str) -> Iterator[Record]:
    """Yield how many consecutive pieces of a real test are warned of, whole and its normals."""
    cut = PROTOCOLS[name](Path(os.environ["ODDLOG_DATA"]), 0)
    for rule in BASELINES:
        cls = detector_class(rule)
        detector = cls(cls.Config())
        train, valid, calibration = cut.learned(detector.learns_from)
        detector.fit(train, valid, Run())
        known = detector.score(calibration).sequence
        found = detector.score(cut.test.without_labels()).sequence
        for which, kept in (("all", np.ones(len(found), bool)), ("normal", ~cut.test.anomalous)):
            for n in SIZES:
                scores = found[kept]
                pieces = [scores[i : i + n] for i in range(0, len(scores) - n + 1, n)]
                shifts = [compare_scores(known, piece) for piece in pieces]
                yield {
                    "part": "real", "data": name, "detector": rule, "which": which, "n": n,
                    "n_pieces": len(pieces), "warned": sum(s.matters for s in shifts),
                    "significant": sum(s.p_value <= 0.01 for s in shifts),
                    "distance": float(np.median([s.distance for s in shifts])),
                }  # fmt: skip


def add(found: Iterable[Record]) -> None:
    """Append records, all or none."""
    where = source()
    append(FILE, [{**record, **where} for record in found])


def run_seeds(part: str, n_seeds: int, measure: Callable[[int, Path], Iterator[Record]]) -> None:
    """Measure the seeds that are not there yet."""
    done = {record["seed"] for record in read(FILE) if record["part"] == part}
    for seed in (seed for seed in range(1, n_seeds + 1) if seed not in done):
        with tempfile.TemporaryDirectory() as folder:
            add(measure(seed, Path(folder)))
        print(f"{part}: seed {seed} done", flush=True)


def update_table(found: list[Record]) -> str:
    """Return false alarms and recall before, calibrated and updated."""
    rows = []
    ways = [("before", 0.0, 0.0), ("calibrated", 0.0, 0.0)]
    ways += [("updated", contamination, assumed) for contamination, assumed in CASES]
    for name in ("loggpt", *BASELINES):
        for way, contamination, assumed in ways:
            chosen = ("update", name, way, contamination, assumed)
            keys = ("part", "detector", "way", "contamination", "assumed")
            own = [r for r in found if tuple(r.get(key) for key in keys) == chosen]
            new, old = ([r for r in own if r["system"] == s] for s in ("new", "old"))
            if own:
                told = f"{way}, {contamination:.0%} faulty" if contamination else way
                rows.append(
                    [f"`{name}`", f"{told}, {assumed:.0%} assumed" if assumed else told]
                    + [span(r["false_alarm_rate"] for r in part) for part in (new, old)]
                    + [span(r["recall"] for r in part) for part in (new, old)]
                    + [span(r["recall_unseen_error"] for r in new)]
                )
    header = ["detector", "model", "false alarms, new", "old", "recall, new", "old"]
    return markdown([*header, "recall of unseen errors, new"], rows)


def warn_table(found: list[Record]) -> str:
    """Return how often logs are warned of, over seeds and kinds of release."""
    rows = []
    for name in ("loggpt", *BASELINES):
        for n in SIZES:
            own = [r for r in found if (r["part"], r["detector"]) == ("warn", name) and r["n"] == n]
            if own:
                shares = [[r["warned"] for r in own if r["share"] == s] for s in SHARES]
                rows.append([f"`{name}`", f"{n:,}", *(f"{np.mean(each):.1%}" for each in shares)])
    return markdown(["detector", "sequences", *(f"{s:.0%} changed" for s in SHARES)], rows)


def real_table(found: list[Record]) -> str:
    """Return how many pieces of real logs are warned of."""
    rows = [
        [r["data"], f"`{r['detector']}`", r["which"], f"{r['n']:,}", f"{r['n_pieces']:,}",
         f"{r['warned']:,}", f"{r['significant']:,}", f"{r['distance']:.3f}"]
        for r in found if r["part"] == "real" and r["n_pieces"]
    ]  # fmt: skip
    header = ["log", "detector", "sequences", "in a piece", "pieces", "warned of", "significant"]
    return markdown([*header, "median distance"], rows)


def write_tables() -> None:
    """Write each table between its marks in docs/drift.md."""
    found = read(FILE)
    for name, table in (("update", update_table), ("warn", warn_table), ("real", real_table)):
        insert(DOCUMENT, name, table(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", choices=["update", "warn", "real", "table"])
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.part == "table":
        write_tables()
    elif chosen.part == "real":
        for name in ("hdfs-raw", "hdfs-full", "bgl-raw"):
            if not any(r.get("data") == name for r in read(FILE)):
                add(measure_real(name))
    else:
        measure = measure_update if chosen.part == "update" else measure_warnings
        run_seeds(chosen.part, chosen.seeds, measure)


if __name__ == "__main__":
    main()
