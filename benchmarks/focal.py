r"""How well a GPT-2 classifier does by its input, its loss, its start and the share of labels.

    python benchmarks/focal.py hdfs --seeds 5 --reads event_id_token event_id_text
    python benchmarks/focal.py hdfs --seeds 5 --shares .01 .05 .1 .5 1 --starts random loggpt
    python benchmarks/focal.py sample --seeds 5 --reads event_id_token event_id_text raw
    python benchmarks/focal.py sample-in-time --seeds 5 --reads event_id_token event_id_text raw
    python benchmarks/focal.py --table                      write the tables of docs/detectors.md

``hdfs`` is all of HDFS_v1 as ids, a tenth of each class drawn as the test, as in the paper;
``sample`` the same of the raw 2 % sample; ``sample-in-time`` learns from the sample's first half
and judges the second. A tenth of each class of what is learned is the validation. ``--shares``
leaves labels to that share of both. ``loggpt`` starts from a LogGPT that has read all of what is
learned, without labels. ``--losses`` names the losses; classifiers on counts run beside.

Figures at p >= .5 and at the threshold that is best on the validation, with bootstrap intervals.
Templates of raw lines are mined from the training. What is done is not run again, and a training
that was stopped goes on (``--work``; it has no time then). One JSON line per cell goes to
benchmarks/results/focal.jsonl; times are processor seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog import Run, Sequences
from oddlog.bench.protocols import hdfs_halves, mine
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.bench.work import new_detector, own_settings
from oddlog.datasets import IdDataset, RawDataset, attach_labels, open_dataset, read_labels
from oddlog.detectors import Detector
from oddlog.evaluate import Resampling, evaluate
from oddlog.formats import read_events
from oddlog.group import Window, group

DOCUMENT = Path(__file__).parents[1] / "docs" / "detectors.md"
OWN = "gpt2_classifier"
FITTED = (OWN, "loggpt")
BASELINES = ("decision_tree", "nearest_neighbour", "lookup")
DATA = ("hdfs", "sample", "sample-in-time")
FORMS = ("event_id_token", "event_id_text", "raw")
LOSSES = ("cross_entropy", "weighted", "focal")
STARTS = ("random", "loggpt")
TEST_SHARE, VALID_SHARE = 0.1, 0.1
N_RESAMPLES = 200
Parts = tuple[Sequences, Sequences, Sequences]


@dataclass(frozen=True)
class Cell:
    """What identifies a record; of a classifier on counts input, loss and start are empty."""

    data: str
    seed: int
    detector: str
    reads: str = ""
    loss: str = ""
    start: str = ""
    share: float = 1.0
    set: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for its folder."""
        return f"{self.data}-{self.seed}-{self.detector}-{_digest(asdict(self))}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def stratified(
    sequences: Sequences, share: float, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw this share of each class; return the drawn ones and the others, each in order."""
    drawn, others = [], []
    for name in sorted(set(sequences.labels.to_list())):
        members = random.permutation(np.flatnonzero((sequences.labels == name).to_numpy()))
        n = max(1, round(share * len(members)))
        drawn.append(members[:n])
        others.append(members[n:])
    return np.sort(np.concatenate(drawn)), np.sort(np.concatenate(others))


@cache
def parts_of(data: str, seed: int) -> Parts:
    """Return training, validation and test, all labelled."""
    folder = Path(os.environ["ODDLOG_DATA"])
    random = np.random.default_rng(seed)
    layout = None
    if data == "sample-in-time":
        learned, test, layout, _ = hdfs_halves(folder)
    else:
        everything, layout = _all_of(data, folder)
        drawn, others = stratified(everything, TEST_SHARE, random)
        learned, test = everything.take(others), everything.take(drawn)
    drawn, others = stratified(learned, VALID_SHARE, random)
    train, valid = learned.take(others), learned.take(drawn)
    if layout is not None:
        (train, valid), test, _ = mine([train, valid], test, layout)
    return train, valid, test


def _all_of(data: str, folder: Path) -> tuple[Sequences, str | None]:
    if data == "hdfs":
        dataset = open_dataset("hdfs_v1", folder)
        assert isinstance(dataset, IdDataset)
        return dataset.sequences, None
    raw = open_dataset("hdfs_raw", folder)
    assert isinstance(raw, RawDataset)
    assert raw.labels is not None
    events, _ = read_events(raw.path, raw.layout)
    sequences, _ = group(events, Window(by="session"))
    return attach_labels(sequences, read_labels(raw.labels))[0], raw.layout


def with_labels_left(parts: Parts, share: float, seed: int) -> Parts:
    """Keep this share of each class of training and validation."""
    if share >= 1:
        return parts
    random = np.random.default_rng(1000 + seed)
    train, valid, test = parts
    train, valid = (part.take(stratified(part, share, random)[0]) for part in (train, valid))
    return train, valid, test


def pretrained(cell: Cell, work: Path) -> Path:
    """Return the folder of a LogGPT that has read what is learned, without labels."""
    settings = own_settings(FITTED, cell.set)["loggpt"]
    folder = work / f"loggpt-{cell.data}-{cell.seed}-{_digest(settings)}"
    if not (folder / "config.json").exists():
        train, valid, _ = parts_of(cell.data, cell.seed)
        detector = new_detector("loggpt", ["loggpt.reads=order", *settings])
        run = Run(cell.seed, checkpoints=folder / "checkpoints", resume=True)
        detector.fit(train.without_labels(), valid.without_labels(), run)
        folder.mkdir(parents=True, exist_ok=True)
        detector.save(folder)
    return folder


def detector_of(cell: Cell, work: Path) -> Detector:
    """Return the cell's detector, unfitted."""
    if cell.detector != OWN:
        return new_detector(cell.detector, [])
    assignments = [f"{OWN}.reads={cell.reads}", f"{OWN}.loss={cell.loss}"]
    if cell.start == "loggpt":
        assignments.append(f"{OWN}.start={pretrained(cell, work)}")
    return new_detector(OWN, [*assignments, *own_settings(FITTED, cell.set)[OWN]])


