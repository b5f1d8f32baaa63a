r"""LogLLM with two small models on raw logs, beside classifiers that count, by the paper's rule.

    python benchmarks/logllm.py hdfs-folds                  five folds of sessions, drawn at random
    python benchmarks/logllm.py hdfs-time                   the last fifth of the sessions, in time
    python benchmarks/logllm.py bgl-chain                   windows of 100 lines, five folds in time
    python benchmarks/logllm.py adfa --set logllm.joint.epochs=2
    python benchmarks/logllm.py hdfs-prompt --detectors llm_prompt decision_tree \
        --set llm_prompt.url=http://localhost:8000/v1 --set llm_prompt.model=NAME
    python benchmarks/logllm.py --table                     write the table of docs/detectors.md

- ``hdfs-folds``: the 2 % sample's sessions in five parts, the same for all detectors; four are
  learned, an eighth of them as validation. As in all such draws most of a test's sessions are
  copies of training sessions, so figures are also told for those that are not ("new").
- ``hdfs-time``: the first 70 % of the sessions are learned, 10 % are validation, 20 % the test.
- ``bgl-chain``: the first 100,000 lines in six parts, in time; fold k learns the first k and judges
  the next one. Every eighth window is validation. A fold without anomalies to learn is left out.
- ``hdfs-prompt``: as ``hdfs-time``, judged on its anomalies and as many normal sessions, drawn at
  random, because a chat model that is asked takes seconds for each: half of them are anomalous,
  which no log is, so that its figures compare with those of the same test alone.
- ``adfa``: system calls, five folds of traces as in ``hdfs-folds``; a call is a word, as the set
  has no texts, and of a trace 128 calls are read.

``--folds`` says which folds, ``--detectors`` which detectors. The threshold is each detector's own
rule, p(anomalous) >= .5; nothing is chosen on the test. One JSON line per fold and detector goes to
benchmarks/results/logllm.jsonl; what is there is not run again, and a fold that was stopped goes on
from its checkpoint below ``--work``. Times are processor seconds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
from numpy.typing import NDArray

from oddlog import Run, Sequences
from oddlog.bench.protocols import mine
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.bench.work import new_detector, own_settings
from oddlog.datasets import IdDataset, RawDataset, attach_labels, open_dataset, read_labels
from oddlog.detectors.logllm.config import LogLLMConfig
from oddlog.detectors.logllm.texts import read_strings
from oddlog.evaluate import Estimate, Resampling, average_precision
from oddlog.evaluate.decision import decide
from oddlog.formats import read_events
from oddlog.group import Window, group
from oddlog.split import cut_rows, cut_sessions_by_time

DOCUMENT = Path(__file__).parents[1] / "docs" / "detectors.md"
OTHERS = ("lookup", "decision_tree", "logistic_regression", "nearest_neighbour")
DETECTORS = ("logllm", "llm_prompt", *OTHERS)
ASKED = tuple(f"llm_prompt.{name}=" for name in ("url", "model", "timeout_s", "concurrency"))
PRESET = "logllm.preset=small"
N_FOLDS, EIGHTH = 5, 8
N_FEW = 4  # validation sessions of hdfs-prompt, from which nothing is chosen
BGL_LINES = 100
Parts = tuple[list[Sequences], Sequences]
"""Training and validation, and the test; templates mined on the training alone."""


def hdfs() -> tuple[Sequences, str]:
    """Return the sample's labelled sessions, and the name of their layout."""
    dataset = _open("hdfs_raw")
    assert dataset.labels is not None
    events, _ = read_events(dataset.path, dataset.layout)
    sequences, _ = group(events, Window(by="session"))
    sequences, _ = attach_labels(sequences, read_labels(dataset.labels))
    return sequences, dataset.layout


def _open(name: str) -> RawDataset:
    dataset = open_dataset(name, Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, RawDataset)
    return dataset


def folds_at_random(sequences: Sequences) -> Iterator[tuple[list[Sequences], Sequences]]:
    """Yield training and validation, and test, of each fold."""
    random = np.random.default_rng(0)
    fold = random.permutation(len(sequences)) % N_FOLDS
    eighth = random.permutation(len(sequences)) % EIGHTH == 0
    for number in range(N_FOLDS):
        learned = fold != number
        parts = [sequences.take(learned & ~eighth), sequences.take(learned & eighth)]
        yield parts, sequences.take(~learned)


