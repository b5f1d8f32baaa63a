"""Every detector on the same cut of the same data, with thresholds from calibration normals.

    python benchmarks/honest.py hdfs-full --seeds 5        all of HDFS_v1 as ids, 5,000 normals
    python benchmarks/honest.py hdfs-raw --seeds 5         raw lines of the 2 % sample, cut in time
    python benchmarks/honest.py bgl-windows --seeds 5      Blue Gene/L as ids, windows, cut in time
    python benchmarks/honest.py bgl-raw --seeds 5          its first 100,000 raw lines
    python benchmarks/honest.py adfa --seeds 5             system calls, six kinds of attack
    python benchmarks/honest.py simulated --seeds 5        the simulated cluster, eight faults
    python benchmarks/honest.py order-easy --seeds 5       simulated, wrong in their order alone
    python benchmarks/honest.py order-hard --seeds 5       the same, longer
    python benchmarks/honest.py hdfs-labelled --seeds 5    10 % of HDFS_v1's sessions labelled
    python benchmarks/honest.py hdfs-few-labels --seeds 5  1 % of them

``--detectors NAME ...`` says which (by default ``loggpt`` and the trivial rules), ``--set
NAME.SETTING=VALUE`` with which settings. Detectors that learn from labels can be measured on
``bgl-windows`` and the two with labels, beside those that learn from the normal sequences of the
same parts.

ADFA-LD's traces have up to 4,500 calls; by the time of a batch, LogGPT's defaults would take some
forty minutes of a seed. About five take

    --set loggpt.context=64 --set loggpt.max_steps=1000 --set loggpt.count_steps=300
    --set logbert.context=64 --set logbert.epochs=8 --set logbert.count_steps=300

One JSON line per seed and detector goes to benchmarks/results/<name>.jsonl as soon as it is known;
what is there is not run again, and other settings of a detector that is there are refused. A
detector that fails is reported at the end and keeps no other from being measured. With ``--work
DIR`` networks leave checkpoints there, and an ensemble takes up those of its members; what was
taken up has no time of its own. Times are processor seconds. ``python benchmarks/table.py`` turns
the files into docs/results.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import Bench, measure
from protocols import PROTOCOLS
from records import RESULTS, Record, append, read, source

from oddlog import Run
from oddlog.calibrate import calibrate
from oddlog.config import build, parse_assignments
from oddlog.detectors import BASELINES, DETECTORS, Detector, detector_class
from oddlog.errors import ConfigError
from oddlog.pipeline import Judge, make_config

logger = logging.getLogger(__name__)
RATE = 0.01
MADE = ("simulated", "order-easy", "order-hard")  # need no data folder
"""Asked of each calibration; the tables have two more."""


def new_detector(name: str, assignments: Sequence[str]) -> Detector:
    """Return an unfitted detector with its own settings among those of ``--set``."""
    config = make_config({"detector": name, **parse_assignments(assignments)}, "benchmark")
    cls = detector_class(name)
    return cls(build(cls.Config, config.settings, name))


def own_assignments(name: str, assignments: Sequence[str]) -> list[str]:
    """Return those of ``--set`` that a detector takes: its own, and its members' if it has any."""
    own = [item for item in assignments if item.startswith(f"{name}.")]
    groups = (name, *members_of(new_detector(name, own)))
    return [item for item in assignments if item.partition(".")[0] in groups]


def members_of(detector: Detector) -> tuple[str, ...]:
    """Return the detectors that an ensemble combines, none of another detector."""
    return getattr(detector.config, "members", ())


def run_of(bench: Bench, detector: Detector, work: Path | None) -> Run:
    """Return a run with checkpoints below ``work``; members share theirs with their detectors."""
    place = work and work / f"{bench.name}-{bench.seed}"
    if place and not members_of(detector):
        place /= detector.name
    return Run(bench.seed, checkpoints=place, resume=place is not None)


def fitted(bench: Bench, detector: Detector, run: Run) -> Judge:
    """Fit on a benchmark's training and validation, calibrate on its third part."""
    train, valid, calibration = bench.cut.learned(detector.learns_from)
    detector.fit(train, valid, run)
    return Judge(detector, calibrate(detector.score(calibration).sequence, RATE))


