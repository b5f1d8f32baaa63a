"""The command line: each command calls one function of the library and shows what it gives.

Nothing but typer is imported here at the top, so that ``oddlog --help`` answers at once.
Exit codes: 0 done, 1 error, 2 odd sequences found where ``--fail-on-anomaly`` asked for it, 3 none
found in a log that the model hardly knows: there, and where a watch comes to the end of such a log.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddlog import __version__
from oddlog.bench_cli import bench
from oddlog.data_cli import app as data_app
from oddlog.options import (
    Device,
    Format,
    Labels,
    Logs,
    ModelFolder,
    Seed,
    Settings,
    Track,
    Unfamiliar,
)
from oddlog.options import config_of as _config
from oddlog.options import consoles as _consoles
from oddlog.output import (
    check_out,
    origin,
    print_json_lines,
    reason,
    write_json_lines,
    write_table,
    write_tables,
)
from oddlog.serve_cli import serve
from oddlog.tune_cli import tune
from oddlog.watch_cli import feedback, watch

if TYPE_CHECKING:
    from rich.console import Console

    from oddlog.pipeline import Verdicts

app = typer.Typer(
    name="oddlog",
    help="Find the odd lines in any log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(data_app, name="data")
app.command()(bench)

RECORDS, TABLE, JSON = (".jsonl", ".ndjson", ".parquet"), (".parquet",), (".json",)
REPORT, ONNX = (".html",), (".onnx",)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oddlog {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Find the odd lines in any log."""


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for logs and model.")
    ] = Path("oddlog-demo"),
    sessions: Annotated[
        int, typer.Option(metavar="N", min=600, help="Sessions to learn from.")
    ] = 3000,
    seed: Seed = 1,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Odd sequences to show.")] = 3,
) -> None:
    """Simulate a cluster, learn it, find its planted faults.

    Takes about a minute and downloads nothing.
    """
    from oddlog import terminal
    from oddlog.demo import REPORT_NAME, run_demo
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
    terminal.show_notes(console, found.lines())
    terminal.show_notes(console, [f"report: {out}/{REPORT_NAME}"])
    terminal.show_next(console, f"oddlog score {out}/today/cluster.log --model {out}/model")


@app.command()
def templates(
    logs: Logs,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an id for each event (.parquet).")
    ] = None,
    format: Format = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Templates to show.")] = 40,
    set: Settings = None,
) -> None:
    """Mine the templates of a log: id, count, text, example."""
    from oddlog import terminal
    from oddlog.errors import ConfigError
    from oddlog.pipeline import mine_templates, template_ids

    notes, console = _consoles()
    check_out(out, TABLE)
    if out is not None and "-" in map(str, logs):
        raise ConfigError(
            "--out: templates are complete when the log has been read, and ids are given in a "
            "second reading, which standard input does not have; write it to a file"
        )
    config = _config(None, set, {"format": format})
    with terminal.progress_bars(notes) as progress:
        mined, lines = mine_templates(logs, config, progress)
    terminal.show_notes(notes, lines)
    if out is not None:
        write_tables(out, template_ids(logs, config, mined))
    rows = mined.table().sort("count", "template_id", descending=[True, False]).to_dicts()
    if console.is_terminal:
        terminal.show_templates(console, rows, top)
    elif out is None:
        print_json_lines(rows)


