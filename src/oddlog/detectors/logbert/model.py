"""LogBERT's network: a BERT that predicts masked tokens, and how far it puts a string off centre.

With h the network's output and M the masked places of a string x_1 .. x_T behind its first mark,

    L = -(1/|M|) sum_{i in M} log p(x_i | x without M)  +  alpha ||h_0 - c||^2 / D

the first part masked log-key prediction, the second the volume of the hypersphere: h_0 is the
output (D,) at the first mark (the paper's [DIST]) and c its mean over the training strings, set
anew before each epoch and held within.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.distinct import Distinct, batch_ranges
from oddlog.encode import END, FIRST_CANDIDATE, HIDDEN, PAD, UNKNOWN, Vocabulary
from oddlog.nn.batches import pad, pieces_by_length, shuffled_batches
from oddlog.nn.bert import BERT, Sizes
from oddlog.nn.export import MARKS, Graph
from oddlog.nn.ranks import surprise_and_rank
from oddlog.nn.training import Task

SCORING_TOKENS = 32_768
"""Padded tokens in a scoring batch: bounds memory."""
TRAINING_TOKENS = 4096
"""Padded tokens in a piece of a training batch."""
LOGITS = 2**25
"""Logits in a scoring batch, 128 MiB."""
SAMPLED = 4096
"""Strings that an epoch is validated on, and that the centre is a mean of while training."""


def new_network(
    config: LogBERTConfig, n_tokens: int, n_positions: int, device: torch.device, *, ordered: bool
) -> BERT:
    """Build a BERT with random weights; the last token is the mask.

    Args:
        config: Layers, heads, widths, dropout.
        n_tokens: Tokens without the mask.
        n_positions: Longest string.
        device: Where it will run; weights are drawn on the CPU, from torch's global generator.
        ordered: Whether places are moments in a sequence, told by sinusoids as in the paper, with
            output weights of their own; if not, each place means something else and is learned.
    """
    model = BERT(
        Sizes(
            n_tokens=n_tokens + 1,
            places=n_positions,
            layers=config.layers,
            heads=config.heads,
            width=config.width,
            inner=config.inner,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            padding=PAD,
            tied=not ordered,
        )
    )
    if ordered:
        _set_sinusoids(model)
    return model.to(device).eval()


def _set_sinusoids(model: BERT) -> None:
    """Set positions to sinusoids that do not learn, and keys to numbers of their size.

    At the usual size, .02, keys outgrow positions that cannot grow, and the order is lost: on HDFS
    the loss after 1,000 steps was .46 in place of .30.
    """
    embeddings = model.bert.embeddings
    weight = embeddings.position_embeddings.weight
    n, width = weight.shape
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angle = torch.arange(n)[:, None] * rate  # (n, ceil(width / 2))
    with torch.no_grad():
        weight.copy_(torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width])
        embeddings.word_embeddings.weight.normal_()
    weight.requires_grad_(False)


class MaskedTokens(nn.Module):
    """The network as it is exported: tokens in, what is likely in each place out."""

    def __init__(self, model: BERT) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, V') for tokens (B, T), padded on the right."""
        logits = self.model.logits(self.model(tokens, tokens != PAD))
        return logits[..., FIRST_CANDIDATE : mask_of(self.model)]


def export_graph(model: BERT, vocabulary: Vocabulary) -> Graph:
    """Describe the network of the order as what is exported."""
    return Graph(
        name="order",
        network=MaskedTokens(model),
        inputs={"tokens": ("batch", "length")},
        output=("logits", ("batch", "length", mask_of(model) - FIRST_CANDIDATE)),
        about="in each token's place, the logits of END, then of each template; ask at MASK",
        longest=model.sizes.places,
        vocabulary=vocabulary,
        marks={**MARKS, "MASK": mask_of(model)},
    )


def mask_of(model: BERT) -> int:
    """Return the token that stands for a masked one."""
    return model.sizes.n_tokens - 1


def encode_strings(model: BERT, inputs: Tensor) -> Tensor:
    """Return the outputs (B, T, D) for inputs (B, T), padded on the right."""
    filled = inputs != PAD
    return model(inputs, None if bool(filled.all()) else filled)


