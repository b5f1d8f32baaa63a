"""Cut a log into training, validation, calibration and test parts so that nothing leaks.

Windows of lines or time are built inside parts that were cut first (``cut_rows``), unless the log
is known by windows drawn from it (``cut_windows``); sessions are built first and go whole into one
part, by time or at random. What cannot be placed without being
seen from two parts is discarded and counted. ``check_no_leak`` holds any other way of splitting to
the same rule.

A share is a float, a count an int; parts are asked for in either, not in both. Shares sum to 1 or
less: what remains is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Integral

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ConfigError
from oddlog.events import Sequences, column

Ints = NDArray[np.int64]
_UNUSED, _DISCARDED = -1, -2
_PART_NUMBER = r"~\d+$"  # of a long session's later windows
_ROUNDING = 1e-6  # shares such as 0.1 + 0.2 may miss a whole number by a hair


@dataclass(frozen=True)
class SplitReport:
    """Where the sequences went; ``sum(sizes) + n_discarded + n_unused == n_sequences``.

    Attributes:
        n_sequences: Sequences to split.
        sizes: Sequences in each part.
        n_discarded: Sequences left out so that nothing leaks.
        n_unused: Sequences that no part asked for.
        reason: Why sequences had to be discarded.
    """

    n_sequences: int
    sizes: tuple[int, ...]
    n_discarded: int
    n_unused: int
    reason: str

    def summary(self) -> str:
        """Say it in one line, without what did not occur."""
        sizes = " + ".join(f"{size:,}" for size in self.sizes)
        head = f"{self.n_sequences:,} sequences cut into {sizes}"
        discarded = f"; {self.n_discarded:,} discarded ({self.reason})" if self.n_discarded else ""
        unused = f"; {self.n_unused:,} not used" if self.n_unused else ""
        return head + discarded + unused


def cut_rows(events: pl.DataFrame, shares: Sequence[float]) -> list[pl.DataFrame]:
    """Cut an event table into consecutive parts, for windows of lines or time.

    Each source is cut by itself, at these shares of its events, in the order of its rows. Build
    the windows inside each part; a window of time that lies across a cut becomes two.

    Args:
        events: The table, each source in the order of its file.
        shares: Share of each part, in order; they sum to 1 or less.

    Returns:
        One table for each share, rows in the order of ``events``.

    Raises:
        ConfigError: The shares do not fit, or a part would be empty.
    """
    if any(isinstance(share, Integral) for share in shares):
        raise ConfigError(f"shares {[*shares]}: rows are cut by shares such as 0.6, not by counts")
    cuts = [0.0, *_summed_shares(shares)]
    position = pl.int_range(pl.len()).over("source")
    n_rows = pl.len().over("source")
    bounds = [(n_rows * cut + _ROUNDING).floor() for cut in cuts]
    part = pl.sum_horizontal(position >= bound for bound in bounds)
    number = events.select(part.alias("part"))["part"]
    parts = [events.filter(number == i) for i in range(1, len(cuts))]
    _refuse_empty([p.height for p in parts], f"{events.height:,} events", shares)
    return parts


def cut_windows(sequences: Sequences, shares: Sequence[float]) -> tuple[list[Ints], SplitReport]:
    """Cut windows of lines or time that were drawn from a log into consecutive parts.

    Each source is cut by itself, at these shares of its windows by their first events, and a
    window that reaches the first event of a later part is discarded.

    Args:
        sequences: Windows over one table, each of one source, whose rows are in order.
        shares: Share of the windows for each part, in order.

    Returns:
        (k,) rising numbers of the windows in each part, and what was counted.

    Raises:
        ConfigError: The shares do not fit, or a part would be empty.
    """
    first = sequences.rows[sequences.offsets[:-1]]
    last = sequences.rows[sequences.offsets[1:] - 1]
    part = np.full(len(sequences), _UNUSED, dtype=np.int64)
    source = sequences.events["source"].gather(first).rank("dense").to_numpy()
    for name in np.unique(source):
        own = np.flatnonzero(source == name)
        part[own] = _consecutive(first[own], last[own], _bounds(shares, len(own)))
    return _parts(part, shares, "they lie across a cut")


def cut_sessions_by_time(
    sequences: Sequences, shares: Sequence[float]
) -> tuple[list[Ints], SplitReport]:
    """Cut sequences into consecutive parts of the time in which they began.

    The cuts are quantiles of the sessions' first events. A session with events on both sides of
    one is discarded, so a part may be smaller than asked. Events are ordered by time (one without
    takes that of the event before it in its source, or else after it) and then by row; if a
    source has no times at all, by row alone. The windows of one session stay together.

    Args:
        sequences: Windows over one table.
        shares: Share or count of the sessions for each part, earliest first.

    Returns:
        (k,) rising numbers of the sequences in each part, and what was counted.

    Raises:
        ConfigError: The shares do not fit, or a part would be empty.
    """
    session, n_sessions = _sessions(sequences)
    bounds = _bounds(shares, n_sessions)
    first, last = _spans(sequences, session, n_sessions)
    part = _consecutive(first, last, bounds)
    return _parts(part[session], shares, "they lie across a cut")


def cut_sessions_at_random(
    sequences: Sequences, shares: Sequence[float], seed: int
) -> tuple[list[Ints], SplitReport]:
    """Cut sequences into parts of sessions drawn at random.

    The windows of one session stay together. Sessions of different parts that share a line are
    all discarded, so a part may be smaller than asked.

    Args:
        sequences: Windows over one table.
        shares: Share or count of the sessions for each part.
        seed: The same one gives the same parts.

    Returns:
        (k,) rising numbers of the sequences in each part, and what was counted.

    Raises:
        ConfigError: The shares do not fit, or a part would be empty.
    """
    session, n_sessions = _sessions(sequences)
    bounds = _bounds(shares, n_sessions)
    part = np.full(n_sessions, _UNUSED, dtype=np.int64)
    drawn = np.random.default_rng(seed).permutation(n_sessions)
    for i, (begin, end) in enumerate(zip([0, *bounds], bounds, strict=False)):
        part[drawn[begin:end]] = i
    part[_sharing(sequences, session, part)] = _DISCARDED
    return _parts(part[session], shares, "they share a line with another part")


def check_no_leak(*parts: Sequences) -> None:
    """Make sure that no line and no session is in two parts.

    Lines are compared by source and number, sessions by id without the number of their part.

    Raises:
        ConfigError: Two parts share one; it says which.
    """
    used = [np.flatnonzero(np.bincount(part.rows)) for part in parts]
    lines = [p.events.select("source", "line")[rows] for p, rows in zip(parts, used, strict=True)]
    found = _first_shared(lines, ["source", "line"])
    if found is not None:
        (source, line), here, there = found
        raise ConfigError(
            f"{source}:{line} is in part {here} and in part {there}; cut rows before windows are "
            "built, or sessions as a whole (oddlog.split)"
        )
    found = _first_shared([_session_ids(part) for part in parts], ["session"])
    if found is not None:
        (session,), here, there = found
        raise ConfigError(
            f"session {session!r} is in part {here} and in part {there}; all windows of a session "
            "belong in one (oddlog.split)"
        )


def _summed_shares(shares: Sequence[float]) -> list[float]:
    """Return the running sums, the last one no more than 1."""
    if not shares:
        raise ConfigError("shares: none given; write one for each part, such as 0.6, 0.2, 0.2")
    if not all(0 < share <= 1 for share in shares) or sum(shares) > 1 + _ROUNDING:
        raise ConfigError(f"shares {[*shares]}: each is above 0, and they sum to 1 or less")
    return [min(total, 1.0) for total in accumulate(float(share) for share in shares)]


def _bounds(shares: Sequence[float], n: int) -> list[int]:
    """Return where each part ends among n sessions."""
    n_counts = sum(isinstance(share, Integral) for share in shares)
    if n_counts == 0:
        return [int(total * n + _ROUNDING) for total in _summed_shares(shares)]
    if n_counts < len(shares):
        raise ConfigError(f"parts {[*shares]}: give shares (0.5) or counts (5000), not both")
    if min(shares) < 1 or sum(shares) > n:
        raise ConfigError(f"parts {[*shares]}: each is 1 or more, and there are {n:,} sessions")
    return [int(total) for total in accumulate(shares)]


def _consecutive(first: Ints, last: Ints, bounds: Sequence[int]) -> Ints:
    """Return (n,) the part of each session that has its events from place first to place last.

    Args:
        first: (n,) place of the first event.
        last: (n,) place of the last one.
        bounds: How many sessions begin before each part's end.
    """
    in_order = np.sort(first)
    # Sessions that begin with the same line are on the same side of a cut.
    cuts = np.array([in_order[b] for b in bounds if b < len(first)], dtype=np.int64)
    begun = np.searchsorted(cuts, first, side="right")
    part = np.where(begun != np.searchsorted(cuts, last, side="right"), _DISCARDED, begun)
    part[begun >= len(bounds)] = _UNUSED
    return part


def _sessions(sequences: Sequences) -> tuple[Ints, int]:
    """Return (n,) the number of each sequence's session, and how many there are."""
    ids = sequences.keys.str.replace(_PART_NUMBER, "")
    if not len(ids):
        raise ConfigError("split: no sequences; there is nothing to cut")
    codes = ids.rank("dense").to_numpy().astype(np.int64) - 1
    return codes, int(codes.max()) + 1


