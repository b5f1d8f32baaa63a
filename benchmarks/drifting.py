"""A system released ten times: a model left as it is, updated, or fitted anew after each release.

    python benchmarks/drifting.py --seeds 5                      cheap detectors
    python benchmarks/drifting.py --seeds 5 --detectors loggpt   the demo's settings of it
    python benchmarks/drifting.py --table                        write the tables of docs/drift.md

The log is ``oddlog.simulate.simulate_drifting``: 4,000 sessions under the first program, then 1,000
under each of ten releases, 5 % of them faulty all along. Models are fitted on the first 4,000. The
first half of a release's time, in which it is rolled out, is what is learned from; the second half
is judged. Ways:

- frozen: the model of the first program to the end;
- updated: ``oddlog update`` with each roll-out, of which the faults are known (``--labels``);
- unlabelled: the same without labels, with ``assume_anomalies=0.05``;
- fitted anew: ``oddlog fit`` on each roll-out alone, with labels.

A pipeline brings ``new_event``, ``key_set`` and ``counts`` with it. One JSON line per seed,
detector, way and release goes to benchmarks/results/releases.jsonl; what is there is not run again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

import oddlog
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.datasets import attach_labels
from oddlog.demo import SESSION, SETTINGS
from oddlog.detectors import BASELINES, DETECTORS, detector_class
from oddlog.pipeline import Judge, Pipeline, PipelineConfig, make_config, update_pipeline
from oddlog.run import Run
from oddlog.simulate import Drifting, Pace, simulate_drifting

FILE = RESULTS / "releases.jsonl"
DOCUMENT = Path(__file__).parents[1] / "docs" / "drift.md"
N_BEFORE, N_EACH, FAULTY = 4000, 1000, 0.05
PACE = Pace()
SHARES = {"train_share": 0.5, "valid_share": 0.1, "calibration_share": 0.4}
CHEAP = ("ngram", "log_cluster", "nearest_neighbour")
FROZEN, UPDATED, UNLABELLED, ANEW = WAYS = ("frozen", "updated", "unlabelled", "fitted anew")
SHOWN = (1, 2, 3, 5, 7, 10)
FIGURES = {
    "false_alarm_rate": "False alarms",
    "recall": "Recall",
    "recall_unseen": "Recall of templates that only faults have",
}
UNSEEN = ("unseen_error", "stack_trace")


def write_pieces(made: Drifting, folder: Path) -> dict[str, Path]:
    """Write each session whole into the log of its time: "first", "roll-out 1", "judged 1" ..."""
    names = ["first"] * N_BEFORE
    n_mixed = round(PACE.rollout * N_EACH)
    for release in range(1, PACE.n_releases + 1):
        names += [f"roll-out {release}"] * n_mixed + [f"judged {release}"] * (N_EACH - n_mixed)
    sessions = pl.DataFrame({"session": made.ran["session"], "piece": names})
    # Lines without a session stay with the line before them, and so a stack trace with its line.
    table = made.simulation.lines.to_frame("line").with_columns(
        session=pl.col("line").str.extract(f"({SESSION})").forward_fill()
    )
    table = table.join(sessions, on="session", how="left", maintain_order="left")
    paths = {}
    for (name,), piece in table.group_by("piece", maintain_order=True):
        paths[str(name)] = folder / f"{name}.log"
        paths[str(name)].write_text("\n".join([*piece["line"], ""]))
    return paths


def config_of(detector: str) -> PipelineConfig:
    """Return how a model of one detector is fitted."""
    settings = {**SHARES, "session_by": SESSION, "detector": detector}
    return make_config(settings | {k: v for k, v in SETTINGS.items() if k == detector}, "drifting")


def judged(pipeline: Pipeline, log: Path, truth: pl.DataFrame) -> Iterator[Record]:
    """Yield what each judge of a pipeline flags of a labelled log."""
    sequences, _ = attach_labels(pipeline.score([log]).sequences, truth)
    faulty = sequences.anomalous
    unseen = sequences.labels.is_in(UNSEEN).to_numpy()
    unknown = np.bincount(sequences.owners, sequences.template_ids() < 0, minlength=len(faulty)) > 0
    judges: Mapping[str, Judge] = {pipeline.detector.name: pipeline.judge, **pipeline.baselines}
    for name, judge in judges.items():
        flags = judge.calibration.flags(judge.detector.score(sequences.without_labels()).sequence)
        yield {
            "detector": name,
            "n": len(faulty),
            "n_faulty": int(faulty.sum()),
            "unknown": float(unknown[~faulty].mean()),
            "false_alarm_rate": float(flags[~faulty].mean()),
            "recall": float(flags[faulty].mean()),
            "recall_unseen": float(flags[unseen].mean()),
        }


def measure(made: Drifting, logs: Mapping[str, Path], detector: str, seed: int) -> Iterator[Record]:
    """Yield the figures of one detector, and of the rules beside it, by way and release."""
    truth, config, run = made.simulation.labels, config_of(detector), Run(seed)
    first = oddlog.fit([logs["first"]], config, labels=truth, run=run)
    steps: dict[str, Callable[[Pipeline, Path], Pipeline]] = {
        FROZEN: lambda model, log: model,
        UPDATED: lambda model, log: update_pipeline(model, [log], labels=truth, run=run).pipeline,
        UNLABELLED: lambda model, log: (
            update_pipeline(model, [log], settings={"assume_anomalies": FAULTY}, run=run).pipeline
        ),
        ANEW: lambda model, log: oddlog.fit([log], config, labels=truth, run=run),
    }
    if detector_class(detector).learns_from == "labelled":
        del steps[UNLABELLED]
    for way, step in steps.items():
        model = first
        for release in range(1, PACE.n_releases + 1):
            model = step(model, logs[f"roll-out {release}"])
            for record in judged(model, logs[f"judged {release}"], truth):
                yield {"seed": seed, "way": way, "release": release, **record}


def run_seed(seed: int, detectors: Sequence[str], out: Path) -> None:
    """Measure what the file does not hold of a seed."""
    done = {record["detector"] for record in read(out) if record["seed"] == seed}
    missing = [name for name in detectors if name not in done]
    if not missing:
        return
    made = simulate_drifting(N_BEFORE, N_EACH, anomaly_share=FAULTY, seed=5000 + seed, pace=PACE)
    with tempfile.TemporaryDirectory() as folder:
        logs = write_pieces(made, Path(folder))
        for name in missing:
            wanted = {name} | ({*BASELINES} - done)
            found = [r for r in measure(made, logs, name, seed) if r["detector"] in wanted]
            append(out, [{**record, **source()} for record in found])
            done |= wanted
            print(f"seed {seed}: {', '.join(sorted(wanted))} done", flush=True)


def tables(records: Sequence[Record]) -> str:
    """Return a table for each figure: detectors and ways down, releases across."""
    seeds = {r["detector"]: set[int]() for r in records}
    for record in records:
        seeds[record["detector"]].add(record["seed"])
    most = max(map(len, seeds.values()))
    fewer = ", ".join(f"`{name}` {len(own)}" for name, own in seeds.items() if len(own) < most)
    told = f"{most} seeds" + (f" ({fewer})" if fewer else "")
    blocks = [f"{told}, mean ± standard deviation; asked: 1 % false alarms."]
    names = [name for name in DETECTORS if any(r["detector"] == name for r in records)]
    for figure, title in FIGURES.items():
        rows = []
        for name in names:
            for way in WAYS:
                own = [r for r in records if (r["detector"], r["way"]) == (name, way)]
                if own:
                    cells = [
                        spread([r[figure] for r in own if r["release"] == release], 2)
                        for release in SHOWN
                    ]
                    rows.append([f"`{name}`", way, *cells])
        blocks.append(markdown([title, "model", *(f"release {r}" for r in SHOWN)], rows))
    return "\n\n".join(blocks)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=CHEAP, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--table", action="store_true", help="write docs/drift.md from --out")
    asked = parser.parse_args(words)
    if asked.table:
        insert(DOCUMENT, "drifting", tables(read(asked.out)))
        return
    for seed in range(asked.seeds):
        run_seed(seed, asked.detectors, asked.out)


if __name__ == "__main__":
    main()
