"""How often the planted line is the culprit, on simulated logs: LogGPT and the trivial rules.

    python benchmarks/culprits.py --seeds 5

Per seed: 3,000 normal sessions to learn from, 1,500 to score of which a fifth hold a planted fault
of one of eight kinds. One JSON line per seed and detector in benchmarks/results/culprits.jsonl; a
seed that is already there is not run again. ``python benchmarks/table.py`` makes the tables.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oddlog import Run
from oddlog.config import parse_assignments
from oddlog.datasets import attach_labels
from oddlog.demo import SESSION, with_planted
from oddlog.evaluate import culprit_accuracy, evaluate, evaluate_lines, recall_by_class
from oddlog.pipeline import fit, make_config
from oddlog.simulate import simulate, write

OUT = Path(__file__).parent / "results" / "culprits.jsonl"


def run_seed(seed: int, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Fit on one simulated log, judge verdicts and culprits on another."""
    learned = simulate(3000, anomaly_share=0.0, seed=1000 + seed)
    faulty = simulate(1500, anomaly_share=0.2, seed=2000 + seed)
    with tempfile.TemporaryDirectory() as folder:
        write(learned, Path(folder) / "learned")
        write(faulty, Path(folder) / "faulty")
        config = make_config({"session_by": SESSION, **settings}, "benchmark")
        pipeline = fit([Path(folder) / "learned" / "cluster.log"], config, run=Run(seed))
        result = pipeline.score([Path(folder) / "faulty" / "cluster.log"])
    sequences, _ = attach_labels(result.sequences, faulty.labels)
    sequences = with_planted(sequences, faulty.planted)
    anomalous = sequences.take(sequences.anomalous)
    records = []
    for name, judge in {pipeline.detector.name: pipeline.judge, **pipeline.baselines}.items():
        scores = judge.detector.score(sequences.without_labels())
        flags = judge.calibration.flags(scores.sequence)
        found = evaluate(scores.sequence, sequences.anomalous, flags)
        culprits = culprit_accuracy(anomalous, judge.detector.explain(anomalous.without_labels()))
        record = {
            "seed": seed,
            "detector": name,
            "auprc": found.ranking.auprc.value,
            "recall": found.decision.recall.value,
            "false_alarm_rate": found.decision.false_alarm_rate.value,
            "first": culprits.first.value,
            "first_three": culprits.first_three.value,
            "chance_first": culprits.chance_first,
            "by_kind": {c.name: c.recall.value for c in recall_by_class(sequences.labels, flags)},
        }
        if scores.event is not None:
            record["line_auprc"] = evaluate_lines(sequences, scores.event).ranking.auprc.value
        records.append(record)
        print({k: v for k, v in record.items() if k != "by_kind"}, flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    done = {json.loads(line)["seed"] for line in lines}
    for seed in sorted(set(range(arguments.seeds)) - done):
        records = run_seed(seed, parse_assignments(arguments.set))
        with arguments.out.open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    main()
