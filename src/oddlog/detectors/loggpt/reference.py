"""LogGPT's second stage as it was released, for parity; it is not the paper's PPO.

For each training sequence x_1 .. x_n in turn (marks included, one optimiser step each) the network,
still in training mode, draws x^ = x_1 .. x_p x^_{p+1} .. x^_n by beam sampling behind a prompt of a
fifth of the sequence (at least 2 tokens, at most n - 2 where there are so many). Under that string
it is asked for the *true* next tokens, at every place, those of the prompt included:

    L = - (sum_t log p(x_{t+1} | x^_1 .. x^_t)) * (sum_t r_t)
    r_t = +1 if x_{t+1} is among the K likeliest given x^_1 .. x^_t, else -1

So the place of a true key is its place in the sequence, whatever was drawn before it; what was
drawn enters no gradient; nothing is clipped, compared with a baseline or held to the first stage's
network; and where more keys are missed than hit, the step makes the true keys less likely. Adam
with 1e-6, at most 20 episodes of all sequences; an episode whose validation loss (that of the
first stage) is not lower than the best by 1 % counts towards a stop after four, never forgiven.

Differences: the marks that can never follow are neither drawn nor ranked; beam sampling is that of
today's ``transformers``, which draws by the same distribution but not the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from oddlog.detectors.loggpt.config import ReferenceConfig
from oddlog.detectors.loggpt.generate import beam_sample
from oddlog.detectors.loggpt.model import LanguageModel, candidate_logits
from oddlog.distinct import Distinct
from oddlog.encode import FIRST_CANDIDATE
from oddlog.nn.batches import pad
from oddlog.nn.ranks import surprise_and_rank

SHORTEST = 3
"""Tokens of the shortest string that has a prompt and something to draw behind it."""


def reference_loss(logits: Tensor, targets: Tensor, k: int) -> Tensor:
    """Return the released loss of one sequence.

    Args:
        logits: (w, V') under the drawn string.
        targets: (w,) int64, the true candidates in the same places.
        k: K of the rule.
    """
    surprise, rank = surprise_and_rank(logits, targets)
    reward = torch.where(rank < k, 1.0, -1.0).sum()
    return surprise.sum() * reward


def sequence_loss(model: LanguageModel, string: Tensor, k: int, config: ReferenceConfig) -> Tensor:
    """Draw a continuation of a true string (n,) and return its loss; see the module."""
    n = len(string)
    n_prompt = max(1, min(max(2, int(config.prompt_share * n)), n - 2))
    drawn = beam_sample(model, string[:n_prompt], n, config.beams)
    wanted = string[None, 1:] >= FIRST_CANDIDATE
    logits = candidate_logits(model, drawn[None, :-1], wanted)
    return reference_loss(logits, string[1:][wanted[0]] - FIRST_CANDIDATE, k)


def sequences_in_order(train: Distinct, device: torch.device) -> Iterator[Tensor]:
    """Yield each training string (n,), as often as it occurs, in the order of the log."""
    for index in usable(train):
        yield pad(train, slice(index, index + 1))[0].to(device)


def usable(train: Distinct) -> list[int]:
    """Return the numbers of the strings in the order of the log that are long enough to be cut."""
    return [int(i) for i in train.of_chunk if train.lengths[i] >= SHORTEST]
