"""Learning on: new templates get tokens and places, and old windows are learned beside new ones.

A new token is shown as ``UNKNOWN`` was, which in training has stood for templates that are not
known; a new place in the count strings starts as that of the rarest template. Old windows are
replayed (``nn.replay``), so that what was learned is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.detectors.logbert.readers import ORDER, History, Reader, blank, train_reader
from oddlog.distinct import Distinct
from oddlog.encode import UNKNOWN, Vocabulary
from oddlog.nn.bert import BERT
from oddlog.nn.device import seed_torch
from oddlog.run import Run

SHARE_OF_RATE = 0.25
"""Of the learning rate: at the whole rate the first steps undo what was learned."""
EPOCHS, MOST_BATCHES = 8, 50


def learn_on(
    reader: Reader,
    name: str,
    strings: tuple[Distinct, Distinct],
    vocabulary: Vocabulary,
    config: LogBERTConfig,
    run: Run,
) -> tuple[Reader, History]:
    """Return a reader that has learned on; the one given stays as it is.

    Args:
        reader: The old one.
        name: Which of the two it is.
        strings: Training strings, old ones among them, and validation strings.
        vocabulary: Of all templates, the new ones last.
        config: The settings that it was trained with.
        run: Seed, device, progress; no checkpoints are kept.
    """
    n_batches = min(config.epoch_batches or MOST_BATCHES, MOST_BATCHES)
    gentle = {
        "learning_rate": SHARE_OF_RATE * config.learning_rate,
        "epochs": EPOCHS,
        "epoch_batches": n_batches,
        "count_steps": EPOCHS * n_batches,
    }
    grown = grow(reader.network, name, config, vocabulary, run.device)
    plain = Run(run.seed, run.device, progress=run.progress)
    return train_reader(grown, name, strings, config.model_copy(update=gentle), plain)


def grow(
    network: BERT,
    name: str,
    config: LogBERTConfig,
    vocabulary: Vocabulary,
    device: str,
) -> BERT:
    """Return a copy of a reader's network that has a token, or a place, for every template."""
    seed_torch(0)  # every weight is replaced
    grown = blank(name, config, vocabulary, device)
    old = dict(network.named_parameters())
    with torch.no_grad():
        for key, value in grown.named_parameters():
            if value.shape == old[key].shape:
                value.copy_(old[key])
            elif name == ORDER:
                _copy_tokens(value, old[key])
            else:
                n_old = len(old[key])
                value[:n_old] = old[key]
                value[n_old:] = old[key][-1:]
    return grown


def _copy_tokens(value: Tensor, old: Tensor) -> None:
    """Fill (V', ...) from (V, ...): the last one is the mask, the new ones before it unknown."""
    n_old = len(old) - 1
    value[:n_old] = old[:n_old]
    value[n_old:-1] = old[UNKNOWN : UNKNOWN + 1]
    value[-1] = old[-1]
