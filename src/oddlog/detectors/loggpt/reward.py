"""LogGPT's second stage: which of its variants, how long, and which epoch is kept.

What is said to be reinforcement is learned on the same normal strings as the language model, from
the decision that is made at the end: is the true key among the K likeliest? Three ways are here,
each in its module: ``reference`` (the released code), ``ppo`` (the paper) and ``margin`` (a hinge).

Of ``ppo`` and ``topk_margin`` the epoch is kept that leaves the fewest validation strings with a
key outside the K likeliest, and among equals the one with the lowest language-model loss. The
network of the first stage is not among the candidates: whether a second stage helps is a choice to
make on validation data by its user, and is measured in docs/detectors.md. ``reference`` keeps the
epoch with the lowest language-model loss, as the released code does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oddlog.detectors.loggpt import margin, ppo, reference
from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.detectors.loggpt.model import (
    LanguageModel,
    judge,
    language_model_task,
    target_weights,
)
from oddlog.distinct import Distinct
from oddlog.encode import FIRST_CANDIDATE
from oddlog.nn.training import Stage, Task, run_stage
from oddlog.run import Run


@dataclass(frozen=True, eq=False)
class Strings:
    """Distinct strings to learn from, and to choose the epoch by."""

    train: Distinct
    valid: Distinct


def learn_reward(
    model: LanguageModel, strings: Strings, config: LogGPTConfig, run: Run, fingerprint: str
) -> list[dict[str, float]]:
    """Train a language model further by the variant that ``config.reward`` names, in place.

    Args:
        model: The network as the first stage left it.
        strings: What it was trained and validated on.
        config: Settings; with ``reward = "none"`` nothing is done.
        run: Seed, checkpoints, progress.
        fingerprint: Names data and settings, so that no checkpoint of others is resumed.

    Returns:
        One record per epoch: epoch, train_loss, valid_loss. The validation loss of ``ppo`` and
        ``topk_margin`` is the number of validation strings with a key outside the K likeliest, plus
        l / (1 + l) for a language-model loss of l nats; that of ``reference`` is l.
    """
    if config.reward == "none":
        return []
    k = config.k_of(model.sizes.n_tokens - FIRST_CANDIDATE - 1)
    stage, task = _VARIANTS[config.reward](model, strings, config, k)
    return run_stage(model, stage, task, run, fingerprint)


def _reference(
    model: LanguageModel, strings: Strings, config: LogGPTConfig, k: int
) -> tuple[Stage, Task[Any]]:
    own = config.reference
    stage = Stage(
        name="released reward",
        epochs=own.episodes,
        learning_rate=own.learning_rate,
        patience=4,
        min_gain=0.01,
        forgives=False,
        weight_decay=0.0,  # AdamW without decay is Adam
        schedule="constant",
        warmup=0.0,
        clip=0.0,
    )
    task = Task(
        n_batches=len(reference.usable(strings.train)),
        batches=lambda _: reference.sequences_in_order(strings.train, model.device),
        loss=lambda string: reference.sequence_loss(model, string, k, own),
        validate=language_model_task(model, strings.train, strings.valid, config).validate,
    )
    return stage, task


def _ppo(
    model: LanguageModel, strings: Strings, config: LogGPTConfig, k: int
) -> tuple[Stage, Task[Any]]:
    own = config.ppo
    stage = Stage(
        name="top-k reward by ppo",
        epochs=own.epochs,
        learning_rate=own.learning_rate,
        patience=own.epochs,
        weight_decay=0.0,
        schedule="constant",
    )
    players = ppo.Players(model, ppo.freeze(model), k, own)
    task = Task(
        n_batches=ppo.n_prompt_batches(strings.train, own) * own.inner_epochs,
        batches=lambda generator: ppo.ppo_batches(players, strings.train, generator),
        loss=lambda rollouts: ppo.ppo_loss(model, rollouts, own),
        validate=_outside_top_k(model, strings.valid, config, k),
    )
    return stage, task


def _topk_margin(
    model: LanguageModel, strings: Strings, config: LogGPTConfig, k: int
) -> tuple[Stage, Task[Any]]:
    own = config.topk_margin
    limited = config.model_copy(update={"max_steps": own.max_steps})
    first = language_model_task(model, strings.train, strings.valid, limited)
    stage = Stage(
        name="top-k margin",
        epochs=min(own.epochs, -(-own.max_steps // first.n_batches)),
        learning_rate=own.learning_rate,
        patience=own.epochs,
        weight_decay=config.weight_decay,
        clip=config.clip,
    )
    task = replace(
        first,
        loss=lambda batch: margin.topk_margin_loss(model, batch, k, own),
        validate=_outside_top_k(model, strings.valid, config, k),
    )
    return stage, task


_Variant = Callable[[LanguageModel, Strings, LogGPTConfig, int], tuple[Stage, Task[Any]]]
_VARIANTS: dict[str, _Variant] = {
    "reference": _reference,
    "ppo": _ppo,
    "topk_margin": _topk_margin,
}


def _outside_top_k(
    model: LanguageModel, valid: Distinct, config: LogGPTConfig, k: int
) -> Callable[[], float]:
    """Return the validation loss of the rule; see ``learn_reward``."""
    weights = target_weights(valid, config.learn)

    def validate() -> float:
        judged = judge(model, valid)
        worst = np.maximum.reduceat(judged.rank, valid.offsets[:-1])
        loss = np.average(judged.surprise[judged.known], weights=weights[judged.known])
        return float(valid.counts[worst >= k].sum() + loss / (1 + loss))

    return validate
