"""So many events of a log as memory holds: all of them, or those of sessions drawn at random.

Learning looks at a log as a whole: where it is cut in three, how long a session may be silent. So
of a log with more events than ``most`` a smaller log is made, of whole sessions, each kept with the
same chance whatever it holds: those whose id's hash is below a bound, which is lowered whenever too
much has come together. One reading is enough, of standard input too, and the same log and seed give
the same sessions. What is rare in the log may then not be learned, and is flagged later on: the
calibration, a draw from the same log, counts it in. A line of several sessions stays with those of
them that were drawn; lines of none are in no window anyway.

Windows of lines and of time are of neighbouring lines, and a session with a gap or an age needs the
clock of all lines: such a log is held whole.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import polars as pl

from oddlog.errors import ConfigError
from oddlog.formats import ReadReport
from oddlog.formats.read import CHUNK_LINES
from oddlog.pipeline.reading import Reader, Reading, in_time
from oddlog.run import Progress, silent

logger = logging.getLogger(__name__)

ALL = 1 << 64  # hashes are below
LEFT = 0.8  # of the most, after a draw: so that the next lines do not make for another one


@dataclass(frozen=True, eq=False)
class Held:
    """What is held of a log.

    Attributes:
        events: As ``read_sources`` gives them, without the lines as received.
        reads: One report per source, of all its lines.
        ends: When each source ends, as ``Silences.mark`` asks.
        n_events: Events of the whole log.
        share: The chance with which each session was kept.
    """

    events: pl.DataFrame
    reads: tuple[ReadReport, ...]
    ends: pl.DataFrame
    n_events: int
    share: float

    def summary(self) -> str | None:
        """Say in one line what was drawn; None if all is held."""
        if self.share == 1.0:
            return None
        return (
            f"{self.events.height:,} of {self.n_events:,} events held: sessions drawn at random, "
            f"{self.share:.1%} of them (setting max_events)"
        )


def hold(reading: Reading, most: int, seed: int, progress: Progress = silent) -> Held:
    """Read a log, all of it or as many of its sessions as are about ``most`` events.

    Args:
        reading: What is read, and how.
        most: Events to hold.
        seed: Draws other sessions.
        progress: Called as work goes on.

    Raises:
        ConfigError: No source, or one given twice; sessions too long for any to be held.
        FormatError: A source that cannot be read as a log.
    """
    reader = Reader(reading, min(CHUNK_LINES, most))
    draw = _Draw(most, seed, can_draw=reading.window.by == "session" and not reading.has_clock)
    for events, _, _ in reader.chunks(progress):
        draw.add(events)
    held = in_time(draw.held)
    if draw.n_events and not held.height:
        raise ConfigError(
            f"max_events = {most:,}: no session is short enough for that; raise it, or limit "
            "windows: --window session,max=1000"
        )
    return Held(held, tuple(reader.reads), reader.ends, draw.n_events, draw.share)


class _Draw:
    """Events of the sessions that are drawn so far."""

    def __init__(self, most: int, seed: int, *, can_draw: bool) -> None:
        self.held: list[pl.DataFrame] = []
        self.n_events = 0
        self._most = most
        self._seed = seed
        self._can_draw = can_draw
        self._below = ALL
        self._n_named = 0

    @property
    def share(self) -> float:
        """The chance with which each session is kept."""
        return self._below / ALL

    def add(self, events: pl.DataFrame) -> None:
        events = events.drop("raw", strict=False)
        self.n_events += events.height
        self._n_named += int((events["sessions"].list.len() > 0).sum())
        self.held.append(self._drawn(events) if self._below < ALL else events)
        while (n_held := sum(e.height for e in self.held)) > self._most and self._may_draw():
            self._below = int(self._below * LEFT * self._most / n_held)
            self.held = [self._drawn(events) for events in self.held]

    def _may_draw(self) -> bool:
        if self._can_draw and self._n_named:
            return True
        if self.n_events - self.held[-1].height <= self._most:  # told once
            logger.warning(
                "more than max_events = %d events, and they are held all the same: only sessions "
                "without a gap or an age can be drawn from a log",
                self._most,
            )
        return False

    def _drawn(self, events: pl.DataFrame) -> pl.DataFrame:
        """Return the events of the sessions whose hash is low enough, and of their texts alone."""
        low = pl.element().hash(self._seed) < pl.lit(self._below, pl.UInt64)
        own = events.with_columns(pl.col("sessions").list.eval(pl.element().filter(low)))
        kept = own.filter(pl.col("sessions").list.len() > 0)
        return kept.with_columns(pl.col("message") + "")  # else all others' texts stay with them
