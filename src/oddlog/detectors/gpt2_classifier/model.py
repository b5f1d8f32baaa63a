"""The network, what it is taught, and its probabilities: a GPT-2 whose last place tells the class.

The head reads the last token of a string, as attention looks only back. Padding stands behind it,
where nothing looks, and bears no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from oddlog.config import Config
from oddlog.detectors.gpt2_classifier.config import GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.loss import losses_if
from oddlog.distinct import Distinct, batch_ranges
from oddlog.encode import BEGIN, END, HIDDEN, UNKNOWN
from oddlog.nn.batches import pad, pieces_by_length, shuffled_batches
from oddlog.nn.gpt2 import GPT2, STD, Sizes
from oddlog.nn.strings import Encoded
from oddlog.nn.training import Stage, Task

SCORING_CELLS, TRAINING_CELLS = 2**21, 2**18
"""Padded tokens times width in a batch: at a width of 60, 35,000 and 4,400 tokens."""
POOL = 8


class Shape(Config):
    """The sizes of a GPT-2, whatever it reads and tells apart."""

    layers: PositiveInt
    heads: PositiveInt
    width: PositiveInt
    places: PositiveInt
    inner: PositiveInt
    activation: str = "gelu_new"
    epsilon: PositiveFloat = 1e-5
    scaled: bool = True
    scaled_by_layer: bool = False

    @classmethod
    def wanted(cls, config: GPT2ClassifierConfig) -> Shape:
        """Return the sizes that the settings ask for."""
        return cls(
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            places=config.context,
            inner=4 * config.width,
        )


class Classifier(nn.Module):
    """A GPT-2 whose last vector tells the class."""

    def __init__(self, sizes: Sizes, n_classes: int) -> None:
        super().__init__()
        self.transformer = GPT2(sizes)
        self.score = nn.Linear(sizes.width, n_classes, bias=False)
        nn.init.normal_(self.score.weight, std=STD)

    @property
    def width(self) -> int:
        """Of its vectors."""
        return self.transformer.sizes.width

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.transformer.device


def new_network(shape: Shape, n_tokens: int, n_classes: int, dropout: float) -> Classifier:
    """Build the network with random weights, drawn from torch's global generator on the CPU."""
    # no dropout of attention: with it torch takes a path that is a fifth slower
    sizes = Sizes(n_tokens=n_tokens, dropout=dropout, **shape.model_dump())
    return Classifier(sizes, n_classes).eval()


def class_logits(model: Classifier, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, K) logits of strings (B, T) that are ``lengths`` (B,) tokens long."""
    hidden = model.transformer(tokens)  # (B, T, D)
    last = (lengths - 1)[:, None, None].expand(-1, 1, hidden.shape[2])
    return model.score(hidden.gather(1, last)[:, 0])


class ClassProbabilities(nn.Module):
    """A classifier as it is exported: strings in, the probability of each class out."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return (B, K) for strings (B, T) that are ``lengths`` (B,) tokens long."""
        return torch.softmax(class_logits(self.model, tokens, lengths), dim=-1)


