"""How fast the networks score, and what other ways to run them would give.

    python benchmarks/inference.py            # some minutes of one core
    python benchmarks/inference.py --table    # docs/performance.md from what was measured

Every network has its detector's default sizes for the templates of HDFS_v1 or of Blue Gene/L, and
reads distinct sessions of the one, or distinct windows of a hundred lines of the other, in the
batches of ``score``. The ways run in turns in one process with one thread, and the best of the
rounds counts, in processor seconds. Eager is what ``score`` does. The limit is what the same
process reaches in a large product of float32 matrices; a way's share of it counts the operations
that strings ask for, none that padding adds. Weights are random: the time is the same.

"prefixes" lets tokens with the same past share their vectors, in all but attention: what a tree of
prefixes saves. One JSON line for each network, log and way goes to
benchmarks/results/inference.jsonl.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from oddlog import Sequences
from oddlog.bench.records import RESULTS, Record, append, measured_at, read, source
from oddlog.bench.render import insert, markdown
from oddlog.datasets import IdDataset, open_dataset
from oddlog.datasets.ids import IdStream
from oddlog.detectors.deeplog import model as deeplog
from oddlog.detectors.gpt2_classifier import model as classifier
from oddlog.detectors.gpt2_classifier.config import GPT2ClassifierConfig
from oddlog.detectors.logbert import model as logbert
from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.detectors.loggpt import model as loggpt
from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.distinct import Distinct, batch_ranges, find_pasts
from oddlog.encode import Vocabulary
from oddlog.nn.batches import pad
from oddlog.nn.export import MARKS, Graph, write_onnx
from oddlog.nn.gpt2 import GPT2
from oddlog.nn.strings import in_order

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
OUT = RESULTS / "inference.jsonl"
CPU = torch.device("cpu")
CONTEXT, TOKENS_AT_ONCE, WINDOWS_AT_ONCE = 512, 8192, 8192
N_STRINGS, N_LINES, LINES_OF_WINDOW, ROUNDS = 1500, 150_000, 100, 3
Inputs = tuple[Tensor, ...]
Way = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with what it reads.

    Attributes:
        detector: Whose it is.
        graph: The network, its inputs named.
        batches: The inputs.
        n_tokens: Tokens of the strings, padding left out.
        operations: Floating-point operations that they ask for.
        body: The GPT-2 whose vectors can be shared, and what makes logits of them.
    """

    detector: str
    graph: Graph
    batches: list[Inputs]
    n_tokens: int
    operations: float
    body: tuple[GPT2, Callable[[Tensor], Tensor]] | None = None


def read_strings(data: str) -> tuple[Distinct, Vocabulary]:
    """Return distinct strings of a log, by rising length, and its templates."""
    folder = Path(os.environ["ODDLOG_DATA"])
    if data == "hdfs":
        dataset = open_dataset("hdfs_v1", folder)
        assert isinstance(dataset, IdDataset)
        sequences = dataset.sequences.take(np.arange(10 * N_STRINGS))
    else:
        stream = open_dataset("bgl_stream", folder)
        assert isinstance(stream, IdStream)
        ids = stream.events["template_id"].to_numpy()[:N_LINES]
        sequences = Sequences.from_ids(ids.reshape(-1, LINES_OF_WINDOW).tolist())
    vocabulary = Vocabulary.of(sequences.template_ids())
    strings = in_order(sequences, vocabulary, CONTEXT).distinct
    return take(strings, np.linspace(0, len(strings) - 1, min(N_STRINGS, len(strings)))), vocabulary


def take(strings: Distinct, index: NDArray) -> Distinct:
    """Return some of the strings."""
    index = np.unique(index.astype(np.int64))
    lengths = strings.lengths[index]
    pieces = [strings.tokens[strings.offsets[i] : strings.offsets[i + 1]] for i in index]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ones = np.ones(len(index), dtype=np.int64)
    return Distinct(np.concatenate(pieces), offsets, ones, np.arange(len(index)))


def transformer_operations(
    sizes: Any, lengths: NDArray[np.int64], n_outputs: float, *, causal: bool
) -> float:
    """Count what strings ask of a transformer: two for each weight of a matrix and token."""
    matrices = sizes.layers * (4 * sizes.width**2 + 2 * sizes.width * sizes.inner)
    attention = 4 * sizes.layers * sizes.width * (lengths**2 / (2 if causal else 1)).sum()
    return float(2 * lengths.sum() * (matrices + sizes.width * n_outputs) + attention)


def lstm_operations(network: deeplog.NextKey, n_windows: int, window: int) -> float:
    """Count what windows ask of DeepLog's network."""
    weights = window * sum(w.numel() for w in network.lstm.parameters() if w.ndim == 2)
    return 2.0 * n_windows * (weights + network.head.weight.numel())


