"""The dashboard's charts: what came in the last hours, as the numbers that ``report`` draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oddlog.report.axes import STEPS_US, Tick, count_axis, span_text, time_text, time_ticks
from oddlog.report.charts import Bar, Chart
from oddlog.serve.minutes import Minute

MINUTE_US = 60_000_000
N_BINS = 72
TINY = 1e-9
N_SHOWN = 30
"""Minutes that are shown at least, so that the first few do not fill the plot."""


@dataclass(frozen=True)
class Charts:
    """What the dashboard draws.

    Attributes:
        alerts: Alerts raised.
        lines: Lines that arrived.
        scores: Highest score of a window, with the threshold as a line across it.
        bin_text: How long a bar is, such as "5 min".
    """

    alerts: Chart
    lines: Chart
    scores: Chart
    bin_text: str


def draw(minutes: Sequence[Minute], now: float, threshold: float | None) -> Charts:
    """Draw minutes up to now, in bins that a person can name.

    Args:
        minutes: In order.
        now: Seconds since 1970.
        threshold: Score above which a window is flagged, or None.
    """
    last = int(now // 60)
    first = min(minutes[0].minute if minutes else last, last - N_SHOWN)
    steps = [step for step in STEPS_US if step >= MINUTE_US]
    size = next(s for s in steps if last // (s // MINUTE_US) - first // (s // MINUTE_US) < N_BINS)
    per_bin = size // MINUTE_US
    begin, n_bins = first // per_bin, last // per_bin - first // per_bin + 1
    bins: list[list[Minute]] = [[] for _ in range(n_bins)]
    for minute in minutes:
        if (place := minute.minute // per_bin - begin) < n_bins:
            bins[place].append(minute)
    ticks = time_ticks(begin * size, (begin + n_bins) * size)
    names = [time_text((begin + i) * size, size) for i in range(n_bins)]
    return Charts(
        alerts=_counts("Alerts over time", bins, names, ticks, lambda m: m.n_alerts, odd=True),
        lines=_counts("Lines over time", bins, names, ticks, lambda m: m.n_lines),
        scores=_scores(bins, names, ticks, threshold),
        bin_text=span_text(size),
    )


def _counts(
    label: str,
    bins: Sequence[Sequence[Minute]],
    names: Sequence[str],
    ticks: tuple[Tick, ...],
    count: Callable[[Minute], int],
    *,
    odd: bool = False,
) -> Chart:
    counts = np.array([sum(count(minute) for minute in held) for held in bins])
    top, y_ticks = count_axis(max(float(counts.max()), 1.0))
    told = [f"{name}: {n:,}" for name, n in zip(names, counts.tolist(), strict=True)]
    return Chart(label, ticks, y_ticks, bars=_bars(100 * counts / top, told, [odd] * len(bins)))


def _scores(
    bins: Sequence[Sequence[Minute]],
    names: Sequence[str],
    ticks: tuple[Tick, ...],
    threshold: float | None,
) -> Chart:
    highs = [max((m.high for m in held if m.high is not None), default=None) for held in bins]
    middles = [[m.middle for m in held if m.middle is not None] for held in bins]
    found = [high for high in highs if high is not None]
    low = min([0.0, *found])
    marks = [low + TINY] if threshold is None else [low + TINY, threshold]
    top = max([*found, *marks])
    heights = [0.0 if high is None else 100 * (high - low) / (top - low) for high in highs]
    told = [
        f"{name}: no window"
        if high is None
        else f"{name}: highest {high:.3g}, median {np.median(middle):.3g}"
        for name, high, middle in zip(names, highs, middles, strict=True)
    ]
    over = [threshold is not None and high is not None and high > threshold for high in highs]
    asked = None if threshold is None else 100 * (threshold - low) / (top - low)
    y_ticks = tuple(Tick(100 - 50 * i, f"{low + i * (top - low) / 2:.3g}") for i in range(3))
    bars = _bars(np.array(heights), told, over)
    return Chart("Highest score over time", ticks, y_ticks, bars=bars, asked=asked)


def _bars(heights: np.ndarray, told: Sequence[str], odd: Sequence[bool]) -> tuple[Bar, ...]:
    width = 100 / len(heights)
    return tuple(
        Bar(i, i * width, width, float(heights[i]), None, told[i], odd[i])
        for i in np.flatnonzero(heights > 0).tolist()
    )
