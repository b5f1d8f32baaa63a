"""Kinds of anomaly told apart: every sequence judged once, by a model that never saw it.

    python benchmarks/kinds.py adfa --detectors decision_tree nearest_neighbour
    python benchmarks/kinds.py hadoop --detectors decision_tree nearest_neighbour
    python benchmarks/kinds.py --table                      write the tables of docs/kinds.md

Five folds. ``adfa``: all 5,951 traces, seven classes, each class spread evenly over the folds (the
set's own training part holds no attack). ``hadoop``: 978 containers, four classes, all containers
of an application in one fold, because the label is the application's; one class has 7 applications.
An eighth of what a fold learns from is its validation, cut off in the same way. Settings as in
``oddlog bench``. One JSON line per seed, fold and detector goes to benchmarks/results/kinds.jsonl;
what is there is not run again, and networks are resumed from --work (they have no time then).
Times are processor seconds.

The table pools the folds; intervals are of a bootstrap over sequences, or over applications.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from oddlog import Run, Sequences
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown
from oddlog.bench.work import new_detector, own_settings
from oddlog.datasets import IdDataset, open_dataset
from oddlog.detectors import DETECTORS
from oddlog.evaluate import (
    ClassEvaluation,
    Resampling,
    average_precision,
    class_title,
    evaluate_classes,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "kinds.md"
OUT = RESULTS / "kinds.jsonl"
SETS = {"adfa": ("adfa_ld", None), "hadoop": ("hadoop", "application")}
"""Name of each data set, and the column whose sequences stay together."""
N_FOLDS, N_INNER = 5, 8


@dataclass(frozen=True, eq=False)
class Fold:
    """Numbers of the sequences that are learned from, chosen by and judged."""

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]


def opened(name: str) -> tuple[Sequences, NDArray[np.int64]]:
    """Return a set's sequences, and which of them stay together, as numbers."""
    known_as, column = SETS[name]
    dataset = open_dataset(known_as, Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    if column is None:
        return dataset.sequences, np.arange(len(dataset.sequences))
    _, groups = np.unique(dataset.columns[column].to_numpy(), return_inverse=True)
    return dataset.sequences, groups


def folds(sequences: Sequences, groups: NDArray[np.int64], seed: int) -> Iterator[Fold]:
    """Yield the folds: their tests are all sequences, once each."""
    classes = sequences.labels.to_numpy()
    grouped = len(np.unique(groups)) < len(groups)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold  # the first takes minutes of 6,000

    def cut(index: NDArray[np.int64], n: int) -> Iterator[tuple[NDArray, NDArray]]:
        cutter = kind(n_splits=n, shuffle=True, random_state=seed)
        for rest, part in cutter.split(index, classes[index], groups[index] if grouped else None):
            yield index[rest], index[part]

    for learned, test in cut(np.arange(len(sequences)), N_FOLDS):
        train, valid = next(cut(learned, N_INNER))
        yield Fold(train, valid, test)


def run_fold(asked: argparse.Namespace, detector: str, seed: int, number: int) -> Record:
    """Fit and score one detector on one fold."""
    sequences, groups = opened(asked.set_name)
    fold = list(folds(sequences, groups, seed))[number]
    settings = own_settings(asked.detectors, asked.set)[detector]
    model = new_detector(detector, settings)
    place = asked.work and asked.work / f"{asked.set_name}-{seed}-{number}" / detector
    run = Run(seed, checkpoints=place, resume=place is not None)
    resumed = place is not None and any(place.rglob("*.safetensors"))
    began = time.process_time()
    model.fit(sequences.take(fold.train), sequences.take(fold.valid), run)
    fit_s = None if resumed else round(time.process_time() - began, 1)
    test = sequences.take(fold.test)
    began = time.process_time()
    scores = model.score(test.without_labels())
    score_s = time.process_time() - began
    assert scores.class_probs is not None, f"{detector} tells no classes apart"
    names = list(scores.class_names)
    return {
        "benchmark": asked.set_name,
        "seed": seed,
        "fold": number,
        "detector": detector,
        "set": settings,
        "settings": model.config.model_dump(mode="json"),
        **source(),
        "fit_s": fit_s,
        "score_s": round(score_s, 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "auprc": average_precision(scores.sequence, test.anomalous),
        "names": names,
        "test": fold.test.tolist(),
        "label": test.labels.to_list(),
        "found": scores.class_probs.argmax(axis=1).tolist(),
        "group": groups[fold.test].tolist(),
    }


def table(records: Sequence[Record], name: str) -> str:
    """Return two tables of a set, the best macro F1 first: of all classes, and of each."""
    of_set = [record for record in records if record["benchmark"] == name]
    found = {}
    for detector in dict.fromkeys(record["detector"] for record in of_set):
        own = [record for record in of_set if record["detector"] == detector]
        found[f"`{detector}`"] = (judged(own, grouped=SETS[name][1] is not None), own)
    some = next(own for _, own in found.values())
    found["the commonest class"] = (judged(commonest(some), grouped=True), [])
    best_first = sorted(found.items(), key=lambda item: -(item[1][0].macro_f1.value or 0.0))
    rows, of_class = [], []
    for title, (judgement, own) in best_first:
        means = [
            f"{np.mean(known):.{digits}f}"
            if (known := [record[key] for record in own if record[key] is not None])
            else "-"
            for key, digits in (("auprc", 3), ("fit_s", 0))
        ]
        figures = [judgement.macro_f1.text(), judgement.accuracy.text(), *means]
        rows.append([title, str(len(own) or "-"), *figures])
        of_class.append([title, *(f"{own.f1.value or 0.0:.3f}" for own in judgement.classes)])
    header = ["detector", "folds", "macro F1", "accuracy", "AUPRC of p(anomalous)", "fit, s"]
    classes = [f"{class_title(own.name)} ({own.n:,})" for own in best_first[0][1][0].classes]
    return (
        f"{markdown(header, rows)}\n\nF1 of each class, and its sequences:\n\n"
        f"{markdown(['detector', *classes], of_class)}"
    )


def commonest(records: Sequence[Record]) -> list[Record]:
    """Return records of a detector that takes every sequence for the commonest class."""
    labels = [label for record in records for label in record["label"]]
    most = records[0]["names"].index(max(set(labels), key=labels.count))
    return [record | {"found": [most] * len(record["found"])} for record in records]


def judged(records: Sequence[Record], *, grouped: bool) -> ClassEvaluation:
    """Return the evaluation of a detector's folds taken together."""
    judged_once, labels, found, group = [], [], [], []
    names = records[0]["names"]
    for record in records:
        assert record["names"] == names
        judged_once += record["test"]
        labels += record["label"]
        found += record["found"]
        group += record["group"]
    assert len(set(judged_once)) == len(judged_once), "folds of different cuts: remove the records"
    how = Resampling(blocks=np.array(group) if grouped else None)
    probs = np.eye(len(names))[np.array(found)]
    return evaluate_classes(pl.Series("label", labels), names, probs, resampling=how)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("set_name", nargs="?", choices=SETS)
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=N_FOLDS, help="run only the first ones")
    parser.add_argument("--set", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, help="keep and take up checkpoints in this folder")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    asked = parser.parse_args(words)
    if asked.table:
        for name in SETS:
            insert(DOCUMENT, name, table(read(asked.out), name))
        return
    if not asked.set_name or not asked.detectors or not os.environ.get("ODDLOG_DATA"):
        parser.error("name a set and --detectors, and set ODDLOG_DATA to the folder with the logs")
    for seed in range(asked.seeds):
        for number in range(asked.folds):
            for detector in asked.detectors:
                cell = (asked.set_name, seed, number, detector)
                done = [
                    tuple(r[key] for key in ("benchmark", "seed", "fold", "detector"))
                    for r in read(asked.out)
                ]
                if cell in done:
                    continue
                record = run_fold(asked, detector, seed, number)
                append(asked.out, [record])
                right = np.array(record["names"])[record["found"]] == np.array(record["label"])
                print(*cell, f"accuracy {right.mean():.3f}, fit {record['fit_s']} s", flush=True)


if __name__ == "__main__":
    main()