def run(cell: Cell, work: Path) -> Record:
    """Fit a cell's detector and judge it."""
    train, valid, test = with_labels_left(parts_of(cell.data, cell.seed), cell.share, cell.seed)
    detector = detector_of(cell, work)
    place = work / cell.name
    resumed = place.is_dir()
    began = time.process_time()
    detector.fit(train, valid, Run(cell.seed, checkpoints=place, resume=True))
    fit_s = time.process_time() - began
    valid_scores = detector.score(valid.without_labels()).sequence
    began = time.process_time()
    scores = detector.score(test.without_labels())
    score_s = time.process_time() - began
    threshold = best_threshold(valid_scores, valid.anomalous)
    how = Resampling(n=N_RESAMPLES, seed=cell.seed)
    flags = detector.paper_rule(scores)
    assert flags is not None
    found = evaluate(scores.sequence, test.anomalous, flags, resampling=how)
    chosen = evaluate(scores.sequence, test.anomalous, scores.sequence >= threshold, resampling=how)
    return {
        **asdict(cell),
        "settings": detector.config.model_dump(mode="json"),
        "source": source(),
        "sizes": [len(part) for part in (train, valid, test)],
        "anomalous": [int(part.anomalous.sum()) for part in (train, valid, test)],
        "fit_s": None if resumed else round(fit_s, 1),
        "score_s": round(score_s, 2),
        "peak_mb": round(getrusage(RUSAGE_SELF).ru_maxrss / 1024),
        "history": getattr(detector, "history", []),
        "threshold": threshold,
        "at_half": _figures(found.to_dict()["decision"]),
        "at_best_of_validation": _figures(chosen.to_dict()["decision"]),
        "auroc": found.to_dict()["ranking"]["auroc"],
        "auprc": found.to_dict()["ranking"]["auprc"],
    }


def _figures(decision: dict[str, Any]) -> dict[str, Any]:
    names = ("precision", "recall", "f1", "n_hits", "n_false_alarms", "n_missed")
    return {name: decision[name] for name in names}