def candidate_logits(model: BERT, hidden: Tensor) -> Tensor:
    """Return the logits (w, V') of every candidate (``END`` and the keys) for outputs (w, D)."""
    return model.logits(hidden)[:, FIRST_CANDIDATE : mask_of(model)]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the network makes of d distinct strings of t tokens.

    Attributes:
        surprise: (t,) float32, -log p of each token when masked, in nats; 0 where it never is.
        rank: (t,) int64 from 0; 0 where it never is.
        hidden: (d, D) float32, the output at the first mark, a mean over the passes.
        likeliest: (t, k) int64, the likeliest tokens in its place; k may be 0.
        probability: (t, k) float32.
    """

    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]
    hidden: NDArray[np.float32]
    likeliest: NDArray[np.int64]
    probability: NDArray[np.float32]

    def distance(self, centre: NDArray[np.float32]) -> NDArray[np.float32]:
        """(d,) squared distance of each string to the centre, a mean over dimensions."""
        return ((self.hidden - centre) ** 2).mean(axis=1)


@torch.inference_mode()
def judge(model: BERT, strings: Distinct, passes: int, n_expected: int = 0) -> Judged:
    """Mask every token of every string once, in ``passes`` passes, and score it there.

    A pass masks every ``passes``-th place behind the first mark, so that what a token is judged by
    depends on nothing but its string.

    Args:
        model: The network, in evaluation mode.
        strings: Distinct strings, each at most as long as the context.
        passes: Number of passes.
        n_expected: How many of the likeliest tokens to return for each.
    """
    n_tokens, n_kept = len(strings.tokens), min(n_expected, mask_of(model) - FIRST_CANDIDATE)
    found = Judged(
        surprise=np.zeros(n_tokens, dtype=np.float32),
        rank=np.zeros(n_tokens, dtype=np.int64),
        hidden=np.zeros((len(strings), model.sizes.width), dtype=np.float32),
        likeliest=np.zeros((n_tokens, n_kept), dtype=np.int64),
        probability=np.zeros((n_tokens, n_kept), dtype=np.float32),
    )
    at_once = max(
        model.sizes.places,
        min(SCORING_TOKENS, passes * LOGITS // model.sizes.n_tokens),
    )
    for batch in batch_ranges(strings.lengths, at_once):
        tokens = pad(strings, batch).to(model.device)
        place = strings.offsets[batch][:, None] + np.arange(tokens.shape[1])
        for number in range(passes):
            chosen = _every(tokens, passes, number) & (tokens >= FIRST_CANDIDATE)
            outputs = encode_strings(model, tokens.masked_fill(chosen, mask_of(model)))
            found.hidden[batch] += outputs[:, 0].cpu().numpy() / passes
            _fill(found, place[chosen.cpu().numpy()], outputs[chosen], tokens[chosen], model)
    return found


def _every(tokens: Tensor, passes: int, number: int) -> Tensor:
    """Return (B, T) whether a place is masked in a pass."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return ((places % passes == number) & (places > 0)).expand_as(tokens)


def _fill(
    found: Judged,
    place: NDArray[np.int64],
    outputs: Tensor,
    observed: Tensor,
    model: BERT,
) -> None:
    logits = candidate_logits(model, outputs)
    surprise, rank = surprise_and_rank(logits, observed - FIRST_CANDIDATE)
    found.surprise[place], found.rank[place] = surprise.cpu().numpy(), rank.cpu().numpy()
    if n_kept := found.likeliest.shape[1]:
        best = torch.softmax(logits.float(), dim=-1).topk(n_kept, dim=-1)
        found.likeliest[place] = best.indices.cpu().numpy() + FIRST_CANDIDATE
        found.probability[place] = best.values.cpu().numpy()


