"""Learning on: new templates get tokens of their own, and old windows are learned beside new ones.

A network that only learns what is new forgets what it knew. So ``fit`` keeps a sample of its
training windows (template ids, no text) with the model, and adaptation trains on both (experience
replay). A new token starts as the embedding of ``UNKNOWN``, which in training has stood for
templates that are not known. A second stage (``reward``) is not repeated.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.detectors.loggpt.counting import counting_stage
from oddlog.detectors.loggpt.model import LanguageModel, language_model_task, new_network
from oddlog.distinct import Distinct
from oddlog.encode import UNKNOWN
from oddlog.nn.device import seed_torch
from oddlog.nn.training import Stage, run_stage
from oddlog.run import Run

SHARE_OF_RATE = 0.25
"""Of the learning rate: at the whole rate the first steps undo what was learned."""
EPOCHS, MIN_STEPS = 8, 120
"""More epochs where one is a few steps: what is new has to be learned before it is calibrated."""

Learned = tuple[LanguageModel, list[dict[str, float]]]
"""A network and its history."""


def adapt_order(
    network: LanguageModel, config: LogGPTConfig, train: Distinct, valid: Distinct, run: Run
) -> Learned:
    """Let the first reader learn on, in place; ``train`` holds old strings too."""
    task = language_model_task(network, train, valid, config)
    wanted = max(EPOCHS, -(-MIN_STEPS // task.n_batches))
    stage = Stage(
        name="adaptation",
        epochs=max(1, min(wanted, config.max_steps // task.n_batches)),
        learning_rate=SHARE_OF_RATE * config.learning_rate,
        patience=config.patience,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        clip=config.clip,
    )
    return network, run_stage(network, stage, task, _plain_run(run))


def adapt_counts(
    network: LanguageModel, config: LogGPTConfig, train: Distinct, valid: Distinct, run: Run
) -> Learned:
    """Let the second reader learn on, in place; ``train`` holds old strings too."""
    steps = max(MIN_STEPS, round(SHARE_OF_RATE * config.count_steps))
    gentle = {"count_steps": steps, "learning_rate": SHARE_OF_RATE * config.learning_rate}
    stage, task = counting_stage(network, train, valid, config.model_copy(update=gentle))
    return network, run_stage(network, replace(stage, name="adaptation"), task, _plain_run(run))


def _plain_run(run: Run) -> Run:
    """Return the run without checkpoints: there is nothing to resume."""
    return Run(run.seed, run.device, progress=run.progress)


def grow(network: LanguageModel, config: LogGPTConfig, n_tokens: int) -> LanguageModel:
    """Return a copy of the network with further tokens, which look like ``UNKNOWN`` to it."""
    seed_torch(0)  # every weight is replaced
    grown = new_network(config, n_tokens, network.device)
    old = dict(network.named_parameters())
    with torch.no_grad():
        for name, value in grown.named_parameters():
            n_old = len(old[name])
            value[:n_old] = old[name]
            value[n_old:] = old[name][UNKNOWN : UNKNOWN + 1]
    return grown
