"""What a person reads at the terminal: notes, progress, verdicts, tables.

Log content is shown as text, never as markup, with control characters spelled out, so that no
line of a log can colour, hide or rewrite what the terminal shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from oddlog.drift import Unknown
from oddlog.evaluate import (
    RATES,
    ClassEvaluation,
    ClassRecall,
    Decision,
    Estimate,
    Evaluation,
    class_title,
)
from oddlog.explain import likely_kind, telling
from oddlog.findings import Alert
from oddlog.run import Progress as Report
from oddlog.run import silent
from oddlog.visible import escape

if TYPE_CHECKING:
    from oddlog.watch import WatchStats

MIN_LINE = 20
N_CULPRITS = 3
N_EXPECTED = 3
N_UNKNOWN = 5
SECONDS = 19  # characters of an ISO 8601 time up to its seconds
TIME_OF_DAY = slice(11, SECONDS)


def shorten(text: str, width: int) -> str:
    """Return the escaped text, cut in the middle to a width in cells, as both ends of a line tell.

    Example:
        >>> shorten("connection to 10.0.0.7 refused after 30 s", 24)
        'connection to 1…ter 30 s'
    """
    if len(text) <= width and cell_len(shown := escape(text)) <= width:
        return shown
    n_head = (width - 1) * 2 // 3
    head = set_cell_size(escape(text[:width]), n_head)
    tail = set_cell_size(escape(text[-width:])[::-1], width - 1 - n_head)[::-1]
    return f"{head}…{tail}"


@contextmanager
def progress_bars(console: Console) -> Iterator[Report]:
    """Yield a progress callback that draws one bar per stage; silent where nobody watches.

    A stage that has ended, or of which nobody knows when it ends, is gone as the next one begins.
    """
    if not console.is_terminal:
        yield silent
        return
    bars = Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, Any] = {}
    going_on: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        for name in tasks.keys() - going_on - {stage}:
            bars.update(tasks[name], visible=False)
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total or None)
        (going_on.add if done < total else going_on.discard)(stage)
        bars.update(tasks[stage], completed=done, total=total or None, visible=True)

    with bars:
        yield report


def show_notes(console: Console, notes: Sequence[str]) -> None:
    """Print what was done: one line each, folded under itself where a person watches."""
    for note in notes:
        _fold(console, note, style="dim")


def show_warning(console: Console, text: str) -> None:
    """Print what a person should act on, folded under itself where one watches."""
    _fold(console, text, style="yellow")


def _fold(console: Console, text: str, style: str = "", indent: str = "") -> None:
    lines = [indent + escape(text)]
    if console.is_terminal:
        lines = wrap(
            escape(text),
            console.width,
            initial_indent=indent,
            subsequent_indent=indent or "  ",
            break_long_words=False,
        )
    console.print(Text("\n".join(lines), style=style), soft_wrap=True)


def show_next(console: Console, command: str) -> None:
    """Print the command that a person may want next, whole, so that it can be copied."""
    console.print(Text.assemble(("next: ", "dim"), (escape(command), "bold")), soft_wrap=True)


def show_verdicts(
    console: Console, records: Sequence[Mapping[str, Any]], *, n_shown: int, n_sequences: int
) -> None:
    """Print sequences, worst first, each with its culprits and what was expected.

    They are those flagged, or where nothing can be flagged, those that score highest.
    """
    if not n_sequences:
        console.print(Text("nothing was judged: there are no sequences", style="yellow"))
        return
    if not records:
        console.print(Text(f"nothing odd in {n_sequences:,} sequences", style="green"))
        return
    if records[0]["flagged"]:
        told = f"{len(records):,} of {n_sequences:,} sequences are odd, worst first"
    else:
        told = f"no verdict on {n_sequences:,} sequences; those that score highest, odd or not"
    _fold(console, told, "bold")
    for number, record in enumerate(records[:n_shown], start=1):
        console.print()
        _show_verdict(console, number, record)
    if len(records) > n_shown:
        rest = len(records) - n_shown
        console.print(Text(f"\n... and {rest:,} more; --out FILE.jsonl keeps them all", "dim"))


def show_unknown(console: Console, unknown: Unknown) -> None:
    """Print templates that were not known at fit time, those in the most sequences first."""
    if not unknown.templates:
        return
    console.print(Text("\nunknown at fit time, by sequences that hold it", style="bold"))
    width = max(MIN_LINE, console.width - 12)
    for found in unknown.templates[:N_UNKNOWN]:
        text = shorten(found.text, width)
        console.print(Text.assemble((f"{found.n_sequences:>9,} | ", "cyan"), text), soft_wrap=True)
    if (rest := unknown.n_templates - N_UNKNOWN) > 0:
        console.print(Text(f"          ... and {rest:,} more", "dim"))


def _show_verdict(console: Console, number: int, record: Mapping[str, Any]) -> None:
    times = [str(record[name])[:SECONDS].replace("T", " ") for name in ("first_time", "last_time")]
    when = f"  {times[0]} to {times[1][TIME_OF_DAY]}" if record["first_time"] else ""
    room = console.width - len(when) - 5
    if room < MIN_LINE:  # the times have a line of their own
        when, room = f"\n     {when.strip()}", console.width - 5
    key = shorten(str(record["key"]), max(MIN_LINE, room))
    console.print(
        Text.assemble((f"{number:>3}  ", "dim"), (key, "bold red"), (when, "dim")), soft_wrap=True
    )
    told = (
        f"lines {record['first_line']:,}-{record['last_line']:,}, {record['n_events']:,} events; "
        f"score {record['score']:.3g}, p {record['p_value']:.2g}"
    )
    culprits = record.get("culprits") or []
    if culprits and culprits[0].get("by"):
        told = f"{told}, by {culprits[0]['by']}"
    if record["n_sources"] > 1:
        told = f"and {record['n_sources'] - 1} more, {told}"
    source = shorten(str(record["source"]), max(MIN_LINE, console.width - len(told) - 6))
    _fold(console, f"{source} {told}", "dim", "     ")
    if kind := likely_kind(record):
        name, share = kind
        console.print(Text(f"     looks like {escape(name)}, {share:.0%}", "yellow"))
    for culprit in telling(culprits, N_CULPRITS):
        _show_culprit(console, culprit, record["source"])


def show_alert(console: Console, alert: Alert) -> None:
    """Print an alert as it is raised: when, which session, what is odd, what was expected."""
    time = alert.last_time or alert.raised
    when = f"{time.isoformat()[:SECONDS].replace('T', ' ')}  " if time else ""
    key = shorten(alert.key, max(MIN_LINE, console.width - len(when)))
    console.print(Text.assemble((when, "dim"), (key, "bold red")), soft_wrap=True)
    if alert.note:
        _fold(console, alert.note, "yellow", "    ")
        return
    seen = f", {alert.count:,} times" if alert.count > 1 else ""
    told = f"p {alert.p_value:.2g}, {alert.n_events:,} events{seen}"
    told += ", still open" if alert.early else ""
    signature = shorten(alert.signature, max(MIN_LINE, console.width - len(told) - 6))
    if len(signature) + len(told) + 6 > console.width:
        _fold(console, signature, indent="    ")
        _fold(console, told, "dim", "    ")
    else:
        console.print(Text.assemble(f"    {signature}", (f"  {told}", "dim")), soft_wrap=True)
    source = alert.sources[0] if alert.sources else ""
    for culprit in telling(alert.culprits, N_CULPRITS):
        _show_culprit(console, culprit, source)


def status_line(stats: WatchStats, lines_per_s: float, width: int) -> Text:
    """Return how a watch stands, in one line."""
    parts = [
        f"{lines_per_s:,.0f} lines/s",
        f"{stats.n_open:,} open",
        f"{stats.n_alerts:,} alerts",
        f"{stats.unknown_rate:.1%} unknown",
    ]
    if stats.expected_per_day is not None:
        parts.append(f"{stats.expected_per_day:,.1f} false alarms/day")
    if stats.n_evicted:
        parts.append(f"{stats.n_evicted:,} evicted")
    if stats.drifting:
        parts.append("drifting")
    return Text(shorten(" · ".join(parts), width), style="dim")


def _show_culprit(console: Console, culprit: Mapping[str, Any], source: str) -> None:
    prefix = f"{culprit['line']:>9,} | "
    width = max(MIN_LINE, console.width - len(prefix))
    time = f"{culprit['time'][TIME_OF_DAY]} " if culprit["time"] else ""
    time = time if width - len(time) >= MIN_LINE else ""
    message = shorten(culprit["message"], max(MIN_LINE, width - len(time)))
    console.print(Text.assemble((prefix, "cyan"), (time, "dim"), message), soft_wrap=True)
    indent = " " * (len(prefix) - 2) + "| "
    if culprit["source"] != source:
        told = shorten(f"in {culprit['source']}", width)
        console.print(Text(f"{indent}{told}", style="dim"), soft_wrap=True)
    if culprit["missing"]:
        console.print(Text(f"{indent}something is missing", style="yellow"))
    elif culprit["template_id"] < 0:
        console.print(Text(f"{indent}never seen in training", style="yellow"))
    for number, expected in enumerate(culprit["expected"][:N_EXPECTED]):
        word = "expected" if number == 0 else "      or"
        share = f"{expected['probability']:>4.0%} "
        room = max(MIN_LINE, width - len(word) - len(share) - 1)
        console.print(
            Text(f"{indent}{word} {share}{shorten(expected['template'], room)}", style="green"),
            soft_wrap=True,
        )


def show_detectors(console: Console, detectors: Sequence[Mapping[str, Any]]) -> None:
    """Print each detector with what it is, what it learns from and its settings."""
    for found in detectors:
        if "missing" in found:
            console.print(Text(found["detector"], style="bold"))
            _fold(console, found["missing"], "yellow", "  ")
            continue
        learns = f"  learns from {found['learns_from']} sequences"
        console.print(Text.assemble((found["detector"], "bold"), learns))
        _fold(console, found["about"], indent="  ")
        settings = ", ".join(f"{name}={value}" for name, value in found["settings"].items())
        _fold(console, settings or "no settings", "dim", "  ")


def show_origins(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the public sets that can be fetched: what they are, where from, on which terms."""
    for row in rows:
        digest = row["digest"] or "no digest is published"
        console.print(Text.assemble((row["name"], "bold"), "  ", ", ".join(row["files"])))
        for told in (row["url"], digest, row["terms"]):
            _fold(console, told, "dim", "  ")