def _spans(sequences: Sequences, session: Ints, n_sessions: int) -> tuple[Ints, Ints]:
    """Return (n_sessions,) place of the first and of the last event of each, in order of time."""
    place = _places(sequences.events)[sequences.rows]
    begin = sequences.offsets[:-1]
    first = np.full(n_sessions, len(place) + sequences.events.height, dtype=np.int64)
    last = np.full(n_sessions, -1, dtype=np.int64)
    np.minimum.at(first, session, np.minimum.reduceat(place, begin))
    np.maximum.at(last, session, np.maximum.reduceat(place, begin))
    return first, last


def _places(events: pl.DataFrame) -> Ints:
    """Return (N,) each row's place in the order of time, then of rows."""
    time = pl.DataFrame({"source": events["source"], "time": column(events, "time")})
    filled = pl.col("time").forward_fill().backward_fill().over("source")
    time = time.select(filled.cast(pl.Int64))["time"]
    if time.null_count() or time.is_sorted():
        return np.arange(events.height)
    place = np.empty(events.height, dtype=np.int64)
    place[np.argsort(time.to_numpy(), kind="stable")] = np.arange(events.height)
    return place


def _sharing(sequences: Sequences, session: Ints, part: Ints) -> Ints:
    """Return the sessions that share a row with a session of another part."""
    rows = sequences.rows
    often = np.flatnonzero(np.bincount(rows)[rows] > 1)
    owner = session[sequences.owners[often]]
    table = pl.DataFrame({"row": rows[often], "session": owner, "part": part[owner]})
    n_parts = pl.col("part").n_unique().over("row")
    used = table.filter(pl.col("part") != _UNUSED)
    return used.filter(n_parts > 1)["session"].unique().to_numpy()


