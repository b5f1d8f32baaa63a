"""A log of any size as parts of bounded size, every window whole and in one part.

Windows of lines and of time are cut as the log goes by. A session may go on until the log's last
line, so a log of more than ``PART_EVENTS`` events is first sorted on disk: the lines of a session
go, by the hash of its id, into one of ``N_BUCKETS`` buckets, and a part is a bucket, or several
small ones. No session is cut, aged or left out: the windows are those of the log read whole, and so
are their verdicts. While lines are sorted another thread reads the next ones.

Sessions with a gap or an age end by the clock of all lines of their source, which goes into the
buckets with each line. Read whole whatever its size is a log of several sources with windows per
host: these are of neighbouring lines of all sources, which are read one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path

import polars as pl

from oddlog.artifact import writing
from oddlog.drain import Novelties, Templates
from oddlog.events import Sequences, column
from oddlog.formats import ReadReport
from oddlog.formats.read import CHUNK_LINES
from oddlog.group import Grouper, GroupReport, LogClock, group
from oddlog.pipeline.prepare import messages_of
from oddlog.pipeline.reading import CLOCK, Reader, Reading, in_time, let_go
from oddlog.run import Progress
from oddlog.threads import ahead

PART_EVENTS = 1_000_000
N_BUCKETS = 128
UNBOUNDED = 1 << 62
BUCKET = "_bucket"  # beside the columns of events
TEXTS = ("raw", "message")


class LogParts:
    """The parts of one log; what was counted is complete when they have all been taken.

    Args:
        reading: What is read, and how.
        templates: Give the events their ids, in the order of the log.
        novel: Gives the ids of what no template covers.
        folder: An empty folder for buckets, of about the size of the packed log.
        part_events: Events in memory at a time; about the most that a part holds.

    Attributes:
        report: What the windows left out.
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
        self.report = GroupReport(reading.window, n_events=0, n_windows=0)
        self.in_buckets = False
        self._reading = reading
        self._templates = templates
        self._novel = novel
        self._folder = folder
        self._part_events = UNBOUNDED if reading.is_whole else part_events
        self._reader = Reader(reading, min(CHUNK_LINES, self._part_events))

    @property
    def reads(self) -> list[ReadReport]:
        """What became of the lines of each source that was read to its end."""
        return self._reader.reads

    @property
    def ends(self) -> pl.DataFrame:
        """When each source ends, as ``Silences.mark`` asks."""
        return self._reader.ends

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
        """Yield the events with their ids."""
        for read, _, shaped in self._reader.chunks(progress):
            messages = messages_of(read, self._templates)
            known = None if self._templates.config.masks.by_word else shaped  # of other texts
            ids = self._templates.match(messages, self._novel, known)
            events = read.with_columns(ids.alias("template_id"))
            yield events if self._reading.texts else events.drop(TEXTS, strict=False)

    def _grouped(self, events: pl.DataFrame, log: LogClock | None = None) -> Sequences:
        sequences, report = group(events, self._reading.window, log)
        self.report = self.report.plus(report)
        return sequences

    def _as_they_close(self, chunks: Iterator[pl.DataFrame]) -> Iterator[Sequences]:
        # Such windows wait for no longer than their own length: they are what bounds the memory.
        grouper = Grouper(self._reading.window, max_open=UNBOUNDED, max_events=UNBOUNDED)
        for events in chunks:
            closed = grouper.push(events.drop(CLOCK, strict=False))
            if closed is not None:
                yield closed
        rest = grouper.flush()
        self.report = self.report.plus(grouper.report)
        if rest is not None:
            yield rest

    def sort(self, progress: Progress) -> Buckets:
        """Sort a log of plain sessions, and take no parts of it."""
        return self._sorted(self._chunks(progress), _Counts())

    def _sorted(self, chunks: Iterator[pl.DataFrame], counts: _Counts) -> Buckets:
        buckets = Buckets(self._folder)
        held: list[pl.DataFrame] = []
        n_held = 0
        for events in ahead(chunks):
            if self._reading.has_clock:
                counts.add(events)
            held.append(events)
            n_held += events.height
            if n_held >= self._part_events:
                buckets.add(pl.concat(held, how="diagonal"))
                held, n_held = [], 0
        if held:
            buckets.add(pl.concat(held, how="diagonal"))
        return buckets

    def _by_buckets(self, chunks: Iterator[pl.DataFrame]) -> Iterator[Sequences]:
        counts = _Counts()
        buckets = self._sorted(chunks, counts)
        self.in_buckets = True
        for tables in buckets.tables(self._part_events // 2):
            log = self._reader.log_clock(tables) if self._reading.has_clock else None
            yield self._grouped(in_time(tables), log)
        self.report = replace(
            self.report,
            n_events=buckets.n_events,
            n_outside=buckets.n_outside,
            n_late=counts.n_late,
            n_untimed=counts.n_untimed,
        )


class _Counts:
    """What the clocks of a log say of its events."""

    def __init__(self) -> None:
        self.n_late = 0
        self.n_untimed = 0

    def add(self, events: pl.DataFrame) -> None:
        """Let the next events pass."""
        clock = events[CLOCK]
        self.n_late += int((column(events, "time") < clock).sum())
        self.n_untimed += clock.null_count()


class Buckets:
    """Events on disk, the lines of one session in one bucket; there is at least one bucket.

    Attributes:
        n_events: Events that were added.
        n_outside: Those without a session, which are in no bucket.
        files: Of each bucket, in the order of the log.
        sizes: Events of each.
    """

    def __init__(self, folder: Path) -> None:
        self.n_events = 0
        self.n_outside = 0
        self.files: dict[int, list[Path]] = {}
        self.sizes: dict[int, int] = {}
        self._folder = folder
        self._n_added = 0

    def add(self, events: pl.DataFrame) -> None:
        """Write events, in the order of the log; one of several sessions is written for each."""
        session = pl.col("sessions")
        named = events.filter(session.list.len() > 0).explode("sessions", keep_nulls=False)
        self.n_events += events.height
        self.n_outside += events.height - int((events["sessions"].list.len() > 0).sum())
        named = named.with_columns(
            pl.concat_list("sessions"), (session.hash() % N_BUCKETS).alias(BUCKET)
        )
        parts = named.partition_by(BUCKET, include_key=False, as_dict=True)
        if not self.files:  # so that there is a part, if an empty one
            parts.setdefault((0,), named.drop(BUCKET).clear())
        for (number,), part in parts.items():
            file = self._folder / f"{number:03d}-{self._n_added:06d}.parquet"
            with writing(f"{self._folder} (TMPDIR says where)"):
                part.write_parquet(file, compression="lz4", statistics=False)
            self.files.setdefault(number, []).append(file)
            self.sizes[number] = self.sizes.get(number, 0) + part.height
        self._n_added += 1

    def tables(self, most: int) -> Iterator[list[pl.DataFrame]]:
        """Yield the events of one bucket after the other, of each in the order in which they came.

        Args:
            most: Events up to which buckets are yielded together; a larger one comes by itself.
        """
        for numbers in together(self.sizes, most):
            files = [file for number in numbers for file in self.files.pop(number)]
            tables = [pl.read_parquet(file) for file in files]
            for file in files:
                file.unlink()
            yield tables


def together(sizes: Mapping[int, int], most: int) -> list[list[int]]:
    """Return which buckets make a part: as many as have so many events, or one that has more."""
    chosen: list[list[int]] = []
    n_events = most + 1
    for number in sorted(sizes):
        n_events += sizes[number]
        if n_events > most:
            chosen.append([])
            n_events = sizes[number]
        chosen[-1].append(number)
    return chosen
