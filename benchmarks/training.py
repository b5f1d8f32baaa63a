"""What training costs: processor time to the best epoch and in all, tokens, padding, the limit.

    python benchmarks/training.py                  # a few minutes of one idle core
    python benchmarks/training.py --threads 2      # of two
    python benchmarks/training.py --table          # docs/performance.md from what was measured

Each detector with a network of its own is fitted at its defaults to 5,000 normal sessions of
HDFS_v1, with 1,000 to choose the epoch by; the classifier to as many sessions with labels, drawn
from all. A fit is a process of its own, watched from outside: the run tells when a step and an
epoch end, and what the networks read is counted as they read it, so that padding is what was
computed and not what was planned. The limit is what the same process reaches in a large product of
float32 matrices, before the fit and behind it; the share of it counts the operations that strings
ask for, none that padding adds, three times those of scoring for a step.

One JSON line for each detector and number of threads goes to benchmarks/results/training.jsonl;
what is there is not measured again (``--again`` does).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import fill
from threading import current_thread, get_ident, main_thread
from typing import Any

import torch

from oddlog.bench.records import RESULTS, Record, append, measured_at, read, source
from oddlog.bench.render import insert, markdown

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
OUT = RESULTS / "training.jsonl"
DETECTORS = ("loggpt", "logbert", "deeplog", "gpt2_classifier")
N_TRAIN, N_VALID, SEED = 5000, 1000, 0
PASSES = 3
"""Forward, and backward to the vectors and to the weights: each about as many operations."""
UNDISTURBED = 0.95
"""Share of its threads' time that a stage has to have had for its time on the clock to be shown; of
one that learns beside another, the share in which it did not wait for a core."""


@dataclass
class StageCost:
    """What one stage of a training took, times in seconds.

    Attributes:
        name: Of the stage.
        threads: Torch's threads that it had; fewer than the fit's where it had another beside it.
        epochs: Epochs made.
        most: Epochs at most.
        best_epoch: Whose weights are kept, counted from 1.
        best_loss: Of that epoch, on the validation.
        cpu_s: Processor time, of all threads.
        wall_s: Time on the clock.
        waited_s: Of it what the thread that trains was ready and had no core.
        best_cpu_s: Until the best epoch was known.
        best_wall_s: The same on the clock.
        valid_cpu_s: Of it the looks at the validation.
        steps: Optimiser steps.
        cells: Places of the batches that were trained on, padding included.
        tokens: Filled ones among them.
        operations: Floating-point operations that those ask for in one pass forward.
    """

    name: str
    threads: int = 1
    epochs: int = 0
    most: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    cpu_s: float = 0.0
    wall_s: float = 0.0
    waited_s: float = 0.0
    best_cpu_s: float = 0.0
    best_wall_s: float = 0.0
    valid_cpu_s: float = 0.0
    steps: int = 0
    cells: int = 0
    tokens: int = 0
    operations: float = 0.0


@dataclass
class _Since:
    """Where a thread that trains stood as its last epoch ended, and what it has done since."""

    cpu_s: float
    wall_s: float
    waited_s: float
    last_step: float = 0.0
    steps: int = 0
    read: list[float] = field(default_factory=lambda: [0, 0, 0.0])


@dataclass
class Meter:
    """Watches a fit: what its run tells, and what its networks read.

    Both are told by the thread that trains. The processor time of a stage is that of the process,
    and of a stage that learns beside another one that of its thread, which is the one it has.
    """

    stages: dict[str, StageCost] = field(default_factory=dict)
    _since: dict[int, _Since] = field(default_factory=dict)

    def start(self) -> None:
        """Begin to count the time."""
        self._since = {get_ident(): _Since(_processor(), time.monotonic(), _waited())}

    def progress(self, _stage: str, _done: int, _total: int) -> None:
        """Note that a step has ended."""
        since = self._here()
        since.last_step = _processor()
        since.steps += 1

    def epoch(self, name: str, done: int, most: int, loss: float) -> None:
        """Add what an epoch took to its stage."""
        since, cost = self._here(), self.stages.setdefault(name, StageCost(name))
        cpu, wall, waited = _processor(), time.monotonic(), _waited()
        cost.threads, cost.epochs, cost.most = torch.get_num_threads(), done, most
        cost.cpu_s += cpu - since.cpu_s
        cost.wall_s += wall - since.wall_s
        cost.waited_s += waited - since.waited_s
        cost.valid_cpu_s += cpu - since.last_step
        if loss < cost.best_loss:
            cost.best_epoch, cost.best_loss = done, loss
            cost.best_cpu_s, cost.best_wall_s = cost.cpu_s, cost.wall_s
        cost.cells += int(since.read[0])
        cost.tokens += int(since.read[1])
        cost.operations += since.read[2]
        cost.steps += since.steps
        self._since[get_ident()] = _Since(cpu, wall, waited)

    def reads(self, cells: int, tokens: int, operations: float) -> None:
        """Count a batch that is trained on."""
        since = self._here()
        for place, value in enumerate((cells, tokens, operations)):
            since.read[place] += value

    def _here(self) -> _Since:
        """Return where this thread stands; one that is new begins with its first batch."""
        known = self._since.get(get_ident())
        return known or self._since.setdefault(
            get_ident(), _Since(_processor(), time.monotonic(), _waited())
        )


def _processor() -> float:
    return time.process_time() if current_thread() is main_thread() else time.thread_time()


def _waited() -> float:
    """Return the seconds for which this thread was ready to run and had no core; 0 off Linux."""
    told = Path("/proc/thread-self/schedstat")
    return int(told.read_text(encoding="ascii").split()[1]) / 1e9 if told.exists() else 0.0


def listen(meter: Meter, detector: str, config: Any) -> Any:
    """Let a meter count every batch that a network is trained on; return what ends it."""
    from networks import lstm_operations, transformer_operations
    from torch.nn.modules.module import register_module_forward_pre_hook

    from oddlog.detectors.deeplog.model import NextKey
    from oddlog.encode import FIRST_CANDIDATE, PAD
    from oddlog.nn.bert import BERT
    from oddlog.nn.gpt2 import GPT2

    def outputs(sizes: Any) -> float:
        if detector == "gpt2_classifier":
            return 0.0
        candidates = sizes.n_tokens - FIRST_CANDIDATE
        if detector == "logbert":
            return config.mask_share * (candidates + sizes.width)  # asked where a mask stands
        return candidates

    def hook(module: Any, inputs: tuple[Any, ...]) -> None:
        if not module.training or not isinstance(module, GPT2 | BERT | NextKey):
            return
        tokens = inputs[0]
        lengths = (tokens != PAD).sum(dim=1).numpy()
        if isinstance(module, NextKey):
            meter.reads(tokens.numel(), tokens.numel(), lstm_operations(module, *tokens.shape))
            return
        operations = transformer_operations(
            module.sizes, lengths, outputs(module.sizes), causal=isinstance(module, GPT2)
        )
        meter.reads(tokens.numel(), int(lengths.sum()), operations)

    return register_module_forward_pre_hook(hook)


def draw(detector: str) -> list[Any]:
    """Return training and validation sessions of HDFS_v1."""
    import numpy as np

    from oddlog.datasets import IdDataset, open_dataset

    dataset = open_dataset("hdfs_v1", Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    sequences = dataset.sequences
    labelled = detector == "gpt2_classifier"
    among = np.arange(len(sequences)) if labelled else np.flatnonzero(~sequences.anomalous)
    drawn = np.random.default_rng(SEED).permutation(among)[: N_TRAIN + N_VALID]
    parts = [sequences.take(np.sort(part)) for part in np.split(drawn, [N_TRAIN])]
    return parts if labelled else [part.without_labels() for part in parts]


def resident(name: str) -> float:
    """Return a figure of this process's memory in MiB: "VmHWM" its peak, "VmRSS" what it is now."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name)) / 1024