def subjects(data: str) -> list[Subject]:
    """Return every network at its default sizes, with the strings of a log."""
    strings, vocabulary = read_strings(data)
    ranges = list(batch_ranges(strings.lengths, TOKENS_AT_ONCE))
    padded = [pad(strings, part) for part in ranges]
    n_tokens, n_candidates = len(strings.tokens), vocabulary.n_keys + 1
    count = partial(transformer_operations, lengths=strings.lengths)

    gpt = loggpt.new_network(LogGPTConfig(), vocabulary.size, CPU)
    masked = logbert.new_network(LogBERTConfig(), vocabulary.size, CONTEXT, CPU, ordered=True)
    shape = classifier.Shape.wanted(GPT2ClassifierConfig())
    classes = classifier.new_network(shape, vocabulary.size, 2, 0.0)
    lengths = [torch.from_numpy(strings.lengths[part]) for part in ranges]
    graph = Graph(
        "classes",
        classifier.ClassProbabilities(classes),
        {"tokens": ("batch", "length"), "lengths": ("batch",)},
        ("probabilities", ("batch", 2)),
        "",
        shape.places,
        vocabulary,
        MARKS,
    )
    return [
        Subject(
            "loggpt",
            loggpt.export_graph("order", gpt, vocabulary),
            [(tokens,) for tokens in padded],
            n_tokens,
            count(gpt.sizes, n_outputs=n_candidates, causal=True),
            (gpt.transformer, gpt.candidate_logits),
        ),
        Subject(
            "logbert",
            logbert.export_graph(masked, vocabulary),
            [(tokens,) for tokens in padded],
            n_tokens,
            count(masked.sizes, n_outputs=n_candidates + LogBERTConfig().width, causal=False),
        ),
        Subject(
            "gpt2_classifier",
            graph,
            list(zip(padded, lengths, strict=True)),
            n_tokens,
            count(classes.transformer.sizes, n_outputs=0, causal=True),
        ),
        _deeplog(strings, vocabulary),
    ]


def _deeplog(strings: Distinct, vocabulary: Vocabulary) -> Subject:
    config = deeplog.DeepLogConfig()
    network = deeplog.new_network(config, vocabulary.size, CPU)
    rows = find_pasts(strings.tokens, strings.offsets, config.window).rows
    starts = range(0, len(rows), WINDOWS_AT_ONCE)
    return Subject(
        "deeplog",
        deeplog.export_graph(network, config.window, vocabulary),
        [(torch.from_numpy(rows[i : i + WINDOWS_AT_ONCE]),) for i in starts],
        len(strings.tokens),
        lstm_operations(network, len(rows), config.window),
    )


def by_onnxruntime(path: Path, names: list[str]) -> Way:
    """Return a way that runs a stored network."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def run(*inputs: Tensor) -> Tensor:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return torch.from_numpy(np.asarray(session.run(None, given)[0]))

    return run


def by_prefixes(body: GPT2, logits: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Return the logits (B, T, V') of strings whose equal pasts are computed once."""
    node, first = number_prefixes(tokens.numpy())
    place = first % tokens.shape[1]
    x = body.wte(tokens.reshape(-1)[first]) + body.wpe(place)  # (N, D)
    n, t, width = *tokens.shape, x.shape[1]
    for block in body.h:
        query, keys, values = (
            part.view(n, t, block.attn.heads, -1).transpose(1, 2)
            for part in block.attn.c_attn(block.ln_1(x))[node].split(width, dim=2)
        )
        found = scaled_dot_product_attention(
            query, keys, values, is_causal=True, scale=block.attn.scale
        )
        found = found.transpose(1, 2).reshape(n * t, width)[first]
        x = x + block.attn.c_proj(found)
        x = x + block.mlp(block.ln_2(x))
    return logits(body.ln_f(x))[node]


