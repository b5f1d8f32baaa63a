"""What a person sees of the benchmarks at the terminal: which there are, how far they are, figures.

A pipe gets one line for each finished cell instead of bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from textwrap import wrap
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from oddlog.bench.config import TRACKS, PaperConfig
from oddlog.bench.plan import Plan
from oddlog.bench.records import Record, read, rows_by_detector
from oddlog.bench.render import spread
from oddlog.bench.runner import Failure, Task
from oddlog.bench.work import headline
from oddlog.terminal import MIN_LINE, shorten, show_notes
from oddlog.visible import escape

ABOUT = {
    "honest": "thresholds from normal sequences that nothing else has used, all sequences counted",
    "paper": "as a paper splits and judges, with the leaks of that, beside what it published",
    "quick": "small enough to try things out; its figures say little",
}


class Lines:
    """Says each finished cell in a line, where nobody watches."""

    def __init__(self, console: Console, n_cells: int) -> None:
        self._console = console
        self._n_cells, self._n_ended = n_cells, 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, task: Task) -> None:
        """Say nothing: the line comes when the cell is done."""

    def moved(self, task: Task, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def ended(self, task: Task, outcome: Record | Failure) -> None:
        """Say what was found, or what went wrong."""
        self._n_ended += 1
        self._console.print(
            Text(f"{self._n_ended}/{self._n_cells} {outcome_line(task, outcome)}"), soft_wrap=True
        )


class Bars:
    """Draws how many cells are done, and for each that runs its stage and how far that is."""

    def __init__(self, console: Console, n_cells: int) -> None:
        self._console = console
        self._all = Progress(
            TextColumn("cells"), BarColumn(bar_width=None), MofNCompleteColumn(),
            TimeElapsedColumn(), console=console,
        )  # fmt: skip
        self._cells = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=14),
            TextColumn("{task.fields[stage]:<18}"),
            TimeElapsedColumn(), console=console,
        )  # fmt: skip
        self._total = self._all.add_task("", total=n_cells)
        self._bars: dict[str, Any] = {}
        self._live = Live(Group(self._cells, self._all), console=console, transient=True)

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def started(self, task: Task) -> None:
        """Draw a bar for the cell."""
        self._bars[task.cell.name] = self._cells.add_task(
            escape(task.cell.name), total=None, stage="starting"
        )

    def moved(self, task: Task, stage: str, done: int, total: int) -> None:
        """Move its bar."""
        bar = self._bars[task.cell.name]
        self._cells.update(bar, completed=done, total=total or None, stage=escape(stage)[:18])

    def ended(self, task: Task, outcome: Record | Failure) -> None:
        """Take its bar away, and say what was found or what went wrong."""
        self._cells.remove_task(self._bars.pop(task.cell.name))
        self._all.advance(self._total)
        style = "red" if isinstance(outcome, Failure) else "dim"
        self._live.console.print(Text(outcome_line(task, outcome), style))


def board(console: Console, n_cells: int) -> Lines | Bars:
    """Return what shows how cells get on: bars where a person watches, else a line for each."""
    return (Bars if console.is_terminal else Lines)(console, n_cells)


def outcome_line(task: Task, outcome: Record | Failure) -> str:
    """Say in a line what became of a cell."""
    if isinstance(outcome, Failure):
        return f"{task.cell.name}: failed: {escape(outcome.message)}"
    return headline(outcome)


def listed(plans: Iterable[Plan], papers: Mapping[str, PaperConfig]) -> list[dict[str, Any]]:
    """Return a row for each benchmark: what it is, what is done, what is missing."""
    rows = [
        {
            "name": plan.name,
            "title": plan.config.title,
            "done": len(plan.cells) - len(plan.missing),
            "cells": len(plan.cells),
            "missing": _by_detector(plan.missing),
            "path": str(plan.path),
        }
        for plan in plans
    ]
    rows += [
        {"name": name, "title": config.title, "command": config.command}
        for name, config in papers.items()
    ]
    return sorted(rows, key=lambda row: TRACKS.index(row["name"].partition("/")[0]))


def _by_detector(cells: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    seeds: dict[str, list[int]] = {}
    for detector, seed in cells:
        seeds.setdefault(detector, []).append(seed)
    return seeds


def show_list(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the benchmarks by track."""
    for track in TRACKS:
        of_track = [row for row in rows if row["name"].startswith(f"{track}/")]
        if of_track:
            console.print(Text(track, "bold"))
            show_notes(console, [ABOUT[track]])
        for row in of_track:
            name = row["name"].partition("/")[2]
            told = f"{row['done']} of {row['cells']}" if "cells" in row else "a script"
            title = shorten(row["title"], max(MIN_LINE, console.width - 33))
            console.print(Text(f"  {name:<18}{told:>9}  {title}"), soft_wrap=True)
            for line in wrap(_more(row), max(MIN_LINE, console.width - 8)):
                console.print(Text(f"{'':8}{line}", "dim"), soft_wrap=True)


def _more(row: Mapping[str, Any]) -> str:
    """Say what is missing of a benchmark that was begun, or by what command one is run."""
    if "command" in row:
        return row["command"]
    if not row["missing"] or not row["done"]:
        return ""
    return "missing: " + ", ".join(f"{name} ({len(s)})" for name, s in row["missing"].items())


def summary(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each detector that there are records of, the best AUPRC first."""
    rows = []
    for name, own in rows_by_detector(read(plan.path)).items():
        at = [record["evaluation"]["at_rates"][0] for record in own]
        rows.append(
            {
                "benchmark": plan.name,
                "detector": name,
                "learns_from": own[0].get("learns_from", "normal"),
                "seeds": len(own),
                "auprc": [r["evaluation"]["ranking"]["auprc"]["value"] for r in own],
                "asked": at[0]["asked"],
                "realised": [a["decision"]["false_alarm_rate"]["value"] for a in at],
                "recall": [a["decision"]["recall"]["value"] for a in at],
                "fit_s": [record["fit_s"] for record in own],
                "peak_mb": [record.get("peak_mb") for record in own],
            }
        )
    return sorted(rows, key=lambda row: (row["learns_from"] == "labelled", -mean(row["auprc"])))


def show_summary(console: Console, plan: Plan) -> None:
    """Print what there is of a benchmark: means and deviations over seeds."""
    rows = summary(plan)
    if not rows:
        return
    console.print(Text(f"\n{plan.config.title}", "bold"))
    asked = f"{rows[0]['asked']:.0%}"
    table = Table("detector", "seeds", "AUPRC", f"rate at {asked}", "recall", "fit, s", "MB",
                  box=None, header_style="bold", pad_edge=False)  # fmt: skip
    for row in rows:
        mark = "*" if row["learns_from"] == "labelled" else ""
        table.add_row(
            row["detector"] + mark,
            str(row["seeds"]),
            spread(row["auprc"]),
            spread(row["realised"], 4),
            spread(row["recall"], 2),
            *(spread([_mean(row[key])], 0) for key in ("fit_s", "peak_mb")),
        )
    console.print(table)
    if any(row["learns_from"] == "labelled" for row in rows):
        console.print(Text("* learns from labels, the others from normal sequences alone", "dim"))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
