"""Lines as they are received: a table of source, text, time and template, and what it may hold.

Whatever a collector speaks, ``otlp``, ``loki`` and ``plain`` make this one table of it. A request
that is refused is refused whole, with the HTTP status that says why; a line that is too long is
cut, and counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from oddlog.errors import FormatError
from oddlog.formats.lines import without_colours

LINE_COLUMNS: dict[str, pl.DataType] = {
    "source": pl.String(),  # service, stream or topic, as the collector names it
    "text": pl.String(),  # as logged; without its line end
    "time": pl.Datetime("us", "UTC"),  # of the record; null where the collector gives none
    "template": pl.String(),  # the program's own template (``log.record.template``), mostly null
}
"""Columns of a table of received lines."""
MALFORMED, TOO_LARGE, UNSUPPORTED = 400, 413, 415
LATEST_US = 253_402_300_800_000_000  # the year 10000
N_NAME = 500  # characters of a source's name


class RefusedError(FormatError):
    """A request that cannot be taken; nothing of it was.

    Attributes:
        status: The HTTP status that says why: 400, 413 or 415.
    """

    def __init__(self, message: str, status: int = MALFORMED) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What one request may hold.

    Attributes:
        body_bytes: As sent.
        unpacked_bytes: Once decompressed.
        n_lines: Lines.
        line_chars: Characters of a line; the rest of a longer one is cut off.
    """

    body_bytes: int = 16 << 20
    unpacked_bytes: int = 64 << 20
    n_lines: int = 100_000
    line_chars: int = 1 << 16


@dataclass(frozen=True, eq=False)
class Received:
    """The lines of one request.

    Attributes:
        table: In the columns of ``LINE_COLUMNS``, in the order of the request.
        n_cut: Lines that were longer than the limit.
    """

    table: pl.DataFrame
    n_cut: int = 0


@dataclass
class Rows:
    """Columns of lines while a request is read; ``received`` makes the table of them.

    Attributes:
        limits: What the request may hold.
    """

    limits: Limits
    sources: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    times: list[int | None] = field(default_factory=list)  # microseconds since 1970
    templates: list[str | None] = field(default_factory=list)

    def add(self, source: str, text: str, time: int | None, template: str | None = None) -> None:
        """Take a record; one of several lines stays one record until ``received``."""
        self.sources.append(source)
        self.texts.append(text)
        self.times.append(time)
        self.templates.append(template)

    def received(self) -> Received:
        """Return the table, a row for each line, each within the limit.

        Raises:
            RefusedError: More lines than the limit.
        """
        columns = {
            "source": [name[:N_NAME] for name in self.sources],
            "text": self.texts,
            "time": self.times,
            "template": self.templates,
        }
        return table_of(columns, self.limits)


def table_of(columns: dict[str, list], limits: Limits) -> Received:
    """Make the table of columns, whose times are microseconds, and keep it to the limits.

    A text of several lines becomes several rows, as it would be in a file. What cannot be written
    as UTF-8 is spelled out.

    Raises:
        RefusedError: More lines than the limit.
    """
    schema = {**LINE_COLUMNS, "time": pl.Int64()}
    try:
        table = pl.DataFrame(columns, schema=schema)
    except UnicodeEncodeError:  # lone surrogates, which JSON can carry
        spelled = {name: [_spelled_out(v) for v in values] for name, values in columns.items()}
        table = pl.DataFrame(spelled, schema=schema)
    table = _split(table).with_columns(pl.from_epoch("time", "us").dt.replace_time_zone("UTC"))
    if table.height > limits.n_lines:
        raise RefusedError(
            f"{table.height:,} lines in one request; send at most {limits.n_lines:,}", TOO_LARGE
        )
    n_cut = int((table["text"].str.len_chars() > limits.line_chars).sum())
    if n_cut:
        table = table.with_columns(pl.col("text").str.slice(0, limits.line_chars))
    return Received(table, n_cut)


def microseconds(nanoseconds: int) -> int | None:
    """Return a time in microseconds since 1970, or None where it is none that a clock shows."""
    time = nanoseconds // 1000
    return time if 0 < time < LATEST_US else None


def iso_microseconds(text: str) -> int | None:
    """Return an ISO 8601 time in microseconds since 1970, UTC where it names no zone."""
    try:
        time = datetime.fromisoformat(text)
        zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
        return microseconds(round(zoned.timestamp() * 1e6) * 1000)
    except (ValueError, OverflowError):
        return None


def named(kind: str, service: str | None, place: str | None) -> str:
    """Return a source's name: ``service@place``, or as much of it as is known.

    Example:
        >>> named("otlp", "checkout", "web-3"), named("otlp", None, None)
        ('checkout@web-3', 'otlp')
    """
    if service and place:
        return f"{service}@{place}"
    return service or place or kind


def _split(table: pl.DataFrame) -> pl.DataFrame:
    texts, n_coloured = without_colours(table["text"])
    table = table.with_columns(texts) if n_coloured else table
    if not texts.str.contains("\n", literal=True).any():
        if texts.str.ends_with("\r").any():
            table = table.with_columns(pl.col("text").str.strip_chars_end("\r"))
        return table
    lines = pl.col("text").str.strip_chars_end("\r\n").str.split("\n")
    first = pl.col("record") != pl.col("record").shift(1)
    return (
        table.with_row_index("record")
        .with_columns(lines)
        .explode("text")
        .with_columns(
            pl.col("text").str.strip_chars_end("\r"),
            template=pl.when(first.fill_null(value=True)).then("template"),
        )
        .drop("record")
    )


def _spelled_out(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return value
