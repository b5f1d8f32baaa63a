"""A board that tells an experiment tracker of each finished cell, beside the one that is shown."""

from __future__ import annotations

from oddlog.bench.records import Record
from oddlog.bench.runner import Board, Failure, Task
from oddlog.track import track


class Tracked:
    """Passes on what a board is told; each record becomes a run of the tracker.

    Args:
        board: What is shown.
        to: The tracker's name.
    """

    def __init__(self, board: Board, to: str) -> None:
        self._board, self._to = board, to

    def started(self, task: Task) -> None:
        """Say that a cell runs."""
        self._board.started(task)

    def moved(self, task: Task, stage: str, done: int, total: int) -> None:
        """Say how far it is."""
        self._board.moved(task, stage, done, total)

    def ended(self, task: Task, outcome: Record | Failure) -> None:
        """Say what became of it."""
        self._board.ended(task, outcome)
        if isinstance(outcome, Failure):
            return
        name = f"{outcome['benchmark']} {outcome['detector']} {outcome['seed']}"
        with track(self._to, name) as told:
            names = ("benchmark", "detector", "seed", "settings", "version", "commit")
            told.settings({name: outcome.get(name) for name in names})
            told.metrics(figures(outcome))


def figures(record: Record) -> dict[str, float]:
    """Return a record's figures by name, those at an asked rate with the rate in theirs."""
    found = record["evaluation"]
    values = {name: found["ranking"][name]["value"] for name in ("auprc", "auroc")}
    values |= {name: record.get(name) for name in ("fit_s", "score_s", "peak_mb")}
    for at in found["at_rates"]:
        for name in ("false_alarm_rate", "recall", "precision", "f1"):
            values[f"{name}_at_{at['asked']:g}"] = at["decision"][name]["value"]
    return {name: value for name, value in values.items() if value is not None}
