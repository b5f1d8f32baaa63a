"""LogGPT's second stage as the paper states it: the top-K reward, followed by PPO.

A prompt x_1 .. x_c is cut from a normal string at random (one share of the length per batch), and
the policy draws the rest, a_t ~ pi_old(. | s_t) with s_t = x_1 .. x_c a_{c+1} .. a_{t-1}, up to
``horizon`` tokens or the string's length. Then

    r_t = +1 if x_t is among the K likeliest of pi_old(. | s_t), else -1        (0: x_t unknown)
    G_t = sum_{u >= t} discount^(u - t) r_u
    A_t = (G_t - mean of G_t over the samples of the same prompt) / std
    rho_t = pi(a_t | s_t) / pi_old(a_t | s_t)
    L = - mean_t min(rho_t A_t, clip(rho_t, 1 - e, 1 + e) A_t)
        + beta mean_t KL(pi(. | s_t) || pi_ref(. | s_t))

over all drawn positions t, with ``inner_epochs`` steps on each batch, e = ``clip``, beta = ``kl``,
and pi_ref the network that the first stage left, frozen.

What the paper leaves open, and what is done here:

- *The true key once the prefix has diverged* is the key in the same place of the sequence that the
  prompt was cut from: x_t is compared with what is expected after a_{c+1} .. a_{t-1}, although it
  came after x_{c+1} .. x_{t-1}. This is what the released code does. It has a consequence: r_t
  depends on s_t, not on a_t, so the reward of a step says nothing of its action. What an action is
  rewarded for is where it leads: to a state in which the true keys to come are still expected.
  Behind an insertion or an exchange, -1 is given for what was a normal way to go on.
- *Length*: ``END`` is drawn in no place but the string's last (its probability is left out of
  pi there and there only), so that there is a true key for each action.
- *Baseline*: the mean over samples of the same prompt. A mean over the batch would credit the
  policy for easy sessions, and a value network is a second model to train for a reward that a
  few samples estimate; where the samples agree, there is nothing to learn and A is 0.
- *KL* is exact, a sum over all candidates, and part of the loss rather than of the reward.
- *Dropout* is off, so that rho is 1 on the first step, and probabilities are those of scoring.
- *Prompts* are cut from each distinct string once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from oddlog.detectors.loggpt.config import PPOConfig
from oddlog.detectors.loggpt.generate import continue_strings, ends_of, without_end
from oddlog.detectors.loggpt.model import LanguageModel, candidate_logits
from oddlog.distinct import Distinct
from oddlog.encode import FIRST_CANDIDATE, PAD
from oddlog.nn.batches import pad, shuffled_batches
from oddlog.nn.ranks import surprise_and_rank


@dataclass(frozen=True, eq=False)
class Rollouts:
    """B drawn continuations and what PPO needs of them; w tokens were drawn in all.

    Attributes:
        tokens: (B, T) int64, prompts and what was drawn behind them.
        drawn: (B, T) bool.
        may_end: (w,) bool, where ``END`` could be drawn.
        log_p: (w,) log pi_old of what was drawn.
        log_ref: (w, V') log pi_ref.
        advantage: (w,).
    """

    tokens: Tensor
    drawn: Tensor
    may_end: Tensor
    log_p: Tensor
    log_ref: Tensor
    advantage: Tensor


def freeze(model: LanguageModel) -> LanguageModel:
    """Return a copy of the network that no step can change."""
    return deepcopy(model).requires_grad_(requires_grad=False).eval()


@dataclass(frozen=True, eq=False)
class Players:
    """The network that learns, the frozen one, and what both are asked.

    Attributes:
        policy: Learns; in evaluation mode.
        frozen: What the first stage left.
        k: K of the rule that rewards.
        config: Settings.
    """

    policy: LanguageModel
    frozen: LanguageModel
    k: int
    config: PPOConfig


def ppo_batches(
    players: Players, train: Distinct, generator: torch.Generator
) -> Iterator[Rollouts]:
    """Yield an epoch's batches, each drawn when its turn has come, ``inner_epochs`` times each.

    Args:
        players: The networks; the policy is left in evaluation mode, for its steps too.
        train: Distinct training strings.
        generator: The epoch's own.
    """
    players.policy.eval()
    config = players.config
    seed = int(torch.randint(2**62, (), generator=generator))
    order = shuffled_batches(train.lengths, config.prompts, np.random.default_rng(seed))
    for members in order[: n_prompt_batches(train, config)]:
        strings = pad(train, members).repeat_interleave(config.samples, dim=0)  # (P * S, T)
        share = float(torch.rand((), generator=generator))
        strings = strings.to(players.policy.device)
        rollouts = roll_out(players, strings, to_draw(strings, share, config.horizon), generator)
        for _ in range(config.inner_epochs):
            yield rollouts


def n_prompt_batches(train: Distinct, config: PPOConfig) -> int:
    """Return how many batches of prompts an epoch has, within ``max_steps`` over all epochs."""
    most = config.max_steps // (config.epochs * config.inner_epochs)
    return max(1, min(-(-len(train) // config.prompts), most))


def to_draw(strings: Tensor, share: float, horizon: int) -> Tensor:
    """Return (B, T) bool, which tokens stand behind a prompt of that share of each string."""
    lengths = (strings != PAD).sum(dim=1, keepdim=True)  # (B, 1)
    cut = (share * lengths).long().clamp(min=1).minimum(lengths - 1)
    column = torch.arange(strings.shape[1], device=strings.device)
    return (column >= cut) & (column < lengths.minimum(cut + horizon))


@torch.no_grad()
def roll_out(
    players: Players, strings: Tensor, drawn: Tensor, generator: torch.Generator
) -> Rollouts:
    """Let the policy draw continuations, and judge them.

    Args:
        players: The networks.
        strings: (B, T) int64, the true strings, ``samples`` equal rows after one another.
        drawn: (B, T) bool, which tokens to draw.
        generator: On the CPU.
    """
    config = players.config
    tokens = continue_strings(players.policy, strings, drawn, generator)
    logits = candidate_logits(players.policy, tokens[:, :-1], drawn[:, 1:])  # (w, V')
    log_ref = log_softmax(candidate_logits(players.frozen, tokens[:, :-1], drawn[:, 1:]), dim=-1)
    may_end = ends_of(strings)[drawn]
    reward = torch.zeros(strings.shape, device=strings.device)
    reward[drawn] = rewards(logits, strings[drawn], players.k)
    returns = returns_to_go(reward, config.discount)
    return Rollouts(
        tokens=tokens,
        drawn=drawn,
        may_end=may_end,
        log_p=_log_p(logits, tokens[drawn], may_end),
        log_ref=log_ref,
        advantage=advantages(returns, drawn, config.samples),
    )


def rewards(logits: Tensor, true: Tensor, k: int) -> Tensor:
    """Return (w,) +1 where the true token is among the K likeliest, -1 where not, 0 if unknown.

    Args:
        logits: (w, V').
        true: (w,) int64 tokens, not all of them candidates.
        k: K.
    """
    known = true >= FIRST_CANDIDATE
    _, rank = surprise_and_rank(logits, (true - FIRST_CANDIDATE).clamp(min=0))
    return torch.where(rank < k, 1.0, -1.0) * known


def returns_to_go(reward: Tensor, discount: float) -> Tensor:
    """Return (B, T) the discounted sum of each reward and those after it in its row."""
    returns = reward.clone()
    for column in range(reward.shape[1] - 2, -1, -1):
        returns[:, column] += discount * returns[:, column + 1]
    return returns


def advantages(returns: Tensor, drawn: Tensor, samples: int) -> Tensor:
    """Return (w,) how much better each place went than for the other samples of its prompt.

    Args:
        returns: (B, T).
        drawn: (B, T) bool, alike in the rows of one prompt.
        samples: Rows of one prompt, which stand together.
    """
    grouped = returns.view(-1, samples, returns.shape[1])  # (P, S, T)
    centred = (grouped - grouped.mean(dim=1, keepdim=True)).view_as(returns)[drawn]
    return centred / (centred.square().mean().sqrt() + 1e-6)  # the mean of all is 0


def clipped_surrogate(log_p: Tensor, log_old: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Return (w,) PPO's objective, to be maximised: min(rho A, clip(rho, 1 - clip, 1 + clip) A)."""
    rho = (log_p - log_old).exp()
    return torch.minimum(rho * advantage, rho.clamp(1 - clip, 1 + clip) * advantage)


def divergence(log_p: Tensor, log_ref: Tensor) -> Tensor:
    """Return (w,) KL(p || ref) of distributions (w, V') given by their logarithms, in nats."""
    return (log_p.exp() * (log_p - log_ref)).sum(dim=-1)


def ppo_loss(policy: LanguageModel, rollouts: Rollouts, config: PPOConfig) -> Tensor:
    """Return the loss of a batch; see the module."""
    logits = candidate_logits(policy, rollouts.tokens[:, :-1], rollouts.drawn[:, 1:])
    log_p = _log_p(logits, rollouts.tokens[rollouts.drawn], rollouts.may_end)
    gain = clipped_surrogate(log_p, rollouts.log_p, rollouts.advantage, config.clip)
    drift = divergence(log_softmax(logits, dim=-1), rollouts.log_ref)
    return (config.kl * drift - gain).mean()


def _log_p(logits: Tensor, tokens: Tensor, may_end: Tensor) -> Tensor:
    """Return (w,) the log probability of drawn tokens, as they were drawn."""
    log_p = log_softmax(without_end(logits, may_end), dim=-1)
    return log_p.gather(-1, (tokens - FIRST_CANDIDATE).unsqueeze(-1)).squeeze(-1)
