"""Focal loss of Lin et al. (2017), for soft targets and several classes; cross entropy is gamma 0.

With p_k the softmax of the logits, y the class, and a_k the weight of class k:

    FL = - a_y (1 - p_y)^gamma log p_y

alpha is the weight of an anomaly of any kind, 1 - alpha that of a normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oddlog.errors import ConfigError

NORMAL_NAME = "normal"
SMALLEST = 1e-12
"""Of 1 - p, so that a power below 1 has a gradient at p = 1."""


def losses_if(logits: Tensor, gamma: float) -> Tensor:
    """Return (B, K): the loss of each string if it were of each class, in nats, without weights."""
    log_p = torch.log_softmax(logits.float(), dim=-1)  # (B, K)
    if not gamma:
        return -log_p
    return -((-torch.expm1(log_p)).clamp(min=SMALLEST) ** gamma) * log_p


def class_factors(
    loss: Literal["cross_entropy", "weighted", "focal"],
    alpha: float | Literal["balanced"],
    totals: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (K,) a, the weight of each class.

    "weighted" makes the classes count the same, with a mean of 1 over training; alpha "balanced"
    does it with a sum of 1, which for two classes is alpha = N_normal / N.

    Args:
        loss: Which loss.
        alpha: Of focal loss.
        totals: (K,) what the training strings of each class weigh together, normal first.
    """
    if loss == "cross_entropy":
        return np.ones(len(totals))
    rarity = 1 / totals
    if loss == "weighted":
        return rarity * totals.sum() / len(totals)
    if alpha == "balanced":
        return rarity / rarity.sum()
    return np.array([1 - alpha, *[alpha] * (len(totals) - 1)])


def named_factors(names: Sequence[str], given: Mapping[str, float]) -> NDArray[np.float64]:
    """Return (K,) the factors given by name, 1 for those not named.

    Raises:
        ConfigError: There is no class of such a name.
    """
    known = [name or NORMAL_NAME for name in names]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(
            f"gpt2_classifier.class_weights: no class {unknown[0]!r} in training; "
            f"there are: {', '.join(known)}"
        )
    return np.array([given.get(name, 1.0) for name in known])
