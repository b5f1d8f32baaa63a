"""The command ``oddlog bench``: runs what is missing of the benchmarks, and shows what there is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oddlog.options import Track

if TYPE_CHECKING:
    from rich.console import Console

    from oddlog.bench.plan import Asked

QUICK = "quick"


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="A benchmark, a track, or a TOML file of your own."),
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Only say what there is, and what is done.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small ones, in a few minutes: the same as `quick`.")
    ] = False,
    detectors: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,NAME", help="Only these; by default those of the config."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Seeds 0 to N-1, not the config's.")
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME.KEY=VALUE", help="A detector's setting; repeat."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Cells at a time, where memory allows.")
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where records are kept (benchmarks/results)."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="ODDLOG_DATA", help="The folder of public logs."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep checkpoints of networks here, and take them up."),
    ] = None,
    tracker: Track = None,
) -> None:
    """Measure detectors on benchmarks.

    Without a name it says what there is. One JSON line per detector and seed is kept as soon as it
    is known; a run that is stopped goes on where it was. `oddlog data list` says where data are.
    """
    from rich.console import Console

    from oddlog.bench import show
    from oddlog.bench.config import config_names
    from oddlog.bench.plan import Asked
    from oddlog.bench.records import RESULTS
    from oddlog.output import print_json_lines

    console = Console(highlight=False, force_terminal=sys.stdout.isatty())
    chosen = tuple(part for item in detectors or [] for part in item.split(",") if part)
    asked = Asked(out or RESULTS, data, seeds, chosen, tuple(set or ()), work)
    words = [*(names or []), *([QUICK] if quick else [])]
    if list_only or not words:
        rows = _listed(words or config_names(), asked)
        if console.is_terminal:
            show.show_list(console, rows)
        else:
            print_json_lines(rows)
        return
    _run(words, asked, jobs, console, tracker)


def _listed(words: list[str], asked: Asked) -> list[dict[str, Any]]:
    from oddlog.bench import show
    from oddlog.bench.config import BenchConfig, PaperConfig, chosen_configs
    from oddlog.bench.plan import plan

    configs = chosen_configs(words)
    plans = [plan(n, c, asked) for n, c in configs.items() if isinstance(c, BenchConfig)]
    papers = {name: c for name, c in configs.items() if isinstance(c, PaperConfig)}
    return show.listed(plans, papers)


def _run(words: list[str], asked: Asked, jobs: int, console: Console, tracker: str | None) -> None:
    """Run what is missing, then show what there is."""
    from rich.console import Console

    from oddlog.bench import show
    from oddlog.bench.config import chosen_configs
    from oddlog.bench.plan import plans_to_run, tasks_of
    from oddlog.bench.runner import run_tasks
    from oddlog.bench.tracked import Tracked
    from oddlog.errors import OddlogError
    from oddlog.output import print_json_lines
    from oddlog.terminal import show_notes

    notes = Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes: times and sums then compare
    plans, left_out = plans_to_run(chosen_configs(words), asked)
    show_notes(notes, left_out)
    tasks = tasks_of(plans, asked)
    try:
        with show.board(notes, len(tasks)) as board:
            board = Tracked(board, tracker) if tracker else board
            failures = run_tasks(tasks, jobs=jobs, board=board)
    except KeyboardInterrupt:
        notes.print("stopped: what was finished is kept; the same command goes on from there")
        raise
    for each in plans:
        if console.is_terminal:
            show.show_summary(console, each)
        else:
            print_json_lines(show.summary(each))
    if failures:
        show_notes(notes, [failure.detail for failure in failures if failure.detail])
        told = "; ".join(f"{failure.name}: {failure.message}" for failure in failures)
        raise OddlogError(f"{len(failures)} of {len(tasks)} cells failed: {told}")
