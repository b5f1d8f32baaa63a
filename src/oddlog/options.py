"""What commands share: their common options, the settings these make, where they write.

Nothing but typer is imported here at the top; see ``cli``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from oddlog.pipeline import PipelineConfig

Logs = Annotated[list[str], typer.Argument(metavar="FILE", help="Log files; - reads stdin.")]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="DIR", help="The model folder.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="CSV", help="Table of session and label.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="Layout, or a regex with named groups."),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, mps.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting, such as drain.depth=4; repeat."),
]
Track = Annotated[
    str | None,
    typer.Option("--track", metavar="NAME", help="Tell mlflow or trackio of it: no log content."),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Seed of every random choice.")
]


class Unfamiliar(Exception):  # noqa: N818 -- an outcome, not an error
    """Raised to leave with 3: nothing odd in a log that the model hardly knows."""


def consoles() -> tuple[Console, Console]:
    """Return a console for notes and progress (standard error) and one for results.

    Whether a stream is a terminal is asked of the stream alone: a pipe gets JSON even where the
    environment asks for colour.
    """
    from rich.console import Console

    return (
        Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty()),
        Console(highlight=False, force_terminal=sys.stdout.isatty()),
    )


def config_of(
    file: Path | None, assignments: Iterable[str] | None, options: Mapping[str, Any]
) -> PipelineConfig:
    """Join a TOML file, --set and the options; what stands later in this order wins."""
    from oddlog.config import parse_assignments, read_toml
    from oddlog.pipeline import make_config
    from oddlog.pipeline.config import check_detector_name

    values = read_toml(file) if file else {}
    for name, value in parse_assignments(assignments or []).items():
        old = values.get(name)
        values[name] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    where = str(file) if file else "settings"
    check_detector_name(values, where)  # an option would hide what is wrong with it
    values |= {name: value for name, value in options.items() if value is not None}
    return make_config(values, where)
