"""DeepLog's settings, its network, and how it is trained and asked: windows in, odds out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oddlog import config as settings
from oddlog.distinct import Distinct, Grams, batch_ranges, find_pasts, number_rows
from oddlog.encode import FIRST_CANDIDATE, HIDDEN, PAD, UNKNOWN, Vocabulary
from oddlog.nn.device import seed_torch
from oddlog.nn.export import MARKS, Graph
from oddlog.nn.ranks import surprise_and_rank
from oddlog.nn.training import Task

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
SCORED_WINDOWS, LOGITS = 8192, 2**25
"""Windows in a scoring batch, and its logits where there are many templates: bounded memory."""
BLOCK_TOKENS = 2**21
"""Tokens whose windows are looked at together: 200 MB."""
PARTS_OF_TRAINING = 10
"""Epochs of a large log are cut so that ``max_steps`` makes as many: to validate in between."""


class DeepLogConfig(settings.Config):
    """Settings of DeepLog.

    Attributes:
        window: h, the number of tokens that the next key is predicted from.
        learn: What counts in training: what can follow, or how often it does (the paper).
        unknown_rate: Share of the events of training windows shown as unknown. At 0 an unknown
            template is read as nothing at all: a window of ten is too short to be shown with holes.
        cut_rate: Share of training windows shown without their beginning.
        max_steps: Fewer epochs where an epoch has many batches.
        top_g: g of the paper's rule.
        n_expected: How many expected templates an explanation names.
    """

    window: PositiveInt = 10
    layers: PositiveInt = 2
    width: PositiveInt = 64
    dropout: Share = 0.1
    epochs: PositiveInt = 40
    max_steps: PositiveInt = 4000
    batch_size: PositiveInt = 64
    learning_rate: PositiveFloat = 3e-3
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    patience: PositiveInt = 10
    learn: Literal["support", "frequency"] = "support"
    unknown_rate: Share = 0.0
    cut_rate: Share = 0.02
    top_g: PositiveInt = 9
    n_expected: PositiveInt = 3


class NextKey(nn.Module):
    """An LSTM over a window of tokens, and a layer that scores each candidate as the next one."""

    def __init__(self, config: DeepLogConfig, n_tokens: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, config.width)
        nn.init.zeros_(self.embedding.weight.data[UNKNOWN])  # says nothing, until it is shown some
        dropout = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(
            config.width, config.width, config.layers, batch_first=True, dropout=dropout
        )
        self.head = nn.Linear(config.width, n_tokens - FIRST_CANDIDATE)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the logits (B, n_candidates) of what comes after windows (B, h) of tokens."""
        outputs, _ = self.lstm(self.embedding(windows))  # (B, h, D)
        return self.head(outputs[:, -1])

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.head.weight.device


def export_graph(network: NextKey, window: int, vocabulary: Vocabulary) -> Graph:
    """Describe the network as what is exported."""
    return Graph(
        name="order",
        network=network,
        inputs={"windows": ("batch", window)},
        output=("logits", ("batch", network.head.out_features)),
        about="behind each window, the logits of what comes next: of END, then of each template",
        longest=window,
        vocabulary=vocabulary,
        marks=MARKS,
    )


def new_network(config: DeepLogConfig, n_tokens: int, device: torch.device) -> NextKey:
    """Build a network with random weights, drawn from torch's global generator on the CPU."""
    network = NextKey(config, n_tokens)
    nn.Module.to(network, device)
    return network.eval()


def grow(network: NextKey, config: DeepLogConfig, n_tokens: int) -> NextKey:
    """Return a copy with further tokens: read as ``UNKNOWN`` was, and as unlikely as any key."""
    seed_torch(0)  # every weight is replaced
    grown = new_network(config, n_tokens, network.device)
    old = dict(network.named_parameters())
    fillers = {
        "embedding.weight": old["embedding.weight"][UNKNOWN],
        "head.weight": torch.zeros_like(old["head.weight"][0]),
        "head.bias": old["head.bias"].min(),
    }
    with torch.no_grad():
        for name, value in grown.named_parameters():
            if name in fillers:
                value[:] = fillers[name]
            value[: len(old[name])] = old[name]
    return grown


@dataclass(frozen=True, eq=False)
class Read:
    """What the network says of each of t tokens, flat as ``Distinct.tokens``.

    Attributes:
        surprise: (t,) float32 nats; 0 for what cannot be predicted.
        rank: (t,) int64, from 0; 0 for what cannot be predicted.
        likeliest: (t, k) int64 tokens expected in its place.
        probability: (t, k) float32.
    """

    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]
    likeliest: NDArray[np.int64]
    probability: NDArray[np.float32]

    @classmethod
    def nothing(cls, n: int, n_expected: int) -> Read:
        """Return a table of so many tokens, to be filled."""
        return cls(
            np.zeros(n, dtype=np.float32),
            np.zeros(n, dtype=np.int64),
            np.zeros((n, n_expected), dtype=np.int64),
            np.zeros((n, n_expected), dtype=np.float32),
        )


