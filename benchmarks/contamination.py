"""What anomalies in the log that is learned from cost, and what ``assume_anomalies`` gives back.

    python benchmarks/contamination.py --seeds 5 --set detector=counts
    python benchmarks/contamination.py --seeds 3 --set loggpt.reads=order --set loggpt.epochs=15

Per log (``hdfs-raw``, ``hdfs-full``, ``simulated``), seed, true share of anomalies among the
sequences that are learned from and calibrated on (nobody tells which) and assumed share: one JSON
line per detector in benchmarks/results/contamination.jsonl. What is there is not run again. The
test of a log and seed is the same for every share. ``python benchmarks/table.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog import Run, Sequences
from oddlog.bench.protocols import hdfs_halves, mark_ends, mine
from oddlog.bench.records import RESULTS, append, read, source
from oddlog.config import parse_assignments
from oddlog.datasets import IdDataset, attach_labels, open_dataset
from oddlog.demo import SESSION
from oddlog.drain import Templates
from oddlog.formats import read_events
from oddlog.group import Window, group
from oddlog.pipeline import fit_sequences, make_config
from oddlog.simulate import simulate, write

OUT = RESULTS / "contamination.jsonl"
LAYOUT = "syslog5424"  # of the simulated log
CASES = (  # (true, assumed), what matters most first
    (0.0, 0.0),
    (0.03, 0.0),
    (0.03, 0.03),
    (0.0, 0.03),
    (0.01, 0.03),
    (0.01, 0.0),
    (0.01, 0.01),
    (0.05, 0.0),
    (0.05, 0.05),
    (0.001, 0.0),
    (0.001, 0.001),
)
N_TEST_NORMALS = 60_000  # of the 553,000 of hdfs-full: a rate of 1 % is known to 0.04 %


@dataclass(frozen=True, eq=False)
class Bench:
    """What one log and seed give.

    Attributes:
        pool: Sequences to learn from.
        sizes: How many of them go into training, validation and calibration.
        test: Sequences to score.
        mined: What the ids of both stand for, or the name of the layout of lines whose templates
            are still to be mined.
    """

    pool: Sequences
    sizes: tuple[int, int, int]
    test: Sequences
    mined: Templates | str


def hdfs_full(folder: Path, seed: int) -> Bench:
    """Draw a pool with anomalies from all of HDFS; the test has other normals, other anomalies."""
    dataset = open_dataset("hdfs_v1", folder)
    assert isinstance(dataset, IdDataset)
    sequences, random = dataset.sequences, np.random.default_rng(seed)
    normal = random.permutation(np.flatnonzero(~sequences.anomalous))
    odd = random.permutation(np.flatnonzero(sequences.anomalous))
    test = np.concatenate([normal[5000 : 5000 + N_TEST_NORMALS], odd[250:]])
    pool = np.concatenate([normal[:5000], odd[:250]])
    templates = Templates.from_texts(dataset.texts)
    return Bench(sequences.take(pool), (3500, 500, 1000), sequences.take(np.sort(test)), templates)


def hdfs_raw(folder: Path, seed: int) -> Bench:
    """Cut the raw sample in time at half of its sessions; the first half is the pool."""
    early, late, layout, _ = hdfs_halves(folder)
    return Bench(early, (2600, 400, 1000), late, layout)


def simulated(folder: Path, seed: int) -> Bench:
    """Simulate a log with faults to learn from and another one to score."""
    logs = []
    for share, number, n in ((0.06, 3000, 3600), (0.2, 4000, 1500)):
        truth = simulate(n, anomaly_share=share, seed=number + seed)
        with tempfile.TemporaryDirectory() as out:
            log, *_ = write(truth, Path(out))
            events, _ = read_events(log, LAYOUT, session_by=SESSION)
        sequences, _ = group(events, Window(by="session"))
        logs.append(attach_labels(sequences, truth.labels)[0])
    return Bench(logs[0], (2200, 300, 850), logs[1], LAYOUT)


BENCHES = {"hdfs-raw": hdfs_raw, "hdfs-full": hdfs_full, "simulated": simulated}


def contaminated(bench: Bench, share: float, seed: int) -> list[Sequences]:
    """Draw the parts, this share of each anomalous; a larger share only replaces normal ones."""
    random = np.random.default_rng(seed)
    odd = random.permutation(np.flatnonzero(bench.pool.anomalous))
    normal = random.permutation(np.flatnonzero(~bench.pool.anomalous))
    parts, n_odd, n_drawn = [], 0, 0
    for size in bench.sizes:
        n = round(share * size)
        drawn = [odd[n_odd : n_odd + n], normal[n_drawn : n_drawn + size - n]]
        assert sum(map(len, drawn)) == size, "the pool is too small"
        parts.append(bench.pool.take(np.sort(np.concatenate(drawn))))
        n_odd, n_drawn = n_odd + n, n_drawn + size
    return parts


def prepared(bench: Bench, parts: list[Sequences]) -> tuple[list[Sequences], Sequences, Templates]:
    """Mine templates and silences from the training part, anomalies in it included."""
    if isinstance(bench.mined, Templates):
        return parts, bench.test, bench.mined
    known, test, templates = mine(parts, bench.test, bench.mined)
    return *mark_ends(known, test, bench.pool), templates


def recall_at(scores: NDArray, anomalous: NDArray[np.bool_], realised: float) -> float:
    """Return the share of anomalies above the lowest threshold with at most this realised rate."""
    normal = np.sort(scores[~anomalous])
    allowed = int(realised * len(normal) + 1e-9)
    threshold = normal[len(normal) - allowed - 1]
    return float((scores[anomalous] > threshold).mean())


def run_case(
    bench: Bench, seed: int, case: tuple[float, float], settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Fit on unlabelled parts of which a share is anomalous; judge every detector on the test."""
    true, assumed = case
    drawn = contaminated(bench, true, seed)
    odd_keys = [set(part.keys.filter(part.anomalous)) for part in drawn]
    parts, test, templates = prepared(bench, drawn)
    config = make_config({**settings, "assume_anomalies": assumed}, "benchmark")
    unlabelled = [part.without_labels() for part in parts]
    pipeline = fit_sequences(unlabelled, templates=templates, config=config, run=Run(seed))
    learned = pipeline.trimmed.filter(pipeline.trimmed["part"] != "calibration")["key"]
    n_odd = len(odd_keys[0]) + len(odd_keys[1])
    measured = source()
    records = []
    for name, judge in {pipeline.detector.name: pipeline.judge, **pipeline.baselines}.items():
        scores = judge.detector.score(test.without_labels()).sequence
        flags = judge.calibration.flags(scores)
        records.append(
            {
                "seed": seed,
                "true": true,
                "assumed": assumed,
                "detector": name,
                "settings": judge.detector.config.model_dump(),
                "sizes": [len(part) for part in parts],
                "n_anomalous": [len(keys) for keys in odd_keys],
                "n_trimmed": len(learned),
                "share_found": len((odd_keys[0] | odd_keys[1]) & set(learned)) / max(n_odd, 1),
                "n_trimmed_calibration": judge.calibration.n_trimmed,
                "worst_rate": judge.calibration.worst_rate(),
                "realised": float(flags[~test.anomalous].mean()),
                "recall": float(flags[test.anomalous].mean()),
                "curve": {
                    f"{rate:.4f}": recall_at(scores, test.anomalous, rate)
                    for rate in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
                },
                **measured,
                "_scores": scores,
            }
        )
    return records


