"""Lines to events: peel each line's header, join what belongs to the event before, name sessions.

A record of several lines (a stack trace) becomes one event. Its ``raw`` keeps all lines; its
``message`` is that of its first line only: the depth and the frames of a trace differ from one
occurrence to the next and would make a template of each, while the first line names what happened.
Pieces of one line that a container runtime cut are put together in ``message``, for they are one.

Two bounds keep memory and pieces of a file honest: a record takes at most ``MAX_RECORD_LINES``
lines; what follows beyond them, like what stands before a file's first header, is an event a line.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ConfigError
from oddlog.events import check_events
from oddlog.formats.layouts import HEAD, LAYOUTS, Layout, capture_only, check_regex
from oddlog.formats.shaped import headers, repeated, shapes_of_messages
from oddlog.formats.structured import docker_fields, json_fields, logfmt_fields, severity
from oddlog.formats.times import parse_times
from oddlog.session_ids import FIELD
from oddlog.shapes import Repeats, Shaped, is_blind

MAX_RECORD_LINES = 10_000
GROUPS = {  # of a pattern, by the optional column that is made of them
    "time": ("time", "fraction"),
    "level": ("level", "level2", "level3", "priority"),
    "host": ("host",),
    "label": ("label",),
    "sessions": ("session",),
}
ALWAYS = ("message", "stream", "tag")
NO_LABEL = "-"


@dataclass(frozen=True)
class Counts:
    """What became of lines.

    Attributes:
        n_lines: Lines read.
        n_events: Events made of them.
        n_joined: Lines that belong to the event of a line before.
        n_unmatched: Events of a line that did not match and had no event to join.
        n_bad_times: Events whose header has a time that is none, or that cannot be placed.
        n_without_message: Events of JSON or logfmt without a message: theirs is the whole line.
    """

    n_lines: int = 0
    n_events: int = 0
    n_joined: int = 0
    n_unmatched: int = 0
    n_bad_times: int = 0
    n_without_message: int = 0


@dataclass(frozen=True)
class Plan:
    """How the lines of one source are read.

    Attributes:
        source: Its name.
        layout: Its layout.
        field: Field whose value is the session, or None.
        regex: Regex whose matches in the message are the sessions, or None.
        reference: Time about which a time without a year is placed.
        columns: Which of the columns of ``GROUPS`` are extracted; the others may stay empty.
    """

    source: str
    layout: Layout
    field: str | None = None
    regex: str | None = None
    reference: datetime | None = None
    columns: frozenset[str] = frozenset(GROUPS)

    @property
    def by_shape(self) -> bool:
        """Whether lines that differ in digits alone have the same header, but for its digits."""
        return self.layout.reads == "plain" or (
            self.layout.reads == "text" and is_blind(self.layout.pattern)
        )

    @property
    def groups(self) -> set[str]:
        """The groups of the layout's pattern that are read."""
        read = {group for name in self.columns for group in GROUPS[name]}
        return {*ALWAYS, *read, self.field or "message"} & {*self.layout.fields}


def plan(
    source: str,
    layout: Layout,
    session_by: str | None,
    reference: datetime | None = None,
    columns: Collection[str] | None = None,
) -> Plan:
    """Settle what ``session_by`` means under a layout, and which columns are extracted.

    A plain name is a field if the layout has it, or if its records name their own (JSON, Docker,
    logfmt); anything else is a regex. Without ``session_by`` the layout's own rule holds.

    Raises:
        ConfigError: The regex is not one, or has more than one group; the reference has no zone.
    """
    if reference is not None and reference.tzinfo is None:
        raise ConfigError(f"reference time {reference}: it has no zone; give one, such as UTC")
    read = frozenset(GROUPS if columns is None else columns)
    if "sessions" not in read:
        return Plan(source, layout, None, None, reference, read)
    if session_by is None:
        field = "session" if "session" in layout.fields else None
        return Plan(source, layout, field, None if field else layout.session, reference, read)
    open_ended = layout.reads in ("json", "docker", "logfmt")
    if FIELD.fullmatch(session_by) and (open_ended or session_by in layout.fields):
        return Plan(source, layout, session_by, None, reference, read)
    check_regex(session_by, "session regex")
    if _n_groups(session_by) > 1:
        raise ConfigError(
            f"session regex {session_by!r}: more than one group; write (?:...) for all but one"
        )
    return Plan(source, layout, None, session_by, reference, read)