def number_prefixes(tokens: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Return (B, T) which of N prefixes ends at each token, and (N,) where each occurs first."""
    n, t = tokens.shape
    node, first = np.empty((n, t), dtype=np.int64), []
    past, n_found = np.zeros(n, dtype=np.int64), 0
    for column in range(t):
        number = past * (tokens.max() + 1) + tokens[:, column]
        _, index, past = np.unique(number, return_index=True, return_inverse=True)
        node[:, column] = n_found + past
        first.append(index * t + column)
        n_found += len(index)
    return torch.from_numpy(node), torch.from_numpy(np.concatenate(first))


def ways(subject: Subject, folder: Path, wanted: list[str]) -> dict[str, Way]:
    """Return the ways to run a network, those that are wanted."""
    network, found = subject.graph.network.eval(), {}
    found["eager"] = network
    if "compiled" in wanted and subject.detector == "loggpt":
        found["compiled"] = torch.compile(network, dynamic=True)
    if {"onnxruntime", "int8"} & set(wanted):
        path, names = folder / f"{subject.detector}.onnx", list(subject.graph.inputs)
        write_onnx(subject.graph, path)
        found["onnxruntime"] = by_onnxruntime(path, names)
    if "int8" in wanted:
        from onnxruntime.quantization import quantize_dynamic

        small = path.with_suffix(".int8.onnx")
        quantize_dynamic(path, small, op_types_to_quantize=["MatMul", "Gemm", "LSTM"])
        found["int8"] = by_onnxruntime(small, names)
    if "prefixes" in wanted and subject.body:
        found["prefixes"] = partial(by_prefixes, *subject.body)
    return {name: way for name, way in found.items() if name in wanted}


def peak() -> float:
    """Return the floating-point operations per second of a large product, the best of some."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = 0.0
    for _ in range(8):
        began = time.process_time()
        left @ right
        best = max(best, 2 * 1024**3 / (time.process_time() - began))
    return best


@torch.inference_mode()
def race(subject: Subject, runners: Mapping[str, Way]) -> dict[str, dict[str, float]]:
    """Return, for each way, its best time and how far its numbers are from the eager ones."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    apart = dict.fromkeys(runners, 0.0)
    for number in range(ROUNDS + 1):
        for name, way in runners.items():
            began = time.process_time()
            outputs = [way(*inputs) for inputs in subject.batches]
            seconds[name].append(time.process_time() - began)
            if number == 0:
                for inputs, found in zip(subject.batches, outputs, strict=True):
                    wanted = subject.graph.network(*inputs)
                    known = inputs[0] != 0 if found.ndim == 3 else slice(None)
                    apart[name] = max(apart[name], (found - wanted)[known].abs().max().item())
    return {name: {"seconds": min(seconds[name][1:]), "apart": apart[name]} for name in runners}


def measure(data: str, wanted: list[str]) -> list[Record]:
    """Return the records of a log."""
    limit, records = peak(), []
    for subject in subjects(data):
        with tempfile.TemporaryDirectory() as folder:
            found = race(subject, ways(subject, Path(folder), wanted))
        limit = max(limit, peak())
        padded = sum(inputs[0].numel() for inputs in subject.batches)
        for way, figures in found.items():
            records.append(
                {
                    "detector": subject.detector,
                    "data": data,
                    "way": way,
                    **figures,
                    "tokens_per_s": subject.n_tokens / figures["seconds"],
                    "share_of_limit": subject.operations / figures["seconds"] / limit,
                    "limit": limit,
                    "filled": subject.n_tokens / padded if subject.detector != "deeplog" else 1.0,
                    "machine": f"{platform.machine()}, one thread",
                    **source(),
                }
            )
            print(records[-1], flush=True)
    return records


def table(records: list[Record]) -> str:
    """Return the section of docs/performance.md."""
    eager = {(r["detector"], r["data"]): r for r in records if r["way"] == "eager"}
    rows = []
    for record in records:
        base = eager[record["detector"], record["data"]]
        rows.append(
            [
                f"`{record['detector']}`" if record is base else "",
                record["data"].upper() if record is base else "",
                record["way"],
                f"{record['tokens_per_s'] / 1000:,.0f}",
                f"{base['seconds'] / record['seconds']:.2f}",
                f"{record['share_of_limit']:.0%}",
                f"{record['filled']:.0%}",
                f"{record['apart']:.0e}",
            ]
        )
    header = [
        "network",
        "log",
        "way",
        "thousand events/s",
        "times eager",
        "of the limit",
        "filled",
        "apart",
    ]
    limits = [record["limit"] / 1e9 for record in records]
    about = fill(
        "Events (tokens of distinct strings, marks included) per processor second "
        f"({records[0]['machine']}), the network alone; a pass of LogBERT, of which `score` makes "
        "four. The limit is a product of large matrices in the same process: "
        f"{min(limits):.0f} to {max(limits):.0f} thousand million operations a second. Filled: the "
        "share of a batch that is no padding. Apart: the largest difference of a logit, of a "
        f"probability for the classifier. {measured_at(records)}",
        width=100,
    )
    return f"`python benchmarks/inference.py`\n\n{about}\n\n{markdown(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = ("eager", "compiled", "onnxruntime", "int8", "prefixes")
    parser.add_argument("--ways", nargs="+", choices=known, default=known)
    parser.add_argument("--logs", nargs="+", choices=("hdfs", "bgl"), default=("hdfs", "bgl"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.table:
        return insert(DOCUMENT, "inference", table(read(asked.out)))
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    for data in asked.logs:
        append(asked.out, measure(data, list(asked.ways)))
    return None


if __name__ == "__main__":
    main()
