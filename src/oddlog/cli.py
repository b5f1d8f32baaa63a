"""The command line: each command calls one function of the library and shows what it gives.

Nothing but typer is imported here at the top, so that ``oddlog --help`` answers at once.
Exit codes: 0 done, 1 error, 2 odd sequences found where ``--fail-on-anomaly`` asked for it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl
    from rich.console import Console

    from oddlog.pipeline import PipelineConfig

app = typer.Typer(
    name="oddlog",
    help="Find the odd lines in any log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Logs = Annotated[list[str], typer.Argument(metavar="FILE...", help="Log files; - reads stdin.")]
ModelFolder = Annotated[Path, typer.Option("--model", metavar="DIR", help="The model folder.")]
Labels = Annotated[
    Path | None, typer.Option("--labels", metavar="CSV", help="Table of session and label.")
]
Format = Annotated[
    str | None, typer.Option("--format", help="Layout name, or a regex with named groups.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, mps.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Where to write; by its suffix.")
]


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for logs and model.")
    ] = Path("oddlog-demo"),
    sessions: Annotated[int, typer.Option(min=200, help="Sessions to learn from.")] = 3000,
    seed: Annotated[int, typer.Option(help="Seed of the logs and of the model.")] = 1,
    top: Annotated[int, typer.Option(min=1, help="Odd sequences to show.")] = 3,
) -> None:
    """Simulate a cluster, learn it, find its planted faults: about a minute, no download."""
    from oddlog import terminal
    from oddlog.demo import run_demo
    from oddlog.run import Run

    notes, console = _consoles()
    with terminal.progress_bars(notes) as progress:
        found = run_demo(out, n_sessions=sessions, seed=seed, run=Run(seed, progress=progress))
    if found.pipeline.report:
        terminal.show_notes(notes, found.pipeline.report.lines())
    records = found.result.records(explain=True)
    terminal.show_verdicts(console, records, n_shown=top, n_sequences=len(found.result))
    console.print("\nplanted faults found, by kind:", style="bold")
    terminal.show_recall_by_class(console, found.by_kind)
    own = found.evaluations[found.pipeline.detector.name].decision
    console.print(
        f"false alarms: {own.n_false_alarms} of {own.n_false_alarms + own.n_passed:,} normal "
        f"sessions; the planted line is the first culprit in {found.culprits.first.text(2)} of "
        f"the faults, among the first three in {found.culprits.first_three.text(2)}"
    )
    console.print(f"\nlogs and model are in {out}; next:", style="dim")
    console.print(f"  oddlog score {out}/today/cluster.log --model {out}/model --explain")


@app.command()
def templates(
    logs: Logs,
    out: Out = None,
    format: Format = None,
    top: Annotated[int, typer.Option(min=1, help="Templates to show.")] = 40,
    set: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, such as drain.depth=4.")
    ] = None,
) -> None:
    """Mine templates: id, count, template, example; --out T.parquet gives an id for each line."""
    from oddlog import terminal
    from oddlog.pipeline import mine_templates

    notes, console = _consoles()
    config = _config(None, set, {"format": format})
    with terminal.progress_bars(notes) as progress:
        mined, ids, lines = mine_templates(logs, config, progress)
    terminal.show_notes(notes, lines)
    if out is not None:
        _write_table(out, ids)
    rows = mined.table().sort("count", "template_id", descending=[True, False]).to_dicts()
    if console.is_terminal:
        terminal.show_templates(console, rows, top)
    else:
        _print_json_lines(rows)


@app.command()
def fit(
    logs: Logs,
    model: ModelFolder,
    detector: Annotated[str | None, typer.Option(help="See `oddlog detectors`.")] = None,
    format: Format = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped fit.")] = False,
    window: Annotated[
        str | None,
        typer.Option(help="session | lines:100 | lines:100/50 | time:60s | time:60s/30s"),
    ] = None,
    session_by: Annotated[
        str | None, typer.Option(help="Regex or field that names a line's session.")
    ] = None,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Share of normal sequences that may be flagged.")
    ] = None,
    device: Device = "auto",
    set: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, such as loggpt.width=32.")
    ] = None,
) -> None:
    """Learn what is ordinary in a log, without labels, and write it to a model folder."""
    from oddlog import pipeline, terminal
    from oddlog.datasets import read_labels
    from oddlog.run import Run

    notes, console = _consoles()
    options = {
        "detector": detector,
        "format": format,
        "window": window,
        "session_by": session_by,
        "false_alarm_rate": false_alarm_rate,
    }
    settings = _config(config, set, options)
    table = None if labels is None else read_labels(labels)
    with terminal.progress_bars(notes) as progress:
        run = Run(seed, device, None, resume, progress)
        try:
            fitted = pipeline.fit(logs, settings, model=model, labels=table, run=run)
        except KeyboardInterrupt:
            typer.echo("stopped: no model was written; the same command with --resume continues",
                       err=True)  # fmt: skip
            raise
    terminal.show_notes(notes, fitted.report.lines() if fitted.report else [])
    terminal.show_notes(notes, [fitted.calibration_note()])
    if console.is_terminal:
        console.print(f"{fitted.detector.name} learned this log; the model is in {model}")
    else:
        _print_json_lines([{"model": str(model), **fitted.manifest}])


@app.command()
def score(
    logs: Logs,
    model: ModelFolder,
    out: Out = None,
    format: Format = None,
    explain: Annotated[bool, typer.Option("--explain", help="Name the culprits.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every sequence, not the odd ones.")] = False,
    false_alarm_rate: Annotated[
        float | None, typer.Option(help="Another rate than the model was fitted for.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Odd sequences to show at a terminal.")] = 10,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 2 if anything is odd.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Score a log: the odd sequences at a terminal, JSON lines into a pipe, or a file."""
    import oddlog
    from oddlog import terminal

    notes, console = _consoles()
    with terminal.progress_bars(notes) as progress:
        result = oddlog.load(model, device).score(logs, format=format, progress=progress)
    if false_alarm_rate is not None:
        result = result.at(false_alarm_rate)
    terminal.show_notes(notes, result.notes)
    shown = console.is_terminal and out is None
    records = result.records(every=all and not shown, explain=explain or shown)
    if out is not None:
        _write_records(out, records)
    elif shown:
        terminal.show_verdicts(console, records, n_shown=top, n_sequences=len(result))
    else:
        _print_json_lines(records)
    if fail_on_anomaly and len(result.flagged()):
        raise _OddFound


