"""Charts as numbers: bins, bars and ticks, placed in per cent of a plot of unknown size.

The template writes them as SVG. Nothing is drawn by a script and nothing scales: lengths are per
cent of the plot and texts keep their size, so that one file fits a phone, a wide screen and paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from oddlog.drift import FlagRate
from oddlog.report.axes import (
    STEPS_US,
    ScoreAxis,
    Tick,
    count_axis,
    log_height,
    order_ticks,
    rate_axis,
    round_numbers,
    share_ticks,
    span_text,
    thinned,
    time_text,
    time_ticks,
)

N_BINS = 48
N_TIME_BINS = 72


@dataclass(frozen=True)
class Bar:
    """A bin of a chart; places and lengths in per cent of the plot.

    Attributes:
        number: Which bin it is, from 0.
        x: Left edge.
        width: Width.
        height: Height of the bar.
        mark: Height of the dash that it is compared with, or None for no dash.
        told: What a person reads who points at it.
        odd: Whether it is drawn as something to look at.
    """

    number: int
    x: float
    width: float
    height: float
    mark: float | None
    told: str
    odd: bool


@dataclass(frozen=True)
class Span:
    """A value with its interval; x from the left, the heights from below, all in per cent."""

    x: float
    low: float
    value: float
    high: float
    told: str


@dataclass(frozen=True)
class Chart:
    """Bars, or spans, over an axis.

    Attributes:
        label: What it shows, for those who cannot see it.
        x_ticks: Below the plot.
        y_ticks: Left of the plot, with a line across it.
        bars: From left to right, empty bins left out.
        spans: From left to right.
        threshold: Place of a vertical line, in per cent; None for no line.
        asked: Height of a horizontal line, in per cent; None for no line.
    """

    label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...] = ()
    spans: tuple[Span, ...] = ()
    threshold: float | None = None
    asked: float | None = None


@dataclass(frozen=True, eq=False)
class Timeline:
    """When sequences began, and when those that were flagged did.

    Attributes:
        flagged: The flagged ones, with dashes at what the asked rate allows.
        every: All of them.
        bin_of: (n,) number of the bin of each sequence, -1 where its time is not known.
        by_time: Whether bins are of time; else of the order in the log.
        bin_text: How much a bin holds, such as "1 min".
        n_untimed: Sequences that are not drawn, as they have no time.
    """

    flagged: Chart
    every: Chart
    bin_of: NDArray[np.int64]
    by_time: bool
    bin_text: str
    n_untimed: int


def histogram(
    scores: NDArray[np.floating], calibration: NDArray[np.float64], threshold: float
) -> Chart:
    """Draw the share of sequences in each range of scores, on a logarithmic scale.

    The threshold, where it is finite, is an edge between two bins, so that no bar is flagged in
    part. The dashes are the shares of the calibration scores.

    Args:
        scores: (n,) scores, n at least 1; infinite ones are drawn at the edge.
        calibration: (m,) finite scores of normal sequences, m at least 1.
        threshold: Score above which a sequence is flagged; may be infinite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    axis = ScoreAxis.of(np.concatenate([scores[np.isfinite(scores)], calibration]))
    cut = float(axis.place(threshold)) if math.isfinite(threshold) else None
    edges = _edges(100.0 if cut is None else cut)
    here, there = (_counts(axis.place(values), edges) for values in (scores, calibration))
    floor = 0.5 / max(len(scores), len(calibration))
    heights = log_height(here / len(scores), floor)
    marks = log_height(there / len(calibration), floor)
    bars = [
        Bar(
            number=i,
            x=float(edges[i]),
            width=float(edges[i + 1] - edges[i]),
            height=float(heights[i]),
            mark=float(marks[i]) if there[i] else None,
            told=f"scores {axis.score(edges[i]):.3g} to {axis.score(edges[i + 1]):.3g}: "
            f"{here[i]:,} sequences ({here[i] / len(scores):.2%}); "
            f"of the calibration {there[i]:,} ({there[i] / len(calibration):.2%})",
            odd=cut is not None and bool(edges[i] >= cut),
        )
        for i in np.flatnonzero(here + there).tolist()
    ]
    return Chart(
        label="Histogram of scores, this log's as bars, the calibration's as dashes",
        x_ticks=axis.ticks(),
        y_ticks=share_ticks(floor),
        bars=tuple(bars),
        threshold=cut,
    )


def _edges(threshold: float) -> NDArray[np.float64]:
    """Return edges of bins from 0 to 100, one of them the threshold."""
    n_left = round(N_BINS * threshold / 100)
    if 0 < threshold < 100:
        n_left = min(max(n_left, 1), N_BINS - 1)
    left = np.linspace(0, threshold, n_left + 1)
    right = np.linspace(threshold, 100, N_BINS - n_left + 1)
    return np.concatenate([left[:-1], right]) if n_left < N_BINS else left


