"""The whole job on a simulated cluster: simulate, fit without labels, score, check the verdict."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from oddlog.datasets import attach_labels
from oddlog.evaluate import (
    ClassRecall,
    CulpritAccuracy,
    Evaluation,
    culprit_accuracy,
    recall_by_class,
)
from oddlog.events import NORMAL, Sequences
from oddlog.pipeline import Pipeline, Result, fit, make_config
from oddlog.run import Run
from oddlog.simulate import simulate, write

SESSION = r"blk_\d+"
REPORT_NAME = "report.html"
# Small enough for half a minute on two cores; of a dozen tried, the best ranking of faults.
SETTINGS = {
    "session_by": SESSION,
    "loggpt": {
        "layers": 1,
        "heads": 4,
        "width": 64,
        "dropout": 0.0,
        "batch_size": 16,
        "epochs": 14,
        "learning_rate": 4e-3,
        "learn": "frequency",
        "count_steps": 500,
    },
}


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo found.

    Attributes:
        pipeline: Fitted on a log of normal sessions, without labels.
        result: The verdict on a second log that holds planted faults.
        by_kind: Recall on each kind of fault.
        culprits: How often the planted line is among the culprits.
        evaluations: The detector beside the trivial rules.
    """

    pipeline: Pipeline
    result: Result
    by_kind: tuple[ClassRecall, ...]
    culprits: CulpritAccuracy
    evaluations: dict[str, Evaluation]

    def lines(self) -> list[str]:
        """Say how good the verdict is, one line each."""
        own = self.evaluations[self.pipeline.detector.name].decision
        ranked = ", ".join(
            f"{name} {found.ranking.auprc.value:.2f}" for name, found in self.evaluations.items()
        )
        return [
            f"false alarms: {own.n_false_alarms} of {own.n_false_alarms + own.n_passed:,} normal "
            "sessions",
            f"the first culprit is a planted line in {self.culprits.first.text(2)} of the faults, "
            f"one of the first three in {self.culprits.first_three.text(2)}",
            f"ranking, 1 is perfect (AUPRC): {ranked}",
        ]


def run_demo(folder: Path, *, n_sessions: int, seed: int, run: Run) -> Demo:
    """Simulate two logs, learn from the first, score the second.

    Writes ``yesterday/cluster.log`` (every session normal), ``today/cluster.log`` (8 % with
    planted faults), both with labels and planted lines beside them, ``model/``, and
    ``report.html``, the verdict on the second.

    Args:
        folder: Where to write.
        n_sessions: Sessions in the first log; the second has a third as many.
        seed: Of both logs and of the model.
        run: Device and progress.
    """
    yesterday = simulate(n_sessions, anomaly_share=0.0, seed=seed)
    today = simulate(n_sessions // 3, anomaly_share=0.08, seed=seed + 1)
    write(yesterday, folder / "yesterday")
    write(today, folder / "today")
    pipeline = fit(
        [folder / "yesterday" / "cluster.log"],
        make_config(SETTINGS, "demo"),
        model=folder / "model",
        run=run,
    )
    scored = pipeline.score([folder / "today" / "cluster.log"], progress=run.progress)
    found = judge_demo(pipeline, scored, today.labels, today.planted)
    command = shlex.join(["oddlog", "demo", f"--out={folder}", f"--sessions={n_sessions}"])
    about = {"command": f"{command} --seed={seed}", **pipeline.about()}
    found.result.to_html(folder / REPORT_NAME, about=about)
    return found


def judge_demo(
    pipeline: Pipeline, result: Result, labels: pl.DataFrame, planted: pl.DataFrame
) -> Demo:
    """Compare a verdict with the labels and the planted lines of a simulated log."""
    labelled, _ = attach_labels(result.sequences, labels)
    labelled = with_planted(labelled, planted)
    result = replace(result, sequences=labelled)
    anomalous = labelled.take(labelled.anomalous)
    return Demo(
        pipeline=pipeline,
        result=result,
        by_kind=recall_by_class(labelled.labels, result.flags),
        culprits=culprit_accuracy(anomalous, result.detector.explain(anomalous)),
        evaluations=pipeline.evaluate(result),
    )


def with_planted(sequences: Sequences, planted: pl.DataFrame) -> Sequences:
    """Return the same windows over events that are labelled with the fault planted in them."""
    kinds = planted.select("line", pl.col("kind").alias("label")).unique("line", keep="first")
    events = sequences.events.drop("label", strict=False).join(
        kinds, on="line", how="left", maintain_order="left"
    )
    return replace(sequences, events=events.with_columns(pl.col("label").fill_null(NORMAL)))
