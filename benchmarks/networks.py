"""The networks that the benchmarks of speed run, what they read, and what a machine could do.

Every network has its detector's default sizes for the templates of HDFS_v1 or of Blue Gene/L. It is
the one that its detector exports after a short fit (``LEARNED``): the time is that of any weights,
but scores and flags of random ones would tell nothing. It reads distinct sessions of the one log,
or distinct windows of a hundred lines of the other, which the fit has not seen, in batches of
``score``'s kind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from oddlog import Run, Sequences
from oddlog.bench.work import new_detector
from oddlog.datasets import IdDataset, open_dataset
from oddlog.datasets.ids import IdStream
from oddlog.datasets.labels import ANOMALY
from oddlog.detectors.deeplog.model import NextKey
from oddlog.distinct import Distinct, batch_ranges, find_pasts, number_rows
from oddlog.encode import FIRST_CANDIDATE
from oddlog.events import NORMAL
from oddlog.nn.batches import pad
from oddlog.nn.export import Graph
from oddlog.nn.gpt2 import GPT2
from oddlog.nn.strings import in_order

CONTEXT, TOKENS_AT_ONCE, WINDOWS_AT_ONCE = 512, 8192, 8192
N_STRINGS, N_SESSIONS, N_LINES, LINES_OF_WINDOW = 600, 15_000, 150_000, 100
N_WINDOWS, PASSES = 500, 4
LEARNED: Mapping[str, tuple[str, ...]] = {
    "loggpt": ("reads=order", "epochs=10", "max_steps=60"),
    "logbert": ("reads=order", "epochs=1", "epoch_batches=60"),
    "gpt2_classifier": ("min_steps=60", "max_steps=60", "parts=1"),
    "deeplog": ("epochs=10", "max_steps=300"),
}
"""Settings beside the defaults: few steps, and the reader of the order."""
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with what it reads.

    Attributes:
        detector: Whose it is.
        graph: The network, its inputs named.
        batches: The inputs.
        targets: For each batch, beside the output without its last axis, the candidate that stands
            there, -1 where none is asked for; None of a classifier.
        n_tokens: Tokens of the strings, padding left out.
        operations: Floating-point operations that they ask for.
        body: The GPT-2 whose vectors can be shared, and what makes logits of them.
    """

    detector: str
    graph: Graph
    batches: list[Inputs]
    targets: list[Tensor] | None
    n_tokens: int
    operations: float
    body: tuple[GPT2, Callable[[Tensor], Tensor]] | None = None

    def scores(self, outputs: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return (n,) scores by the outputs: the worst surprise, or the odds against normal.

        Of ``deeplog`` n are the windows, of the others the strings.
        """
        if self.targets is None:
            return torch.cat([1.0 - output[:, 0].double() for output in outputs]).numpy()
        found = []
        for output, target in zip(outputs, self.targets, strict=True):
            log_p = torch.log_softmax(output.double(), dim=-1)
            nats = -log_p.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            nats = nats.masked_fill(target < 0, 0.0)
            found.append(nats if nats.ndim == 1 else nats.amax(dim=1))
        return torch.cat(found).numpy()


@cache
def read_log(data: str) -> Sequences:
    """Return labelled sessions of HDFS_v1, or labelled windows of Blue Gene/L."""
    folder = Path(os.environ["ODDLOG_DATA"])
    if data == "hdfs":
        dataset = open_dataset("hdfs_v1", folder)
        assert isinstance(dataset, IdDataset)
        return dataset.sequences.take(evenly(len(dataset.sequences), N_SESSIONS))  # anomalies last
    stream = open_dataset("bgl_stream", folder)
    assert isinstance(stream, IdStream)
    events = stream.events.head(N_LINES)
    ids = events["template_id"].to_numpy().reshape(-1, LINES_OF_WINDOW)
    odd = (events["label"].fill_null(NORMAL) != NORMAL).to_numpy().reshape(ids.shape)
    labels = [ANOMALY if found else NORMAL for found in odd.any(axis=1)]
    return Sequences.from_ids(ids.tolist(), labels)


def evenly(n: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of n places, evenly spaced."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.int64)


def take(strings: Distinct, index: NDArray[np.int64]) -> Distinct:
    """Return some of the strings."""
    lengths = strings.lengths[index]
    pieces = [strings.tokens[strings.offsets[i] : strings.offsets[i + 1]] for i in index]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(index), dtype=np.int64)
    return Distinct(np.concatenate(pieces), offsets, ones, np.arange(len(index)))


def learned(detector: str, windows: Sequences, run: Run) -> Graph:
    """Return the network that a detector exports after a short fit to some windows."""
    fitted: Any = new_detector(detector, [f"{detector}.{value}" for value in LEARNED[detector]])
    if fitted.learns_from == "normal":
        windows = windows.take(~windows.anomalous).without_labels()
    chosen_by = np.arange(len(windows)) % 5 == 0
    fitted.fit(windows.take(~chosen_by), windows.take(chosen_by), run)
    return fitted.graphs()[0]


def transformer_operations(
    sizes: Any, lengths: NDArray[np.int64], n_outputs: float, *, causal: bool
) -> float:
    """Count what strings ask of a transformer: two for each weight of a matrix and token."""
    matrices = sizes.layers * (4 * sizes.width**2 + 2 * sizes.width * sizes.inner)
    attention = 4 * sizes.layers * sizes.width * (lengths**2 / (2 if causal else 1)).sum()
    return float(2 * lengths.sum() * (matrices + sizes.width * n_outputs) + attention)


def lstm_operations(network: NextKey, n_windows: int, window: int) -> float:
    """Count what windows ask of DeepLog's network."""
    weights = window * sum(w.numel() for w in network.lstm.parameters() if w.ndim == 2)
    return 2.0 * n_windows * (weights + network.head.weight.numel())


def subjects(data: str, wanted: Sequence[str]) -> Iterator[Subject]:
    """Yield networks with distinct strings of a log, by rising length."""
    windows, unseen = halves(data)
    for detector in wanted:
        yield reading(detector, learned(detector, windows, Run(seed=0)), unseen)


def halves(data: str) -> tuple[Sequences, Sequences]:
    """Return windows of a log to fit networks to, and others for these to read."""
    sequences = read_log(data)
    third = np.arange(len(sequences)) % 3 == 0
    windows, unseen = sequences.take(third), sequences.take(~third)
    return windows.take(evenly(len(windows), N_WINDOWS)), unseen


def reading(detector: str, graph: Graph, unseen: Sequences) -> Subject:
    """Return a detector's network with distinct strings of windows."""
    assert graph.vocabulary is not None
    strings = in_order(unseen, graph.vocabulary, CONTEXT).distinct
    return _SUBJECTS[detector](graph, take(strings, evenly(len(strings), N_STRINGS)))


def _padded(strings: Distinct) -> tuple[list[Tensor], list[Tensor]]:
    ranges = list(batch_ranges(strings.lengths, TOKENS_AT_ONCE))
    lengths = [torch.from_numpy(strings.lengths[part]) for part in ranges]
    return [pad(strings, part) for part in ranges], lengths


def _loggpt(graph: Graph, strings: Distinct) -> Subject:
    model: Any = graph.network.model
    padded, _ = _padded(strings)
    following = [torch.nn.functional.pad(tokens[:, 1:], (0, 1)) for tokens in padded]
    return Subject(
        "loggpt",
        graph,
        [(tokens,) for tokens in padded],
        [(tokens - FIRST_CANDIDATE).clamp(min=-1) for tokens in following],
        len(strings.tokens),
        transformer_operations(
            model.sizes,
            strings.lengths,
            n_outputs=model.sizes.n_tokens - FIRST_CANDIDATE,
            causal=True,
        ),
        (model.transformer, model.candidate_logits),
    )


def _logbert(graph: Graph, strings: Distinct) -> Subject:
    model: Any = graph.network.model
    padded, _ = _padded(strings)
    mask, batches, targets = graph.marks["MASK"], [], []
    for tokens in padded:
        place = torch.arange(tokens.shape[1])
        masked = (place % PASSES == 0) & (place > 0) & (tokens >= FIRST_CANDIDATE)
        batches.append((tokens.masked_fill(masked, mask),))
        targets.append((tokens - FIRST_CANDIDATE).masked_fill(~masked, -1))
    n_outputs = mask - FIRST_CANDIDATE + model.sizes.width
    operations = transformer_operations(model.sizes, strings.lengths, n_outputs, causal=False)
    return Subject("logbert", graph, batches, targets, len(strings.tokens), operations)


def _classifier(graph: Graph, strings: Distinct) -> Subject:
    model: Any = graph.network.model
    sizes = model.transformer.sizes
    return Subject(
        "gpt2_classifier",
        graph,
        list(zip(*_padded(strings), strict=True)),
        None,
        len(strings.tokens),
        transformer_operations(sizes, strings.lengths, n_outputs=0, causal=True),
    )


def _deeplog(graph: Graph, strings: Distinct) -> Subject:
    """Return windows, each once, with a key that follows it."""
    network, window = graph.network, graph.longest
    assert isinstance(network, NextKey)
    rows = find_pasts(strings.tokens, strings.offsets, window + 1).rows
    rows = rows[rows[:, -1] >= FIRST_CANDIDATE]
    rows = torch.from_numpy(rows[number_rows(rows[:, :-1])[0]])
    parts = rows.split(WINDOWS_AT_ONCE)
    return Subject(
        "deeplog",
        graph,
        [(part[:, :-1].contiguous(),) for part in parts],
        [part[:, -1] - FIRST_CANDIDATE for part in parts],
        len(strings.tokens),
        lstm_operations(network, len(rows), window),
    )


_SUBJECTS: Mapping[str, Callable[[Graph, Distinct], Subject]] = {
    "loggpt": _loggpt,
    "logbert": _logbert,
    "gpt2_classifier": _classifier,
    "deeplog": _deeplog,
}


def peak() -> float:
    """Return the floating-point operations per second of a large product, the best of some."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(8):
        began = time.process_time()
        left @ right
        best = max(best, 2 * 1024**3 / (time.process_time() - began))
    return best