@torch.inference_mode()
def probabilities(model: Classifier, strings: Distinct) -> NDArray[np.float64]:
    """Return (d, K) class probabilities of distinct strings, each at most as long as the context.

    Args:
        model: The network, in evaluation mode.
        strings: The strings.
    """
    found = np.zeros((len(strings), model.score.out_features))
    for batch in batch_ranges(strings.lengths, max(1, SCORING_CELLS // model.width)):
        tokens = pad(strings, batch).to(model.device)
        lengths = torch.from_numpy(strings.lengths[batch]).to(model.device)
        logits = class_logits(model, tokens, lengths).double()
        found[batch] = torch.softmax(logits, dim=-1).cpu().numpy()
    return found


@dataclass(frozen=True, eq=False)
class Taught:
    """Distinct strings and what they are.

    Attributes:
        strings: The d distinct strings.
        times: (d, K) how many sequences of each class have each string; a sequence of c chunks
            counts as 1 / c of each of them.
    """

    strings: Distinct
    times: NDArray[np.float64]

    @classmethod
    def of(cls, encoded: Encoded, label: NDArray[np.int64], n_classes: int) -> Taught:
        """Count the classes, (n,) from 0, of encoded sequences; each chunk bears the label."""
        owner, share = chunk_owners(encoded)
        cells = encoded.distinct.of_chunk * n_classes + label[owner]
        times = np.bincount(cells, share, minlength=len(encoded.distinct) * n_classes)
        return cls(encoded.distinct, times.reshape(-1, n_classes).astype(np.float64))

    def shares(self) -> NDArray[np.float64]:
        """Return (d, K) the share of each class among the sequences of each string."""
        return self.times / self.times.sum(axis=1, keepdims=True)

    def shown(self, weigh: str) -> NDArray[np.float64]:
        """Return (d,) how often an epoch shows each string; see ``GPT2ClassifierConfig.weigh``."""
        n = self.times.sum(axis=1)
        return {"count": n, "root": np.sqrt(n), "log": np.log2(1 + n), "distinct": n**0}[weigh]


def chunk_owners(encoded: Encoded) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (c,) the sequence of each chunk, and what share of the sequence's chunks it is."""
    owner = np.searchsorted(encoded.tokens.offsets, encoded.chunks.begins, side="right") - 1
    return owner, 1 / np.bincount(owner, minlength=1)[owner]


@dataclass(frozen=True, eq=False)
class Batch:
    """B strings of one training step.

    Attributes:
        tokens: (B, T) int64.
        lengths: (B,) int64, tokens of each string.
        targets: (B, K) float32, weight of each class as a target.
    """

    tokens: Tensor
    lengths: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(self.tokens.to(device), self.lengths.to(device), self.targets.to(device))

    def rows(self, rows: Tensor) -> Batch:
        """Return some of its strings, cut to the longest of them."""
        lengths = self.lengths[rows]
        return Batch(self.tokens[rows, : int(lengths.max())], lengths, self.targets[rows])


def hide_some(batch: Batch, config: GPT2ClassifierConfig, generator: torch.Generator) -> Batch:
    """Return a batch of keys with a few events shown as unknown, and a few marks not shown.

    Without this ``UNKNOWN`` and ``HIDDEN`` would never meet a gradient, and no string would end in
    anything but ``END``.
    """
    tokens, lengths = batch.tokens.clone(), batch.lengths.clone()
    unknown = torch.rand(tokens.shape, generator=generator) < config.unknown_rate
    tokens[unknown & (tokens > END)] = UNKNOWN
    no_begin, no_end = torch.rand((2, len(lengths)), generator=generator) < config.unmarked_rate
    tokens[no_begin & (tokens[:, 0] == BEGIN), 0] = HIDDEN
    last = tokens[torch.arange(len(lengths)), lengths - 1]
    lengths -= (no_end & (last == END) & (lengths > 1)).long()
    return Batch(tokens, lengths, batch.targets)


def class_loss(model: Classifier, batch: Batch, gamma: float) -> Tensor:
    """Return the mean over the strings of what each loses as each of its classes."""
    losses = losses_if(class_logits(model, batch.tokens, batch.lengths), gamma)  # (B, K)
    return (batch.targets * losses).sum() / len(losses)


def cut_into_pieces(batch: Batch, width: int) -> list[tuple[Batch, float]]:
    """Cut a batch by rows so that memory and padding stay in bounds; see ``pieces_by_length``.

    Args:
        batch: The batch.
        width: Of the network.

    Returns:
        The pieces, each with its share of the loss.
    """
    pieces = pieces_by_length(batch.lengths, TRAINING_CELLS // width)
    if len(pieces) == 1:
        return [(batch, 1.0)]
    return [(batch.rows(rows), len(rows) / len(batch.lengths)) for rows in pieces]


def make_stage(n_shown: float, config: GPT2ClassifierConfig) -> tuple[Stage, int]:
    """Return the training, and how many batches lie between two looks at the validation loss.

    Args:
        n_shown: Strings that an epoch shows.
        config: Settings.
    """
    wanted = math.ceil(config.epochs * n_shown / config.batch_size)
    steps = min(max(wanted, config.min_steps), config.max_steps)
    parts = min(config.parts, steps)
    stage = Stage(
        name="classifier",
        epochs=parts,
        patience=parts,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        schedule=config.schedule,
        warmup=Stage.warmup if config.schedule == "cosine" else 0.0,
        clip=config.clip,
        keep=config.keep,
    )
    return stage, -(-steps // parts)


def classifier_task(
    model: Classifier,
    parts: tuple[Taught, Taught],
    factors: NDArray[np.float64],
    n_batches: int,
    config: GPT2ClassifierConfig,
) -> Task[Batch]:
    """Return learning the classes as a task of ``run_stage``.

    Args:
        model: The network.
        parts: What to train on, and what to choose the weights by.
        factors: (K,) weight of each class.
        n_batches: Of a part of the training.
        config: Settings.
    """
    train, valid = parts
    gamma = config.gamma if config.loss == "focal" else 0.0
    shown, valid_weights = train.shown(config.weigh), valid.shown(config.weigh)
    targets = (train.shares() * factors).astype(np.float32)
    valid_targets = valid.shares() * factors
    keys = config.reads == "event_id_token"

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        passes = _passes(train.strings.lengths, shown, config.batch_size, generator)
        for index in islice(passes, n_batches):
            lengths = torch.from_numpy(train.strings.lengths[index])
            batch = Batch(pad(train.strings, index), lengths, torch.from_numpy(targets[index]))
            yield (hide_some(batch, config, generator) if keys else batch).to(model.device)

    def validate() -> float:
        log_p = np.log(probabilities(model, valid.strings).clip(min=1e-300))
        losses = (valid_targets * losses_if(torch.from_numpy(log_p), gamma).numpy()).sum(axis=1)
        return float(np.average(losses, weights=valid_weights))

    return Task(
        n_batches=n_batches,
        batches=batches,
        loss=lambda batch: class_loss(model, batch, gamma),
        validate=validate,
        pieces=lambda batch: cut_into_pieces(batch, model.width),
    )


def _passes(
    lengths: NDArray[np.int64],
    shown: NDArray[np.float64],
    batch_size: int,
    generator: torch.Generator,
) -> Iterator[NDArray[np.int64]]:
    """Yield batches of strings, by number, without end: epoch after epoch, each drawn anew.

    A string that is to be shown 2.3 times in an epoch is shown twice, and in three of ten epochs
    once more. Neighbours in length stand together among ``POOL`` batches only, not in all of an
    epoch: lengths that only faults have would fill batches of their own, few of them, and were not
    learned (docs/diary.md).
    """
    while True:
        random = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        times = np.floor(shown + random.random(len(shown))).astype(np.int64)
        members = random.permutation(np.repeat(np.arange(len(shown)), times))
        for first in range(0, len(members), POOL * batch_size):
            pool = members[first : first + POOL * batch_size]
            for chosen in shuffled_batches(lengths[pool], batch_size, random):
                yield pool[chosen]