@torch.inference_mode()
def draw_misses(
    model: BERT, strings: Distinct, share: float, top_g: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Mask a random share of each string once and count what is not among the top g (the paper).

    Returns:
        (d,) misses, and (d,) masked tokens; unknown ones are misses when drawn.
    """
    misses, masked = (np.zeros(len(strings), dtype=np.int64) for _ in range(2))
    generator = torch.Generator().manual_seed(seed)
    for batch in batch_ranges(strings.lengths, SCORING_TOKENS):
        tokens = pad(strings, batch)
        drawn = torch.rand(tokens.shape, generator=generator) < share
        drawn &= (tokens >= FIRST_CANDIDATE) | (tokens == UNKNOWN)
        drawn[:, 0] = False
        tokens, drawn = tokens.to(model.device), drawn.to(model.device)
        outputs = encode_strings(model, tokens.masked_fill(drawn, mask_of(model)))
        observed = tokens[drawn]
        known = observed >= FIRST_CANDIDATE
        missed = torch.ones_like(known)
        logits = candidate_logits(model, outputs[drawn][known])
        missed[known] = surprise_and_rank(logits, observed[known] - FIRST_CANDIDATE)[1] >= top_g
        table = torch.zeros_like(drawn)
        table[drawn] = missed
        misses[batch] = table.sum(dim=1).cpu().numpy()
        masked[batch] = drawn.sum(dim=1).cpu().numpy()
    return misses, masked


@dataclass(frozen=True, eq=False)
class Batch:
    """B strings of one training step.

    Attributes:
        tokens: (B, T) int64, what was observed.
        inputs: (B, T) int64, what the network is shown of it.
        masked: (B, T) bool, what it has to predict.
        weights: (B,) float32, how much each string counts.
        stress: Factor of the loss of masked tokens beside the distance; not 1 in a piece that has
            another share of a batch's masked tokens than of its strings.
    """

    tokens: Tensor
    inputs: Tensor
    masked: Tensor
    weights: Tensor
    stress: float = 1.0

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        tables = (self.tokens, self.inputs, self.masked, self.weights)
        return Batch(*(value.to(device) for value in tables), stress=self.stress)

    def rows(self, rows: Tensor, longest: int, stress: float) -> Batch:
        """Return some of its strings, cut to the longest of them."""
        return Batch(
            self.tokens[rows, :longest],
            self.inputs[rows, :longest],
            self.masked[rows, :longest],
            self.weights[rows],
            stress,
        )


def loss_of(model: BERT, batch: Batch, centre: Tensor, alpha: float) -> Tensor:
    """Return the mean loss of masked tokens, in nats, and ``alpha`` times the mean distance."""
    outputs = encode_strings(model, batch.inputs)  # (B, T, D)
    targets = batch.tokens[batch.masked]
    losses = cross_entropy(
        candidate_logits(model, outputs[batch.masked]), targets - FIRST_CANDIDATE, reduction="none"
    )
    weights = batch.weights[:, None].expand_as(batch.tokens)[batch.masked]
    predicted = (losses * weights).sum() / weights.sum().clamp(min=1e-12)
    distance = ((outputs[:, 0] - centre) ** 2).mean(dim=1)  # (B,)
    apart = (distance * batch.weights).sum() / batch.weights.sum()
    return batch.stress * predicted + alpha * apart


def hide(
    tokens: Tensor, config: LogBERTConfig, mask: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Mask a random share of the tokens; show a few others as unknown; cut a few beginnings off.

    Args:
        tokens: (B, T), padded.
        config: How much of each.
        mask: The token of the mask; those from ``FIRST_CANDIDATE`` below it are candidates.
        generator: Where chance comes from.

    Returns:
        Tokens, inputs and masked, as in ``Batch``.
    """
    n, longest = tokens.shape
    filled = (tokens != PAD).sum(dim=1)
    cut = torch.rand(n, generator=generator) < config.cut_rate
    dropped = (torch.rand(n, generator=generator) * (filled - 1)).long() * cut
    place = torch.arange(longest) + dropped[:, None]
    tokens = tokens.gather(1, place.clamp(max=longest - 1)).masked_fill(place >= longest, PAD)
    tokens[dropped > 0, 0] = HIDDEN
    candidate = tokens >= FIRST_CANDIDATE
    masked = candidate & (torch.rand(tokens.shape, generator=generator) < config.mask_share)
    masked[:, 0] = False
    hidden = ~masked & (tokens > END)
    hidden &= torch.rand(tokens.shape, generator=generator) < config.unknown_rate
    inputs = tokens.masked_fill(hidden, UNKNOWN).masked_fill(masked, mask)
    if config.replace == "mixed":
        chance = torch.rand(tokens.shape, generator=generator)
        inputs = torch.where(masked & (chance < 0.1), tokens, inputs)
        other = torch.randint(FIRST_CANDIDATE, mask, tokens.shape, generator=generator)
        inputs = torch.where(masked & (chance > 0.9), other, inputs)
    return tokens, inputs, masked


@dataclass(frozen=True, eq=False)
class Weighed:
    """Distinct strings, and how much each counts.

    Attributes:
        strings: d distinct strings.
        weights: (d,) float32, of each in every mean over them.
        members: (b,) int64, the strings that a round of training shows, as often as it lists them.
    """

    strings: Distinct
    weights: NDArray[np.float32]
    members: NDArray[np.int64]

    def sample(self) -> tuple[Distinct, NDArray[np.float32]]:
        """Return at most ``SAMPLED`` of the strings, evenly spaced, and their weights."""
        step = -(-len(self.strings) // SAMPLED)
        return take(self.strings, slice(None, None, step)), self.weights[::step]


def masked_task(model: BERT, train: Weighed, valid: Weighed, config: LogBERTConfig) -> Task[Batch]:
    """Return masked prediction with the hypersphere as a task of ``run_stage``.

    Validation strings are masked as in scoring, and their distance is to the centre of the epoch.
    """
    n_batches = config.epoch_batches or -(-len(train.members) // config.batch_size)
    centre = torch.zeros(config.width, device=model.device)
    lengths = train.strings.lengths[train.members]
    shown = np.bincount(train.members, minlength=len(train.strings))
    shares = torch.from_numpy(train.weights / shown.astype(np.float32))
    centred, (strings, weights) = train.sample(), valid.sample()

    def batches(generator: torch.Generator) -> Iterator[Batch]:
        model.eval()
        centre.copy_(centre_of(model, *centred, config.passes))
        model.train()
        seed = int(torch.randint(2**62, (), generator=generator))
        for drawn in islice(endless_batches(lengths, config.batch_size, seed), n_batches):
            members = train.members[drawn]
            hidden = hide(pad(train.strings, members), config, mask_of(model), generator)
            yield Batch(*hidden, shares[members]).to(model.device)

    def validate() -> float:
        judged = judge(model, strings, config.passes)
        mass = np.repeat(weights, strings.lengths) * (strings.tokens >= FIRST_CANDIDATE)
        mass[strings.offsets[:-1]] = 0.0
        distance = np.average(judged.distance(centre.cpu().numpy()), weights=weights)
        return float(np.average(judged.surprise, weights=mass) + config.alpha * distance)

    return Task(
        n_batches=n_batches,
        batches=batches,
        loss=lambda batch: loss_of(model, batch, centre, config.alpha),
        validate=validate,
        pieces=cut_into_pieces,
    )


def take(strings: Distinct, index: slice) -> Distinct:
    """Return some distinct strings; which chunk is which is left out."""
    lengths = strings.lengths[index]
    kept = np.zeros(len(strings), dtype=bool)
    kept[index] = True
    return Distinct(
        tokens=strings.tokens[np.repeat(kept, strings.lengths)],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        counts=strings.counts[index],
        of_chunk=np.empty(0, dtype=np.int64),
    )


def endless_batches(
    lengths: NDArray[np.int64], batch_size: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Yield shuffled batches of all strings, over and over."""
    generator = np.random.default_rng(seed)
    while True:
        yield from shuffled_batches(lengths, batch_size, generator)


@torch.inference_mode()
def centre_of(model: BERT, strings: Distinct, weights: NDArray[np.float32], passes: int) -> Tensor:
    """Return (D,) the mean output at the first mark, in evaluation mode.

    Of the passes of scoring only the first is made: the mean over the strings is what is wanted.
    """
    total = torch.zeros(model.sizes.width, dtype=torch.float64)
    for batch in batch_ranges(strings.lengths, SCORING_TOKENS):
        tokens = pad(strings, batch).to(model.device)
        chosen = _every(tokens, passes, 0) & (tokens >= FIRST_CANDIDATE)
        first = encode_strings(model, tokens.masked_fill(chosen, mask_of(model)))[:, 0]
        total += torch.from_numpy(weights[batch]).double() @ first.cpu().double()
    return (total / float(weights.sum())).float()


def cut_into_pieces(batch: Batch) -> list[tuple[Batch, float]]:
    """Cut a batch by rows so that memory and padding stay in bounds; see ``pieces_by_length``.

    Returns:
        The pieces, each with its share of the weight of all strings: the sum of their losses by it
        is the loss of the batch.
    """
    lengths = (batch.tokens != PAD).sum(dim=1)
    pieces = pieces_by_length(lengths, TRAINING_TOKENS)
    if len(pieces) == 1:
        return [(batch, 1.0)]
    mass = batch.weights * batch.masked.sum(dim=1)
    of_masked, of_strings = mass / mass.sum().clamp(min=1e-12), batch.weights / batch.weights.sum()
    found = []
    for rows in pieces:
        share = of_strings[rows].sum().item()
        stress = of_masked[rows].sum().item() / share
        found.append((batch.rows(rows, int(lengths[rows].max()), stress), share))
    return found
