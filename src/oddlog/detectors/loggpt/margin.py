"""LogGPT's second stage as a hinge on the decision itself: the true key against the K-th other.

The paper's rule asks whether the true key x_t is among the K likeliest. With z the logits given the
true past, and z_(K) the K-th highest logit among the *other* candidates, that is z_x > z_(K); so

    L = sum_t w_t max(0, m + z_(K),t - z_x,t) / sum_t w_t  +  c * CE

with CE the first stage's loss on the same batch, so that probabilities stay what they are said to
be where the hinge is silent. The K-th of all candidates, x_t included, would be x_t itself just
where the hinge matters: the loss would be m there and its gradient zero. Batches, hidden events and
weights w are those of the first stage. The reward of the paper is this decision, +1 or -1, which
has no gradient; nothing has to be drawn to follow its edge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from oddlog.detectors.loggpt.config import MarginConfig
from oddlog.detectors.loggpt.model import Batch, LanguageModel, candidate_logits
from oddlog.encode import FIRST_CANDIDATE


def margin_loss(logits: Tensor, targets: Tensor, k: int, margin: float) -> Tensor:
    """Return (w,) how far each target is from standing ``margin`` above the K-th other candidate.

    Args:
        logits: (w, V').
        targets: (w,) int64, the true candidates.
        k: K; where there are fewer other candidates, the last of them stands for the K-th.
        margin: In nats.
    """
    true = logits.gather(-1, targets.unsqueeze(-1))  # (w, 1)
    others = logits.scatter(-1, targets.unsqueeze(-1), -torch.inf)  # (w, V')
    kth = others.topk(max(1, min(k, logits.shape[-1] - 1)), dim=-1).values[:, -1]
    return (margin + kth - true.squeeze(-1)).clamp(min=0)


def topk_margin_loss(model: LanguageModel, batch: Batch, k: int, config: MarginConfig) -> Tensor:
    """Return the loss of a batch; see the module."""
    targets = batch.tokens[:, 1:]
    wanted = targets >= FIRST_CANDIDATE
    logits = candidate_logits(model, batch.inputs[:, :-1], wanted)
    true = targets[wanted] - FIRST_CANDIDATE
    losses = margin_loss(logits, true, k, config.margin)
    losses = losses + config.cross_entropy * cross_entropy(logits, true, reduction="none")
    weights = batch.weights[:, 1:][wanted]
    return (losses * weights).sum() / weights.sum().clamp(min=1e-12)  # a batch may hold no target
