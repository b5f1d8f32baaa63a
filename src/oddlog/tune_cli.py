"""The command ``oddlog tune``: search a detector's settings, write the best as TOML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddlog.options import (
    Device,
    Format,
    Labels,
    Logs,
    Seed,
    Settings,
    Track,
    config_of,
    consoles,
)
from oddlog.output import check_out, print_json_lines

TOML = (".toml",)
INTERRUPTED = 130
UNITS = {"s": 1, "m": 60, "h": 3600}


def tune(
    logs: Logs,
    out: Annotated[Path, typer.Option(metavar="TOML", help="Where to write the best settings.")],
    detector: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default loggpt; see `oddlog detectors`.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Trials in all; 20 without a budget.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time by the clock, such as 90s, 30m, 2h.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES", help="What to search: width=32,64 or dropout=0.0..0.3; repeat."
        ),
    ] = None,
    storage: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep a journal of the search here.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the search of the journal.")
    ] = False,
    format: Format = None,
    labels: Labels = None,
    seed: Seed = 0,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings.")] = None,
    window: Annotated[str | None, typer.Option(metavar="RULE", help="As for fit.")] = None,
    session_by: Annotated[str | None, typer.Option(metavar="REGEX", help="As for fit.")] = None,
    device: Device = "auto",
    set: Settings = None,
    tracker: Track = None,
) -> None:
    """Search settings by validation; `fit --config` takes the best."""
    from oddlog import terminal
    from oddlog.artifact import write_text
    from oddlog.datasets import read_labels
    from oddlog.run import Run
    from oddlog.track import track
    from oddlog.tuning import Search, parse_space
    from oddlog.tuning import tune as search_settings

    notes, console = consoles()
    check_out(out, TOML)
    options = {"detector": detector, "format": format, "window": window, "session_by": session_by}
    settings = config_of(config, set, options)
    search = Search(
        trials,
        parse_duration(budget) if budget else None,
        parse_space(space or []),
        storage,
        resume,
    )
    table = None if labels is None else read_labels(labels)
    name = f"tune {settings.detector}"
    with track(tracker, name) as told, terminal.progress_bars(notes) as progress:
        told.settings({"seed": seed, **settings.model_dump(mode="json")})
        run = Run(seed, device, progress=progress)
        found = search_settings(logs, settings, labels=table, search=search, run=run)
        write_text(out, found.to_toml())
        for number, trial in enumerate(found.trials):
            told.metrics(trial.figures(), step=number)
        told.settings({"verdict": found.verdict, "best": found.config.settings})
        told.artifact("config", out)
    terminal.show_notes(notes, found.lines())
    if console.is_terminal:
        terminal.show_next(console, f"oddlog fit FILE --model DIR --config {out}")
    else:
        print_json_lines([{"config": str(out), **found.to_dict()}])
    if found.interrupted:
        notes.print(f"stopped: {out} holds the best so far")
        raise typer.Exit(INTERRUPTED)


def parse_duration(text: str) -> float:
    """Return the seconds of a text such as ``90s``, ``30m`` or ``2h``.

    Raises:
        ConfigError: A text of another form, or no time at all.
    """
    from oddlog.errors import ConfigError

    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--budget {text}: a time such as 90s, 30m or 2h")
    return seconds
