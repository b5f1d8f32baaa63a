"""How unexpected the observed token was: its surprise and its rank among all candidates."""

from __future__ import annotations

import torch
from torch import Tensor


def surprise_and_rank(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log p (nats) and the rank from 0 of each target.

    Args:
        logits: (..., V) over the candidates.
        targets: (...) int64, the observed candidates.

    Returns:
        Two tensors of the targets' shape, float32 and int64. The rank is the number of candidates
        that are strictly likelier by more than float noise, so that a different batch shape does
        not reorder ties.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)  # (..., V)
    observed = log_p.gather(-1, targets.unsqueeze(-1))  # (..., 1)
    rank = (log_p > observed + 1e-4).sum(dim=-1)
    return -observed.squeeze(-1), rank