def _parts(part: Ints, shares: Sequence[float], reason: str) -> tuple[list[Ints], SplitReport]:
    chosen = [np.flatnonzero(part == i) for i in range(len(shares))]
    report = SplitReport(
        n_sequences=len(part),
        sizes=tuple(len(numbers) for numbers in chosen),
        n_discarded=int((part == _DISCARDED).sum()),
        n_unused=int((part == _UNUSED).sum()),
        reason=reason,
    )
    of = f"{len(part):,} sequences, {report.n_discarded:,} of them discarded as {reason}"
    _refuse_empty(report.sizes, of, shares)
    return chosen, report


def _refuse_empty(sizes: Sequence[int], of: str, shares: Sequence[float]) -> None:
    for number, size in enumerate(sizes, 1):
        if size == 0:
            raise ConfigError(
                f"part {number} of {len(sizes)} would be empty: there are {of}; "
                f"asked for {[*shares]}; give that part more, or use more log"
            )


def _session_ids(part: Sequences) -> pl.DataFrame:
    """Return the ids of a part's sessions; a window of time is named by place and time instead."""
    first = part.events[part.rows[part.offsets[:-1]]]
    table = pl.DataFrame(
        {"key": part.keys, "source": first["source"], "host": column(first, "host")}
    )
    key = pl.col("key")
    of_time = pl.any_horizontal(
        key.str.starts_with(pl.col(place).fill_null("") + "@") for place in ("source", "host")
    )
    return table.filter(~of_time).select(session=key.str.replace(_PART_NUMBER, ""))


def _first_shared(
    tables: Sequence[pl.DataFrame], names: list[str]
) -> tuple[tuple[object, ...], int, int] | None:
    """Return the first values in two tables, and the numbers of these, from 1."""
    numbered = [table.unique().with_columns(part=pl.lit(i)) for i, table in enumerate(tables, 1)]
    if not numbered:
        return None
    shared = (
        pl.concat(numbered)
        .group_by(names)
        .agg(n=pl.len(), here=pl.col("part").min(), there=pl.col("part").max())
        .filter(pl.col("n") > 1)
        .sort(names)
    )
    if shared.is_empty():
        return None
    row = shared.row(0, named=True)
    return tuple(row[name] for name in names), row["here"], row["there"]
