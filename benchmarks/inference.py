"""How fast the networks score, and what other ways to run them would give.

    python benchmarks/inference.py            # some minutes of one core
    python benchmarks/inference.py --table    # docs/performance.md from what was measured

The networks, and what they read, are in ``networks``. The ways run in turns in one process with one
thread, and the best of the rounds counts, in processor seconds. Eager is what ``score`` does. The
limit is what the same process reaches in a large product of float32 matrices; a way's share of it
counts the operations that strings ask for, none that padding adds.

A way is of use where it flags what eager flags. Half of the strings give a threshold for each of
``RATES`` by their eager scores, the others are judged by it: a flag has moved if it is another one
even though a score may be off by ``TOLERANCE``.

"prefixes" lets tokens with the same past share their vectors, in all but attention: what a tree of
prefixes saves. One JSON line for each network, log and way goes to
benchmarks/results/inference.jsonl; what is there is not measured again (``--again`` does).
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from textwrap import fill

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported

import numpy as np
import torch
from networks import LEARNED, Subject, peak, subjects
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from oddlog.bench.records import RESULTS, Record, append, measured_at, read, source
from oddlog.bench.render import insert, markdown
from oddlog.nn.export import write_onnx
from oddlog.nn.gpt2 import GPT2

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
OUT = RESULTS / "inference.jsonl"
ROUNDS = 3
RATES = (0.01, 0.05, 0.2)
TOLERANCE = 1e-4
WAYS = ("eager", "compiled", "onnxruntime", "int8", "prefixes")
OF_LOGGPT = ("compiled", "prefixes")
"""Ways that are made for LogGPT alone: compiling takes half a minute for each network, and the
others look at what comes later too, or are asked only once for each string."""
Way = Callable[..., Tensor]
Key = tuple[str, str, str]


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
    if "compiled" in wanted:
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


def moved(eager: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[int, int, int]:
    """Count flags at ``RATES`` that are not those by eager scores; the module says how.

    Args:
        eager: (n,) scores.
        found: (n,) scores of another way.

    Returns:
        How many have moved, how many are raised by eager scores, and of how many.
    """
    n_moved = n_raised = 0
    judged, other = eager[1::2], found[1::2]
    for rate in RATES:
        threshold = np.quantile(eager[::2], 1 - rate, method="higher")
        raised = judged > threshold
        differs = np.where(raised, other + TOLERANCE <= threshold, other - TOLERANCE > threshold)
        n_moved, n_raised = n_moved + int(differs.sum()), n_raised + int(raised.sum())
    return n_moved, n_raised, len(RATES) * len(judged)


def compared(subject: Subject, wanted: list[Tensor], outputs: list[Tensor]) -> dict[str, float]:
    """Return how far a way's outputs, scores and flags are from the eager ones."""
    apart = 0.0
    for inputs, output, known in zip(subject.batches, outputs, wanted, strict=True):
        filled = inputs[0] != 0 if output.ndim == 3 else slice(None)
        apart = max(apart, (output - known)[filled].abs().max().item())
    eager, found = subject.scores(wanted), subject.scores(outputs)
    n_moved, n_raised, n_flags = moved(eager, found)
    return {
        "apart": apart,
        "scores_apart": float(np.abs(eager - found).max()),
        "flags_moved": n_moved,
        "flags_raised": n_raised,
        "flags": n_flags,
    }