@app.command()
def fit(
    logs: Logs,
    model: ModelFolder,
    detector: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default loggpt; see `oddlog detectors`.")
    ] = None,
    format: Format = None,
    labels: Labels = None,
    seed: Seed = 0,
    config: Annotated[Path | None, typer.Option(metavar="TOML", help="Settings.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a stopped fit.")] = False,
    window: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="session, lines:100, lines:100/50, time:60s, time:60s/30s."
        ),
    ] = None,
    session_by: Annotated[
        str | None,
        typer.Option(metavar="REGEX", help="What names a line's session; or a field."),
    ] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of normal sequences, how many may be flagged."),
    ] = None,
    assume_anomalies: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Of unlabelled sequences, how many to leave out as odd."
        ),
    ] = None,
    device: Device = "auto",
    set: Settings = None,
    tracker: Track = None,
) -> None:
    """Learn what is ordinary in a log, without labels."""
    from oddlog import pipeline, terminal
    from oddlog.datasets import read_labels
    from oddlog.run import Run
    from oddlog.track import told_of_epochs, track

    notes, console = _consoles()
    options = {
        "detector": detector,
        "format": format,
        "window": window,
        "session_by": session_by,
        "false_alarm_rate": false_alarm_rate,
        "assume_anomalies": assume_anomalies,
    }
    settings = _config(config, set, options)
    table = None if labels is None else read_labels(labels)
    name = f"fit {settings.detector}"
    with track(tracker, name) as told, terminal.progress_bars(notes) as progress:
        told.settings({"seed": seed, **settings.model_dump(mode="json")})
        run = Run(seed, device, None, resume, progress, told_of_epochs(told))
        try:
            fitted = pipeline.fit(logs, settings, model=model, labels=table, run=run)
        except KeyboardInterrupt:
            notes.print("stopped: no model was written; the same command with --resume goes on")
            raise
        told.metrics(fitted.report.counts() if fitted.report else {})
        told.artifact("model", model)
    terminal.show_notes(notes, fitted.report.lines() if fitted.report else [])
    told = [fitted.trimmed_note(model), fitted.calibration_note()]
    terminal.show_notes(notes, [note for note in told if note])
    if console.is_terminal:
        terminal.show_notes(console, [f"{fitted.detector.name} has learned this log"])
        terminal.show_next(console, f"oddlog score FILE --model {model}")
    else:
        print_json_lines([{"model": str(model), **fitted.manifest}])


@app.command()
def update(
    logs: Logs,
    model: ModelFolder,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write here; leave the old model alone.")
    ] = None,
    format: Format = None,
    labels: Labels = None,
    seed: Seed = 0,
    device: Device = "auto",
    set: Settings = None,
) -> None:
    """Learn the ways of a changed system; the old model is kept."""
    from oddlog import pipeline, terminal
    from oddlog.config import parse_assignments
    from oddlog.datasets import read_labels
    from oddlog.run import Run

    notes, console = _consoles()
    settings = parse_assignments(set or []) | ({"format": format} if format else {})
    table = None if labels is None else read_labels(labels)
    with terminal.progress_bars(notes) as progress:
        where = {"model": model, "out": out, "run": Run(seed, device, progress=progress)}
        found = pipeline.update(logs, settings=settings, labels=table, **where)
    terminal.show_notes(notes, found.lines())
    if console.is_terminal:
        terminal.show_next(console, f"oddlog score FILE --model {out or model}")
    else:
        print_json_lines([{"model": str(out or model), **found.to_dict()}])