def show_templates(console: Console, rows: Sequence[Mapping[str, Any]], n_shown: int) -> None:
    """Print templates with their counts, the most frequent first, and an example of each."""
    width = max(MIN_LINE, console.width - 22)
    for row in rows[:n_shown]:
        console.print(
            Text.assemble(
                (f"{row['template_id']:>6} ", "dim"),
                (f"{row['count']:>11,}  ", "cyan"),
                shorten(row["template"], width),
            ),
            soft_wrap=True,
        )
    if len(rows) > n_shown:
        console.print(Text(f"... and {len(rows) - n_shown:,} more; --out keeps them all", "dim"))


def _cell(estimate: Estimate, digits: int = 3) -> str:
    if estimate.value is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.{digits}f}"
    return f"{estimate.value:.{digits}f}\n{estimate.low:.{digits}f}-{estimate.high:.{digits}f}"


def show_evaluations(console: Console, evaluations: Mapping[str, Evaluation]) -> None:
    """Print two tables: how the scores rank, and what each asked false-alarm rate gives."""
    first = next(iter(evaluations.values()))
    console.print(
        f"{first.n_sequences:,} sequences, {first.n_anomalous:,} of them anomalous; "
        f"below each figure its {first.confidence:.0%} interval\n"
    )
    ranking = Table("detector", "AUPRC", "AUROC", box=None, header_style="bold", pad_edge=False)
    for name, found in evaluations.items():
        ranking.add_row(name, _cell(found.ranking.auprc), _cell(found.ranking.auroc, 4))
    console.print(ranking)
    console.print()
    rates = Table("detector", "asked", "realised", "recall", "precision", "F1",
                  box=None, header_style="bold", pad_edge=False)  # fmt: skip
    for name, found in evaluations.items():
        for at in found.at_rates:
            rates.add_row(
                name,
                f"{at.asked:.1%}",
                _cell(at.decision.false_alarm_rate, 4),
                _cell(at.decision.recall),
                _cell(at.decision.precision),
                _cell(at.decision.f1),
            )
    console.print(rates)
    judged = {at.asked for found in evaluations.values() for at in found.at_rates}
    for rate in (rate for rate in RATES if rate not in judged):
        needed = math.ceil(1 / rate) - 1
        console.print(Text(f"{rate:.1%} needs {needed:,} calibration sequences", "dim"))