def hdfs_folds() -> Iterator[Parts]:
    sequences, layout = hdfs()
    for parts, test in folds_at_random(sequences):
        yield mine(parts, test, layout)[:2]


def hdfs_time() -> Iterator[Parts]:
    sequences, layout = hdfs()
    (train, valid, test), split = cut_sessions_by_time(sequences, [0.7, 0.1, 0.2])
    print(split.summary(), flush=True)
    parts = [sequences.take(train), sequences.take(valid)]
    yield mine(parts, sequences.take(test), layout)[:2]


def hdfs_prompt() -> Iterator[Parts]:
    (train, valid), test = next(hdfs_time())
    random = np.random.default_rng(0)
    anomalous = np.flatnonzero(test.anomalous)
    normal = random.choice(np.flatnonzero(~test.anomalous), len(anomalous), replace=False)
    few = random.choice(len(valid), N_FEW, replace=False)
    yield [train, valid.take(few)], test.take(np.sort(np.concatenate([anomalous, normal])))


def bgl_chain() -> Iterator[Parts]:
    dataset = _open("bgl_raw")
    events, _ = read_events(dataset.path, dataset.layout)
    window = Window(by="lines", size=BGL_LINES)
    blocks = [group(part, window)[0] for part in cut_rows(events, [1 / (N_FOLDS + 1)] * 6)]
    for number in range(1, N_FOLDS + 1):
        learned = Sequences.concat(blocks[:number])
        eighth = np.arange(len(learned)) % EIGHTH == 0
        parts = [learned.take(~eighth), learned.take(eighth)]
        yield mine(parts, blocks[number], dataset.layout)[:2]


