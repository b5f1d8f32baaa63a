"""From scores to flags at a false-alarm rate that the user states.

Split-conformal p-values (Vovk, Gammerman & Shafer 2005; Bates et al. 2023): the p-value of a new
score is its rank among the scores of normal sequences that nothing else has used. If the new
sequence is normal and exchangeable with those, P(p <= alpha) <= alpha, whatever the detector, the
distribution of its scores and their ties. Kept for any other use, such as choosing an epoch, the
same sequences would void that promise.

Where an unknown few of the n calibration sequences are anomalies, k suspects can be left out. Let
b of the n be anomalies, and the n - b normal ones exchangeable with a new normal sequence s. With
N = n - k scores kept, s is flagged only if fewer than m = floor(alpha (N + 1)) of the kept ones are
at least as high. What follows for P(s is flagged), given b, however the suspects were chosen:

1. Always at most (m + k) / (n - b + 1): of the normal scores at most m - 1 kept ones and k left out
   are as high, and the rank of s among n - b + 1 exchangeable scores is uniform (ties lower it).
   With b <= k, which is what assuming a share means, that is at most (m + k) / (N + 1), about
   alpha + k / N: ``Calibration.worst_rate``.
2. If the anomalies outrank the normal sequences, at most max(m + k - b, 0) / (n - b + 1), as b of
   the scores at least as high as a flagged s are theirs. For b >= k that is at most
   m / (N + 1) <= alpha: the promise holds. For b < k each normal sequence left out in an anomaly's
   place costs about 1 / n.
3. If every suspect is an anomaly, at most m / (n - b + 1) <= alpha (N + 1) / (n - b + 1), whatever
   the anomalies score: the promise holds but for the b - k anomalies kept. So it does with k = 0,
   where nothing is left out; but once m of the kept scores are anomalies' and stand on top, nothing
   that ranks below them is flagged. The promise is kept by silence.

So nothing keeps both the promise and the recall without knowing which scores are anomalies'. What
can be had is the promise under an assumption and a price if it is wrong, and both are stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddlog.errors import ArtifactError, ConfigError
from oddlog.findings import TOLERANCE

DEFAULT_RATE = 0.01


@dataclass(frozen=True, eq=False)
class Calibration:
    """Scores of normal sequences that nothing else has used, and the false-alarm rate asked for.

    Attributes:
        scores: (n,) float64, finite, ascending; never empty. ``calibrate`` sorts for you.
        false_alarm_rate: Share of normal sequences that may be flagged, between 0 and 1.
        n_trimmed: How many higher scores were left out as suspected anomalies'; see the module for
            what that does to the promise.

    Raises:
        ConfigError: No score, or a rate outside (0, 1).
        ValueError: Scores that are not finite, not ascending or not in one dimension, or a negative
            number left out.

    Example:
        >>> calibration = Calibration(np.arange(99.0), false_alarm_rate=0.05)
        >>> round(calibration.threshold(), 3)
        94.0
        >>> calibration.flags(np.array([94.0, 94.5])).tolist()
        [False, True]
    """

    scores: NDArray[np.float64]
    false_alarm_rate: float = DEFAULT_RATE
    n_trimmed: int = 0

    def __post_init__(self) -> None:
        scores = np.array(self.scores, dtype=np.float64)
        _check_scores(scores)
        _check_rate(self.false_alarm_rate)
        if self.n_trimmed < 0:
            raise ValueError(f"calibration: {self.n_trimmed} scores left out")
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.scores)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return (n,) p-values: (1 + number of calibration scores >= the score) / (size + 1).

        A tie counts against the flag, so that scores with few distinct values (a rank, a count)
        keep the guarantee too. A score higher by no more than ``TOLERANCE`` ties: a network's score
        of one sequence differs by that much with the batch and the machine. The smallest p-value
        there is is 1 / (size + 1).

        Raises:
            ValueError: A score is NaN.
        """
        asked = np.asarray(scores, dtype=np.float64)
        if np.isnan(asked).any():
            raise ValueError("p_values: a score is NaN; a detector has to score every sequence")
        as_high = len(self) - np.searchsorted(self.scores + TOLERANCE, asked, side="left")
        return (1 + as_high) / (len(self) + 1)

    def flags(self, scores: ArrayLike, alpha: float | None = None) -> NDArray[np.bool_]:
        """Return (n,) whether the p-value is at most the rate (default: the one asked for)."""
        return self.p_values(scores) <= self._rate(alpha)

    def threshold(self, alpha: float | None = None) -> float:
        """Return the score strictly above which a sequence is flagged, in step with ``flags``.

        It is ``inf`` where the calibration set is too small for the rate (see ``n_missing``).
        """
        allowed = _n_allowed(self._rate(alpha), len(self))
        return float(self.scores[len(self) - allowed] + TOLERANCE) if allowed else math.inf

    def n_missing(self, alpha: float | None = None) -> int:
        """Return how many more calibration sequences the rate needs before anything is flagged.

        A rate of 1 % needs 99 in all, 0.1 % needs 999; 0 means that there are enough.
        """
        return max(n_needed(self._rate(alpha)) - len(self), 0)

    def lowest_rate(self) -> float:
        """Return the lowest rate at which anything can be flagged, rounded up to two digits.

        Example:
            >>> Calibration(np.arange(52.0)).lowest_rate()
            0.019
        """
        lowest = 1 / (len(self) + 1)
        digits = 1 - math.floor(math.log10(lowest))
        return round(math.ceil(round(lowest * 10**digits, 6)) / 10**digits, digits)

    def interval(self, alpha: float | None = None, confidence: float = 0.95) -> tuple[float, float]:
        """Return the range in which this calibration's own false-alarm rate lies.

        The guarantee is an average over calibration sets. With k = the number of calibration
        scores that may lie at or above a flag's threshold, the long-run rate of one set with
        continuous scores follows Beta(k, size + 1 - k) (Vovk 2012), whose equal-tailed range this
        is. With ties the rate is lower, so that the upper end holds and the lower may not. Where
        scores were left out, the range is that of the case in which all of them were anomalies'.

        Raises:
            ConfigError: A rate or a confidence outside (0, 1).
        """
        _check_rate(confidence, "confidence")
        allowed = _n_allowed(self._rate(alpha), len(self))
        if allowed == 0:
            return 0.0, 0.0
        tail = (1 - confidence) / 2
        shape = (allowed, len(self) + 1 - allowed)
        return _beta_quantile(tail, *shape), _beta_quantile(1 - tail, *shape)

    def worst_rate(self, alpha: float | None = None) -> float:
        """Return what the false-alarm rate is at most if what was left out was normal.

        An average over calibration sets, as the promise itself; it supposes that the set held no
        more anomalies than were left out (case 1 of the module). Equal to the largest p-value that
        is flagged where nothing was left out.
        """
        allowed = _n_allowed(self._rate(alpha), len(self))
        if allowed == 0:
            return 0.0
        return min((allowed + self.n_trimmed) / (len(self) + 1), 1.0)

    def add(self, scores: ArrayLike) -> Calibration:
        """Return a calibration that also holds these scores of normal sequences."""
        joined = np.concatenate([self.scores, np.asarray(scores, dtype=np.float64).ravel()])
        return replace(self, scores=np.sort(joined))

    def at(self, alpha: float) -> Calibration:
        """Return the same scores with another false-alarm rate."""
        return replace(self, false_alarm_rate=alpha)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file; floats are kept to the last bit."""
        value = {"false_alarm_rate": self.false_alarm_rate, "scores": self.scores.tolist()}
        return value | ({"n_trimmed": self.n_trimmed} if self.n_trimmed else {})

    @staticmethod
    def from_json(value: object, where: str = "calibration.json") -> Calibration:
        """Read what ``to_json`` gave.

        Args:
            value: The parsed JSON.
            where: What to call its source in an error.

        Raises:
            ArtifactError: Not such a value: a key or a score is missing, NaN or out of order.
        """
        known = {"false_alarm_rate", "scores"}
        if not isinstance(value, Mapping) or set(value) | {"n_trimmed"} != known | {"n_trimmed"}:
            raise ArtifactError(f"{where}: not a calibration; fit the model again")
        rate, scores = value["false_alarm_rate"], value["scores"]
        try:
            n_trimmed = int(value.get("n_trimmed", 0))
            return Calibration(np.asarray(scores, dtype=np.float64), float(rate), n_trimmed)
        except (ConfigError, ValueError, TypeError) as error:
            raise ArtifactError(f"{where}: damaged: {error}; fit the model again") from None

    def _rate(self, alpha: float | None) -> float:
        if alpha is None:
            return self.false_alarm_rate
        _check_rate(alpha)
        return alpha


def calibrate(
    scores: ArrayLike,
    false_alarm_rate: float = DEFAULT_RATE,
    *,
    suspects: NDArray[np.bool_] | None = None,
) -> Calibration:
    """Make a calibration from the scores of normal sequences, in any order.

    Args:
        scores: (n,) scores of sequences that no training and no model selection has seen.
        false_alarm_rate: Share of normal sequences that may be flagged, between 0 and 1.
        suspects: (n,) which scores to leave out as anomalies'; see the module for what is promised
            then.

    Raises:
        ConfigError: No score, or a rate outside (0, 1).
        ValueError: A score is not finite.
    """
    known = np.asarray(scores, dtype=np.float64)
    if suspects is None:
        return Calibration(np.sort(known), false_alarm_rate)
    return Calibration(np.sort(known[~suspects]), false_alarm_rate, int(suspects.sum()))


def n_needed(rate: float) -> int:
    """Return how many calibration sequences a rate needs before anything can be flagged.

    Example:
        >>> n_needed(0.01), n_needed(0.001)
        (99, 999)
    """
    needed = max(math.ceil(1 / rate) - 2, 0)
    while 1 / (needed + 1) > rate:  # settles the rounding of 1 / rate as ``flags`` does
        needed += 1
    return needed


def _check_scores(scores: NDArray[np.float64]) -> None:
    if scores.ndim != 1:
        raise ValueError(f"calibration: scores of shape {scores.shape}, they have to be (n,)")
    if not len(scores):
        raise ConfigError(
            "calibration: no normal sequence to calibrate on; give more normal log, "
            "or a larger share of it to calibration"
        )
    odd = np.flatnonzero(~np.isfinite(scores))
    if len(odd):
        raise ValueError(
            f"calibration: score {odd[0]} of {len(scores)} is {scores[odd[0]]}; "
            "scores have to be finite"
        )
    if (np.diff(scores) < 0).any():
        raise ValueError("calibration: scores are not in ascending order; use calibrate(scores)")


def _check_rate(rate: float, name: str = "false-alarm rate") -> None:
    if not 0 < rate < 1:
        raise ConfigError(f"{name} {rate}: it has to lie between 0 and 1, such as 0.01 for 1 %")


def _n_allowed(rate: float, n: int) -> int:
    """Return the largest k with k / (n + 1) <= rate, in the arithmetic of ``p_values``."""
    k = math.floor(rate * (n + 1))
    if (k + 1) / (n + 1) <= rate:
        return k + 1
    return k if k / (n + 1) <= rate else k - 1


def _beta_quantile(q: float, a: float, b: float) -> float:
    """Return x with P(Beta(a, b) <= x) = q, by bisection: the function rises strictly."""
    low, high = 0.0, 1.0
    while True:
        middle = (low + high) / 2
        if middle <= low or middle >= high or high - low <= 1e-13 * high:
            return middle
        if _beta_cdf(middle, a, b) < q:
            low = middle
        else:
            high = middle


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for 0 < x < 1."""
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side only
        return 1 - front * _beta_fraction(1 - x, b, a) / b
    return front * _beta_fraction(x, a, b) / a


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction of I_x(a, b) (DLMF 8.17.22) by Lentz's method."""
    tiny = 1e-300  # stands for a denominator of zero, as the method prescribes
    c, d = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    result, step, m = d, 0.0, 0
    while abs(step - 1) > 1e-15 and m < 100_000:  # about sqrt(max(a, b)) turns
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1 / _nonzero(1 + numerator * d, tiny)
            c = _nonzero(1 + numerator / c, tiny)
            step = c * d
            result *= step
    return result


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