def run_detector(bench: Bench, detector: Detector, assignments: Sequence[str], run: Run) -> Record:
    """Fit, score and judge one detector."""
    resumed = run.checkpoints is not None and any(run.checkpoints.rglob("*.safetensors"))
    began = time.process_time()
    judge = fitted(bench, detector, run)
    fit_s = None if resumed else round(time.process_time() - began, 1)
    began = time.process_time()
    scores = detector.score(bench.test)
    score_s = time.process_time() - began
    return {
        "benchmark": bench.name,
        "seed": bench.seed,
        "detector": detector.name,
        "learns_from": detector.learns_from,
        "set": list(assignments),
        "settings": detector.config.model_dump(mode="json"),
        **bench.facts(),
        "fit_s": fit_s,
        "score_s": round(score_s, 2),
        **source(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **measure(bench, judge, scores),
    }


def same_settings(record: Mapping[str, Any], detector: Detector) -> bool:
    """Return whether a record is of these settings; one that it does not know has its default."""
    try:
        known = build(type(detector).Config, record["settings"], "record")
    except ConfigError:
        return False
    return known == detector.config


def refuse_others(out: Path, records: Iterable[Record], chosen: Mapping[str, Detector]) -> None:
    """Refuse a file with records of other settings of a chosen detector."""
    for record in records:
        name = record["detector"]
        if name in chosen and not same_settings(record, chosen[name]):
            raise SystemExit(
                f"{out} holds results of other settings of {name}: move it, or name another --out"
            )


def run_seed(
    asked: argparse.Namespace,
    seed: int,
    chosen: Mapping[str, Detector],
    own: Mapping[str, list[str]],
    out: Path,
) -> list[str]:
    """Measure what the file does not hold of a seed; return the detectors that failed."""
    name = asked.benchmark
    of_seed = [record for record in read(out) if record["seed"] == seed]
    done = {record["detector"] for record in of_seed}
    missing = [detector for detector in chosen if detector not in done]
    if not missing:
        return []
    bench = Bench(name, seed, PROTOCOLS[name](Path(os.environ.get("ODDLOG_DATA", "")), seed))
    if any(record["test_sha256"] != bench.digest for record in of_seed):
        raise SystemExit(f"{out} holds results of another test of seed {seed}: move it")
    failed = []
    for detector in missing:
        fresh = type(chosen[detector])(chosen[detector].config)
        try:
            run = run_of(bench, fresh, asked.work)
            record = run_detector(bench, fresh, own[detector], run)
        except Exception:
            logger.exception("%s, seed %d: %s failed", name, seed, detector)
            failed.append(f"{detector}, seed {seed}")
            continue
        append(out, [record])
        print(headline(record), flush=True)
    return failed


def headline(record: Mapping[str, Any]) -> str:
    """Say a record in one line."""
    found = record["evaluation"]
    cells = [f"AUPRC {found['ranking']['auprc']['value']:.4f}"]
    for at in found["at_rates"]:
        decision = at["decision"]
        cells.append(
            f"{at['asked']:.1%}: realised {decision['false_alarm_rate']['value']:.4f} "
            f"recall {decision['recall']['value']:.4f} F1 {decision['f1']['value'] or 0:.4f}"
        )
    head = f"{record['benchmark']} seed {record['seed']} {record['detector']:<10}"
    return f"{head} fit {record['fit_s']} s score {record['score_s']} s | " + " | ".join(cells)


def asked_for(words: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("benchmark", choices=PROTOCOLS)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", type=Path, help="keep and take up checkpoints in this folder")
    asked = parser.parse_args(words)
    if not os.environ.get("ODDLOG_DATA") and asked.benchmark not in MADE:
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    asked.detectors = asked.detectors or ["loggpt", *BASELINES]
    return asked


def main(words: Sequence[str] | None = None) -> None:
    asked = asked_for(words)
    out = asked.out or RESULTS / f"{asked.benchmark}.jsonl"
    own = {name: own_assignments(name, asked.set) for name in asked.detectors}
    for item in set(asked.set).difference(*own.values()):
        raise SystemExit(f"--set {item}: of none of the detectors {', '.join(asked.detectors)}")
    chosen = {name: new_detector(name, own[name]) for name in asked.detectors}
    refuse_others(out, read(out), chosen)
    failed = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        failed += run_seed(asked, seed, chosen, own, out)
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}; what each said is above")


if __name__ == "__main__":
    main()
