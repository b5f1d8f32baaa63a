"""LogGPT's second reader: a language model of how often each template occurs in a window.

The string of a window is in ``strings.counted``. The loss is that of the first reader,

    L = -sum_t w_t log p(y_{t+1} | y_1 .. y_t) / sum_t w_t

with w the square root of how often training shows the continuation, divided among the strings that
share it: between what can follow at all and how often it does, as a count that is seen once in
thousands of sessions is odd and one that is seen ten times is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.detectors.loggpt.model import Batch, LanguageModel, language_model_task
from oddlog.distinct import Distinct, share_pasts
from oddlog.nn.strings import N_COUNT_MARKS
from oddlog.nn.training import Stage, Task

N_EPOCHS = 30
"""Validations in a training, if there are steps enough: small logs make several passes in each."""


def count_weights(strings: Distinct) -> NDArray[np.float32]:
    """Return (t,) the weight of each token as a target; the module says which. Marks have none."""
    n_strings, n_all = share_pasts(strings)
    weights = np.sqrt(n_all) / n_strings
    position = np.arange(len(n_all)) - np.repeat(strings.offsets[:-1], strings.lengths)
    weights[position < N_COUNT_MARKS] = 0.0
    return weights.astype(np.float32)


def counting_stage(
    network: LanguageModel, train: Distinct, valid: Distinct, config: LogGPTConfig
) -> tuple[Stage, Task[Batch]]:
    """Return the training of the second reader: about ``config.count_steps`` steps."""
    own = config.model_copy(
        update={"cut_rate": 0.0, "shuffle": True, "max_steps": config.count_steps}
    )
    once = language_model_task(
        network, train, valid, own, (count_weights(train), count_weights(valid))
    )
    n_passes = max(1, config.count_steps // (N_EPOCHS * once.n_batches))

    def batches(generator: torch.Generator) -> Iterable[Batch]:
        return chain.from_iterable(once.batches(generator) for _ in range(n_passes))

    task = replace(once, n_batches=once.n_batches * n_passes, batches=batches)
    stage = Stage(
        name="counts",
        epochs=math.ceil(config.count_steps / task.n_batches),
        learning_rate=config.learning_rate,
        patience=config.patience,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        clip=config.clip,
    )
    return stage, task
