"""Three stages of training: the form of the answer, the projector (alone, with BERT), everything.

| stage | trains                         | the paper's rate and epochs   |
|-------|--------------------------------|-------------------------------|
| 1     | the decoder's adapters         | 5e-4, 1 of 1,000 sequences    |
| 2-1   | the projector                  | 5e-4, 1                       |
| 2-2   | the projector, BERT's adapters | 5e-5, 1                       |
| 3     | all three                      | 5e-5, 2                       |

A stage is learned in tenths, after each of which the learning rate falls, the validation loss is
taken and a checkpoint is written: a run that was killed loses less than a tenth of a stage. What a
tenth trains on is drawn anew, each pair of string and class as often as its weight says, up to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oddlog.detectors.logllm.config import LogLLMConfig, StageConfig
from oddlog.detectors.logllm.network import Network, Tokenized
from oddlog.detectors.logllm.texts import Ints, Lessons, draw_weights
from oddlog.distinct import Distinct
from oddlog.nn.training import TENTHS, Stage, Task, run_stage
from oddlog.run import Run

VALIDATED_AT_ONCE = 32


@dataclass(frozen=True)
class Phase:
    """A stage: what it trains, how, and on how many sequences of an epoch at most."""

    name: str
    config: StageConfig
    parts: tuple[str, ...]
    most: int | None = None

    @property
    def trains_bert(self) -> bool:
        """Whether vectors of messages change while it lasts."""
        return "bert" in self.parts


def phases(config: LogLLMConfig) -> tuple[Phase, ...]:
    """Return the stages in order."""
    return (
        Phase("1-answer", config.answer, ("llama",), config.answer_sequences),
        Phase("2-1-projector", config.projector, ("projector",)),
        Phase("2-2-embedder", config.embedder, ("projector", "bert")),
        Phase("3-joint", config.joint, ("projector", "bert", "llama")),
    )


@dataclass(frozen=True, eq=False)
class Material:
    """Lessons as the network reads them.

    Attributes:
        lessons: Strings and their classes.
        texts: Their texts as tokens.
        vectors: (k, W) of the texts by BERT as it was loaded.
    """

    lessons: Lessons
    texts: Tokenized
    vectors: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """B pairs of string and class.

    Attributes:
        codes: (B, T) texts, 0 where it is padding, on the left.
        mask: (B, T) bool, which are messages.
        labels: (B,) classes.
    """

    codes: Tensor
    mask: Tensor
    labels: Tensor

    def take(self, index: Tensor) -> Batch:
        """Return the chosen pairs without the columns that none of them needs."""
        width = int(self.mask[index].sum(dim=1).max())
        return Batch(self.codes[index, -width:], self.mask[index, -width:], self.labels[index])


def train_stages(
    network: Network,
    materials: tuple[Material, Material],
    config: LogLLMConfig,
    run: Run,
    fingerprint: str,
) -> list[dict[str, float | str]]:
    """Train the network through all stages, each going on from its checkpoint on ``run.resume``.

    Args:
        network: With adapters.
        materials: What it learns, and what the loss is taken of after each tenth of a stage.
        config: Rates and epochs.
        run: Seed, checkpoints, progress.
        fingerprint: Names data, settings and models.

    Returns:
        One record for each tenth: stage, epoch, train_loss, valid_loss.
    """
    history = []
    for phase in phases(config):
        _choose_trained(network, phase)
        task = _task(network, materials, config, phase)
        stage = Stage(
            phase.name,
            epochs=TENTHS,
            learning_rate=phase.config.learning_rate,
            patience=TENTHS + 1,
            warmup=0.0,
            schedule="exponential",
            gamma=config.gamma,
            clip=0.0,
            keep=config.choose,
        )
        records = run_stage(network, stage, task, run, fingerprint)
        history += [{"stage": phase.name, **record} for record in records]
    return history


def _choose_trained(network: Network, phase: Phase) -> None:
    for name, parameter in network.trainable().items():
        parameter.requires_grad_(name.partition(".")[0] in phase.parts)


def _task(
    network: Network, materials: tuple[Material, Material], config: LogLLMConfig, phase: Phase
) -> Task[Batch]:
    train, valid = materials
    weights = draw_weights(train.lessons, config)
    n_batches = count_batches(weights.sum(), config, phase)

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        random = np.random.default_rng(generator.initial_seed())
        drawn = draw(weights, n_batches * config.batch_size, random)
        for index in drawn.reshape(n_batches, config.batch_size):
            yield batch_of(train.lessons, index)

    def loss(batch: Batch) -> Tensor:
        vectors = _vectors(network, train, batch, phase.trains_bert)
        return network.losses(vectors, batch.mask, batch.labels).mean()

    def pieces(batch: Batch) -> Iterable[tuple[Batch, float]]:
        return cut_batch(batch, config.micro_batch)

    return Task(n_batches, batches, loss, _validator(network, valid, config, phase), pieces)


def count_batches(n_sequences: float, config: LogLLMConfig, phase: Phase) -> int:
    """Return the batches in a tenth of a stage, for sequences that are oversampled already."""
    n_epoch = max(n_sequences, config.least_sequences)
    n_epoch = min(n_epoch, config.most_sequences or np.inf, phase.most or np.inf)
    return max(1, round(phase.config.epochs * n_epoch / TENTHS / config.batch_size))


def _validator(
    network: Network, valid: Material, config: LogLLMConfig, phase: Phase
) -> Callable[[], float]:
    """Return what takes the mean loss of validation pairs, weighed as training draws them."""
    weights = draw_weights(valid.lessons, config)
    index = np.arange(len(weights))
    if len(index) > config.valid_sequences:
        drawn = draw(weights, config.valid_sequences, np.random.default_rng(0))
        index, times = np.unique(drawn, return_counts=True)
        weights = times.astype(np.float64)
    batch = batch_of(valid.lessons, index)
    order = batch.mask.sum(dim=1).argsort(stable=True)
    shares = torch.from_numpy(weights / weights.sum())

    def validate() -> float:
        vectors = network.embed_all(valid.texts) if phase.trains_bert else valid.vectors
        total = 0.0
        for some in order.split(VALIDATED_AT_ONCE):
            piece = batch.take(some)
            losses = network.losses(
                vectors[piece.codes.to(network.device)], piece.mask, piece.labels
            )
            total += float(losses.cpu().double() @ shares[some])
        return total

    return validate


def draw(weights: NDArray[np.float64], n: int, random: np.random.Generator) -> Ints:
    """Return (n,) places, each of them as often as its weight says, rounded up or down.

    Args:
        weights: (p,) not negative.
        n: How many.
        random: What the rounding and the order are drawn with.
    """
    order = random.permutation(len(weights))
    reached = np.cumsum(weights[order])
    asked = (random.random() + np.arange(n)) / n * reached[-1]
    places = order[np.searchsorted(reached, asked, side="right").clip(max=len(order) - 1)]
    return random.permutation(places)


def batch_of(lessons: Lessons, index: Ints) -> Batch:
    """Return the chosen pairs."""
    codes, mask = pad_left(lessons.strings.distinct, lessons.of[index])
    return Batch(codes, mask, torch.from_numpy(lessons.label[index]))


def pad_left(distinct: Distinct, index: Ints | slice) -> tuple[Tensor, Tensor]:
    """Return the chosen strings (B, T), padded with 0 on the left, and (B, T) what is none."""
    ends, lengths = distinct.offsets[1:][index], distinct.lengths[index]
    columns = np.arange(lengths.max())
    mask = columns >= lengths.max() - lengths[:, None]
    place = np.maximum(ends[:, None] - lengths.max() + columns, 0)
    return torch.from_numpy(np.where(mask, distinct.tokens[place], 0)), torch.from_numpy(mask)


def cut_batch(batch: Batch, size: int) -> Iterator[tuple[Batch, float]]:
    """Cut a batch into pieces of so many pairs, those of one length together, with their shares."""
    lengths = batch.mask.sum(dim=1)
    for index in lengths.argsort(stable=True).split(size):
        yield batch.take(index), len(index) / len(lengths)


def _vectors(network: Network, material: Material, batch: Batch, embeds: bool) -> Tensor:
    """Return (B, T, W) the vectors of a batch's texts, each embedded once where BERT is trained."""
    if not embeds:
        return material.vectors[batch.codes.to(network.device)]
    used, place = batch.codes.unique(return_inverse=True)
    return network.embed(material.texts, used)[place.to(network.device)]