def show_classes(console: Console, found: ClassEvaluation) -> None:
    """Print how well the classes are told apart, and which is taken for which."""
    console.print(
        f"\nthe likeliest class: accuracy {found.accuracy.text()},\n"
        f"macro F1 {found.macro_f1.text()}\n"
    )
    figures = Table("class", "sequences", "precision", "recall", "F1", "mostly taken for",
                    box=None, header_style="bold", pad_edge=False)  # fmt: skip
    for row, own in zip(found.confusion, found.classes, strict=True):
        wrong = sorted(
            ((n, name) for n, name in zip(row, found.names, strict=True) if n and name != own.name),
            reverse=True,
        )
        taken = ", ".join(f"{shorten(class_title(name), 20)} {n:,}" for n, name in wrong[:2])
        figures.add_row(
            Text(shorten(class_title(own.name), 20)),
            f"{own.n:,}",
            *(_cell(figure) for figure in (own.precision, own.recall, own.f1)),
            Text(taken),
        )
    console.print(figures)


def show_counts(console: Console, decision: Decision, rate: float) -> None:
    """Print the four counts behind a decision at the asked rate."""
    n_anomalous, n_normal = (
        decision.n_hits + decision.n_missed,
        decision.n_false_alarms + decision.n_passed,
    )
    console.print(
        Text(
            f"at {rate:.1%} asked: {decision.n_hits:,} of {n_anomalous:,} anomalous flagged, "
            f"{decision.n_false_alarms:,} of {n_normal:,} normal; by class:"
        )
    )


def show_recall_by_class(console: Console, classes: Sequence[ClassRecall]) -> None:
    """Print how many of each kind of anomaly were flagged, as bars."""
    widest = max((len(found.name) for found in classes), default=0)
    for found in classes:
        share = found.recall.value or 0.0
        bar = "█" * round(20 * share)
        console.print(
            Text.assemble(
                f"  {escape(found.name):<{widest}}  ",
                (f"{bar:<20}", "green" if share >= 0.9 else "yellow"),
                f" {share:>4.0%} of {found.n:,}",
            ),
            soft_wrap=True,
        )
