"""Figures with intervals: percentiles of a bootstrap over counts, not over sequences.

A figure is a function of how many sequences fall into each of a few cells, so that is what is
drawn: half a million sequences, a thousand times, take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.errors import ConfigError, LabelsError

DRAWN_CELLS = 2**22  # cells drawn at a time: 32 MB
Figures = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval.

    Attributes:
        value: The figure on the data as they are; None where it is not defined.
        low: Lower end of its interval; None where resampling cannot give one, because the figure
            is not defined or every resample gives the same (perfect ranks of few anomalies).
        high: Upper end, None as ``low``.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    def text(self, digits: int = 3) -> str:
        """Return "value [low, high]" with so many decimals, "-" where it is not defined.

        Example:
            >>> Estimate(0.5, 0.4, 0.65).text(2), Estimate(None).text()
            ('0.50 [0.40, 0.65]', '-')
        """
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, eq=False)
class Resampling:
    """How intervals are made: percentiles of a bootstrap.

    Attributes:
        n: Number of resamples.
        seed: Seed of the draws.
        confidence: Share of resamples inside the interval.
        blocks: None for independent sequences (Poisson bootstrap: each is drawn Poisson(1) times),
            or (n,) numbers of blocks, such as each sequence's hour, that are drawn whole: needed
            where neighbours in time resemble each other. See ``consecutive_blocks``.

    Raises:
        ConfigError: Less than 2 resamples, or a confidence outside (0, 1).
    """

    n: int = 1000
    seed: int = 0
    confidence: float = 0.95
    blocks: NDArray[np.integer] | None = None

    def __post_init__(self) -> None:
        if self.n < 2 or not 0 < self.confidence < 1:
            raise ConfigError(
                f"resampling: n={self.n}, confidence={self.confidence}; "
                "it needs 2 resamples or more and a confidence between 0 and 1"
            )


def consecutive_blocks(n: int, length: int) -> NDArray[np.int64]:
    """Return (n,) block numbers for sequences in order of time, ``length`` to a block."""
    return np.arange(n) // length


def check_columns(n: int, **columns: Any) -> None:
    """Refuse columns that do not fit n labels, or that hold NaN.

    Raises:
        LabelsError: n is 0.
        ValueError: A column of another length, or NaN in it.
    """
    if n == 0:
        raise LabelsError("evaluate: no labelled sequence to judge; give labels that fit the log")
    for name, values in columns.items():
        if values is None:
            continue
        if len(values) != n:
            raise ValueError(f"evaluate: {len(values)} {name} for {n} labels; one each is needed")
        if isinstance(values, np.ndarray) and values.dtype.kind == "f" and np.isnan(values).any():
            raise ValueError(f"evaluate: {name} hold NaN; every sequence has to be scored")


def estimates(
    figures: Callable[[NDArray[np.float64]], Figures],
    cells: NDArray[np.int64],
    n_cells: int,
    how: Resampling,
) -> dict[str, Estimate]:
    """Return each figure of the cells' counts with its percentile interval."""
    counts = np.bincount(cells, minlength=n_cells).astype(np.float64)
    drawn = [figures(part) for part in _resample(cells, n_cells, how)]
    return {
        name: _estimate(float(value[0]), np.concatenate([part[name] for part in drawn]), how)
        for name, value in figures(counts[None]).items()
    }


def share(hits: NDArray[np.bool_], how: Resampling) -> Estimate:
    """Return the share of hits (n,) with its interval; None of nothing."""
    if not len(hits):
        return Estimate(None)

    def figure(counts: NDArray[np.float64]) -> Figures:
        return {"share": ratio(counts[:, 1], counts.sum(axis=1))}

    found = estimates(figure, hits.astype(np.int64), 2, how)["share"]
    return with_wilson(found, int(hits.sum()), len(hits), 1, how)


def with_wilson(found: Estimate, part: int, whole: int, unit: int, how: Resampling) -> Estimate:
    """Give a share of exactly 0 or 1 the interval that resampling cannot: Wilson's.

    Not where sequences come in blocks: there it would be too narrow, and None says so.
    """
    if found.value is None or found.low is not None or how.blocks is not None:
        return found
    low, high = wilson(part, whole, how.confidence)
    return Estimate(found.value, unit * low, unit * high)


def wilson(part: int, whole: int, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    mean, widening = part / whole, z * z / whole
    centre = (mean + widening / 2) / (1 + widening)
    half = math.sqrt(mean * (1 - mean) * widening + widening**2 / 4) / (1 + widening)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _estimate(value: float, drawn: NDArray[np.float64], how: Resampling) -> Estimate:
    defined = drawn[~np.isnan(drawn)]
    if math.isnan(value):
        return Estimate(None)
    if not len(defined) or defined.min() == defined.max():
        return Estimate(value)
    tail = (1 - how.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Estimate(value, float(low), float(high))


def _resample(
    cells: NDArray[np.int64], n_cells: int, how: Resampling
) -> Iterator[NDArray[np.float64]]:
    """Yield (b, n_cells) counts of resampled sequences, ``how.n`` rows in all."""
    rng = np.random.default_rng(how.seed)
    at_once = max(1, DRAWN_CELLS // n_cells)
    if how.blocks is None:
        counts = np.bincount(cells, minlength=n_cells)
        for start in range(0, how.n, at_once):
            size = (min(at_once, how.n - start), n_cells)
            yield rng.poisson(counts, size=size).astype(np.float64)
        return
    names, block = np.unique(how.blocks, return_inverse=True)
    pairs, times = np.unique(block * n_cells + cells, return_counts=True)
    pair_block, pair_cell = np.divmod(pairs, n_cells)
    even = np.full(len(names), 1 / len(names))
    for _ in range(how.n):
        drawn = rng.multinomial(len(names), even)[pair_block] * times
        yield np.bincount(pair_cell, drawn, minlength=n_cells)[None].astype(np.float64)
