"""LogGPT's network and its first stage: a GPT-2 that learns to predict the next event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.distinct import Distinct, batch_ranges, share_pasts
from oddlog.encode import FIRST_CANDIDATE, HIDDEN, PAD, UNKNOWN, Vocabulary
from oddlog.nn.batches import pad, pieces_by_length, shuffled_batches
from oddlog.nn.export import MARKS, Graph
from oddlog.nn.gpt2 import GPT2, Sizes
from oddlog.nn.ranks import surprise_and_rank
from oddlog.nn.training import Task

SCORING_TOKENS = 32_768
"""Padded tokens in a scoring batch: bounds memory, measured no faster beyond."""
TRAINING_TOKENS = 4096
"""Padded tokens in a piece of a training batch: at 512 in a row, 6 layers take 1.1 GB, not the 4.4
of a whole batch of 32, in the same time."""
LOGITS = 2**25
"""Logits in a scoring batch, 128 MiB: the bound that holds where there are many templates."""
PARTS_OF_TRAINING = 10
"""Epochs of a large log are cut so that ``max_steps`` makes as many: to validate in between."""


class LanguageModel(nn.Module):
    """A GPT-2 that tells what comes next: as in the original, by the embeddings that it reads."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.transformer = GPT2(sizes)

    @property
    def sizes(self) -> Sizes:
        """Everything about it but its weights."""
        return self.transformer.sizes

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.transformer.device

    def candidate_logits(self, hidden: Tensor) -> Tensor:
        """Return (..., V') how likely each candidate comes next, for vectors (..., D)."""
        return hidden @ self.transformer.wte.weight[FIRST_CANDIDATE:].T


class NextToken(nn.Module):
    """A language model as it is exported: tokens in, what is likely to come next out."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, V') for tokens (B, T)."""
        return self.model.candidate_logits(self.model.transformer(tokens))


def export_graph(name: str, model: LanguageModel, vocabulary: Vocabulary) -> Graph:
    """Describe a language model as what is exported."""
    n_candidates = model.sizes.n_tokens - FIRST_CANDIDATE
    return Graph(
        name=name,
        network=NextToken(model),
        inputs={"tokens": ("batch", "length")},
        output=("logits", ("batch", "length", n_candidates)),
        about="behind each token, the logits of what comes next: of END, then of each template",
        longest=model.sizes.places,
        vocabulary=vocabulary,
        marks=MARKS,
    )