def _n_groups(regex: str) -> int:
    return len(pl.select(pl.lit("").str.extract_groups(regex)).to_series().struct.fields)


def parse_lines(
    lines: pl.Series,
    source: str,
    layout: Layout,
    *,
    first_line: int = 1,
    session_by: str | None = None,
    reference: datetime | None = None,
) -> tuple[pl.DataFrame, Counts]:
    """Make an event table of lines.

    Args:
        lines: (n,) String, without their ends.
        source: Name for the column ``source``.
        layout: Their layout.
        first_line: Number of the first of the lines in its source.
        session_by: Regex or name of a field; see ``plan``.
        reference: Time with a zone, about which times without a year are placed.

    Returns:
        The events (``EVENT_COLUMNS`` without ``template_id``) and what became of the lines.

    Raises:
        ConfigError: ``session_by`` is not a regex.
    """
    settled = plan(source, layout, session_by, reference)
    parsed = parse(settled, lines.fill_null(""), first_line, hold=False)
    return parsed.events, parsed.counts


class Parsed(NamedTuple):
    """What became of lines: see ``parse``."""

    events: pl.DataFrame
    counts: Counts
    n_held: int
    shaped: Shaped | None = None


def parse(
    settled: Plan,
    lines: pl.Series,
    first_line: int,
    *,
    hold: bool,
    shapes: pl.Series | None = None,
) -> Parsed:
    """Make an event table of lines, and say how many lines at the end were held back.

    With ``hold`` the last event is left out, for lines to come may belong to it. Beginning the next
    call with its lines gives the same events as one call with everything. Where the lines' shapes
    are given, those of the events' messages are returned if they are known from them.
    """
    found = repeated(shapes)
    table = peel(lines, settled, shapes if found else None, found)
    records = _records(table, settled.layout)
    n_held = 0
    if hold and settled.layout.joins and len(records.starts):
        n_held = len(lines) - int(records.starts[-1])
        records = records.without_last()
    shaped = None
    ends_line = "message" not in settled.layout.fields and bool((records.pieces == 1).all())
    if shapes is not None and found is not None and ends_line:
        shaped = shapes_of_messages(lines, table["message"], shapes, found)
    n = len(lines) - n_held
    events = _events(lines[:n], table[:n], records, settled, first_line)
    counts = _count(table[:n], records, events)
    return Parsed(check_events(events), counts, n_held, shaped and shaped.of(records.starts))


def matches(lines: pl.Series, layout: Layout) -> pl.Series:
    """Return (n,) Boolean: does the line match the layout itself, not its fallback?"""
    if layout.reads == "text":
        return lines.str.contains(f"^(?:{layout.pattern})")
    return peel(lines, Plan("", layout))["matched"]


def peel(
    lines: pl.Series,
    settled: Plan,
    shapes: pl.Series | None = None,
    found: Repeats | None = None,
) -> pl.DataFrame:
    """Return one row per line: what its header says, and its message.

    Columns: matched, message, time, bad_time, level, host, label, session; without_message, stream
    and partial where the layout has them. With the lines' shapes, and the distinct ones among them,
    each header is looked for once.
    """
    readers = {"json": json_fields, "docker": docker_fields, "logfmt": logfmt_fields}
    reads = settled.layout.reads
    if reads == "text":
        return _peel_text(lines, settled, shapes, found)
    if reads == "plain":
        table = pl.DataFrame({"message": lines}).with_columns(matched=pl.lit(value=True))
    else:
        table = readers[reads](lines, settled.field)
    return _with_times(table, settled)


