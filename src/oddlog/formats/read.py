"""Sources to events: read lines, settle the format, parse, report what became of every line."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from oddlog.errors import FormatError
from oddlog.formats.detect import SAMPLE_LINES, detect
from oddlog.formats.layouts import Layout, layout_named
from oddlog.formats.lines import Block, Repairs, iter_lines, modified
from oddlog.formats.parse import Parsed, Plan, parse, plan
from oddlog.formats.shaped import shapes_of_block
from oddlog.formats.structured import field_names
from oddlog.shapes import Shaped
from oddlog.threads import ahead

CHUNK_LINES = 200_000
MOST_NAMED = 20  # fields, to somebody who named one that is not there
NO_MATCH = "; no line is of that format: is it another kind of log? --format says which"


@dataclass(frozen=True)
class ReadReport:
    r"""What became of one source's lines, or of those of one chunk of it.

    Attributes:
        source: Path, or "-".
        format: Name of the layout.
        note: Why it was picked.
        n_lines: Lines read.
        n_events: Events made of them.
        n_joined: Lines that belong to the event of a line before.
        n_unmatched: Events of a line that did not match and had no event to join; their message is
            the whole line.
        n_bad_times: Events whose header has a time that is none, or that cannot be placed.
        n_without_message: Events of JSON or logfmt without a message: theirs is the whole line.
        n_repaired: Lines with bytes that are not UTF-8. Each such byte is written as ``\xNN``, so
            that nothing of it is lost; a line that has those four characters of its own looks the
            same, which is why the lines are counted.
        n_nul: Lines with NUL characters, which are kept.
        n_cr: Lines that ended in carriage returns, which belong to the line's end.
        n_coloured: Lines with codes that colour them at a terminal, which are taken out.
    """

    source: str
    format: str
    note: str
    n_lines: int
    n_events: int
    n_joined: int
    n_unmatched: int
    n_bad_times: int = 0
    n_without_message: int = 0
    n_repaired: int = 0
    n_nul: int = 0
    n_cr: int = 0
    n_coloured: int = 0

    def summary(self) -> str:
        """Return one line for a person; counts that are zero are left out."""
        asides = {
            "joined to the event before": self.n_joined,
            "matching nothing": self.n_unmatched,
            "with a bad time": self.n_bad_times,
            "without a message": self.n_without_message,
            "with bytes that are not UTF-8": self.n_repaired,
            "with NUL": self.n_nul,
            "freed of colour codes": self.n_coloured,
        }
        told = "".join(f", {n:,} {what}" for what, n in asides.items() if n)
        return (
            f"{self.source}: {self.n_lines:,} lines, {self.n_events:,} events as {self.format}"
            f"{told} ({self.note}){'' if self._matches else NO_MATCH}"
        )

    @property
    def _matches(self) -> bool:
        return not self.n_events or self.n_unmatched < self.n_events


def read_events(
    source: str | Path,
    format: str | Layout = "auto",
    *,
    session_by: str | None = None,
    reference: datetime | None = None,
    columns: Collection[str] | None = None,
) -> tuple[pl.DataFrame, ReadReport]:
    """Read a whole source into one event table.

    Args:
        source: Path of a file, plain or gzip, zstd, bzip2 or xz by its content; "-" is standard
            input.
        format: Name in ``LAYOUTS``, a layout, or "auto".
        session_by: Regex (each distinct match in a message is a session; with a group, the group)
            or name of a field; None for the layout's own rule.
        reference: Time with a zone; a time without a year gets the latest year that does not put it
            more than a day after. None for the source's own time of change.
        columns: Of time, level, host, sessions and label those that are needed, None for all; the
            others may be left empty, which is faster.

    Returns:
        The events (``EVENT_COLUMNS`` without ``template_id``) and the report.

    Raises:
        FormatError: The source is missing, no file, damaged, binary, or has not one value of the
            field that ``session_by`` names.
        ConfigError: An unknown format, or a bad regex.
    """
    tables, reports = [], []
    parts = iter_events(source, format, session_by=session_by, reference=reference, columns=columns)
    for events, report in parts:
        tables.append(events)
        reports.append(report)
    return pl.concat(tables), total(reports)


def iter_events(
    source: str | Path,
    format: str | Layout = "auto",
    *,
    session_by: str | None = None,
    chunk_lines: int = CHUNK_LINES,
    reference: datetime | None = None,
    columns: Collection[str] | None = None,
) -> Iterator[tuple[pl.DataFrame, ReadReport]]:
    """Read a source in tables of about ``chunk_lines`` lines: the events of ``read_events``.

    Memory is bounded by the chunk and the longest record. There is at least one table, which is
    empty if the source is. A report counts its own chunk, but lines that were repaired are counted
    with the chunk during which they were read. For arguments and errors see ``read_events``.
    """
    shaped = iter_shaped(
        source,
        format,
        session_by=session_by,
        chunk_lines=chunk_lines,
        reference=reference,
        columns=columns,
    )
    for chunk in shaped:
        yield chunk.events, chunk.report


class Chunk(NamedTuple):
    """Events, their report, and the shapes of their messages where these are known."""

    events: pl.DataFrame
    report: ReadReport
    shaped: Shaped | None


def iter_shaped(
    source: str | Path,
    format: str | Layout = "auto",
    *,
    session_by: str | None = None,
    chunk_lines: int = CHUNK_LINES,
    reference: datetime | None = None,
    columns: Collection[str] | None = None,
) -> Iterator[Chunk]:
    """Read a source as ``iter_events`` does, with what makes template ids of it soon."""
    name = str(source)
    soon = ahead if Path(name).is_file() else iter  # a pipe may have nothing for long
    blocks = soon(iter_lines(name))
    reference = modified(name) if reference is None else reference
    sample, blocks = _sample(blocks)
    layout, note = _settle(sample, format)
    settled = plan(name, layout, session_by, reference, columns)
    n_sessions = n_events = 0
    tables = soon((_table(block, settled), block.repairs) for block in blocks)
    for (events, counts, _, shaped), repairs in _parsed(tables, settled, chunk_lines):
        n_events += events.height
        n_sessions += int(events["sessions"].list.len().sum())
        report = ReadReport(name, layout.name, note, **asdict(counts), **asdict(repairs))
        yield Chunk(events, report, shaped)
    if settled.field is not None and session_by is not None and n_events and not n_sessions:
        known = layout.fields or field_names(sample, layout.reads)
        told = f" ({', '.join(known[:MOST_NAMED])})" if known else ""
        raise FormatError(
            f"{name}: no line has a value of the field {session_by!r}; name another field{told}, "
            "or give a regex for the message"
        )


def _sample(blocks: Iterator[Block]) -> tuple[pl.Series, Iterator[Block]]:
    """Return the first lines, and all blocks, those lines included."""
    read: list[Block] = []
    n = 0
    for block in blocks:
        read.append(block)
        n += len(block.lines)
        if n >= SAMPLE_LINES:
            break

    def again() -> Iterator[Block]:
        yield from read
        read.clear()
        yield from blocks

    lines = [block.lines for block in read]
    return pl.concat(lines).head(SAMPLE_LINES) if lines else pl.Series([], dtype=pl.String), again()


def _settle(sample: pl.Series, format: str | Layout) -> tuple[Layout, str]:
    if format == "auto":
        detection = detect(sample)
        return layout_named(detection.layout), detection.note
    return layout_named(format), "format given"


def _parsed(
    tables: Iterator[tuple[pl.DataFrame, Repairs]], settled: Plan, chunk_lines: int
) -> Iterator[tuple[Parsed, Repairs]]:
    lines = _table(Block(pl.Series([], dtype=pl.String), Repairs(), b""), settled)
    repairs, first_line, any_yet = Repairs(), 1, False
    wanted = chunk_lines
    for table, repaired in tables:
        repairs = repairs + repaired
        lines = pl.concat([lines, table], rechunk=False)
        while lines.height > wanted:
            parsed = _parse(settled, lines[:wanted], first_line, hold=True)
            n_held = parsed.n_held
            lines, first_line = lines[wanted - n_held :], first_line + parsed.counts.n_lines
            wanted = n_held + chunk_lines
            if parsed.events.height:
                yield parsed, repairs
                repairs, any_yet = Repairs(), True
    if lines.height or not any_yet:
        yield _parse(settled, lines, first_line, hold=False), repairs


def _table(block: Block, settled: Plan) -> pl.DataFrame:
    """Return lines, and their shapes if they help."""
    if not settled.by_shape:
        return pl.DataFrame({"line": block.lines})
    return pl.DataFrame({"line": block.lines, "shape": shapes_of_block(block)})


def _parse(settled: Plan, lines: pl.DataFrame, first_line: int, *, hold: bool) -> Parsed:
    shapes = lines["shape"] if settled.by_shape else None
    return parse(settled, lines["line"], first_line, hold=hold, shapes=shapes)


def total(reports: Sequence[ReadReport]) -> ReadReport:
    """Return the report of a source from those of its chunks."""
    first = asdict(reports[0])
    for report in reports[1:]:
        for name, value in asdict(report).items():
            if name.startswith("n_"):
                first[name] += value
    return ReadReport(**first)
