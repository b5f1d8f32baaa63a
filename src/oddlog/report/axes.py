"""Axes of the charts: where a value stands, in per cent, and what is written there."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

TAIL = 6.0  # an axis is bent where its highest score is this many times its 99th percentile
N_TICKS = 8
PAD = 2.0  # per cent between an end of a score axis and the scores, so that no bar is flat
ROOM = 7.0  # per cent of an axis that a tick needs
_SECOND = 1_000_000
_MINUTE, _HOUR, _DAY = 60 * _SECOND, 3600 * _SECOND, 86_400 * _SECOND
STEPS_US = (
    *(1000, 10_000, 100_000),
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 30, 91, 365, 3650, 36_500, 365_000)),
)
"""Lengths of time, in microseconds, that a person can name."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis.

    Attributes:
        at: Place in per cent of the axis, from the left or from the top.
        text: What stands there.
        minor: Left out where there is little room.
    """

    at: float
    text: str
    minor: bool = False


@dataclass(frozen=True)
class ScoreAxis:
    """An axis of scores, straight or, where a few scores are far out, bent towards logarithmic.

    Attributes:
        low: Lowest score.
        high: Highest score, above the lowest.
        bend: Distance from the lowest above which it turns logarithmic (arcsinh); 0 for never.
    """

    low: float
    high: float
    bend: float = 0.0

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> ScoreAxis:
        """Return an axis for finite scores, at least one."""
        low, high = float(scores.min()), float(scores.max())
        high = high if high > low else low + max(1.0, abs(low))
        usual = float(np.quantile(scores, 0.99)) - low
        is_bent = high - low > TAIL * usual > 0
        return cls(low, high, usual if is_bent else 0.0)

    def place(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return places in per cent, the lowest score ``PAD`` from the left, the highest likewise.

        Infinite scores stand at the ends.
        """
        low, high = self._shape(np.array([self.low, self.high]))
        shaped = self._shape(np.asarray(scores, dtype=np.float64))
        return np.clip(PAD + (100 - 2 * PAD) * (shaped - low) / (high - low), 0, 100)

    def score(self, at: float) -> float:
        """Return the score at a place in per cent."""
        low, high = self._shape(np.array([self.low, self.high]))
        shaped = float(low + (high - low) * (at - PAD) / (100 - 2 * PAD))
        return self.low + self.bend * math.sinh(shaped) if self.bend else shaped

    def ticks(self) -> tuple[Tick, ...]:
        """Return ticks at round scores."""
        if self.bend:
            power = math.floor(math.log10(self.bend))
            values = [0.0, *(10.0**p for p in range(power, power + 20))]
        else:
            step = _nice((self.high - self.low) / N_TICKS)
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            values = [k * step for k in range(first, last + 1)]
        inside = [value for value in values if self.low <= value <= self.high]
        places = self.place(inside).tolist()
        return thinned((at, f"{value:.6g}") for at, value in zip(places, inside, strict=True))

    def _shape(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arcsinh((scores - self.low) / self.bend) if self.bend else scores


def log_height(shares: NDArray[np.floating], floor: float) -> NDArray[np.floating]:
    """Return heights in per cent of shares between a floor, the lowest to be seen, and 1."""
    return 100 * np.log(np.maximum(shares, floor) / floor) / math.log(1 / floor)


def share_ticks(floor: float) -> tuple[Tick, ...]:
    """Return ticks for 100 %, 10 % and so on, of ``log_height``'s scale."""
    shares = 10.0 ** -np.arange(math.ceil(-math.log10(floor)))
    heights = log_height(shares, floor).tolist()
    return tuple(
        Tick(100 - height, f"{100 * share:g} %")
        for share, height in zip(shares.tolist(), heights, strict=True)
    )


def count_axis(most: float) -> tuple[float, tuple[Tick, ...]]:
    """Return the top of an axis from 0 for counts up to a number, and two to four ticks."""
    step = next(n for n in round_numbers(most) if most / n <= 3)
    top = math.ceil(most / step) * step
    return top, tuple(Tick(100 - 100 * n / top, f"{n:,}") for n in range(0, top + 1, step))


def rate_axis(most: float) -> tuple[float, tuple[Tick, ...]]:
    """Return the top of an axis from 0 for a rate above 0 and up to 1, and its ticks."""
    step = _nice(most / 3)
    n = math.ceil(most / step - 1e-9)
    return n * step, tuple(Tick(100 - 100 * k / n, f"{100 * k * step:.4g} %") for k in range(n + 1))


def round_numbers(most: float) -> tuple[int, ...]:
    """Return 1, 2, 5, 10, 20 ... to something above a number."""
    powers = range(len(str(int(most))) + 1)
    return tuple(n * 10**power for power in powers for n in (1, 2, 5))


def order_ticks(low: int, high: int) -> tuple[Tick, ...]:
    """Return ticks at round places in an order that is counted from 1."""
    step = next(n for n in round_numbers(high) if (high - low) / n <= N_TICKS)
    return thinned(
        (100 * (k - low) / (high - low), f"{k:,}") for k in range(max(low, step), high + 1, step)
    )


def time_ticks(low: int, high: int) -> tuple[Tick, ...]:
    """Return ticks at round times, given in microseconds since 1970."""
    step = next((s for s in STEPS_US if (high - low) / s <= N_TICKS), STEPS_US[-1])
    places = range(-(-low // step) * step, high + 1, step)
    return thinned((100 * (at - low) / (high - low), _tick_text(at, step)) for at in places)


def thinned(found: Iterable[tuple[float, str]], room: float = ROOM) -> tuple[Tick, ...]:
    """Return ticks with that many per cent between them, every second one minor."""
    kept: list[tuple[float, str]] = []
    for at, text in found:
        if not kept or at - kept[-1][0] >= room:
            kept.append((at, text))
    return tuple(Tick(at, text, minor=i % 2 == 1) for i, (at, text) in enumerate(kept))


def time_text(at: int, step: int) -> str:
    """Return a time as text, as fine as a step of that many microseconds needs."""
    text = str(np.datetime64(at, "us")).replace("T", " ")
    if step % _DAY == 0:
        return text[:-16]
    if step % _MINUTE == 0:
        return text[:-10]
    return text[:-7] if step % _SECOND == 0 else text[:-3]


def span_text(step: int) -> str:
    """Return one of ``STEPS_US`` as text, such as ``15 min``."""
    for name, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE), ("s", _SECOND)):
        if step % size == 0:
            return f"{step // size} {name}"
    return f"{step // 1000} ms"


def _nice(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next((n * power for n in (1, 2, 5) if n * power >= raw * (1 - 1e-9)), 10 * power)


def _tick_text(at: int, step: int) -> str:
    text = str(np.datetime64(at, "us"))
    day, clock = text.split("T")
    if step >= 30 * _DAY:
        return day[:-3]
    if at % _DAY == 0:
        return day[-5:]
    if step >= _MINUTE:
        return clock[:5]
    return clock[:8] if step >= _SECOND else clock[:12]