def _peel_text(
    lines: pl.Series, settled: Plan, shapes: pl.Series | None, found: Repeats | None
) -> pl.DataFrame:
    layout = settled.layout
    wanted = settled.groups
    pattern = capture_only(layout, wanted)
    if shapes is not None and found is not None and settled.by_shape:
        headed = headers(lines, shapes, found, pattern)
    else:
        headed = _headers(lines, pattern)
    table = headed.select(
        matched=pl.col(HEAD).is_not_null(),
        message=pl.when(pl.col(HEAD).is_not_null()).then(pl.col("message").fill_null("")),
        time_text=_time_text(wanted),
        level=_level(wanted),
        host=_column("host", wanted).replace("-", None),  # RFC 5424 for none
        label=_label(wanted),
        session=_column(settled.field, wanted),
        **_pieces(wanted),
    )
    table = _with_times(table, settled)
    rows = np.flatnonzero(~table["matched"].to_numpy())
    if layout.fallback is None or not len(rows):
        return table
    other = replace(settled, layout=LAYOUTS[layout.fallback], regex=None)
    kept = np.flatnonzero(table["matched"].to_numpy())
    both = pl.concat([table[kept], _peel_text(lines.gather(rows), other, None, None)])
    return both[np.argsort(np.concatenate([kept, rows]))]


def _headers(lines: pl.Series, pattern: str) -> pl.DataFrame:
    """Return line, the groups of the pattern, and the message that follows if no group is it."""
    groups = pl.col("line").str.extract_groups(pattern).alias("header")
    found = lines.alias("line").to_frame().lazy().select("line", groups)
    table = found.collect(engine="streaming").unnest("header")  # on every core
    if "message" in table.columns:
        return table
    return table.with_columns(message=pl.col("line").str.strip_prefix(pl.col(HEAD)))


def _column(name: str | None, wanted: set[str]) -> pl.Expr:
    return pl.col(name) if name in wanted and name is not None else pl.lit(None, pl.String)


def _time_text(wanted: set[str]) -> pl.Expr:
    if "time" not in wanted:
        return pl.lit(None, pl.String)
    if "fraction" in wanted:
        return pl.col("time") + "." + pl.col("fraction")
    return pl.col("time").replace("-", None)


def _level(wanted: set[str]) -> pl.Expr:
    levels = [pl.col(name) for name in ("level", "level2", "level3") if name in wanted]
    if "priority" in wanted:
        levels.append(pl.col("priority").map_batches(severity, return_dtype=pl.String))
    return pl.coalesce(*levels) if levels else pl.lit(None, pl.String)


def _label(wanted: set[str]) -> pl.Expr:
    if "label" not in wanted:
        return pl.lit(None, pl.String)
    return pl.when(pl.col(HEAD).is_not_null()).then(
        pl.col("label").fill_null("").replace(NO_LABEL, "")
    )


def _pieces(wanted: set[str]) -> dict[str, pl.Expr]:
    if "tag" not in wanted or "stream" not in wanted:
        return {}
    return {
        "stream": pl.col("stream"),
        "partial": pl.col("tag").str.starts_with("P").fill_null(value=False),
    }


def _with_times(table: pl.DataFrame, settled: Plan) -> pl.DataFrame:
    absent = [name for name in ("level", "host", "label", "session") if name not in table.columns]
    table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    if "time_text" not in table.columns:
        table = table.with_columns(time_text=pl.lit(None, pl.String))
    time = parse_times(table["time_text"], settled.layout.times, settled.reference)
    return table.with_columns(
        time=time, bad_time=pl.col("time_text").is_not_null() & time.is_null()
    ).drop("time_text")


@dataclass(frozen=True, eq=False)
class _Records:
    """Which lines make which event: (n,) first line, number of lines, pieces of the first line."""

    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    pieces: NDArray[np.int64]

    def without_last(self) -> _Records:
        return _Records(self.starts[:-1], self.sizes[:-1], self.pieces[:-1])


