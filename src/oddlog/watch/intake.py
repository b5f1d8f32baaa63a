"""Lines as they arrive, to events: each source parsed on from where it stood.

A line may belong to the event of the line before (a stack trace). So the last event of a source is
held back until the next one begins, or until the source has been quiet for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Self

import polars as pl

from oddlog.errors import FormatError
from oddlog.events import column
from oddlog.formats import Counts, custom, detect
from oddlog.formats.detect import SAMPLE_LINES
from oddlog.formats.layouts import Layout, layout_named
from oddlog.formats.parse import Plan, parse, plan
from oddlog.pipeline.prepare import GROUP

Lines = pl.DataFrame | Sequence[str]
"""A table of the columns source and text, or the text of lines of one source.

A table may have two more columns, of what a collector knows of a line: ``time`` (Datetime, UTC),
which holds where the text has none, and ``template``, the program's own.
"""
GIVEN: dict[str, pl.DataType] = {
    "text": pl.String(),
    "time": pl.Datetime("us", "UTC"),
    "template": pl.String(),
}


@dataclass
class Source:
    """Where the reading of one source stands.

    Attributes:
        layout: Name of its layout; None until lines have settled it.
        next_line: Number of the first line that is held or to come.
        held: Lines of the event that may go on: text, time as ISO 8601, template; see ``Lines``.
        quiet_since: When its last line came, in seconds since 1970.
        last: The time of its last event with one.
    """

    layout: str | None = None
    next_line: int = 1
    held: list[list[str | None]] = field(default_factory=list)
    quiet_since: float = 0.0
    last: datetime | None = None


class Intake:
    """Parses what sources write, push by push.

    Args:
        format: Name of a layout, a regex with named groups, or "auto": what the first lines of a
            source look like.
        session_by: As in ``PipelineConfig``.
        quiet_s: Seconds after which the last event of a source that writes nothing is whole.
    """

    def __init__(self, format: str, session_by: str | None, quiet_s: float) -> None:
        self.sources: dict[str, Source] = {}
        self.counts = Counts()
        self._format = format
        self._session_by = session_by
        self._quiet_s = quiet_s
        self._plans: dict[str, Plan] = {}

    def push(self, lines: Lines, now: float, source: str) -> pl.DataFrame | None:
        """Take lines and return the events that they complete, None if there are none.

        Events of several sources in one push are merged by time, each source's in its own order.

        Args:
            lines: See ``Lines``.
            now: When they arrived, in seconds since 1970.
            source: Name of their source, where the lines do not say.
        """
        tables = []
        for name, told in _by_source(lines, source):
            if len(told):
                place = self.sources.setdefault(name, Source())
                place.quiet_since = now
                tables += [self._parse(name, place, told, now, hold=True)]
        return _merged(tables)

    def quiet(self, now: float) -> pl.DataFrame | None:
        """Return the events held back from sources that have been quiet for long enough."""
        return self._release(now, self._quiet_s)

    def flush(self, now: float) -> pl.DataFrame | None:
        """Return every event held back, as at the end of a log."""
        return self._release(now, float("-inf"))

    def _release(self, now: float, quiet_s: float) -> pl.DataFrame | None:
        nothing = pl.DataFrame(schema=GIVEN)
        return _merged(
            [
                self._parse(name, place, nothing, now, hold=False)
                for name, place in self.sources.items()
                if place.held and now - place.quiet_since >= quiet_s
            ]
        )

    def _parse(
        self, name: str, place: Source, told: pl.DataFrame, now: float, *, hold: bool
    ) -> pl.DataFrame:
        if place.held:
            told = pl.concat([_held(place.held), told])
        texts = told["text"]
        settled = replace(self._plan(name, place, texts), reference=_time(now))
        events, counts, n_held, _ = parse(settled, texts, place.next_line, hold=hold)
        place.held = _to_hold(told.tail(n_held)) if n_held else []
        events = _with_given(events, told[(events["line"] - place.next_line).to_numpy()])
        place.next_line += counts.n_lines
        self.counts = _add(self.counts, counts)
        times = column(events, "time").drop_nulls()
        place.last = times[-1] if len(times) else place.last
        return events

    def _plan(self, name: str, place: Source, texts: pl.Series) -> Plan:
        if name not in self._plans:
            layout = self._layout(place, texts)
            place.layout = layout.name
            self._plans[name] = plan(name, layout, self._session_by)
        return self._plans[name]

    def _layout(self, place: Source, texts: pl.Series) -> Layout:
        if GROUP in self._format:
            return custom(self._format)
        if place.layout is not None:
            return layout_named(place.layout)
        if self._format == "auto":
            return layout_named(detect(texts.head(SAMPLE_LINES)).layout)
        return layout_named(self._format)

    def state(self) -> dict[str, Any]:
        """Return plain values that JSON can carry."""
        return {
            "counts": asdict(self.counts),
            "sources": {
                name: asdict(place) | {"last": place.last and place.last.isoformat()}
                for name, place in self.sources.items()
            },
        }

    def load(self, state: Mapping[str, Any]) -> Self:
        """Take up what ``state`` described."""
        self.counts = Counts(**state["counts"])
        for name, value in state["sources"].items():
            last = value["last"] and datetime.fromisoformat(value["last"])
            self.sources[name] = Source(**{**value, "last": last})
        return self


def _by_source(lines: Lines, source: str) -> list[tuple[str, pl.DataFrame]]:
    if not isinstance(lines, pl.DataFrame):
        lines = pl.DataFrame({"text": pl.Series(lines, dtype=pl.String)})
        return [(source, _complete(lines))]
    if missing := {"source", "text"} - set(lines.columns):
        raise FormatError(f"lines: no column {min(missing)!r}; they need source and text")
    parts = lines.partition_by("source", maintain_order=True)
    return [(part["source"][0], _complete(part)) for part in parts]


def _complete(lines: pl.DataFrame) -> pl.DataFrame:
    """Return lines in the columns of ``GIVEN``, null where nothing is known."""
    absent = [pl.lit(None, kind).alias(n) for n, kind in GIVEN.items() if n not in lines.columns]
    return lines.with_columns(pl.col("text").fill_null(""), *absent).select(*GIVEN)


def _to_hold(told: pl.DataFrame) -> list[list[str | None]]:
    iso = told.with_columns(pl.col("time").dt.to_string("iso:strict"))
    return [list(row) for row in iso.iter_rows()]


def _held(held: list[list[str | None]]) -> pl.DataFrame:
    table = pl.DataFrame(held, schema=dict.fromkeys(GIVEN, pl.String), orient="row")
    return table.with_columns(pl.col("time").str.to_datetime(time_unit="us", time_zone="UTC"))


def _with_given(events: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """Return events with what was known of their first lines: times, and templates if there are."""
    if first["time"].null_count() < first.height:
        time = column(events, "time")
        events = events.with_columns(time.zip_with(time.is_not_null(), first["time"]))
    if first["template"].null_count() < first.height:
        events = events.with_columns(first["template"])
    return events


def _merged(tables: list[pl.DataFrame]) -> pl.DataFrame | None:
    tables = [table for table in tables if table.height]
    if not tables:
        return None
    events = pl.concat(tables, how="diagonal")
    if len(tables) == 1 or not column(events, "time").is_not_null().any():
        return events
    clock = pl.col("time").cum_max().forward_fill().over("source")
    return events.sort(clock, maintain_order=True, nulls_last=False)


def _add(some: Counts, more: Counts) -> Counts:
    return Counts(*(getattr(some, f.name) + getattr(more, f.name) for f in fields(Counts)))


def _time(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)
