"""Which cells a benchmark has, which of them are done, and which have still to be run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oddlog.bench.config import BenchConfig, PaperConfig, nearest
from oddlog.bench.data import missing_files
from oddlog.bench.records import Record, read
from oddlog.bench.runner import Task
from oddlog.bench.work import Cell, new_detector, own_settings, refuse_others
from oddlog.detectors import DETECTORS
from oddlog.errors import ConfigError


@dataclass(frozen=True)
class Asked:
    """What a person asks of all benchmarks.

    Attributes:
        out: Folder of the records.
        folder: The data folder, or None.
        seeds: How many, or None for as many as each config has.
        detectors: Their names, or none for those of each config.
        set: Settings beside a config's own, as ``--set`` gives them.
        work: Where checkpoints are kept and taken up, or None.
    """

    out: Path
    folder: Path | None = None
    seeds: int | None = None
    detectors: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    work: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What is there of a benchmark, and what has still to be run.

    Attributes:
        name: The config's.
        config: The config.
        path: The file of its records.
        cells: (detector, seed) of all that was asked for.
        done: Those of them that the file holds.
    """

    name: str
    config: BenchConfig
    path: Path
    cells: tuple[tuple[str, int], ...]
    done: frozenset[tuple[str, int]] = field(default_factory=frozenset)

    @property
    def stem(self) -> str:
        """What the records call the benchmark."""
        return self.name.removeprefix("honest/")

    @property
    def missing(self) -> list[tuple[str, int]]:
        """What has still to be run, seed by seed."""
        return [cell for cell in self.cells if cell not in self.done]


def plan(name: str, config: BenchConfig, asked: Asked) -> Plan:
    """Compare what is asked for with the records that there are.

    Raises:
        ConfigError: A detector was asked for that does not exist.
    """
    for each in asked.detectors:
        if each not in DETECTORS:
            raise ConfigError(f"no detector {each!r}; {nearest(each, DETECTORS)}")
    path = asked.out / f"{name.removeprefix('honest/')}.jsonl"
    seeds = asked.seeds or config.seeds
    detectors = asked.detectors or config.detectors
    cells = tuple((each, seed) for seed in range(seeds) for each in detectors)
    return Plan(name, config, path, cells, cells_of(read(path)))


def cells_of(records: Iterable[Record]) -> frozenset[tuple[str, int]]:
    """Return detector and seed of each record."""
    return frozenset((record["detector"], record["seed"]) for record in records)


def cells_to_run(chosen: Plan, asked: Asked) -> list[Cell]:
    """Return the cells that are missing, ready to be run.

    Raises:
        ConfigError: A setting is of none of the detectors, or the file holds results of other
            settings.
    """
    detectors = tuple(dict.fromkeys(detector for detector, _ in chosen.cells))
    known = chosen.config.assignments(chosen.config.settings)
    own = own_settings(detectors, asked.set, known)
    records = read(chosen.path)
    known = {record["detector"] for record in records}
    refuse_others(chosen.path, records, {n: new_detector(n, own[n]) for n in own if n in known})
    if not chosen.missing:
        return []
    tests = {record["seed"]: record["test_sha256"] for record in records}
    return [
        Cell(
            benchmark=chosen.stem,
            protocol=chosen.config.protocol,
            datasets=chosen.config.datasets,
            detector=detector,
            seed=seed,
            set=tuple(own[detector]),
            folder=asked.folder if chosen.config.datasets else None,
            work=asked.work,
            test=tests.get(seed),
        )
        for detector, seed in chosen.missing
    ]


def check_data(chosen: Plan, folder: Path | None) -> None:
    """Make sure that the data files are there.

    Raises:
        ConfigError: One is not.
    """
    if absent := missing_files(chosen.config.datasets, folder):
        where = f"not in {folder}" if folder else "name their folder with --data or ODDLOG_DATA"
        raise ConfigError(f"{chosen.name} reads {', '.join(absent)}: {where}")


def plans_to_run(
    configs: Mapping[str, BenchConfig | PaperConfig], asked: Asked
) -> tuple[list[Plan], list[str]]:
    """Return the plans of all that can be run here, and a note on each config that cannot.

    Scripts run the paper track, and a quick benchmark is left out where its data are not there.

    Raises:
        ConfigError: The data of another one are not there.
    """
    plans, notes = [], []
    for name, config in configs.items():
        if isinstance(config, PaperConfig):
            notes.append(f"{name} is run by a script: {config.command}")
            continue
        found = plan(name, config, asked)
        try:
            if found.missing:
                check_data(found, asked.folder)
        except ConfigError as error:
            if not name.startswith("quick/"):
                raise
            notes.append(f"left out: {error}")
            continue
        plans.append(found)
    return plans, notes


def tasks_of(plans: Iterable[Plan], asked: Asked) -> list[Task]:
    """Return what has to be run, with where its records go and what it may take of memory."""
    return [
        Task(cell, each.path, each.config.memory_mb)
        for each in plans
        for cell in cells_to_run(each, asked)
    ]
