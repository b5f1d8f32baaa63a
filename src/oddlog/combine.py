"""How odd several detectors find a window together: their scores as p-values, and one statistic.

Let p_i be how rare detector i's score is among normal windows (``Rarity``), for K detectors::

    fisher    sum_i -log p_i                      half of Fisher's (1932) statistic
    cauchy    -log(1/2 - atan(t) / pi),  t = (1/K) sum_i tan((1/2 - p_i) pi)     Liu & Xie (2020)
    minimum   max_i -log p_i                      Tippett (1931), Bonferroni

All are in nats and higher where a window is odder. None is compared with the distribution that its
authors derive: independent or uniform p-values are needed for these, and the p-values of one window
are neither. The statistic is a score, to be calibrated like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddlog.findings import TOLERANCE

TAIL_SHARE = 0.1
"""Share of the reference whose excesses tell how fast scores thin out."""
MOST_NATS = 700.0  # exp of more is no number any more
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rarity:
    """How rare a score is among the scores of normal windows.

    At a reference score it is the mid-p-value: with n of them, a above and b tied with it, itself
    included, (a + b / 2 + 1/2) / (n + 1). Half of a tie, as most rules give most windows the same
    score, and a p-value of 1 would speak against a window in ``cauchy``. It need not be
    conservative: it is calibrated later. Between two reference scores its logarithm is
    interpolated, so that a score with many values keeps its order.

    Above the largest reference score M the rank says no more, and a tail goes on. Let e_1 .. e_k be
    the excesses of reference scores over their upper decile. Were they exponential with a scale as
    likely as 1/scale, a score M + x would be rarer than M by (1 + x / sum e)^-k: a scale known from
    one excess is hardly known, and the tail is heavy; with many it is exponential. Without any,
    k = 1 and the sum is 1.

    Attributes:
        reference: (n,) float64, finite, ascending, n > 0.

    Raises:
        ValueError: Reference scores that are not of that kind.

    Example:
        >>> rarity = Rarity.of([0.0, 0.0, 0.0, 1.0])
        >>> np.exp(-rarity.nats([0.0, 1.0, 2.0])).round(3).tolist()
        [0.6, 0.2, 0.05]
    """

    reference: Floats

    def __post_init__(self) -> None:
        known = self.reference
        if known.ndim != 1 or not len(known) or not np.isfinite(known).all():
            raise ValueError("rarity: reference scores have to be finite, one at least")
        if (np.diff(known) < 0).any():
            raise ValueError("rarity: reference scores are not in ascending order; use Rarity.of")

    @classmethod
    def of(cls, scores: ArrayLike) -> Rarity:
        """Take the scores (n,) of normal windows for the reference, in any order."""
        return cls(np.sort(np.asarray(scores, dtype=np.float64)))

    def nats(self, scores: ArrayLike) -> Floats:
        """Return -log p for each score: above 0, never falling where the score rises, at most 700.

        A score that differs by no more than ``TOLERANCE`` ties, as in a calibration.
        """
        asked = np.asarray(scores, dtype=np.float64)
        known, last = self.reference, self.reference[-1] + TOLERANCE
        n = len(known)
        above_all = -np.log(0.5 / (n + 1))
        n_excesses, total = self._excesses()
        tail = above_all + n_excesses * np.log1p(np.maximum(asked - last, 0) / total)
        inside = np.interp(asked, *self._knots())
        return np.minimum(np.where(asked > last, tail, inside), MOST_NATS)

    def _knots(self) -> tuple[Floats, Floats]:
        """Return the reference scores that differ, and the nats at each."""
        known, n = self.reference, len(self.reference)
        knots = known[np.diff(known, prepend=-np.inf) > TOLERANCE]
        above = n - np.searchsorted(known - TOLERANCE, knots, side="right")
        as_high = n - np.searchsorted(known + TOLERANCE, knots, side="left")
        return knots, -np.log(((above + as_high) / 2 + 0.5) / (n + 1))

    def _excesses(self) -> tuple[int, float]:
        """Return how many reference scores exceed the upper decile, and by how much in all."""
        start = np.quantile(self.reference, 1 - TAIL_SHARE, method="lower")
        excesses = self.reference[self.reference > start + TOLERANCE] - start
        return (len(excesses), float(excesses.sum())) if len(excesses) else (1, 1.0)


def fisher(nats: Floats) -> Floats:
    """Add up (K, n) nats: what all find a little odd counts as much as what one finds very odd."""
    return nats.sum(axis=0)


def cauchy(nats: Floats) -> Floats:
    """Combine (K, n) nats by a mean of Cauchy variables: nearly the highest, less log K."""
    mean = np.mean(1 / np.tan(np.pi * np.exp(-nats)), axis=0)
    return -np.log(np.arctan2(1, mean) / np.pi)


def minimum(nats: Floats) -> Floats:
    """Take the highest of (K, n) nats, that of the smallest p-value."""
    return nats.max(axis=0)


RULES: Mapping[str, Callable[[Floats], Floats]] = {
    "fisher": fisher,
    "cauchy": cauchy,
    "minimum": minimum,
}