def run_seed(
    name: str,
    seed: int,
    cases: Sequence[tuple[float, float]],
    settings: Mapping[str, Any],
    out: Path,
) -> None:
    """Run what is not there yet; the clean case first, as its realised rates are the others'."""
    own = [record for record in read(out) if (record["log"], record["seed"]) == (name, seed)]
    there = {(record["true"], record["assumed"], record["detector"]) for record in own}
    asked = make_config(settings, "benchmark").detector
    clean = {r["detector"]: r["realised"] for r in own if (r["true"], r["assumed"]) == CASES[0]}
    missing = [case for case in cases if (*case, asked) not in there]
    if not missing:
        return
    bench = BENCHES[name](Path(os.environ.get("ODDLOG_DATA", "")), seed)
    for case in missing:
        new = [
            r for r in run_case(bench, seed, case, settings) if (*case, r["detector"]) not in there
        ]
        clean |= {r["detector"]: r["realised"] for r in new if case == CASES[0]}
        for record in new:
            rate = clean[record["detector"]]
            at = recall_at(record.pop("_scores"), bench.test.anomalous, rate)
            record |= {"log": name, "clean_realised": rate, "recall_at_clean_realised": at}
            print(_headline(record), flush=True)
        append(out, new)


def _headline(record: Mapping[str, Any]) -> str:
    return (
        f"{record['log']} seed {record['seed']} true {record['true']:.1%} assumed "
        f"{record['assumed']:.1%} {record['detector']:<10} realised {record['realised']:.4f} "
        f"recall {record['recall']:.3f}, at {record['clean_realised']:.4f} "
        f"{record['recall_at_clean_realised']:.3f}; found {record['share_found']:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "logs", nargs="*", default=[*BENCHES], metavar="LOG", help=", ".join(BENCHES)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--cases", type=int, default=len(CASES), help="only the first of them")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    settings = parse_assignments(arguments.set)
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.logs:
            run_seed(name, seed, CASES[: arguments.cases], settings, arguments.out)


if __name__ == "__main__":
    main()
