"""A log of any size as parts of bounded size, every window whole and in one part.

Windows of lines and of time are cut as the log goes by. A session may go on until the log's last
line, so a log of more than ``PART_EVENTS`` events is first sorted on disk: the lines of a session
go, by the hash of its id, into one of ``N_BUCKETS`` buckets, and a part is a bucket, or several
small ones. No session is cut, aged or left out: the windows are those of the log read whole, and so
are their verdicts. While lines are sorted another thread reads the next ones.

Read whole whatever its size is a log whose windows need more than that: sessions with a gap or an
age, whose clock is that of all lines, and windows per host over several sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import polars as pl

from oddlog.drain import Novelties, Templates
from oddlog.events import EVENT_COLUMNS, Sequences, check_events, column
from oddlog.formats import Layout, ReadReport, custom
from oddlog.formats.read import CHUNK_LINES, Chunk, iter_shaped, total
from oddlog.group import Grouper, GroupReport, Window, group
from oddlog.pipeline.prepare import GROUP, check_sources
from oddlog.run import Progress

T = TypeVar("T")
PART_EVENTS = 1_000_000
N_BUCKETS = 128
UNBOUNDED = 1 << 62
TIME = EVENT_COLUMNS["time"]
CLOCK, BUCKET = "_clock", "_bucket"  # beside the columns of events
TEXTS = ("raw", "message")


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
    """

    sources: Sequence[str | Path]
    format: str
    session_by: str | None
    window: Window
    texts: bool = True

    @property
    def layout(self) -> str | Layout:
        """What ``iter_events`` takes as the format."""
        return custom(self.format) if GROUP in self.format else self.format

    @property
    def is_whole(self) -> bool:
        """Whether the log has to be read whole."""
        if self.window.by == "session":
            return self.window.clocked
        return self.window.per == "host" and len(self.sources) > 1