def forget_peak() -> float:
    """Let the peak of memory begin anew, as reading the data took more; return what it is now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return resident("VmRSS")


def measure(detector: str, threads: int) -> Record:
    """Fit a detector in this process, and return its record."""
    from networks import peak

    from oddlog import Run
    from oddlog.bench.work import new_detector

    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    train, valid = draw(detector)
    fitted: Any = new_detector(detector, [])
    before_mb = forget_peak()
    meter = Meter()
    listen(meter, detector, fitted.config)
    limit = peak()
    meter.start()
    cpu, wall = time.process_time(), time.monotonic()
    fitted.fit(train, valid, Run(SEED, progress=meter.progress, epoch=meter.epoch))
    return {
        "detector": detector,
        "data": "hdfs",
        "threads": threads,
        "n_train": len(train),
        "n_valid": len(valid),
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "load": load,
        "before_mb": before_mb,
        "peak_mb": resident("VmHWM"),
        "limit": max(limit, peak()),
        "stages": [asdict(stage) for stage in meter.stages.values()],
        "machine": platform.machine(),
        **source(),
    }


def in_own_process(detector: str, threads: int) -> Record:
    """Measure in a process whose memory and threads are its own."""
    command = [sys.executable, __file__, "--here", detector, "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _threads(record: Record, stage: dict[str, Any]) -> int:
    return stage.get("threads", record["threads"])  # which older records do not hold


def _undisturbed(record: Record, stage: dict[str, Any]) -> bool:
    if _threads(record, stage) < record["threads"]:  # which waits for the other's interpreter, too
        return stage["waited_s"] <= (1 - UNDISTURBED) * stage["wall_s"]
    return stage["cpu_s"] >= UNDISTURBED * _threads(record, stage) * stage["wall_s"]


def _whole(record: Record) -> str:
    """Return the clock of a fit that had its threads to itself."""
    alone = all(_undisturbed(record, stage) for stage in record["stages"])
    return f"{record['wall_s']:.1f}" if alone else ""


def row_of(record: Record, stage: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    trained = stage["cpu_s"] - stage["valid_cpu_s"]
    share = PASSES * stage["operations"] / trained / record["limit"]
    first = stage is record["stages"][0]
    threads = _threads(record, stage)
    return [
        f"`{record['detector']}`" if first else "",
        stage["name"],
        str(threads) if threads == record["threads"] else f"{threads} of {record['threads']}",
        f"{stage['best_epoch']} of {stage['epochs']}",
        f"{stage['best_cpu_s']:.1f}",
        f"{stage['cpu_s']:.1f}",
        f"{stage['best_wall_s']:.1f}" if _undisturbed(record, stage) else "",
        _whole(record) if first else "",
        f"{stage['valid_cpu_s'] / stage['cpu_s']:.0%}",
        f"{stage['tokens'] / trained / 1000:.1f}",
        f"{share:.0%}",
        f"{1 - stage['tokens'] / stage['cells']:.1%}",
        f"{record['peak_mb']:,.0f}" if first else "",
    ]


def table(records: list[Record]) -> str:
    """Return the section of docs/performance.md: the latest record of each cell."""
    latest = {(record["detector"], record["threads"]): record for record in records}
    chosen = sorted(latest.values(), key=lambda r: (DETECTORS.index(r["detector"]), r["threads"]))
    header = [
        "detector",
        "training",
        "threads",
        "best epoch",
        "s to it",
        "s in all",
        "clock to it",
        "clock of the fit",
        "validation",
        "thousand tokens/s",
        "of the limit",
        "padding",
        "peak MB",
    ]
    rows = [row_of(record, stage) for record in chosen for stage in record["stages"]]
    limits = [record["limit"] / 1e9 for record in chosen]
    before = [record["before_mb"] for record in chosen]
    parted = any(_threads(r, stage) != r["threads"] for r in chosen for stage in r["stages"])
    beside = "1 of 2 threads: side by side, each with the time of its own. " if parted else ""
    about = fill(
        f"Fits to {N_TRAIN:,} sessions of HDFS_v1 with {N_VALID:,} to choose the epoch by, at the "
        f"defaults, seed {SEED} ({chosen[0]['machine']}). Seconds are of the processor, all "
        "threads together; those on the clock are told where nothing else ran. Validation: its "
        "share of the time. Tokens per second of training, validation left out; the limit is a "
        f"product of large matrices in the same process, {min(limits):.0f} to {max(limits):.0f} "
        "thousand million operations a second. Padding: share of the places that networks were "
        "trained on; DeepLog's windows have a fixed length and none. Of the peak, "
        f"{min(before):,.0f} to {max(before):,.0f} MB were the interpreter, torch and the data "
        f"before the fit. {beside}{measured_at(chosen)}",
        width=100,
    )
    return f"`python benchmarks/training.py`\n\n{about}\n\n{markdown(header, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=DETECTORS)
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument("--again", action="store_true", help="measure what is recorded as well")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--here", choices=DETECTORS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.table:
        return insert(DOCUMENT, "training", table(read(asked.out)))
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    if asked.here:
        print(json.dumps(measure(asked.here, asked.threads)))
        return None
    for detector in asked.detectors:
        known = {(record["detector"], record["threads"]) for record in read(asked.out)}
        if asked.again or (detector, asked.threads) not in known:
            append(asked.out, [in_own_process(detector, asked.threads)])
            print(f"{detector}, {asked.threads} threads: measured", flush=True)
    return None


if __name__ == "__main__":
    main()