def read(network: NextKey, strings: Distinct, window: int, n_expected: int = 0) -> Read:
    """Score each token of distinct strings after the window before it, each window once.

    The windows of at most ``BLOCK_TOKENS`` are looked at together: memory stays bounded.
    """
    found = Read.nothing(len(strings.tokens), min(n_expected, network.head.out_features))
    for batch in batch_ranges(strings.lengths, BLOCK_TOKENS, most_padding=1.0):
        offsets = strings.offsets[batch.start : batch.stop + 1]
        span = slice(offsets[0], offsets[-1])
        pasts = find_pasts(strings.tokens[span], offsets - offsets[0], window + 1)
        judged = judge(network, pasts.rows, n_expected)
        for name, values in vars(judged).items():
            getattr(found, name)[span] = values[pasts.of_token]
    return found


@torch.inference_mode()
def judge(network: NextKey, rows: NDArray[np.int64], n_expected: int = 0) -> Read:
    """Score the last token of each row (d, h + 1) after the others; rows rise, so pasts meet."""
    n_expected = min(n_expected, network.head.out_features)
    found = Read.nothing(len(rows), n_expected)
    size = max(1, min(SCORED_WINDOWS, LOGITS // network.head.out_features))
    for begin in range(0, len(rows), size):
        block = slice(begin, min(begin + size, len(rows)))
        first, past_of = number_rows(rows[block, :-1])
        windows = torch.from_numpy(rows[block, :-1][first]).to(network.device)
        logits = network(windows)[torch.from_numpy(past_of).to(network.device)]  # (B, V')
        best = torch.softmax(logits.float(), dim=-1).topk(n_expected, dim=-1)
        found.likeliest[block] = best.indices.cpu().numpy() + FIRST_CANDIDATE
        found.probability[block] = best.values.cpu().numpy()
        target = rows[block, -1]
        known = torch.from_numpy(np.flatnonzero(target >= FIRST_CANDIDATE)).to(network.device)
        targets = torch.from_numpy(target).to(network.device)[known] - FIRST_CANDIDATE
        surprise, rank = surprise_and_rank(logits[known], targets)
        place = begin + known.cpu().numpy()
        found.surprise[place], found.rank[place] = surprise.cpu().numpy(), rank.cpu().numpy()
    return found


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows of one training step: (B, h) tokens as shown, (B,) targets and their weights."""

    windows: Tensor
    targets: Tensor
    weights: Tensor


def hide_some(windows: Tensor, config: DeepLogConfig, generator: torch.Generator) -> Tensor:
    """Return windows (B, h) with some events shown as unknown, and some pasts cut off.

    Without a cut now and then the embedding of ``HIDDEN`` would never meet a gradient, and the
    first events of a live window would be predicted from noise.
    """
    unknown = torch.rand(windows.shape, generator=generator) < config.unknown_rate
    shown = windows.masked_fill(unknown & (windows > FIRST_CANDIDATE), UNKNOWN)
    n, h = windows.shape
    is_cut = torch.rand(n, generator=generator) < config.cut_rate
    place = torch.randint(h, (n,), generator=generator)
    column = torch.arange(h)
    at = is_cut[:, None] & (column == place[:, None]) & (windows != PAD)
    before = at.flip(1).cumsum(1).flip(1).bool() & ~at  # what stands before a cut, if there is one
    return shown.masked_fill(at, HIDDEN).masked_fill(before, PAD)


def next_key_task(
    network: NextKey, train: Grams, valid: Grams, config: DeepLogConfig
) -> Task[Batch]:
    """Return the prediction of the next key as a task of ``run_stage``."""
    rows = torch.from_numpy(train.rows)
    weights = torch.from_numpy(weights_of(train, config))
    n_batches = -(-len(rows) // config.batch_size)
    n_batches = min(n_batches, max(1, config.max_steps // PARTS_OF_TRAINING))

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(rows), generator=generator)
        for members in order.split(config.batch_size)[:n_batches]:
            windows = hide_some(rows[members, :-1], config, generator)
            yield Batch(
                windows.to(network.device),
                rows[members, -1].to(network.device) - FIRST_CANDIDATE,
                weights[members].to(network.device),
            )

    def loss(batch: Batch) -> Tensor:
        losses = cross_entropy(network(batch.windows), batch.targets, reduction="none")
        return (losses * batch.weights).mean()

    def validate() -> float:
        return float(
            np.average(judge(network, valid.rows).surprise, weights=weights_of(valid, config))
        )

    return Task(n_batches=n_batches, batches=batches, loss=loss, validate=validate)


def weights_of(grams: Grams, config: DeepLogConfig) -> NDArray[np.float32]:
    """Return (d,) how much each distinct window with its next key counts; the mean is 1."""
    counts = np.ones(len(grams.counts)) if config.learn == "support" else grams.counts
    return (counts / counts.mean()).astype(np.float32)
