"""How a log is read, chunk by chunk, for what must not hold all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import polars as pl

from oddlog.errors import ConfigError
from oddlog.events import EVENT_COLUMNS, check_events, column
from oddlog.formats import Layout, ReadReport, custom
from oddlog.formats.read import CHUNK_LINES, Chunk, iter_shaped, total
from oddlog.group import LogClock, Window
from oddlog.run import Progress

T = TypeVar("T")
TIME = EVENT_COLUMNS["time"]
CLOCK = "_clock"  # beside the columns of events
GROUP = "(?"  # in a regex with named groups, and in no name of a layout


def check_sources(sources: Sequence[str | Path]) -> None:
    """Refuse what is no list of sources.

    Raises:
        ConfigError: No source, one given twice, one whose name is not UTF-8, or a path that is in
            no list.
    """
    if isinstance(sources, (str, Path)):
        raise ConfigError(f"{sources}: logs are given as a list of paths: [{str(sources)!r}]")
    if not sources:
        raise ConfigError("no log given: name one or more files, or - for standard input")
    names = [str(source) for source in sources]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"{name}: given twice; its lines would count twice")
        try:
            name.encode()
        except UnicodeEncodeError:  # bytes of another encoding
            raise ConfigError(
                f"{name}: the name is not UTF-8; rename the file, or give it on standard input"
            ) from None


@dataclass(frozen=True)
class Reading:
    """How a log is read: as the fitted one was.

    Attributes:
        sources: Paths; "-" is standard input.
        format: Name of a layout, a regex with named groups, or "auto".
        session_by: Regex or field that gives sessions; None for the layout's own rule.
        window: The window rule.
        texts: Keep the lines and their messages, most of what a log takes, once it is known which
            templates they are.
        merged: These are some of the sources of a log: their events have the clock by which they
            merge with those of the others.
    """

    sources: Sequence[str | Path]
    format: str
    session_by: str | None
    window: Window
    texts: bool = True
    merged: bool = False

    @property
    def layout(self) -> str | Layout:
        """What ``iter_events`` takes as the format."""
        return custom(self.format) if GROUP in self.format else self.format

    @property
    def is_whole(self) -> bool:
        """Whether the log has to be read whole.

        A host's windows are of the lines of all sources as they merge, and these are read one
        after the other.
        """
        return len(self.sources) > 1 and self.window.per == "host"

    @property
    def has_clock(self) -> bool:
        """Whether sessions end by the clock of all lines."""
        return self.window.by == "session" and self.window.clocked


class Reader:
    """The events of one log; what was counted is complete when all chunks have been taken.

    Attributes:
        reads: What became of each source's lines.
        ends: When each source ends, as ``Silences.mark`` asks.
        spans: The clock of each source when it began and as it stands, as ``LogClock`` asks; of
            sources whose events have it.
    """

    def __init__(self, reading: Reading, chunk_lines: int = CHUNK_LINES) -> None:
        check_sources(reading.sources)
        self.reads: list[ReadReport] = []
        self.ends = pl.DataFrame(schema={"source": pl.String(), "end": TIME})
        self.spans: dict[str, tuple[int, int]] = {}
        self._reading = reading
        self._chunk_lines = chunk_lines

    def chunks(self, progress: Progress) -> Iterator[Chunk]:
        """Yield the events of every source, with its clock: by it several merge, or sessions end.

        Raises:
            FormatError: A source that cannot be read as a log.
        """
        sources = self._reading.sources
        for number, source in enumerate(sources):
            progress("reading", number, len(sources))
            clock, reports = None, []
            for events, report, shaped in self._read(source):
                reports.append(report)
                time = column(events, "time")
                self._note_end(events["source"], time)
                checked = check_events(events)
                if len(sources) > 1 or self._reading.has_clock or self._reading.merged:
                    now = pl.max_horizontal(time.cum_max().forward_fill(), pl.lit(clock, TIME))
                    checked = checked.with_columns(now.alias(CLOCK))
                    clock = checked[CLOCK].max()
                    self._note_span(checked.drop_nulls(CLOCK))
                yield Chunk(checked, report, shaped)
            self.reads.append(total(reports))
        progress("reading", len(sources), len(sources))

    def log_clock(self, tables: list[pl.DataFrame]) -> LogClock:
        """Return the clocks beside some of the events, once all chunks have been taken."""
        at = pl.concat([table[CLOCK] for table in tables]).sort(nulls_last=False)  # as in_time
        return LogClock(at.cast(pl.Int64), self.spans)

    def _read(self, source: str | Path) -> Iterator[Chunk]:
        return iter_shaped(
            source,
            self._reading.layout,
            session_by=self._reading.session_by,
            reference=None if source != "-" else datetime.now(tz=UTC),
            chunk_lines=self._chunk_lines,
        )

    def _note_end(self, source: pl.Series, time: pl.Series) -> None:
        timed = pl.DataFrame({"source": source, "end": time}).drop_nulls("end").tail(1)
        self.ends = pl.concat([self.ends, timed]).unique("source", keep="last")

    def _note_span(self, timed: pl.DataFrame) -> None:
        if timed.height:
            source, clock = timed["source"][0], timed[CLOCK].cast(pl.Int64)
            first, _ = self.spans.get(source, (clock[0], 0))
            self.spans[source] = first, clock[-1]


def let_go(held: list[T]) -> Iterator[T]:
    """Yield what a list holds, and keep nothing that was yielded in memory."""
    while held:
        yield held.pop(0)


def in_time(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Return tables of events as one, several sources merged by the clock of each."""
    events = pl.concat(tables, how="diagonal")
    if CLOCK not in events.columns:
        return events
    return events.sort(CLOCK, maintain_order=True, nulls_last=False).drop(CLOCK)