def adfa() -> Iterator[Parts]:
    dataset = open_dataset("adfa_ld", Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    yield from folds_at_random(dataset.sequences)


PROTOCOLS = {
    "hdfs-folds": hdfs_folds,
    "hdfs-time": hdfs_time,
    "hdfs-prompt": hdfs_prompt,
    "bgl-chain": bgl_chain,
    "adfa": adfa,
}


def is_new(train: Sequences, test: Sequences) -> NDArray[np.bool_]:
    """Return (n,) whether no training sequence has the same texts, as LogLLM reads them."""
    both = Sequences.concat([train, test])
    string = read_strings(both, LogLLMConfig(preset="small")).distinct.of_chunk
    return ~np.isin(string[len(train) :], string[: len(train)])


def judge(flags: NDArray[np.bool_], score: NDArray, truth: NDArray[np.bool_]) -> Record:
    """Return what is measured of some sequences."""
    hits, n_flagged = int((flags & truth).sum()), int(flags.sum())
    precision, recall = hits / max(1, n_flagged), hits / max(1, int(truth.sum()))
    return {
        "n": len(truth),
        "n_anomalous": int(truth.sum()),
        "n_flagged": n_flagged,
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / max(precision + recall, 1e-12),
        "auprc": average_precision(score, truth) if truth.any() else None,
    }


def run_one(name: str, parts: Parts, own: list[str], work: Path) -> Record:
    """Fit and judge one detector, with settings of its own, on one fold."""
    (train, valid), test = parts
    detector = new_detector(name, [PRESET, *own] if name == "logllm" else own)
    resumed = any(work.rglob("*.safetensors"))
    began = time.process_time()
    detector.fit(train, valid, Run(0, checkpoints=work, resume=True, progress=report))
    fit_s = None if resumed else round(time.process_time() - began, 1)
    began = time.process_time()
    scores = detector.score(test.without_labels())
    score_s = round(time.process_time() - began, 1)
    flags = detector.paper_rule(scores)
    on_valid = detector.paper_rule(valid_scores := detector.score(valid.without_labels()))
    assert flags is not None
    assert on_valid is not None
    new = is_new(train, test)
    return {
        "settings": detector.config.model_dump(mode="json"),
        "n_learned": len(train),
        "fit_s": fit_s,
        "score_s": score_s,
        "peak_mb": round(getrusage(RUSAGE_SELF).ru_maxrss / 1024),
        **source(),
        "valid": judge(on_valid, valid_scores.sequence, valid.anomalous),
        "all": judge(flags, scores.sequence, test.anomalous),
        "new": judge(flags[new], scores.sequence[new], test.anomalous[new]),
    }


def report(stage: str, done: int, total: int) -> None:
    """Print how far a stage is, ten times."""
    if total and done % max(1, total // 10) == 0:
        print(f"{time.strftime('%H:%M:%S')} {stage} {done}/{total}", flush=True)


def run(asked: argparse.Namespace) -> None:
    """Measure what was asked for and is not there yet."""
    settings = own_settings(asked.detectors, asked.set)
    for fold, parts in enumerate(PROTOCOLS[asked.protocol]()):
        if asked.folds and fold not in asked.folds:
            continue
        if not parts[0][0].anomalous.any() or not parts[0][1].labelled.any():
            print(f"{asked.protocol}, fold {fold}: no anomaly to learn")
            continue
        for name in asked.detectors:
            own = settings[name]
            which = {"protocol": asked.protocol, "fold": fold, "detector": name, "set": own}
            if any(which.items() <= record.items() for record in read(asked.out)):
                continue
            work = asked.work / f"{asked.protocol}-{fold}" / name
            record = which | run_one(name, parts, own, work)
            append(asked.out, [record])
            print(which | {part: record[part] for part in ("valid", "all", "new")}, flush=True)


def counts_of(found: Record) -> tuple[int, int, int]:
    """Return how many were hits, false alarms and missed, of the figures that ``judge`` keeps."""
    hits = round(found["recall"] * found["n_anomalous"])
    flagged = found.get("n_flagged")
    if flagged is None:  # a record of before; without a hit its precision does not tell
        flagged = round(hits / found["precision"]) if hits else 0
    return hits, flagged - hits, found["n_anomalous"] - hits


def pooled(founds: Iterable[Record]) -> Estimate:
    """Return F1 of several tests taken as one, with its bootstrap interval."""
    founds = list(founds)
    hits, false, missed = np.sum([counts_of(found) for found in founds], axis=0)
    passed = sum(found["n"] for found in founds) - hits - false - missed
    numbers = (hits, false, missed, passed)
    flags = np.repeat([True, True, False, False], numbers)
    return decide(flags, np.repeat([True, False, True, False], numbers), Resampling()).f1


def title(record: Record) -> str:
    """Return a detector's name and what was set, but for where and how a model is asked."""
    words = [word.partition(".")[2] for word in record.get("set", ()) if not word.startswith(ASKED)]
    return ", ".join([f"`{record['detector']}`", *words])


def _place(name: str) -> tuple[int, str]:
    return DETECTORS.index(name.split("`")[1]), name


def table(records: list[Record]) -> str:
    """Return a row for each protocol and detector."""
    header = ["data", "detector", "folds", "anomalies", "precision", "recall", "F1", "AUPRC"]
    header += ["F1 of all folds' tests, 95 %", "new sequences", "F1 of new", "fit, s"]
    rows = []
    for protocol in PROTOCOLS:
        shown = [record for record in records if record["protocol"] == protocol]
        for name in sorted({title(record) for record in shown}, key=_place):
            own = [record for record in shown if title(record) == name]
            figures = [
                spread(r["all"][key] for r in own) for key in ("precision", "recall", "f1", "auprc")
            ]
            share = sum(r["new"]["n"] for r in own) / sum(r["all"]["n"] for r in own)
            n_anomalous = str(sum(r["all"]["n_anomalous"] for r in own))
            whole = pooled(r["all"] for r in own)
            cells = [protocol, name, str(len(own)), n_anomalous, *figures]
            cells += [whole.text(), f"{share:.0%}"]
            cells += [spread(r["new"]["f1"] for r in own), spread((r["fit_s"] for r in own), 0)]
            rows.append(cells)
    return markdown(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("protocol", nargs="?", choices=PROTOCOLS)
    parser.add_argument("--folds", type=int, nargs="*", help="numbers from 0; all by default")
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=["logllm", *OTHERS])
    parser.add_argument("--set", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oddlog-logllm")
    parser.add_argument("--out", type=Path, default=RESULTS / "logllm.jsonl")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    if asked.table:
        insert(DOCUMENT, "logllm", table(read(asked.out)))
    elif not asked.protocol:
        parser.error("name a protocol, or --table")
    elif not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    else:
        run(asked)


if __name__ == "__main__":
    main()
