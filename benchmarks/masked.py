"""How fast LogBERT scores windows, in batches and one at a time.

    python benchmarks/masked.py

Distinct sessions of HDFS_v1 are drawn and scored by a network of each preset: all in one call, and
some of them in a call each. Both are taken in turns in one process, the best of the rounds counts,
and what is compared is their ratio, so that other work on the machine flatters neither. How well a
network is trained makes no difference to its speed: it sees a few hundred sessions once. One JSON
line per preset goes to benchmarks/results/masked.jsonl; ``python benchmarks/table.py`` makes the
table.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from oddlog import Run, Sequences
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.work import new_detector
from oddlog.datasets import IdDataset, open_dataset
from oddlog.detectors import Detector

PRESETS = ("ours", "paper", "code")
N_TRAIN, N_VALID, N_DISTINCT, N_SINGLE, ROUNDS = 300, 100, 1000, 30, 3


def distinct_sessions(sequences: Sequences, n: int) -> Sequences:
    """Return n sessions, drawn among those that differ from each other."""
    ids = sequences.template_ids()
    strings = [ids[a:b].tobytes() for a, b in pairwise(sequences.offsets)]
    first = {string: number for number, string in enumerate(strings)}
    drawn = np.random.default_rng(0).permutation(np.fromiter(first.values(), dtype=np.int64))
    return sequences.take(np.sort(drawn[:n]))


def fitted(preset: str, normals: Sequences) -> Detector:
    """Return a LogBERT of a preset that has seen a few sessions."""
    detector = new_detector("logbert", [f"logbert.preset={preset}", "logbert.epochs=1"])
    train, valid = normals.take(range(N_TRAIN)), normals.take(range(N_TRAIN, N_TRAIN + N_VALID))
    detector.fit(train, valid, Run(0))
    return detector


def race(detector: Detector, windows: Sequences) -> dict[str, float]:
    """Return windows per processor second in one call and in a call each, and their difference."""
    single = [windows.take([i]) for i in np.linspace(0, len(windows) - 1, N_SINGLE).astype(int)]
    together, apart = [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        scores = detector.score(windows).sequence
        together.append(time.process_time() - began)
        began = time.process_time()
        alone = np.concatenate([detector.score(window).sequence for window in single])
        apart.append(time.process_time() - began)
    chosen = scores[np.linspace(0, len(windows) - 1, N_SINGLE).astype(int)]
    return {
        "together": len(windows) / min(together),
        "apart": len(single) / min(apart),
        "difference": float(np.abs(chosen - alone).max()),
    }


def measure(preset: str, sequences: Sequences, n_distinct: int) -> Record:
    """Return the record of a preset."""
    normals = sequences.take(np.flatnonzero(~sequences.anomalous)[: N_TRAIN + N_VALID])
    windows = distinct_sessions(sequences, n_distinct).without_labels()
    return {
        "preset": preset,
        "n_distinct": len(windows),
        "mean_length": float(windows.lengths.mean()),
        **race(fitted(preset, normals.without_labels()), windows),
        **source(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--distinct", type=int, default=N_DISTINCT)
    parser.add_argument("--out", type=Path, default=RESULTS / "masked.jsonl")
    asked = parser.parse_args()
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    dataset = open_dataset("hdfs_v1", Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    done = {record["preset"] for record in read(asked.out)}
    for preset in (preset for preset in asked.presets if preset not in done):
        record = measure(preset, dataset.sequences, asked.distinct)
        append(asked.out, [record])
        print(record, flush=True)


if __name__ == "__main__":
    main()