def _records(table: pl.DataFrame, layout: Layout) -> _Records:
    n = table.height
    if not layout.joins:
        ones = np.ones(n, dtype=np.int64)
        return _Records(np.arange(n), ones, ones)
    first = np.flatnonzero(~_continued(table))  # the first piece of each line that was printed
    heads = table["matched"].to_numpy()[first]
    if layout.indents_join:
        heads = heads & ~_indented(table["message"]).to_numpy()[first]
    place = np.arange(len(first))
    head = np.maximum.accumulate(np.where(heads, place, -1))
    own = heads | (head < 0) | (place - head >= MAX_RECORD_LINES)
    starts = first[own]
    return _Records(starts, np.diff(starts, append=n), np.diff(first, append=n)[own])


def _continued(table: pl.DataFrame) -> NDArray[np.bool_]:
    """(n,) whether the line is a further piece of what the line before printed."""
    if "partial" not in table.columns:
        return np.zeros(table.height, dtype=bool)
    joined = table.select(
        pl.col("matched")
        & pl.col("partial").shift(1, fill_value=False)
        & (pl.col("stream") == pl.col("stream").shift(1))
    )
    continued = joined.to_series().fill_null(value=False).to_numpy()
    place = np.arange(len(continued))
    run = place - np.maximum.accumulate(np.where(continued, 0, place))
    return continued & (run % MAX_RECORD_LINES != 0)


def _indented(messages: pl.Series) -> pl.Series:
    return messages.str.contains(r"^[ \t]+\S|^Caused by: ").fill_null(value=False)


def _events(
    lines: pl.Series, table: pl.DataFrame, records: _Records, settled: Plan, first_line: int
) -> pl.DataFrame:
    heads = table[records.starts]
    raw = _joined(lines, records.starts, records.sizes, "\n")
    message = _joined(table["message"], records.starts, records.pieces, "")
    message = message.zip_with(heads["matched"], raw)
    return pl.DataFrame(
        {
            "source": pl.Series([settled.source]).new_from_index(0, heads.height),
            "line": records.starts + first_line,
            "n_lines": records.sizes.astype(np.int32),
            "raw": raw,
            "time": heads["time"],
            "level": heads["level"],
            "host": heads["host"],
            "sessions": _sessions(message, heads["session"], settled),
            "message": message,
            "label": heads["label"],
        }
    )


def _joined(
    texts: pl.Series, starts: NDArray[np.int64], sizes: NDArray[np.int64], separator: str
) -> pl.Series:
    """Return (n,) the texts from each start on, joined; only where there are several."""
    single = texts if len(starts) == len(texts) else texts.gather(starts)
    several = np.flatnonzero(sizes > 1)
    if not len(several):
        return single
    lengths = sizes[several]
    ends = np.cumsum(lengths)
    rows = np.arange(ends[-1]) + np.repeat(starts[several] - ends + lengths, lengths)
    parts = pl.DataFrame({"owner": np.repeat(several, lengths), "text": texts.gather(rows)})
    whole = parts.group_by("owner", maintain_order=True).agg(pl.col("text").str.join(separator))
    return single.clone().scatter(several, whole["text"])


def _sessions(messages: pl.Series, values: pl.Series, settled: Plan) -> pl.Series:
    """Return (n,) List(String): the distinct session ids of each event, in order."""
    if settled.regex is None:
        found = pl.DataFrame({"id": values.replace("", None)}).select(
            pl.when(pl.col("id").is_null())
            .then(pl.lit([], pl.List(pl.String)))
            .otherwise(pl.concat_list("id"))
        )
        return found.to_series().rename("sessions")
    ids = messages.str.extract_all(settled.regex)
    if _n_groups(settled.regex):
        ids = ids.list.eval(pl.element().str.extract(settled.regex, 1))
    ids = ids.list.eval(pl.element().filter(pl.element().str.len_bytes() > 0))
    return ids.list.unique(maintain_order=True).rename("sessions")


def _count(table: pl.DataFrame, records: _Records, events: pl.DataFrame) -> Counts:
    heads = table[records.starts]
    without = "without_message" in heads.columns
    return Counts(
        n_lines=table.height,
        n_events=events.height,
        n_joined=table.height - events.height,
        n_unmatched=int((~heads["matched"]).sum()),
        n_bad_times=int(heads["bad_time"].sum()),
        n_without_message=int(heads["without_message"].sum()) if without else 0,
    )