class LogParts:
    """The parts of one log; what was counted is complete when they have all been taken.

    Args:
        reading: What is read, and how.
        templates: Give the events their ids, in the order of the log.
        novel: Gives the ids of what no template covers.
        folder: An empty folder for buckets, of about the size of the packed log.
        part_events: Events in memory at a time; about the most that a part holds.

    Attributes:
        reads: What became of each source's lines.
        report: What the windows left out.
        ends: When each source ends, as ``Silences.mark`` asks.
        in_buckets: Whether the parts are buckets: then all has been read when the first one comes,
            and neither what was counted nor a novel template changes any more.
    """

    def __init__(
        self,
        reading: Reading,
        templates: Templates,
        novel: Novelties,
        folder: Path,
        *,
        part_events: int = PART_EVENTS,
    ) -> None:
        check_sources(reading.sources)
        self.reads: list[ReadReport] = []
        self.report = GroupReport(reading.window, n_events=0, n_windows=0)
        self.ends = pl.DataFrame(schema={"source": pl.String(), "end": TIME})
        self.in_buckets = False
        self._reading = reading
        self._templates = templates
        self._novel = novel
        self._folder = folder
        self._part_events = UNBOUNDED if reading.is_whole else part_events

    def parts(self, progress: Progress) -> Iterator[Sequences]:
        """Yield the windows of each part, at least one part; their events have template ids."""
        held: list[pl.DataFrame] = []
        chunks = self._chunks(progress)
        n_held = 0
        for events in chunks:
            held.append(events)
            n_held += events.height
            if n_held > self._part_events:
                rest = chain(let_go(held), chunks)
                by_session = self._reading.window.by == "session"
                yield from self._by_buckets(rest) if by_session else self._as_they_close(rest)
                return
        yield self._grouped(in_time(held))

    def _chunks(self, progress: Progress) -> Iterator[pl.DataFrame]:
        """Yield the events of every source with their ids, and take note of what became of it."""
        sources = self._reading.sources
        for number, source in enumerate(sources):
            progress("reading", number, len(sources))
            clock, reports = None, []
            for events, report, shaped in self._read(source):
                reports.append(report)
                time = column(events, "time")
                self._note_end(events["source"], time)
                ids = self._templates.match(events["message"], self._novel, shaped)
                known = check_events(events.with_columns(ids.alias("template_id")))
                if len(sources) > 1:
                    now = pl.max_horizontal(time.cum_max().forward_fill(), pl.lit(clock, TIME))
                    known = known.with_columns(now.alias(CLOCK))
                    clock = known[CLOCK].max()
                yield known if self._reading.texts else known.drop(TEXTS, strict=False)
            self.reads.append(total(reports))
        progress("reading", len(sources), len(sources))

    def _read(self, source: str | Path) -> Iterator[Chunk]:
        return iter_shaped(
            source,
            self._reading.layout,
            session_by=self._reading.session_by,
            reference=None if source != "-" else datetime.now(tz=UTC),
            chunk_lines=min(CHUNK_LINES, self._part_events),
        )

    def _note_end(self, source: pl.Series, time: pl.Series) -> None:
        timed = pl.DataFrame({"source": source, "end": time}).drop_nulls("end").tail(1)
        self.ends = pl.concat([self.ends, timed]).unique("source", keep="last")

    def _grouped(self, events: pl.DataFrame) -> Sequences:
        sequences, report = group(events, self._reading.window)
        self._count(report)
        return sequences

    def _count(self, report: GroupReport) -> None:
        counts = {f.name for f in fields(report)} - {"window"}
        added = {name: getattr(self.report, name) + getattr(report, name) for name in counts}
        self.report = replace(self.report, **added)

    def _as_they_close(self, chunks: Iterator[pl.DataFrame]) -> Iterator[Sequences]:
        # Such windows wait for no longer than their own length: they are what bounds the memory.
        grouper = Grouper(self._reading.window, max_open=UNBOUNDED, max_events=UNBOUNDED)
        for events in chunks:
            closed = grouper.push(events.drop(CLOCK, strict=False))
            if closed is not None:
                yield closed
        rest = grouper.flush()
        self._count(grouper.report)
        if rest is not None:
            yield rest

    def _by_buckets(self, chunks: Iterator[pl.DataFrame]) -> Iterator[Sequences]:
        buckets = Buckets(self._folder)
        held: list[pl.DataFrame] = []
        n_held = 0
        for events in ahead(chunks):
            held.append(events)
            n_held += events.height
            if n_held >= self._part_events:
                buckets.add(pl.concat(held, how="diagonal"))
                held, n_held = [], 0
        if held:
            buckets.add(pl.concat(held, how="diagonal"))
        held.clear()
        self.in_buckets = True
        for tables in buckets.tables(self._part_events // 2):
            yield self._grouped(in_time(tables))
        self.report = replace(self.report, n_events=buckets.n_events, n_outside=buckets.n_outside)


def let_go(held: list[T]) -> Iterator[T]:
    """Yield what a list holds, and keep nothing that was yielded in memory."""
    while held:
        yield held.pop(0)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items while another thread makes the next one; keep none that was yielded."""

    def make() -> list[T]:
        return list(islice(items, 1))

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(make)
        while made := coming.result():
            coming = pool.submit(make)
            yield made.pop()


def in_time(tables: list[pl.DataFrame]) -> pl.DataFrame:
    """Return tables of events as one, several sources merged by the clock of each."""
    events = pl.concat(tables, how="diagonal")
    if CLOCK not in events.columns:
        return events
    return events.sort(CLOCK, maintain_order=True, nulls_last=False).drop(CLOCK)


class Buckets:
    """Events on disk, the lines of one session in one bucket.

    Attributes:
        n_events: Events that were added.
        n_outside: Those without a session, which are in no bucket.
    """

    def __init__(self, folder: Path) -> None:
        self.n_events = 0
        self.n_outside = 0
        self._folder = folder
        self._files: dict[int, list[Path]] = {}
        self._sizes: dict[int, int] = {}
        self._n_added = 0

    def add(self, events: pl.DataFrame) -> None:
        """Write events, in the order of the log; one of several sessions is written for each."""
        session = pl.col("sessions")
        named = events.filter(session.list.len() > 0).explode("sessions", keep_nulls=False)
        self.n_events += events.height
        self.n_outside += events.height - int((events["sessions"].list.len() > 0).sum())
        parts = named.with_columns(
            pl.concat_list("sessions"), (session.hash() % N_BUCKETS).alias(BUCKET)
        ).partition_by(BUCKET, include_key=False, as_dict=True)
        for (number,), part in parts.items():
            file = self._folder / f"{number:03d}-{self._n_added:06d}.parquet"
            part.write_parquet(file, compression="lz4", statistics=False)
            self._files.setdefault(number, []).append(file)
            self._sizes[number] = self._sizes.get(number, 0) + part.height
        self._n_added += 1

    def tables(self, most: int) -> Iterator[list[pl.DataFrame]]:
        """Yield the events of one bucket after the other, of each in the order in which they came.

        Args:
            most: Events up to which buckets are yielded together; a larger one comes by itself.
        """
        for numbers in self._together(most):
            files = [file for number in numbers for file in self._files.pop(number)]
            tables = [pl.read_parquet(file) for file in files]
            for file in files:
                file.unlink()
            yield tables

    def _together(self, most: int) -> list[list[int]]:
        chosen: list[list[int]] = []
        n_events = most + 1
        for number in sorted(self._sizes):
            n_events += self._sizes[number]
            if n_events > most:
                chosen.append([])
                n_events = self._sizes[number]
            chosen[-1].append(number)
        return chosen
