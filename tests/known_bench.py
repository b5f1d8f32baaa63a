"""A benchmark that is small enough to be known, and jobs that stand for the work of a cell."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import polars as pl

from oddlog.bench.protocols import Cut
from oddlog.bench.runner import Task
from oddlog.bench.work import Cell
from oddlog.drain import Templates
from oddlog.events import Sequences


def tiny(folder, seed):
    """Return a cut in which 1 2 3 is normal, 9 is a fault's template, and labels are known."""
    normal, odd = [[1, 2, 3], [1, 3, 2], [1, 2, 2, 3]], [1, 9]
    sizes = [(60, 4), (30, 2), (120, 2), (40, 5)]
    parts = []
    for number, (n, n_odd) in enumerate(sizes):
        ids = [normal[i % 3] for i in range(n)] + [odd] * n_odd
        labels = [""] * n + ["fault"] * n_odd
        part = Sequences.from_ids(ids, labels, source=str(number))
        names = pl.Series([f"{number}-{seed}-{i}" for i in range(len(ids))])
        parts.append(replace(part, keys=names))
    return Cut(parts[:3], parts[3], Templates.from_texts({}), in_time=True)


def of_cell(cell):
    """Return as much of a record as is kept and shown of a cell."""
    figure = {"value": 0.5}
    decision = dict.fromkeys(("false_alarm_rate", "recall", "f1"), figure)
    evaluation = {
        "ranking": {"auprc": figure},
        "at_rates": [{"asked": 0.01, "decision": decision}],
    }
    return {
        "benchmark": cell.benchmark,
        "detector": cell.detector,
        "seed": cell.seed,
        "test_sha256": "?",
        "settings": {},
        "fit_s": 1.0,
        "score_s": 1.0,
        "evaluation": evaluation,
    }


def told(cell, progress):
    """Tell how far it is, and find something; a cell of seed 1 fails, one of seed 2 is killed."""
    progress("fitting", 1, 2)
    if cell.seed == 1:
        raise ZeroDivisionError
    if cell.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return of_cell(cell)


def waits(cell, progress):
    """Leave a file that says who is at work, and wait to be killed."""
    Path(cell.work, str(cell.seed)).write_text(str(os.getpid()))
    while True:
        time.sleep(0.1)


class Heard:
    """Keeps what it is told."""

    def __init__(self):
        self.stages, self.outcomes = [], {}

    def started(self, task):
        pass

    def moved(self, task, stage, done, total):
        self.stages.append((task.cell.seed, stage, done, total))

    def ended(self, task, outcome):
        self.outcomes[task.cell.seed] = outcome


def tasks(folder, *seeds, memory_mb=1):
    """Return tasks of these seeds, whose records go to one file."""
    cells = [Cell("b", "tiny", (), "counts", seed, work=folder) for seed in seeds]
    return [Task(cell, folder / "b.jsonl", memory_mb) for cell in cells]
