"""LogGPT's language model and the trivial rules on HDFS, with thresholds from calibration normals.

    python benchmarks/honest.py hdfs-full --seeds 5     all of HDFS_v1 as ids, 5,000 random normals
    python benchmarks/honest.py hdfs-raw --seeds 5      raw lines of the 2 % sample, cut in time

One JSON line per seed and detector goes to benchmarks/results/<name>.jsonl; a seed that is already
there is not run again. ``python benchmarks/table.py`` turns the files into docs/results.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog import Run, Sequences
from oddlog.config import parse_assignments
from oddlog.datasets import IdDataset, RawDataset, attach_labels, open_dataset, read_labels
from oddlog.detectors import detector_class
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.endings import Silences, log_ends
from oddlog.evaluate import Resampling, evaluate
from oddlog.evaluate.decision import decide
from oddlog.formats import read_events
from oddlog.group import Window, group
from oddlog.masks import masks_for
from oddlog.pipeline import fit_sequences, make_config
from oddlog.pipeline.prepare import with_templates
from oddlog.split import check_no_leak, cut_sessions_at_random, cut_sessions_by_time

RESULTS = Path(__file__).parent / "results"
SIZES = {"train": 3500, "valid": 500, "calibration": 1000}
RAW_SHARES = (0.65, 0.1, 0.25)


def hdfs_full(folder: Path, seed: int) -> tuple[list[Sequences], Sequences, Templates]:
    """Draw 5,000 normals for training, validation and calibration; the rest is the test."""
    dataset = open_dataset("hdfs_v1", folder)
    assert isinstance(dataset, IdDataset)
    sequences = dataset.sequences
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~sequences.anomalous))
    cuts = np.cumsum([0, *SIZES.values()])
    parts = [sequences.take(np.sort(normal[a:b])) for a, b in pairwise(cuts)]
    test = np.setdiff1d(np.arange(len(sequences)), normal[: cuts[-1]])
    return parts, sequences.take(test), Templates.from_texts(dataset.texts)


def hdfs_raw(folder: Path, seed: int) -> tuple[list[Sequences], Sequences, Templates]:
    """Cut the raw sample in time at half of its sessions; the first half's normals are learned."""
    dataset = open_dataset("hdfs_raw", folder)
    assert isinstance(dataset, RawDataset)
    assert dataset.labels is not None
    events, _ = read_events(dataset.path, dataset.layout)
    sequences, _ = group(events, Window(by="session"))
    sequences, _ = attach_labels(sequences, read_labels(dataset.labels))
    halves, split = cut_sessions_by_time(sequences, [0.5, 0.5])
    print(split.summary(), flush=True)
    early, test = (sequences.take(half) for half in halves)
    normals = early.take(~early.anomalous)
    drawn, _ = cut_sessions_at_random(normals, RAW_SHARES, seed)
    parts = [normals.take(index) for index in drawn]
    check_no_leak(*parts, test)
    config = DrainConfig.model_validate({"masks": masks_for("hdfs")})
    templates = Templates(config)
    templates.learn(parts[0].events["message"])
    templates.freeze()
    novel = Novelties(config)
    *parts, test = (with_templates(part, templates, novel) for part in (*parts, test))
    silences = Silences.of(parts[0])
    early_ends = log_ends(early.events)  # what follows is not known when the model is fitted
    parts = [silences.mark(part, early_ends) for part in parts]
    return parts, silences.mark(test), templates


BENCHMARKS = {"hdfs-full": hdfs_full, "hdfs-raw": hdfs_raw}


def run_seed(name: str, folder: Path, seed: int, settings: Mapping[str, Any]) -> list[dict]:
    """Fit, score and judge one seed; one record per detector."""
    parts, test, templates = BENCHMARKS[name](folder, seed)
    began = time.perf_counter()
    config = make_config(settings, "benchmark")
    pipeline = fit_sequences(parts, templates=templates, config=config, run=Run(seed))
    fit_s = time.perf_counter() - began
    records = []
    for detector, judge in {pipeline.detector.name: pipeline.judge, **pipeline.baselines}.items():
        began = time.perf_counter()
        scores = judge.detector.score(test.without_labels())
        score_s = time.perf_counter() - began
        record = {
            "benchmark": name,
            "seed": seed,
            "detector": detector,
            "settings": judge.detector.config.model_dump(),
            "sizes": [len(part) for part in parts],
            "test": len(test),
            "test_sha256": _digest(test),
            "fit_s": round(fit_s, 1) if judge is pipeline.judge else None,
            "score_s": round(score_s, 2),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        found = evaluate(
            scores.sequence,
            test.anomalous,
            judge.calibration.flags(scores.sequence),
            p_values=judge.calibration.p_values(scores.sequence),
            resampling=Resampling(n=200, seed=seed),
        )
        record |= {
            "evaluation": found.to_dict(),
            "slices": _slices(parts[0], test, scores.sequence),
        }
        own = judge.detector.paper_rule(scores)
        if own is not None:
            rule = decide(own, test.anomalous, Resampling(n=200, seed=seed))
            record["own_rule"] = {
                key: getattr(rule, key).value
                for key in ("precision", "recall", "f1", "false_alarm_rate")
            }
        records.append(record)
        print(_headline(record), flush=True)
    return records


def _slices(train: Sequences, test: Sequences, scores: NDArray) -> dict[str, Any]:
    """AUPRC where the shortcut of an unseen key is closed."""
    unseen = ~np.isin(test.template_ids(), np.unique(train.template_ids()))
    no_unseen = np.bincount(test.owners, weights=unseen, minlength=len(test)) == 0
    found = evaluate(
        scores[no_unseen],
        test.anomalous[no_unseen],
        np.zeros(no_unseen.sum(), dtype=bool),
        resampling=Resampling(n=50),
    )
    return {
        "no_unseen_key": {
            "n": found.n_sequences,
            "n_anomalous": found.n_anomalous,
            "auprc": found.ranking.auprc.value,
        }
    }


def _digest(test: Sequences) -> str:
    digest = hashlib.sha256(test.offsets.tobytes())
    digest.update("\n".join(test.keys).encode())
    return digest.hexdigest()[:16]


def _headline(record: Mapping[str, Any]) -> str:
    found = record["evaluation"]
    cells = [f"AUPRC {found['ranking']['auprc']['value']:.4f}"]
    for at in found["at_rates"]:
        decision = at["decision"]
        cells.append(
            f"{at['asked']:.1%}: realised {decision['false_alarm_rate']['value']:.4f} "
            f"recall {decision['recall']['value']:.4f} F1 {decision['f1']['value'] or 0:.4f}"
        )
    head = f"{record['benchmark']} seed {record['seed']} {record['detector']:<10}"
    return f"{head} fit {record['fit_s']} s score {record['score_s']} s | " + " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    data = os.environ.get("ODDLOG_DATA")
    if not data:
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    out = arguments.out or RESULTS / f"{arguments.benchmark}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = out.read_text().splitlines() if out.exists() else []
    settings = parse_assignments(arguments.set)
    done = {record["seed"] for record in map(json.loads, lines)}
    config = make_config(settings, "benchmark")
    expected = json.loads(
        detector_class(config.detector).Config(**config.settings).model_dump_json()
    )
    if any(
        record["settings"] != expected
        for record in map(json.loads, lines)
        if record["detector"] == config.detector
    ):
        parser.error(f"{out} holds results of other settings: move it, or name another --out")
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        if seed in done:
            continue
        records = run_seed(arguments.benchmark, Path(data), seed, settings)
        with out.open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    main()