def tokens_at_once(model: LanguageModel) -> int:
    """Return how many padded tokens to score in one batch, so that their logits stay in bounds."""
    return max(model.sizes.places, min(SCORING_TOKENS, LOGITS // model.sizes.n_tokens))


def new_network(config: LogGPTConfig, n_tokens: int, device: torch.device) -> LanguageModel:
    """Build a GPT-2 with random weights, drawn from torch's global generator on the CPU."""
    sizes = Sizes(
        n_tokens=n_tokens,
        places=config.context,
        layers=config.layers,
        heads=config.heads,
        width=config.width,
        inner=4 * config.width,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
    )
    return LanguageModel(sizes).to(device).eval()


@dataclass(frozen=True, eq=False)
class Judged:
    """How expected each token of d distinct strings was, flat as ``Distinct.tokens``.

    Attributes:
        surprise: (t,) float32, -log p in nats; 0 where ``known`` is False.
        rank: (t,) int64 from 0; 0 where ``known`` is False.
        known: (t,) bool: the token is a candidate with a past, so that it could be predicted.
    """

    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]
    known: NDArray[np.bool_]


@torch.inference_mode()
def judge(model: LanguageModel, strings: Distinct) -> Judged:
    """Score each token of each distinct string given the tokens before it.

    Args:
        model: The network, in evaluation mode.
        strings: Distinct strings, each at most as long as the context.
    """
    known = strings.tokens >= FIRST_CANDIDATE
    known[strings.offsets[:-1]] = False
    surprise = np.zeros(len(known), dtype=np.float32)
    rank = np.zeros(len(known), dtype=np.int64)
    for batch in batch_ranges(strings.lengths, tokens_at_once(model)):
        tokens = pad(strings, batch).to(model.device)
        targets = tokens[:, 1:]
        wanted = targets >= FIRST_CANDIDATE
        logits = candidate_logits(model, tokens[:, :-1], wanted)
        values, ranks = surprise_and_rank(logits, targets[wanted] - FIRST_CANDIDATE)
        span = slice(strings.offsets[batch.start], strings.offsets[batch.stop])
        place = np.flatnonzero(known[span]) + span.start
        surprise[place], rank[place] = values.cpu().numpy(), ranks.cpu().numpy()
    return Judged(surprise, rank, known)


@torch.inference_mode()
def expect(
    model: LanguageModel, strings: Distinct, n_expected: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the likeliest tokens in each token's place, and their probabilities.

    Returns:
        Two arrays (t, n_expected) beside ``Distinct.tokens``, likeliest first; zeros in the place
        of each string's first token, of which nothing is expected.
    """
    n_candidates = model.sizes.n_tokens - FIRST_CANDIDATE
    n_kept = min(n_expected, n_candidates)
    tokens_out = np.zeros((len(strings.tokens), n_kept), dtype=np.int64)
    probabilities = np.zeros((len(strings.tokens), n_kept), dtype=np.float32)
    has_past = np.ones(len(strings.tokens), dtype=bool)
    has_past[strings.offsets[:-1]] = False
    for batch in batch_ranges(strings.lengths, tokens_at_once(model)):
        tokens = pad(strings, batch).to(model.device)
        wanted = tokens[:, 1:] != PAD
        logits = candidate_logits(model, tokens[:, :-1], wanted)
        best = torch.softmax(logits.float(), dim=-1).topk(n_kept, dim=-1)
        span = slice(strings.offsets[batch.start], strings.offsets[batch.stop])
        place = np.flatnonzero(has_past[span]) + span.start
        tokens_out[place] = best.indices.cpu().numpy() + FIRST_CANDIDATE
        probabilities[place] = best.values.cpu().numpy()
    return tokens_out, probabilities


def candidate_logits(model: LanguageModel, inputs: Tensor, wanted: Tensor) -> Tensor:
    """Return the logits of every candidate (``END`` and the keys) at the wanted positions.

    Args:
        model: The network.
        inputs: (B, T) int64 tokens; padding on the right, which no position before it sees.
        wanted: (B, T) bool.

    Returns:
        (w, n_candidates), one row for each wanted position in row-major order.
    """
    hidden = model.transformer(inputs)  # (B, T, D)
    return model.candidate_logits(hidden[wanted])  # (w, V')


@dataclass(frozen=True, eq=False)
class Batch:
    """B token strings of one training step.

    Attributes:
        tokens: (B, T) int64, what was observed.
        inputs: (B, T) int64, what the network is shown of it.
        weights: (B, T) float32, how much each token counts as a target.
    """

    tokens: Tensor
    inputs: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(self.tokens.to(device), self.inputs.to(device), self.weights.to(device))

    def rows(self, rows: Tensor, longest: int) -> Batch:
        """Return some of its strings, cut to the longest of them."""
        return Batch(
            self.tokens[rows, :longest],
            self.inputs[rows, :longest],
            self.weights[rows, :longest],
        )


def next_event_loss(model: LanguageModel, batch: Batch) -> Tensor:
    """Return the weighted mean of -log p(next token | past) over the known targets, in nats."""
    targets = batch.tokens[:, 1:]
    wanted = targets >= FIRST_CANDIDATE
    logits = candidate_logits(model, batch.inputs[:, :-1], wanted)
    losses = cross_entropy(logits, targets[wanted] - FIRST_CANDIDATE, reduction="none")
    weights = batch.weights[:, 1:][wanted]
    return (losses * weights).sum() / weights.sum().clamp(min=1e-12)  # a batch may hold no target


def cut_into_pieces(batch: Batch) -> list[tuple[Batch, float]]:
    """Cut a batch by rows so that memory and padding stay in bounds; see ``pieces_by_length``.

    Returns:
        The pieces, each with its share of the weight of all targets: the weighted sum of their
        losses is the loss of the batch.
    """
    lengths = (batch.tokens != PAD).sum(dim=1)
    pieces = pieces_by_length(lengths, TRAINING_TOKENS)
    if len(pieces) == 1:
        return [(batch, 1.0)]
    targets = batch.weights[:, 1:] * (batch.tokens[:, 1:] >= FIRST_CANDIDATE)
    share = targets.sum(dim=1) / targets.sum().clamp(min=1e-12)  # (B,)
    return [
        (batch.rows(rows, int(lengths[rows].max())), share[rows].sum().item()) for rows in pieces
    ]


def hide_some(batch: Batch, config: LogGPTConfig, generator: torch.Generator) -> Batch:
    """Return the batch with a few pasts cut off, and a few events shown as unknown.

    Without this the embeddings of ``UNKNOWN`` and ``HIDDEN`` would never meet a gradient, and what
    follows a new template, or the first events of a live window, would be predicted from noise.
    Unknown events also keep the network from learning its few training sequences by heart.
    """
    n, longest = batch.tokens.shape
    filled = (batch.tokens != PAD).sum(dim=1)
    cut = torch.rand(n, generator=generator) < config.cut_rate
    dropped = (torch.rand(n, generator=generator) * (filled - 1)).long() * cut  # 0: nothing
    place = torch.arange(longest) + dropped[:, None]
    inside, place = place < longest, place.clamp(max=longest - 1)
    tokens = batch.tokens.gather(1, place).masked_fill(~inside, PAD)
    tokens[dropped > 0, 0] = HIDDEN
    unknown = torch.rand(tokens.shape, generator=generator) < config.unknown_rate
    return Batch(
        tokens=tokens,
        inputs=tokens.masked_fill(unknown & (tokens > FIRST_CANDIDATE), UNKNOWN),
        weights=batch.weights.gather(1, place) * inside,
    )


def language_model_task(
    model: LanguageModel,
    train: Distinct,
    valid: Distinct,
    config: LogGPTConfig,
    weights: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> Task[Batch]:
    """Return next-event prediction as a task of ``run_stage``.

    Distinct strings are trained on (without ``shuffle`` all strings, in the order of the log), and
    validated on, with the given weights of their tokens, or those of ``target_weights``.
    """
    train_weights, valid_weights = weights or (
        target_weights(train, config.learn, repeated=not config.shuffle),
        target_weights(valid, config.learn),
    )
    n_strings = len(train) if config.shuffle else len(train.of_chunk)
    most = max(1, config.max_steps // PARTS_OF_TRAINING)
    n_batches = min(-(-n_strings // config.batch_size), most)

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        for members in _order(train, config, generator)[:n_batches]:
            tokens = pad(train, members)
            batch = Batch(tokens, tokens, pad(train, members, train_weights))
            yield hide_some(batch, config, generator).to(model.device)

    def validate() -> float:
        judged = judge(model, valid)
        surprise, weight = judged.surprise[judged.known], valid_weights[judged.known]
        return float(np.average(surprise, weights=weight))

    return Task(
        n_batches=n_batches,
        batches=batches,
        loss=lambda batch: next_event_loss(model, batch),
        validate=validate,
        pieces=cut_into_pieces,
    )


def _order(
    train: Distinct, config: LogGPTConfig, generator: torch.Generator
) -> list[NDArray[np.int64]]:
    """Return an epoch's batches as numbers of distinct strings."""
    if not config.shuffle:
        size = config.batch_size
        return [train.of_chunk[i : i + size] for i in range(0, len(train.of_chunk), size)]
    seed = int(torch.randint(2**62, (), generator=generator))
    return shuffled_batches(train.lengths, config.batch_size, np.random.default_rng(seed))


def target_weights(
    strings: Distinct, learn: Literal["support", "frequency"], *, repeated: bool = False
) -> NDArray[np.float32]:
    """Return (t,) how much each token of the distinct strings counts as a target.

    "frequency" is the paper's loss: a continuation counts as often as it occurs, and the network
    learns p(next | past). With "support" each distinct continuation of each distinct past counts
    once: the network learns what can follow at all, which is what a detector has to know, and a
    rare habit is no longer an oddity. What several strings share is divided among them: among the
    distinct ones, or, if they are shown ``repeated``, as often as they occur, among all of them.
    """
    n_strings, n_all = share_pasts(strings)
    weight = np.ones(len(n_all)) if learn == "support" else n_all
    return (weight / (n_all if repeated else n_strings)).astype(np.float32)