def best_threshold(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Return the score from which on flags have the best F1, the highest of equals."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(truth[order])
    last = np.append(ranked[1:] < ranked[:-1], True)  # a threshold takes all ties or none
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
    return float(ranked[np.argmax(np.where(last, f1, -1))])


def cells(asked: argparse.Namespace, seed: int) -> Iterable[Cell]:
    """Return what was asked for of a seed."""
    for reads, loss, start, share in product(asked.reads, asked.losses, asked.starts, asked.shares):
        if start == "random" or reads == "event_id_token":
            yield Cell(asked.data, seed, OWN, reads, loss, start, share, tuple(asked.set))
    for name in asked.baselines:
        for share in asked.shares:
            yield Cell(asked.data, seed, name, share=share)


def cell_of(record: Record) -> Cell:
    """Return what identifies a record."""
    named = {name: record[name] for name in Cell.__dataclass_fields__}
    return Cell(**named | {"set": tuple(record["set"])})


def table(records: list[Record], keys: tuple[str, ...]) -> str:
    """Return a row for each value of the keys, mean and deviation over seeds."""
    header = [*keys, "seeds", "precision", "recall", "F1", "F1 at the best of validation"]
    header += ["AUROC", "AUPRC", "AUPRC of seed 0", "fit, s"]
    rows = []
    for value in dict.fromkeys(tuple(record[key] for key in keys) for record in records):
        own = [record for record in records if tuple(record[key] for key in keys) == value]
        cells = [*(str(part) or "-" for part in value), str(len(own))]
        cells += [spread(_values(own, "at_half", name)) for name in ("precision", "recall", "f1")]
        cells.append(spread(_values(own, "at_best_of_validation", "f1")))
        cells += [spread((r[name]["value"] for r in own), 4) for name in ("auroc", "auprc")]
        first = min(own, key=lambda record: record["seed"])["auprc"]
        cells.append(f"{first['low'] or 1:.4f}-{first['high'] or 1:.4f}")
        rows.append([*cells, spread((record["fit_s"] for record in own), 0)])
    return markdown(header, rows)


def _values(records: list[Record], group: str, name: str) -> list[float]:
    return [record[group][name]["value"] for record in records]


def tables(records: list[Record]) -> str:
    """Return what docs/detectors.md shows: by input and loss, and by share of labels."""
    random = [
        r | {"detector": ", ".join([r["detector"], *(item.partition(".")[2] for item in r["set"])])}
        for r in records
        if r["share"] == 1 and r["start"] != "loggpt"
    ]
    random.sort(key=lambda r: (DATA.index(r["data"]), r["detector"], r["reads"], r["loss"]))
    text = table(random, ("data", "detector", "reads", "loss"))
    curve = [r for r in records if r["data"] == "hdfs" and not r["set"] and _on_curve(r)]
    if len({r["share"] for r in curve}) < 2:
        return text
    curve.sort(key=lambda r: (r["share"], r["detector"], r["start"]))
    return f"{text}\n\n{table(curve, ('share', 'detector', 'start'))}"


def _on_curve(record: Record) -> bool:
    if record["detector"] != OWN:
        return True
    return record["reads"] == "event_id_token" and record["loss"] == "focal"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", choices=DATA)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--reads", nargs="*", choices=FORMS, default=["event_id_token"])
    parser.add_argument("--losses", nargs="*", choices=LOSSES, default=list(LOSSES))
    parser.add_argument("--starts", nargs="*", choices=STARTS, default=["random"])
    parser.add_argument("--shares", nargs="*", type=float, default=[1.0])
    parser.add_argument("--baselines", nargs="*", choices=BASELINES, default=list(BASELINES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oddlog-focal")
    parser.add_argument("--out", type=Path, default=RESULTS / "focal.jsonl")
    parser.add_argument("--table", action="store_true", help="only write the tables")
    asked = parser.parse_args()
    if not asked.table and not asked.data:
        parser.error("name the data")
    if not asked.table and not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    own_settings(FITTED, asked.set)
    return asked


def main(run_cell: Callable[[Cell, Path], Record] = run) -> None:
    asked = parse()
    if asked.table:
        insert(DOCUMENT, "focal", tables(read(asked.out)))
        return
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for cell in cells(asked, seed):
            if cell in [cell_of(record) for record in read(asked.out)]:
                continue
            record = run_cell(cell, asked.work)
            append(asked.out, [record])
            shown = {name: record[name]["value"] for name in ("auroc", "auprc")}
            print(cell.name, record["at_half"]["f1"]["value"], shown, record["fit_s"], flush=True)


if __name__ == "__main__":
    main()
