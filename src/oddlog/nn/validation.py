"""How well scores tell validation normals from corruptions of them: a number to choose by."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oddlog.evaluate import average_precision
from oddlog.events import Sequences
from oddlog.simulate.corrupt import corrupt

N_DRAWS = 5
BASE_RATE = 0.03


def synthetic_auprc(
    score: Callable[[Sequences], NDArray[np.floating]], normals: Sequences, seed: int = 0
) -> float:
    """Return the area under precision and recall on normals and corruptions of them.

    Every normal is corrupted ``N_DRAWS`` times (``simulate.corrupt``), and the corruptions are
    weighed to ``BASE_RATE`` of all, about that of the public logs. Settings compared by this number
    have to be given the same normals and the same seed. Several hundred normals are needed: with
    500, it wavers by a few hundredths from one draw of normals to another.

    Args:
        score: Gives windows (n,) scores, higher is more anomalous.
        normals: Normal windows that were not trained on; no labels are read.
        seed: Of the corruptions.

    Returns:
        The area, or nan where no window has room for a change.
    """
    odd = corrupt(normals, seed, N_DRAWS)
    if not len(odd):
        return math.nan
    scores = [score(part.without_labels()) for part in (normals, odd)]
    truth = np.repeat([False, True], [len(normals), len(odd)])
    return average_precision(np.concatenate(scores), truth, BASE_RATE)
