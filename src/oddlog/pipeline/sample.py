"""So many events of a log as memory holds: all of them, or those of what is drawn at random.

Learning looks at a log as a whole: where it is cut in three, how long a session may be silent. So
of a log with more events than ``most`` a smaller log is made, of whole sessions or whole windows,
each kept with the same chance whatever it holds: those whose name's hash is below a bound, which is
lowered whenever too much has come together. One reading is enough, of standard input too, and the
same log and seed give the same draw. What is rare in the log may then not be learned, and is
flagged later on: the calibration, a draw from the same log, counts it in.

Where windows are of sessions these are drawn, by their ids. A line of several stays with those of
them that were drawn; lines of none are in no window anyway. A gap or an age ends them by the clock
of all lines, which is kept. Windows of lines or of time are drawn one by one as they close, so that
they are those of the log read whole, wherever it is cut in three. Read whole is only a log of
several sources with windows per host, which are of the lines of all sources as they merge.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Generic, TypeVar

import numpy as np
import polars as pl

from oddlog.drift import begun
from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.formats import ReadReport
from oddlog.formats.read import CHUNK_LINES
from oddlog.group import Grouper, GroupReport, LogClock, Window
from oddlog.pipeline.lengths import choose_window, names_sessions
from oddlog.pipeline.reading import CLOCK, Reader, Reading, in_time, let_go
from oddlog.run import Progress, silent

logger = logging.getLogger(__name__)

T = TypeVar("T")
ALL = (1 << 64) - 1  # hashes are below
LEFT = 0.8  # of the most, after a draw: so that the next lines do not make for another one
UNBOUNDED = 1 << 62


@dataclass(frozen=True, eq=False)
class DrawnWindows:
    """Windows of lines or of time that were drawn, and what was counted of all of them."""

    sequences: Sequences
    report: GroupReport


@dataclass(frozen=True, eq=False)
class Held:
    """What is held of a log.

    Attributes:
        events: As ``read_sources`` gives them, without the lines as received.
        reads: One report per source, of all its lines.
        ends: When each source ends, as ``Silences.mark`` asks.
        n_events: Events of the whole log.
        share: The chance with which each session or window was kept.
        windows: Those that were drawn; None where sessions were, or all is held.
        clock: The log's, beside the events of drawn sessions that end by it.
        chosen: The window rule and why, where it had to be chosen before anything was drawn.
    """

    events: pl.DataFrame
    reads: tuple[ReadReport, ...]
    ends: pl.DataFrame
    n_events: int
    share: float
    windows: DrawnWindows | None = None
    clock: LogClock | None = None
    chosen: tuple[Window, str] | None = None

    def summary(self) -> str | None:
        """Say in one line what was drawn; None if all is held."""
        if self.events.height == self.n_events:
            return None
        what = "sessions" if self.windows is None else "windows"
        return (
            f"{self.events.height:,} of {self.n_events:,} events held: {what} drawn at random, "
            f"{self.share:.1%} of them (setting max_events)"
        )


def hold(
    reading: Reading,
    most: int,
    seed: int,
    progress: Progress = silent,
    *,
    may_choose: bool = False,
) -> Held:
    """Read a log, all of it or as much of it as is about ``most`` events.

    Args:
        reading: What is read, and how.
        most: Events to hold.
        seed: Draws others.
        progress: Called as work goes on.
        may_choose: The window of ``reading`` was not asked for: if the log's first ``most`` events
            name no session, another one is chosen by them.

    Raises:
        ConfigError: No source, or one given twice; sessions or windows too long for any to be held,
            or windows by session of a log that names none.
        FormatError: A source that cannot be read as a log.
    """
    reader = Reader(reading, min(CHUNK_LINES, most))
    chunks = (events.drop("raw", strict=False) for events, _, _ in reader.chunks(progress))
    held: list[pl.DataFrame] = []
    n_held = 0
    for events in chunks:
        held.append(events)
        n_held += events.height
        if n_held > most and not reading.is_whole:
            chosen = _choose(held) if may_choose else None
            window = chosen[0] if chosen else reading.window
            draw = _draw_sessions if window.by == "session" else _draw_windows
            reading = replace(reading, window=window)
            return replace(
                draw(reader, chain(let_go(held), chunks), reading, most, seed), chosen=chosen
            )
    if n_held > most:
        logger.warning(
            "more than max_events = %d events, and they are held all the same: windows per host "
            "cannot be drawn from several sources",
            most,
        )
    return Held(in_time(held), (*reader.reads,), reader.ends, n_held, 1.0)


def _choose(held: Sequence[pl.DataFrame]) -> tuple[Window, str] | None:
    """Choose a window by the beginning of a log, and say why; None if it names sessions."""
    if any(map(names_sessions, held)):
        return None
    events = pl.concat(held, how="diagonal").drop(CLOCK, strict=False)
    window, why = choose_window(events, None)
    return window, f"{why}; by the first {events.height:,} events"


class _Draw(Generic[T]):
    """What is drawn so far of the pieces of a log.

    Args:
        most: Events to hold.
        drawn: Returns of a piece what has a hash below a bound.
        n_events: Counts the events of a piece.
    """

    def __init__(
        self, most: int, drawn: Callable[[T, int], T], n_events: Callable[[T], int]
    ) -> None:
        self.held: list[T] = []
        self._below = ALL
        self._most = most
        self._drawn = drawn
        self._n_events = n_events

    @property
    def share(self) -> float:
        """The chance with which each session or window is kept."""
        return self._below / ALL

    def add(self, piece: T) -> None:
        self.held.append(self._drawn(piece, self._below))
        while (n_held := sum(map(self._n_events, self.held))) > self._most:
            self._below = int(self._below * LEFT * self._most / n_held)
            self.held = [self._drawn(piece, self._below) for piece in self.held]


def _draw_sessions(
    reader: Reader, chunks: Iterator[pl.DataFrame], reading: Reading, most: int, seed: int
) -> Held:
    """Hold the events of sessions whose id's hash is low enough."""

    def drawn(events: pl.DataFrame, below: int) -> pl.DataFrame:
        low = pl.element().hash(seed) < pl.lit(below, pl.UInt64)
        own = events.with_columns(pl.col("sessions").list.eval(pl.element().filter(low)))
        return _compact(own.filter(pl.col("sessions").list.len() > 0))

    draw = _Draw(most, drawn, lambda events: events.height)
    for events in chunks:
        draw.add(events)
    clock = reader.log_clock(draw.held) if reading.has_clock else None
    held = in_time(draw.held)
    if not held.height:
        if draw.share == 1.0:
            choose_window(held, reading.window)
        raise _too_long("session", "windows: --window session,max=1000", most)
    n_events = sum(read.n_events for read in reader.reads)
    return Held(held, (*reader.reads,), reader.ends, n_events, draw.share, clock=clock)


