"""LogBERT's two readers: a network, and the centre of what it has learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors.logbert.config import NOAM_STEPS, LogBERTConfig
from oddlog.detectors.logbert.model import (
    Judged,
    Weighed,
    judge,
    masked_task,
    new_network,
)
from oddlog.detectors.logbert.strings import N_COUNTS, n_places
from oddlog.distinct import Distinct
from oddlog.encode import N_MARKS, Vocabulary
from oddlog.nn.bert import BERT
from oddlog.nn.device import choose_device, load_parameters, parameters_of
from oddlog.nn.strings import N_COUNT_MARKS
from oddlog.nn.training import Stage, run_stage
from oddlog.run import Run

AFTER_TRAINING = ("reads", "count_steps", "rule", "top_g", "misses", "n_expected")
"""Settings on which no weight depends."""
ORDER, COUNTS = "masked keys", "masked counts"
"""The readers, and what their training is called."""
History = list[dict[str, float]]


@dataclass(frozen=True, eq=False)
class Reader:
    """A fitted network, and (D,) the mean of its outputs at the first mark over training."""

    network: BERT
    centre: NDArray[np.float32]

    def judge(self, strings: Distinct, passes: int, n_expected: int = 0) -> Judged:
        """Mask every token once; see ``model.judge``."""
        return judge(self.network, strings, passes, n_expected)

    def to_arrays(self) -> dict[str, NDArray]:
        """Return what is stored."""
        return {**parameters_of(self.network), "centre": self.centre}


def blank(name: str, config: LogBERTConfig, vocabulary: Vocabulary, device: str) -> BERT:
    """Return a reader's network with random weights."""
    place = choose_device(device)
    if name == ORDER:
        return new_network(config, vocabulary.size, config.context, place, ordered=True)
    longest = n_places(vocabulary, config.context) + N_COUNT_MARKS
    return new_network(config, N_MARKS + N_COUNTS, longest, place, ordered=False)


def from_arrays(
    arrays: Mapping[str, NDArray],
    name: str,
    config: LogBERTConfig,
    vocabulary: Vocabulary,
    device: str,
) -> Reader:
    """Read what ``Reader.to_arrays`` gave.

    Raises:
        KeyError: The centre is missing.
        ValueError: A weight is missing, left over or of another shape.
    """
    weights = dict(arrays)
    centre = weights.pop("centre")
    if centre.shape != (config.width,):
        raise ValueError(f"centre has shape {centre.shape}, not ({config.width},)")
    network = blank(name, config, vocabulary, device)
    load_parameters(network, weights)
    return Reader(network, centre)


def train_reader(
    network: BERT,
    name: str,
    strings: tuple[Distinct, Distinct],
    config: LogBERTConfig,
    run: Run,
) -> tuple[Reader, History]:
    """Train a network in place on the first strings, and keep the epoch best on the second."""
    train, valid = (weigh(part, config, name) for part in strings)
    if name == COUNTS:
        update = {"cut_rate": 0.0, "epoch_batches": max(1, config.count_steps // config.epochs)}
        config = config.model_copy(update=update)
    task = masked_task(network, train, valid, config)
    noam = config.schedule == "noam"
    stage = Stage(
        name=name,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        patience=config.patience,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        warmup=NOAM_STEPS / (config.epochs * task.n_batches) if noam else Stage.warmup,
        clip=config.clip,
    )
    identity = config.model_dump_json(exclude=set(AFTER_TRAINING)) + fingerprint(*strings)
    history = run_stage(network, stage, task, run, identity)
    hidden = judge(network, strings[0], config.passes).hidden
    return Reader(network, np.average(hidden, axis=0, weights=train.weights)), history


def weigh(strings: Distinct, config: LogBERTConfig, name: str) -> Weighed:
    """Say how much each distinct string counts, and how often a round of training shows it.

    Counts weigh the square root of how often they occur: a count that is seen once in thousands of
    sessions is odd, and one that is seen ten times is not.
    """
    once = np.arange(len(strings))
    if name == COUNTS:
        return Weighed(strings, np.sqrt(strings.counts).astype(np.float32), once)
    if config.learn == "support":
        return Weighed(strings, np.ones(len(strings), dtype=np.float32), once)
    return Weighed(strings, strings.counts.astype(np.float32), strings.of_chunk)


def fingerprint(*strings: Distinct) -> str:
    """Name training data, so that a checkpoint of other data is not resumed."""
    digest = hashlib.sha256()
    for part in strings:
        for array in (part.tokens, part.offsets, part.counts, part.of_chunk):
            digest.update(array.tobytes())
    return digest.hexdigest()