@app.command()
def evaluate(
    logs: Logs,
    model: ModelFolder,
    labels: Labels = None,
    out: Out = None,
    format: Format = None,
    device: Device = "auto",
) -> None:
    """Judge a model on a labelled log, the trivial rules that were fitted with it beside it."""
    import oddlog
    from oddlog import terminal
    from oddlog.datasets import read_labels

    notes, console = _consoles()
    table = None if labels is None else read_labels(labels)
    with terminal.progress_bars(notes) as progress:
        pipeline = oddlog.load(model, device)
        result = pipeline.score(logs, format=format, labels=table, progress=progress)
        progress("evaluating", 0, 0)
        found = pipeline.evaluate(result)
    terminal.show_notes(notes, result.notes)
    record = {name: evaluation.to_dict() for name, evaluation in found.items()}
    if out is not None:
        from oddlog.artifact import write_json

        write_json(out, record)
    if console.is_terminal:
        terminal.show_evaluations(console, found)
    elif out is None:
        _print_json_lines([record])


@app.command()
def detectors() -> None:
    """List the detectors and their settings."""
    from oddlog.detectors import DETECTORS, detector_class
    from oddlog.errors import ConfigError

    _, console = _consoles()
    rows = []
    for name in DETECTORS:
        try:
            cls = detector_class(name)
        except ConfigError as error:
            rows.append({"detector": name, "missing": str(error)})
            continue
        about = (cls.__doc__ or "").strip().splitlines()[0]
        settings = cls.Config().model_dump()
        rows.append({"detector": name, "learns_from": cls.learns_from, "causal": cls.causal,
                     "about": about, "settings": settings})  # fmt: skip
    if not console.is_terminal:
        _print_json_lines(rows)
        return
    for row in rows:
        learns = f"learns from {row['learns_from']} sequences" if "about" in row else ""
        console.print(f"[bold]{row['detector']}[/bold]  {learns}")
        console.print(f"  {row.get('about', row.get('missing'))}", markup=False)
        told = ", ".join(f"{k}={v}" for k, v in row.get("settings", {}).items())
        console.print(f"  {told or 'no settings'}", style="dim", markup=False)


class _OddFound(Exception):  # noqa: N818 -- an outcome, not an error
    """Raised to leave with 2; the parser's own code for bad usage is 2 as well."""


def main() -> None:
    """Run the command line; the entry point of ``oddlog``."""
    from oddlog.errors import OddlogError

    try:
        app()
    except _OddFound:
        sys.exit(2)
    except OddlogError as error:
        sys.exit(_fail(str(error)))
    except BrokenPipeError:
        # The reader of a pipe has gone: silence what the interpreter would flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as leaving:
        sys.exit(1 if leaving.code == 2 else leaving.code)


def _fail(message: str) -> int:
    from oddlog.terminal import escape

    typer.echo(f"oddlog: {escape(message)}", err=True)
    return 1


def _consoles() -> tuple[Console, Console]:
    """Return a console for notes and progress (standard error) and one for results."""
    from rich.console import Console

    return Console(stderr=True, highlight=False), Console(highlight=False)


def _config(
    file: Path | None, assignments: Iterable[str] | None, options: Mapping[str, Any]
) -> PipelineConfig:
    """Join a TOML file, --set and the options; what stands later in this order wins."""
    from oddlog.config import parse_assignments, read_toml
    from oddlog.pipeline import make_config

    values = read_toml(file) if file else {}
    for name, value in parse_assignments(assignments or []).items():
        old = values.get(name)
        values[name] = (
            {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        )
    values |= {name: value for name, value in options.items() if value is not None}
    return make_config(values, str(file) if file else "settings")


def _print_json_lines(records: Iterable[Mapping[str, Any]]) -> None:
    for record in records:
        sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def _write_records(path: Path, records: list[dict[str, Any]]) -> None:
    import polars as pl

    from oddlog.artifact import write_text

    if path.suffix == ".parquet":
        _write_table(path, pl.DataFrame(records, infer_schema_length=None))
        return
    if path.suffix not in (".jsonl", ".json", ".ndjson"):
        _unknown_suffix(path)
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(path, text)


def _write_table(path: Path, table: pl.DataFrame) -> None:
    if path.suffix != ".parquet":
        _unknown_suffix(path)
    staging = path.with_name(f".{path.name}.tmp")
    table.write_parquet(staging)
    staging.replace(path)


def _unknown_suffix(path: Path) -> None:
    from oddlog.errors import ConfigError

    raise ConfigError(f"--out {path}: unknown suffix; use .parquet, or .jsonl where records go")