@torch.inference_mode()
def race(subject: Subject, runners: Mapping[str, Way]) -> dict[str, dict[str, float]]:
    """Return, for each way, its best time and how far what it finds is from the eager way's."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    wanted = [subject.graph.network(*inputs) for inputs in subject.batches]
    differences: dict[str, dict[str, float]] = {}
    for number in range(ROUNDS + 1):
        for name, way in runners.items():
            began = time.process_time()
            outputs = [way(*inputs) for inputs in subject.batches]
            seconds[name].append(time.process_time() - began)
            if number == 0:
                differences[name] = compared(subject, wanted, outputs)
    return {name: {"seconds": min(seconds[name][1:]), **differences[name]} for name in runners}


def measure(data: str, wanted: Mapping[str, list[str]]) -> list[Record]:
    """Return the records of a log, for each detector those of its ways."""
    limit, records = peak(), []
    for subject in subjects(data, list(wanted)):
        with tempfile.TemporaryDirectory() as folder:
            found = race(subject, ways(subject, Path(folder), wanted[subject.detector]))
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


def key_of(record: Record) -> Key:
    """Name the network, the log and the way of a record."""
    return record["detector"], record["data"], record["way"]


def missing(asked: argparse.Namespace, data: str) -> dict[str, list[str]]:
    """Return the ways of each network that are to be measured on a log, eager always with them.

    All ways of a network run in one process in turns, so that their ratios can be compared.
    """
    known = set() if asked.again else {key_of(record) for record in read(asked.out)}
    found = {}
    for detector in asked.detectors:
        own = [way for way in asked.ways if way not in OF_LOGGPT or detector == "loggpt"]
        if any((detector, data, way) not in known for way in own):
            found[detector] = list(dict.fromkeys(["eager", *own]))
    return found


def row_of(record: Record, eager: Record) -> list[str]:
    """Return a row of the table."""
    first = record is eager
    return [
        f"`{record['detector']}`" if first else "",
        record["data"].upper() if first else "",
        record["way"],
        f"{record['tokens_per_s'] / 1000:,.0f}",
        f"{eager['seconds'] / record['seconds']:.2f}",
        f"{record['share_of_limit']:.0%}",
        f"{record['filled']:.0%}",
        f"{record['apart']:.0e}",
        f"{record['scores_apart']:.0e}",
        f"{record['flags_moved']:.0f} of {record['flags']:.0f}",
    ]


def table(records: list[Record]) -> str:
    """Return the section of docs/performance.md: the latest record of each cell."""
    latest = {key_of(record): record for record in records if "flags_moved" in record}
    cells = [
        (detector, data, way) for data in ("hdfs", "bgl") for detector in LEARNED for way in WAYS
    ]
    rows = [
        row_of(latest[cell], latest[(*cell[:2], "eager")])
        for cell in cells
        if cell in latest and (*cell[:2], "eager") in latest
    ]
    lacking = [
        cell
        for cell in cells
        if cell not in latest and (cell[2] not in OF_LOGGPT or "loggpt" in cell)
    ]
    header = [
        "network",
        "log",
        "way",
        "thousand events/s",
        "times eager",
        "of the limit",
        "filled",
        "outputs apart",
        "scores apart",
        "flags moved",
    ]
    told = about(list(latest.values()), lacking)
    return f"`python benchmarks/inference.py`\n\n{told}\n\n{markdown(header, rows)}"


def about(records: list[Record], lacking: list[Key]) -> str:
    """Return what stands above the table."""
    limits = [record["limit"] / 1e9 for record in records]
    rates = ", ".join(f"{rate:.0%}" for rate in RATES)
    told = (
        "Events (tokens of distinct strings, marks included) per processor second "
        f"({records[0]['machine']}), the network alone; a pass of LogBERT, of which `score` makes "
        "four. The limit is a product of large matrices in the same process: "
        f"{min(limits):.0f} to {max(limits):.0f} thousand million operations a second. Filled: the "
        "share of a batch that is no padding. Apart: the largest difference of a logit (of a "
        "probability for the classifier), and of a score: the worst surprise of a string, of a "
        "window for `deeplog`, the probability of an anomaly. Flags moved: flags at thresholds of "
        f"{rates} that are others than eager's even though scores may be off by {TOLERANCE:.0e}. "
        "Networks are those of a fit of a few dozen steps. `compiled` and `prefixes` are for "
        "`loggpt` alone: compiling takes half a minute for each network; the other networks look "
        "at what comes later, or are asked once for each string. "
    )
    if lacking:
        names = ", ".join(
            f"{detector} on {data.upper()} by {way}" for detector, data, way in lacking
        )
        told += f"Not measured yet: {names}. "
    return fill(told + measured_at(records), width=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=tuple(LEARNED), default=tuple(LEARNED))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--logs", nargs="+", choices=("hdfs", "bgl"), default=("hdfs", "bgl"))
    parser.add_argument("--again", action="store_true", help="measure what is recorded as well")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.table:
        return insert(DOCUMENT, "inference", table(read(asked.out)))
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    for data in asked.logs:
        for detector, own in missing(asked, data).items():
            append(asked.out, measure(data, {detector: own}))
    return None


if __name__ == "__main__":
    main()
