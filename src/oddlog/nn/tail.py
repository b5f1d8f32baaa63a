"""How rare a score is among normal windows, so that scores of different kinds can be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.9
PRIOR_WEIGHT = 5.0
"""The scale is a mean of so many excesses of one nat and those that were observed: a model that is
right about its data is surprised by s nats more with a probability below exp(-s)."""


@dataclass(frozen=True)
class Tail:
    """An exponential tail fitted to the scores of normal windows.

    Attributes:
        start: The quantile above which it was fitted.
        scale: Mean excess above it, in the score's unit.

    Raises:
        ValueError: They are not finite, or the scale is not above 0.
    """

    start: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"no tail starts at {self.start} with a scale of {self.scale}")

    @classmethod
    def of(cls, scores: NDArray[np.floating]) -> Tail:
        """Fit it to the scores (n,) of normal windows, none of which were trained on."""
        start = float(np.quantile(scores, QUANTILE))
        excess = scores[scores > start] - start
        scale = (float(excess.sum()) + PRIOR_WEIGHT) / (len(excess) + PRIOR_WEIGHT)
        return cls(start, scale)

    def nats(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return -log P(a normal window scores as high), extended as a line below the tail.

        Negative for scores that most windows exceed: only the order matters there.
        """
        return (
            -np.log1p(-QUANTILE) + (np.asarray(scores, dtype=np.float64) - self.start) / self.scale
        )
