"""The commands below ``oddlog data``: which public sets there are, getting them, checking them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Get public data sets, and check them.", no_args_is_help=True)

Folder = Annotated[
    Path,
    typer.Option("--to", metavar="DIR", envvar="ODDLOG_DATA", help="The data folder."),
]


@app.command("list")
def list_sets() -> None:
    """List the sets that can be fetched, and their terms."""
    from rich.console import Console

    from oddlog import terminal
    from oddlog.datasets import ORIGINS
    from oddlog.output import print_json_lines

    rows = [
        {"name": name, "url": origin.url, "digest": origin.digest, "terms": origin.terms,
         "files": list(origin.places)}
        for name, origin in ORIGINS.items()
    ]  # fmt: skip
    if sys.stdout.isatty():
        terminal.show_origins(Console(highlight=False), rows)
    else:
        print_json_lines(rows)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Sets of `data list`.")],
    folder: Folder,
    mirror: Annotated[
        str | None,
        typer.Option("--from", metavar="DIR|URL", help="Take the archives from here instead."),
    ] = None,
) -> None:
    """Download public sets, check and unpack them."""
    from rich.console import Console

    from oddlog import terminal
    from oddlog.datasets import ORIGINS
    from oddlog.datasets import fetch as fetch_set

    notes = Console(stderr=True, highlight=False, force_terminal=sys.stderr.isatty())
    for name in names:
        with terminal.progress_bars(notes) as progress:
            places = fetch_set(name, folder, mirror=mirror, progress=progress)
        told = [f"{name}: {len(places):,} files in {folder}; {ORIGINS[name].terms}"]
        if ORIGINS[name].digest is None:
            told.append(
                f"{name}: the publisher shows no digest, so that nothing but its server vouches "
                "for it; later downloads are held against this one"
            )
        terminal.show_notes(notes, told)
        for place in places:
            typer.echo(place)


@app.command()
def check(folder: Folder) -> None:
    """Tell of fetched files that have changed.

    Each is held against what was written down of it; exits with 1 if one differs.
    """
    from oddlog.datasets import read_receipts, wrong_files
    from oddlog.errors import FormatError

    receipts = read_receipts(folder)
    wrong = {name: wrong_files(folder, receipt) for name, receipt in receipts.items()}
    for name, places in wrong.items():
        typer.echo(f"{name}: {', '.join(places) + ': missing or changed' if places else 'right'}")
    if bad := [name for name, places in wrong.items() if places]:
        raise FormatError(f"{folder}: `oddlog data fetch {' '.join(bad)}` gets them again")
    if not receipts:
        typer.echo(f"nothing was fetched into {folder}")
