"""Which windows a log gets where nobody said so: by what it names, and what a length gives of it.

A window of one event has neither order nor counts, and of few windows nothing can be learned and no
rate be kept. So the length is the one nearest to a minute that gives enough of both.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from oddlog.errors import ConfigError
from oddlog.events import column
from oddlog.group import Window

USUAL_S = 60
LENGTHS_S = (1, 2, 5, 10, 15, 30, USUAL_S, 120, 300, 600, 900, 1800, 3600)
EVENTS = 5.0  # in a window, on average
SPARSE_LINES = 10  # in a window, where an hour has fewer than EVENTS
DENSE_LINES = 100  # in a window, where a second has more and there are few seconds
WINDOWS = 400  # a quarter of them calibrates a rate of 1 %, which takes 99


class Given(NamedTuple):
    """What windows of some seconds are of a log: how many hold an event, and how many each."""

    seconds: int
    n_windows: int
    n_events: float


def choose_window(events: pl.DataFrame, wanted: Window | None) -> tuple[Window, str]:
    """Return the window rule, and in words what it is and why.

    Raises:
        ConfigError: Windows by session of a log that names none.
    """
    if wanted is not None:
        if wanted.by == "session" and not names_sessions(events):
            raise ConfigError(
                f"windows by {wanted}, but no line names a session; say where with --session-by, "
                "or cut by --window time:60s or lines:100"
            )
        return wanted, f"{wanted} (as asked)"
    if names_sessions(events):
        return Window(by="session"), "session (the lines name sessions)"
    if column(events, "time").is_not_null().any():
        return choose_time(events)
    return Window.parse("lines:100"), "lines:100 per source (neither sessions nor times)"


def names_sessions(events: pl.DataFrame) -> bool:
    """Return whether any line names a session."""
    return bool(column(events, "sessions").list.len().sum())


def choose_time(events: pl.DataFrame) -> tuple[Window, str]:
    """Return windows for a log that has times, and in words what they are and why.

    Of the lengths that give ``EVENTS`` in a window, the one nearest to a minute that gives
    ``WINDOWS``, or that which gives most. Windows of lines where no length gives as many events,
    and where few windows would hold most of the log, as in a burst within seconds.
    """
    given = windows_of(events)
    full = [each for each in given if each.n_events >= EVENTS]
    if not full:
        window = Window(by="lines", size=SPARSE_LINES)
        why = f"no sessions, and too sparse for times: {LENGTHS_S[-1]}s gives {_told(given[-1])}"
        return window, f"{window} per source ({why})"
    enough = [each for each in full if each.n_windows >= WINDOWS] or full[:1]
    if enough[0].n_windows < WINDOWS and given[0].n_events > DENSE_LINES:
        window = Window(by="lines", size=DENSE_LINES)
        why = f"no sessions, and too dense for times: {LENGTHS_S[0]}s gives {_told(given[0])}"
        return window, f"{window} per source ({why})"
    chosen = min(enough, key=_from_usual)
    usual = next(each for each in given if each.seconds == USUAL_S)
    why = f"no sessions, but times: {_told(chosen)}"
    if chosen != usual:
        why += f", where {USUAL_S}s gives {_told(usual)}"
    window = Window(by="time", size=chosen.seconds)
    return window, f"{window} per source ({why}; --session-by tells where lines name a session)"


def windows_of(events: pl.DataFrame) -> list[Given]:
    """Return what each of ``LENGTHS_S`` gives, the shortest first; an event has to have a time."""
    source = events["source"].cast(pl.Categorical).to_physical().cast(pl.Int64)
    time = column(events, "time").dt.epoch("s")
    timed = pl.DataFrame({"source": source, "time": time}).drop_nulls("time")
    place = pl.col("source") * (1 << 40)
    counts = timed.select(
        (place + pl.col("time") // seconds).n_unique().alias(str(seconds)) for seconds in LENGTHS_S
    ).row(0)
    pairs = zip(LENGTHS_S, counts, strict=True)
    return [Given(seconds, n, timed.height / n) for seconds, n in pairs]


def _from_usual(given: Given) -> float:
    return max(given.seconds / USUAL_S, USUAL_S / given.seconds)


def _told(given: Given) -> str:
    windows = "1 window" if given.n_windows == 1 else f"{given.n_windows:,} windows"
    return f"{windows} of about {given.n_events:,.0f} events"
