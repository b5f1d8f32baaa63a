"""LogGPT's language model and the trivial rules, with thresholds from calibration normals.

    python benchmarks/honest.py hdfs-full --seeds 5     all of HDFS_v1 as ids, 5,000 random normals
    python benchmarks/honest.py hdfs-raw --seeds 5      raw lines of the 2 % sample, cut in time
    python benchmarks/honest.py bgl-windows --seeds 5   Blue Gene/L as ids, windows, cut in time
    python benchmarks/honest.py bgl-raw --seeds 5       its first 100,000 raw lines, short windows
    python benchmarks/honest.py adfa --seeds 5          ADFA-LD's system calls, six kinds of attack
    python benchmarks/honest.py simulated --seeds 5     the simulated cluster, eight kinds of fault

Where lines are labelled (Blue Gene/L, simulated), so are culprits: does an explanation of an
anomalous sequence name a labelled line first? And the event scores: do they rank such lines high?

One JSON line per seed and detector goes to benchmarks/results/<name>.jsonl; a seed that is already
there is not run again. Times are processor seconds. ``python benchmarks/table.py`` turns the files
into docs/results.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from protocols import PROTOCOLS

import oddlog
from oddlog import Run, Sequences
from oddlog.config import parse_assignments
from oddlog.detectors import Detector, detector_class
from oddlog.evaluate import (
    Resampling,
    culprit_accuracy,
    evaluate,
    evaluate_lines,
    recall_by_class,
)
from oddlog.evaluate.decision import decide
from oddlog.findings import Scores
from oddlog.pipeline import fit_sequences, make_config

RESULTS = Path(__file__).parent / "results"


def source() -> dict[str, str | None]:
    """Return which oddlog is measured: version, and commit with "dirty" where it was changed."""
    folder = Path(oddlog.__file__).parents[2]
    commit = _git(folder, "rev-parse", "HEAD")
    where = ("src", "benchmarks", ":!benchmarks/results")
    if commit and _git(folder, "status", "--porcelain", "--", *where):
        commit += " dirty"
    return {"version": oddlog.__version__, "commit": commit}


def _git(folder: Path, *arguments: str) -> str | None:
    asked = ["git", "-C", str(folder), *arguments]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or installed elsewhere
        return None


def run_seed(name: str, folder: Path, seed: int, assignments: list[str]) -> list[dict]:
    """Fit, score and judge one seed; one record per detector."""
    cut = PROTOCOLS[name](folder, seed)
    parts, test = cut.parts, cut.test
    began = time.process_time()
    config = make_config(parse_assignments(assignments), "benchmark")
    pipeline = fit_sequences(parts, templates=cut.templates, config=config, run=Run(seed))
    fit_s = time.process_time() - began
    records = []
    for detector, judge in {pipeline.detector.name: pipeline.judge, **pipeline.baselines}.items():
        began = time.process_time()
        scores = judge.detector.score(test.without_labels())
        score_s = time.process_time() - began
        record = {
            "benchmark": name,
            "seed": seed,
            "detector": detector,
            "set": assignments,
            "settings": judge.detector.config.model_dump(),
            "sizes": [len(part) for part in parts],
            "test": len(test),
            "test_sha256": _digest(test),
            "fit_s": round(fit_s, 1) if judge is pipeline.judge else None,
            "score_s": round(score_s, 2),
            **source(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }
        flags = judge.calibration.flags(scores.sequence)
        found = evaluate(
            scores.sequence,
            test.anomalous,
            flags,
            p_values=judge.calibration.p_values(scores.sequence),
            resampling=Resampling(n=200, seed=seed),
        )
        record |= {
            "evaluation": found.to_dict(),
            "slices": _slices(parts[0], test, scores.sequence),
            "by_class": {c.name: c.recall.value for c in recall_by_class(test.labels, flags)},
        }
        if test.event_anomalous().any():
            record["lines"] = _lines(test, judge.detector, scores)
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


def _lines(test: Sequences, detector: Detector, scores: Scores) -> dict[str, float | None]:
    """Return how well culprits and event scores point at labelled lines."""
    anomalous = test.take(test.anomalous)
    explained = detector.explain(anomalous.without_labels())
    culprits = culprit_accuracy(anomalous, explained, Resampling(n=2))
    found: dict[str, float | None] = {
        "n": culprits.n,
        "first": culprits.first.value,
        "first_three": culprits.first_three.value,
        "chance_first": culprits.chance_first,
        "chance_first_three": culprits.chance_first_three,
    }
    if scores.event is not None:
        judged = evaluate_lines(test, scores.event, Resampling(n=2))
        found["line_auprc"] = judged.ranking.auprc.value
        found["line_auprc_by_chance"] = judged.n_anomalous / judged.n_lines
    return found


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
    parser.add_argument("benchmark", choices=PROTOCOLS)
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
    done = {record["seed"] for record in map(json.loads, lines)}
    config = make_config(parse_assignments(arguments.set), "benchmark")
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
        records = run_seed(arguments.benchmark, Path(data), seed, arguments.set)
        with out.open("a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))


if __name__ == "__main__":
    main()
