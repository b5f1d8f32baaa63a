"""Cells run in processes of their own, as many at a time as are asked for and as memory allows.

So a cell's peak memory is its own, and one that fails, is killed or runs out of memory takes no
other with it. A process ends with the one that started it. What a cell found is kept when it is
done, in one piece: a run that is stopped leaves what was finished, and the next goes on from there.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from oddlog.bench.records import Record, add
from oddlog.bench.work import Cell, run_cell
from oddlog.errors import OddlogError
from oddlog.run import Progress

logger = logging.getLogger(__name__)
Job = Callable[[Cell, Progress], Record]
ENSEMBLE = "ensemble"
PAUSE_S = 0.25
"""At least so long between two reports of one cell's progress."""


@dataclass(frozen=True)
class Task:
    """A cell, where its record goes, and what it may take of memory."""

    cell: Cell
    path: Path
    memory_mb: int


@dataclass(frozen=True)
class Failure:
    """A cell that gave no record.

    Attributes:
        name: The cell's.
        message: What went wrong, in one line.
        detail: Where in the code, if it was not foreseen.
    """

    name: str
    message: str
    detail: str = ""


class Board(Protocol):
    """What is told while cells run."""

    def started(self, task: Task) -> None:
        """Say that a cell runs."""

    def moved(self, task: Task, stage: str, done: int, total: int) -> None:
        """Say how far it is; a total of 0 is not known."""

    def ended(self, task: Task, outcome: Record | Failure) -> None:
        """Say what became of it."""


@dataclass(frozen=True, eq=False)
class _Running:
    task: Task
    process: BaseProcess


def run_tasks(
    tasks: Iterable[Task], *, jobs: int, board: Board, job: Job = run_cell
) -> list[Failure]:
    """Run cells, keep the record of each, and return those that failed.

    Args:
        tasks: In the order in which they begin.
        jobs: How many may run at a time. Where memory is short it is fewer, but never none.
        board: Is told what happens.
        job: What measures a cell, a function of a module: it is run in another process.
    """
    waiting, running = deque(tasks), dict[Connection, _Running]()
    failures: list[Failure] = []
    free_mb = free_memory_mb()
    try:
        while waiting or running:
            at_work = [each.task for each in running.values()]
            while waiting and may_start(waiting[0], at_work, jobs, free_mb):
                task = waiting.popleft()
                pipe, process = _start(task.cell, job)
                running[pipe] = _Running(task, process)
                at_work.append(task)
                board.started(task)
            for pipe in wait([*running]):
                assert isinstance(pipe, Connection)  # noqa: S101 -- nothing else was waited for
                outcome = _listen(pipe, running[pipe], board)
                if outcome is not None:
                    task = running.pop(pipe).task
                    board.ended(task, outcome)
                    failures += [outcome] if isinstance(outcome, Failure) else []
    finally:
        for each in running.values():
            each.process.kill()
            each.process.join()
    return failures


def may_start(task: Task, running: Sequence[Task], jobs: int, free_mb: int | None) -> bool:
    """Return whether a cell may begin beside others; one alone always may.

    An ensemble waits for its members where it can take up what they have learned.

    Args:
        task: The cell.
        running: Those at work.
        jobs: How many may be at work.
        free_mb: What memory there was before the first began; None where that is not known.
    """
    if not running:
        return True
    if any(_take_up_each_other(task.cell, each.cell) for each in running):
        return False
    needed = sum(each.memory_mb for each in running) + task.memory_mb
    return len(running) < jobs and (free_mb is None or needed <= free_mb)


def _take_up_each_other(one: Cell, other: Cell) -> bool:
    """Return whether two cells have checkpoints in common: an ensemble takes up its members'."""
    is_same = (one.work, one.benchmark, one.seed) == (other.work, other.benchmark, other.seed)
    return one.work is not None and is_same and ENSEMBLE in (one.detector, other.detector)


def _start(cell: Cell, job: Job) -> tuple[Connection, BaseProcess]:
    """Begin a cell; return where it tells of itself."""
    context = get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(cell, job, there), daemon=True)
    process.start()
    there.close()  # or its end would not be seen
    return here, process


def _listen(pipe: Connection, running: _Running, board: Board) -> Record | Failure | None:
    """Take one message; return what became of the cell if that is known now."""
    task = running.task
    try:
        kind, *told = pipe.recv()
    except (EOFError, OSError):
        running.process.join()
        pipe.close()
        return Failure(task.cell.name, _why(running.process.exitcode, task.memory_mb))
    if kind == "moved":
        board.moved(task, *told)
        return None
    running.process.join()
    pipe.close()
    if kind == "failed":
        return Failure(task.cell.name, *told)
    keep(task, told[0])
    return told[0]


def keep(task: Task, record: Record) -> None:
    """Add a record to its file, unless another run has done so meanwhile.

    What else is to be told of a finished cell, to a tracker of experiments for one, is told here.
    """
    cell = task.cell
    mine = (cell.detector, cell.seed)
    add(
        task.path,
        lambda known: [] if mine in {(r["detector"], r["seed"]) for r in known} else [record],
    )


def _why(code: int | None, memory_mb: int) -> str:
    """Say why a process ended without a word."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = ""
        if -code == signal.SIGKILL:
            hint = f"; the system may have run out of memory (the config states {memory_mb:,} MB)"
        return f"killed by {name}{hint}"
    return f"ended with code {code} and no result"


def _measure(cell: Cell, job: Job, pipe: Connection) -> None:
    """Run a cell in a process of its own, and tell of it through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is asked, and stops it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        told = ("done", job(cell, _reporter(pipe)))
    except OddlogError as error:
        told = ("failed", str(error))
    except Exception as error:  # noqa: BLE001 -- an edge of the process: any failure is told
        told = ("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    pipe.send(told)


def _reporter(pipe: Connection) -> Progress:
    """Return a progress callback that writes to a pipe, of each stage now and then."""
    last: dict[str, float] = {}

    def report(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - last.get(stage, -PAUSE_S) >= PAUSE_S:
            last[stage] = now
            pipe.send(("moved", stage, done, total))

    return report


def _end_with_parent() -> None:
    """Wait for the process that started this one to end, and end too: nobody would listen."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def free_memory_mb() -> int | None:
    """Return the memory that can be had without swapping, in MiB, or None where nobody tells."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None
