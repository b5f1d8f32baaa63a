"""One cell: a detector is fitted, scores the test that it is shown, and is judged.

Times are processor seconds of one process; beside each stands the time that passed on the clock.
Building the cut, judging and drawing intervals are in neither.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from oddlog.bench.blind import check_pure, some_again
from oddlog.bench.data import checked_digests
from oddlog.bench.measure import Bench, measure
from oddlog.bench.protocols import PROTOCOLS
from oddlog.bench.records import Record, source
from oddlog.calibrate import calibrate
from oddlog.config import build, parse_assignments
from oddlog.detectors import Detector, detector_class
from oddlog.errors import ConfigError
from oddlog.evaluate import RATES
from oddlog.pipeline import Judge, make_config
from oddlog.run import Progress, Run, silent

RATE = RATES[0]
PACKAGES = ("numpy", "polars", "torch", "transformers", "scikit-learn")


@dataclass(frozen=True)
class Cell:
    """One detector with one seed on one benchmark: what is run, or not, as a whole.

    Attributes:
        benchmark: Name of the records' file.
        protocol: One of ``PROTOCOLS``.
        datasets: The public data sets that the protocol reads.
        detector: Name of the detector.
        seed: Seed of the cut and of the fit.
        set: The settings that are not the defaults, as ``--set`` gives them.
        folder: The data folder, or None where no data are read.
        work: Where checkpoints are kept and taken up, or None.
        test: Digest of the test that other records of the seed are of, or None.
    """

    benchmark: str
    protocol: str
    datasets: tuple[str, ...]
    detector: str
    seed: int
    set: tuple[str, ...] = ()
    folder: Path | None = None
    work: Path | None = None
    test: str | None = None

    @property
    def name(self) -> str:
        """What a person reads."""
        return f"{self.benchmark} {self.detector} seed {self.seed}"


def new_detector(name: str, assignments: Sequence[str]) -> Detector:
    """Return an unfitted detector with its own settings among those of ``--set``."""
    config = make_config({"detector": name, **parse_assignments(assignments)}, "benchmark")
    cls = detector_class(name)
    return cls(build(cls.Config, config.settings, name))


def own_assignments(name: str, assignments: Sequence[str]) -> list[str]:
    """Return those of ``--set`` that a detector takes: its own, and its members' if it has any."""
    own = [item for item in assignments if item.startswith(f"{name}.")]
    if len(own) == len(assignments):
        return own  # without importing the detector, which may take seconds
    groups = (name, *members_of(new_detector(name, own)))
    return [item for item in assignments if item.partition(".")[0] in groups]


def own_settings(
    detectors: Iterable[str], assigned: Iterable[str], known: Iterable[str] = ()
) -> dict[str, list[str]]:
    """Return each detector's settings: those that are known, then those that a person asks for.

    Raises:
        ConfigError: What was asked for is a setting of none of the detectors.
    """
    own = {name: own_assignments(name, [*known, *assigned]) for name in detectors}
    for item in assigned:
        if not any(item in items for items in own.values()):
            raise ConfigError(f"--set {item}: of none of the detectors {', '.join(own)}")
    return own


def members_of(detector: Detector) -> tuple[str, ...]:
    """Return the detectors that an ensemble combines, none of another detector."""
    return getattr(detector.config, "members", ())


def same_settings(record: Mapping[str, Any], detector: Detector) -> bool:
    """Return whether a record is of these settings; one that it does not know has its default."""
    try:
        known = build(type(detector).Config, record["settings"], "record")
    except ConfigError:
        return False
    return known == detector.config


def refuse_others(out: Path, records: Iterable[Record], chosen: Mapping[str, Detector]) -> None:
    """Refuse a file with records of other settings of a chosen detector.

    Raises:
        ConfigError: It holds one.
    """
    for record in records:
        name = record["detector"]
        if name in chosen and not same_settings(record, chosen[name]):
            raise ConfigError(
                f"{out} holds results of other settings of {name}: move it, or name another --out"
            )


def run_of(cell: Cell, detector: Detector, progress: Progress = silent) -> Run:
    """Return a run with checkpoints below ``work``; members share theirs with their detectors."""
    place = cell.work and cell.work / f"{cell.benchmark}-{cell.seed}"
    if place and not members_of(detector):
        place /= detector.name
    return Run(cell.seed, checkpoints=place, resume=place is not None, progress=progress)


def fitted(bench: Bench, detector: Detector, run: Run) -> Judge:
    """Fit on a benchmark's training and validation, calibrate on its third part."""
    train, valid, calibration = bench.cut.learned(detector.learns_from)
    detector.fit(train, valid, run)
    rate = bench.cut.rates[0]
    return Judge(detector, calibrate(detector.score(calibration).sequence, rate))


def run_cell(cell: Cell, progress: Progress = silent) -> Record:
    """Measure one cell.

    Raises:
        ConfigError: The records that there are of this seed are of another test.
        FormatError: A data file is not the one that was pinned.
        DetectorError: The detector's scores depend on what else it is shown.
    """
    progress("cutting the data", 0, 0)
    digests = checked_digests(cell.datasets, cell.folder) if cell.folder else {}
    cut = PROTOCOLS[cell.protocol](cell.folder or Path(), cell.seed)
    bench = Bench(cell.benchmark, cell.seed, cut)
    if cell.test not in (None, bench.digest):
        raise ConfigError(
            f"{cell.name}: there are results of another test of this seed: move them, or name "
            "another --out"
        )
    detector = new_detector(cell.detector, cell.set)
    record = run_detector(bench, detector, run_of(cell, detector, progress))
    return record | {"set": [*cell.set], "data": digests}


def run_detector(bench: Bench, detector: Detector, run: Run) -> Record:
    """Fit a detector, let it score what it is shown of the test, and judge it."""
    resumed = run.checkpoints is not None and any(run.checkpoints.rglob("*.safetensors"))
    shown = bench.shown.sequences
    run.progress("fitting", 0, 0)
    clock = Clock()
    judge = fitted(bench, detector, run)
    fit_s, fit_wall_s = clock.read()
    run.progress("scoring", 0, 0)
    clock = Clock()
    scores = detector.score(shown)
    score_s, score_wall_s = clock.read()
    peak_mb = peak_memory_mb()
    some, before = some_again(shown, scores)
    check_pure(detector.name, before, detector.score(some).sequence)
    run.progress("judging", 0, 0)
    found = measure(bench, judge, bench.shown.put_back(scores))
    return {
        "benchmark": bench.name,
        "seed": bench.seed,
        "detector": detector.name,
        "learns_from": detector.learns_from,
        "settings": detector.config.model_dump(mode="json"),
        **bench.facts(),
        "fit_s": None if resumed else round(fit_s, 1),
        "fit_wall_s": None if resumed else round(fit_wall_s, 1),
        "score_s": round(score_s, 2),
        "score_wall_s": round(score_wall_s, 2),
        "peak_mb": peak_mb,
        "n_unjudged": scores.n_unjudged,
        **source(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "environment": environment(),
        **found,
    }


class Clock:
    """Processor seconds and seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.process_time(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Return both."""
        return time.process_time() - self._began[0], time.perf_counter() - self._began[1]


def environment() -> dict[str, Any]:
    """Return what figures and times depend on besides the code: Python, packages, system, threads.

    A package that is not there is None.
    """
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def peak_memory_mb() -> int:
    """Return the most memory that this process has held, in MiB.

    Linux is asked for the mark of this program alone: the one of ``getrusage`` begins with that of
    the process that started it.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    import resource  # which Windows does not have

    unit = 2**20 if platform.system() == "Darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit


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