def _counts(places: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count values in bins that hold their upper edge: a score at the threshold is no flag."""
    numbers = np.searchsorted(edges[1:-1], places, side="left")
    return np.bincount(numbers, minlength=len(edges) - 1)


def timeline(
    times_us: NDArray[np.int64], timed: NDArray[np.bool_], flags: NDArray[np.bool_], rate: float
) -> Timeline:
    """Draw how many sequences there were over time, and how many were flagged.

    Args:
        times_us: (n,) microseconds since 1970 at which each began; n at least 1.
        timed: (n,) which of the times are known. The others are left out and counted; where none
            is, the order of the log takes the place of time.
        flags: (n,) which were flagged.
        rate: False-alarm rate that was asked for.
    """
    by_time = bool(timed.any())
    places = times_us if by_time else np.arange(1, len(flags) + 1)
    drawn = timed if by_time else np.ones(len(flags), dtype=bool)
    low, high = int(places[drawn].min()), int(places[drawn].max())
    steps = STEPS_US if by_time else round_numbers(high)
    step = next((s for s in steps if high // s - low // s < N_TIME_BINS), steps[-1])
    first, n_bins = low // step, high // step - low // step + 1
    bin_of = np.where(drawn, places // step - first, -1)
    every = np.bincount(bin_of[drawn], minlength=n_bins)
    flagged = np.bincount(bin_of[drawn & flags], minlength=n_bins)
    begin, end = first * step, (first + n_bins) * step
    told = [
        f"{time_text(at, step) if by_time else f'from number {max(at, 1):,}'}: "
        f"{n_flagged:,} of {n:,} flagged, {rate * n:.2g} allowed"
        for at, n_flagged, n in zip(range(begin, end, step), flagged, every, strict=True)
    ]
    ticks = time_ticks(begin, end) if by_time else order_ticks(begin, end)
    return Timeline(
        flagged=_counts_chart("Flagged sequences over time", flagged, every * rate, told, ticks),
        every=_counts_chart("All sequences over time", every, None, told, ticks),
        bin_of=bin_of,
        by_time=by_time,
        bin_text=span_text(step) if by_time else f"{step:,} sequences",
        n_untimed=int((~drawn).sum()),
    )


def _counts_chart(
    label: str,
    counts: NDArray[np.integer],
    allowed: NDArray[np.floating] | None,
    told: list[str],
    x_ticks: tuple[Tick, ...],
) -> Chart:
    marks = np.zeros(len(counts)) if allowed is None else allowed
    top, y_ticks = count_axis(max(float(counts.max()), float(marks.max()), 1.0))
    width = 100 / len(counts)
    bars = [
        Bar(
            number=i,
            x=i * width,
            width=width,
            height=100 * float(counts[i]) / top,
            mark=100 * float(marks[i]) / top if marks[i] else None,
            told=told[i],
            odd=allowed is not None,
        )
        for i in np.flatnonzero(counts + marks).tolist()
    ]
    return Chart(label, x_ticks, y_ticks, bars=tuple(bars))


def rates(runs: tuple[FlagRate, ...], asked: float) -> Chart:
    """Draw the realised rate of flags, with its interval, of consecutive runs of sequences.

    Args:
        runs: At least one.
        asked: The asked rate.
    """
    top, y_ticks = rate_axis(max(asked, *(run.high for run in runs)))
    width = 100 / len(runs)
    starts, spans = _starts(runs), []
    for i, run in enumerate(runs):
        told = (
            f"{run.n_sequences:,} sequences from {starts[i]}: {run.n_flagged:,} flagged, "
            f"{run.rate:.2%} (95 % interval {run.low:.2%} to {run.high:.2%})"
        )
        low, value, high = (100 * rate / top for rate in (run.low, run.rate, run.high))
        spans.append(Span((i + 0.5) * width, low, value, high, told))
    return Chart(
        label="Realised share of flagged sequences over time, with intervals, and the asked rate",
        x_ticks=thinned(((i * width, start) for i, start in enumerate(starts)), room=20),
        y_ticks=y_ticks,
        spans=tuple(spans),
        asked=100 * asked / top,
    )


def _starts(runs: tuple[FlagRate, ...]) -> list[str]:
    """Return when each run began, by the clock alone within a day; without times its number."""
    times = [run.first_time for run in runs if run.first_time is not None]
    if len(times) < len(runs):
        ends = np.cumsum([run.n_sequences for run in runs]).tolist()
        return ["1", *(f"{end + 1:,}" for end in ends[:-1])]
    shown = slice(11, 19) if times[-1] - times[0] < timedelta(days=1) else slice(5, 16)
    return [str(time)[shown] for time in times]