@app.command()
def score(
    logs: Logs,
    model: ModelFolder,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write: .html (a report), .jsonl or .parquet."),
    ] = None,
    format: Format = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Name the culprits; always done at a terminal.")
    ] = False,
    all: Annotated[
        bool, typer.Option("--all", help="Every sequence, odd or not, as JSON lines.")
    ] = False,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Another rate than the model was fitted for."),
    ] = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Odd sequences to show at a terminal.")
    ] = 10,
    fail_on_anomaly: Annotated[
        bool,
        typer.Option("--fail-on-anomaly", help="Exit with 2 if anything is odd; 3: cannot tell."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Score many files by N processes.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Score them by a Dask cluster.")
    ] = None,
    scratch: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A folder that all workers see and write to."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Name the odd sequences of a log.

    A terminal gets a table, a pipe JSON lines.
    """
    import oddlog
    from oddlog import terminal
    from oddlog.errors import ConfigError
    from oddlog.pipeline import Wanted, score_log
    from oddlog.scale import engine_of, score_files

    notes, console = _consoles()
    check_out(out, (*REPORT, *RECORDS))
    if all and out is not None and out.suffix in REPORT:
        raise ConfigError(
            f"--all --out {out}: a report holds odd sequences; use .jsonl or .parquet"
        )
    if (workers or dask) and device != "auto":
        raise ConfigError(f"--device {device}: workers choose theirs; score without them")
    shown = console.is_terminal and not all and out is None
    with (
        terminal.progress_bars(notes) as progress,
        engine_of(workers, dask, scratch) as engine,
    ):
        pipeline = oddlog.load(model, device)
        if fail_on_anomaly:
            pipeline.check_can_flag(false_alarm_rate)
        report = out is not None and out.suffix in REPORT
        explained = (explain or shown) and not report  # a report explains what it tells of
        wanted = Wanted(all, explained, false_alarm_rate, top if shown else 0, report)
        if engine is None:
            found = score_log(pipeline, logs, wanted, format=format, progress=progress)
        else:
            found = score_files(model, logs, engine, wanted, format=format, progress=progress)
        if out is not None and report:
            found.to_html(out, about={**origin(), "model": str(model), **pipeline.about()})
    terminal.show_notes(notes, found.lines())
    foreign = found.familiarity.warning
    if warning := foreign or found.drift.warning:
        terminal.show_warning(notes, warning)
    if not report:
        _show_verdicts(found, out, console if shown else None, top)
    if fail_on_anomaly and len(found.flagged()):
        raise _OddFound
    if fail_on_anomaly and foreign:
        raise Unfamiliar


def _show_verdicts(found: Verdicts, out: Path | None, console: Console | None, top: int) -> None:
    """Write verdicts where they are wanted: to a file, a terminal, or as JSON lines."""
    from oddlog import terminal

    if out is not None and out.suffix in TABLE:
        write_table(out, found.table)
    elif out is not None:
        write_json_lines(out, found.records())
    elif console is not None:
        records = list(found.records())
        terminal.show_verdicts(console, records, n_shown=top, n_sequences=len(found))
        terminal.show_unknown(console, found.drift.unknown)
    else:
        print_json_lines(found.records())


@app.command()
def evaluate(
    logs: Logs,
    model: ModelFolder,
    labels: Labels = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write the figures: .json.")
    ] = None,
    format: Format = None,
    device: Device = "auto",
) -> None:
    """Judge a model on a labelled log, beside trivial rules."""
    import oddlog
    from oddlog import terminal
    from oddlog.artifact import write_json
    from oddlog.datasets import read_labels
    from oddlog.evaluate import recall_by_class
    from oddlog.pipeline import evaluate_log

    notes, console = _consoles()
    check_out(out, JSON)
    table = None if labels is None else read_labels(labels)
    with terminal.progress_bars(notes) as progress:
        pipeline = oddlog.load(model, device)
        found = evaluate_log(pipeline, logs, table, format=format, progress=progress)
    terminal.show_notes(notes, found.notes)
    judged = found.evaluations
    record = {name: evaluation.to_dict() for name, evaluation in judged.items()}
    if out is not None:
        write_json(out, record)
    if console.is_terminal:
        own = judged[pipeline.detector.name]
        terminal.show_evaluations(console, judged)
        terminal.show_counts(console, own.decision, found.false_alarm_rate)
        terminal.show_recall_by_class(console, recall_by_class(found.labels, found.flags))
        if classes := own.classes:
            terminal.show_classes(console, classes)
    elif out is None:
        print_json_lines([record])


@app.command()
def export(
    model: ModelFolder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the network: .onnx.")],
) -> None:
    """Write a model's network as ONNX, its tokens as JSON."""
    import oddlog
    from oddlog import pipeline, terminal

    _, console = _consoles()
    check_out(out, ONNX)
    written = pipeline.export(oddlog.load(model, "cpu"), out)
    if console.is_terminal:
        terminal.show_notes(console, [f"wrote {path}" for path in written])
    else:
        print_json_lines([{"files": [str(path) for path in written]}])


@app.command()
def detectors() -> None:
    """List the detectors and their settings."""
    from oddlog import terminal
    from oddlog.detectors import DETECTORS, describe

    _, console = _consoles()
    rows = [describe(name) for name in DETECTORS]
    if console.is_terminal:
        terminal.show_detectors(console, rows)
    else:
        print_json_lines(rows)


class _OddFound(Exception):  # noqa: N818 -- an outcome, not an error
    """Raised to leave with 2; the parser's own code for bad usage is 2 as well."""


for _command in (tune, watch, feedback, serve):
    app.command()(_command)


def main() -> None:
    """Run the command line; the entry point of ``oddlog``."""
    from oddlog.errors import OddlogError

    # Threads that spin while they wait make a network several times slower on a busy machine; one
    # that is imported later reads this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except _OddFound:
        sys.exit(2)
    except Unfamiliar:
        sys.exit(3)
    except OddlogError as error:
        sys.exit(_fail(str(error)))
    except BrokenPipeError:
        # The reader of a pipe has gone: silence what the interpreter would flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written to
        sys.exit(_fail(f"{error.filename or 'cannot go on'}: {reason(error)}"))
    except SystemExit as leaving:
        sys.exit(1 if leaving.code == 2 else leaving.code)


def _fail(message: str) -> int:
    from oddlog.visible import escape

    typer.echo(f"oddlog: {escape(message)}", err=True)
    return 1