def _draw_windows(
    reader: Reader, chunks: Iterator[pl.DataFrame], reading: Reading, most: int, seed: int
) -> Held:
    """Hold the windows of lines or of time whose key's hash is low enough."""
    number = {str(source): i for i, source in enumerate(reading.sources)}

    def drawn(windows: Sequences, below: int) -> Sequences:
        kept = windows.take(_names(windows, number).hash(seed).to_numpy() < np.uint64(below))
        return replace(kept, events=_compact(kept.events))

    draw = _Draw(most, drawn, lambda windows: windows.events.height)
    grouper = Grouper(reading.window, max_open=UNBOUNDED, max_events=UNBOUNDED)
    closed = (grouper.push(events.drop(CLOCK, strict=False)) for events in chunks)
    for windows in filter(None, closed):
        draw.add(windows)
    if (rest := grouper.flush()) is not None:
        draw.add(rest)
    if draw.share == 1.0 and not draw.held:
        raise ConfigError(f"no windows to learn from: {grouper.report.summary()}")
    windows = _joined(draw.held, number)
    if not len(windows):
        raise _too_long("window", "their size", most)
    return Held(
        events=windows.events,
        reads=(*reader.reads,),
        ends=reader.ends,
        n_events=grouper.report.n_events,
        share=draw.share,
        windows=DrawnWindows(windows, grouper.report),
    )


def _names(windows: Sequences, number: Mapping[str, int]) -> pl.Series:
    """Return (n,) String, the keys with the source's number in place of its name."""
    first = windows.events["source"].gather(windows.rows[windows.offsets[:-1]])
    table = pl.DataFrame({"key": windows.keys, "source": first})
    place = pl.col("source").replace_strict(number, return_dtype=pl.Int64)
    key = pl.col("key").str.strip_prefix(pl.col("source"))
    return table.select(pl.concat_str(place, key, separator=" ").alias("name"))["name"]


def _compact(events: pl.DataFrame) -> pl.DataFrame:
    """Return the same events, with their own texts alone: all others' stay with a selection."""
    return events.with_columns(pl.col("message") + "")


def _joined(pieces: Sequence[Sequences], number: Mapping[str, int]) -> Sequences:
    """Return windows of several tables over one, no event twice, and in the order of the log."""
    together = Sequences.concat(pieces)
    place = together.events.select(
        pl.col("source").replace_strict(number, return_dtype=pl.Int64), "line"
    )
    order = place.select(pl.arg_sort_by("source", "line")).to_series()
    once = place[order].select(pl.struct("source", "line").rle_id()).to_series().to_numpy()
    row = np.empty(len(once), dtype=np.int64)
    row[order.to_numpy()] = once
    first = np.flatnonzero(np.diff(once, prepend=-1))
    windows = replace(
        together, events=together.events[order.gather(first)], rows=row[together.rows]
    )
    begin = pl.DataFrame({"row": windows.rows[windows.offsets[:-1]], "time": begun(windows)})
    by = ["time", "row"] if len(number) > 1 else ["row"]
    return windows.take(
        begin.select(pl.arg_sort_by(by, maintain_order=True)).to_series().to_numpy()
    )


def _too_long(what: str, shorter: str, most: int) -> ConfigError:
    return ConfigError(
        f"max_events = {most:,}: no {what} is short enough for that; raise it, or limit {shorter}"
    )
