"""What a person reads at the terminal: notes, progress, verdicts, tables.

Log content is shown as text, never as markup, with control characters spelled out, so that no
line of a log can colour, hide or rewrite what the terminal shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from oddlog.evaluate import ClassRecall, Estimate, Evaluation
from oddlog.run import Progress as Report
from oddlog.run import silent

MIN_LINE = 20


def escape(text: str) -> str:
    r"""Spell out what a terminal would act on instead of showing: ``\x1b``, ``\n`` and the like.

    Example:
        >>> escape("red \x1b[31m alert")
        'red \\x1b[31m alert'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def shorten(text: str, width: int) -> str:
    """Return the escaped text, cut in the middle to a width, as both ends of a line tell."""
    shown = escape(text)
    if len(shown) <= width:
        return shown
    head = (width - 1) * 2 // 3
    return f"{shown[:head]}…{shown[len(shown) - (width - 1 - head) :]}"


@contextmanager
def progress_bars(console: Console) -> Iterator[Report]:
    """Yield a progress callback that draws one bar per stage; silent where nobody watches."""
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

    def report(stage: str, done: int, total: int) -> None:
        for name, task in tasks.items():
            if name != stage:
                bars.update(task, visible=False)
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total or None)
        bars.update(tasks[stage], completed=done, total=total or None, visible=True)

    with bars:
        yield report


def show_notes(console: Console, notes: Sequence[str]) -> None:
    """Print what was done, one dim line each."""
    for note in notes:
        console.print(Text(escape(note), style="dim"), soft_wrap=False)


def show_verdicts(
    console: Console, records: Sequence[Mapping[str, Any]], *, n_shown: int, n_sequences: int
) -> None:
    """Print the flagged sequences, worst first, each with its culprits and what was expected."""
    if not records:
        console.print(Text(f"nothing odd in {n_sequences:,} sequences", style="green"))
        return
    console.print(
        Text(f"{len(records):,} of {n_sequences:,} sequences are odd, worst first", style="bold")
    )
    for number, record in enumerate(records[:n_shown], start=1):
        console.print()
        _show_verdict(console, number, record)
    if len(records) > n_shown:
        rest = len(records) - n_shown
        console.print(Text(f"\n... and {rest:,} more; --out FILE.jsonl keeps them all", "dim"))


def _show_verdict(console: Console, number: int, record: Mapping[str, Any]) -> None:
    head = Text(f"{number:>3}  ", style="dim")
    head.append(shorten(str(record["key"]), 40), style="bold red")
    head.append(
        f"  score {record['score']:.3g}  p {record['p_value']:.2g}"
        f"  {record['n_events']} events  lines {record['first_line']:,}-{record['last_line']:,}",
        style="dim",
    )
    console.print(head, soft_wrap=True)
    for culprit in record.get("culprits", [])[:3]:
        _show_culprit(console, culprit)


def _show_culprit(console: Console, culprit: Mapping[str, Any]) -> None:
    prefix = f"{culprit['line']:>9,} | "
    width = max(MIN_LINE, console.width - len(prefix))
    console.print(Text.assemble((prefix, "cyan"), shorten(culprit["text"], width)), soft_wrap=True)
    indent = " " * (len(prefix) - 2) + "| "
    if culprit["stopped"]:
        console.print(Text(f"{indent}nothing came after it", style="yellow"))
    elif culprit["template_id"] < 0:
        console.print(Text(f"{indent}never seen in training", style="yellow"))
    for number, expected in enumerate(culprit["expected"]):
        word = "expected" if number == 0 else "      or"
        share = f"{expected['probability']:>4.0%} "
        room = max(MIN_LINE, width - len(word) - len(share) - 1)
        console.print(
            Text(f"{indent}{word} {share}{shorten(expected['template'], room)}", style="green"),
            soft_wrap=True,
        )


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
        f"below each figure its {first.confidence:.0%} interval"
    )
    ranking = Table("detector", "AUPRC", "AUROC", box=None, header_style="bold", pad_edge=False)
    for name, found in evaluations.items():
        ranking.add_row(name, _cell(found.ranking.auprc), _cell(found.ranking.auroc, 4))
    console.print(ranking)
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
