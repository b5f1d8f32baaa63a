"""What a log that is reworded, or loses and repeats lines, costs each detector.

    python benchmarks/unstable.py --seeds 5                             the cheap detectors
    python benchmarks/unstable.py --seeds 5 --detectors gpt2_classifier logllm loggpt
    python benchmarks/unstable.py --table                               write docs/unstable.md

The raw 2 % sample of HDFS, sessions drawn at random with their labels: 40 % training, 10 %
validation, 10 % calibration (its normals), 40 % test. Everything is learned and calibrated on the
log as it is; then the test is changed (``oddlog.simulate.unstable``):

- templates: in a share of the templates one word is inserted, removed or replaced;
- release: a share of the sessions was written by a program of which 30 % of the templates are
  changed so, the others by the one that was learned (LogRobust's axis);
- nearest: the same, and every unknown template is then taken for the known one with which it shares
  most words, if that is half of the words that either has: what reading text has to beat;
- thorough: as nearest, and in each of those templates up to three words are changed;
- events: in a share of the sessions an event is duplicated, dropped, or a few are shuffled.

Changed messages are matched again to the templates of training. Labels stay. A seed draws sessions
and changes; of one seed, a larger share adds to the changes of a smaller one. ``--set
NAME.SETTING=VALUE`` as for ``oddlog bench``. One JSON line per seed, detector, kind and share goes
to benchmarks/results/unstable.jsonl; what is there is not run again, and a network that was being
trained is taken up from ``--work``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from oddlog import Run, Sequences
from oddlog.bench.measure import Bench
from oddlog.bench.protocols import Cut, mark_ends, mine
from oddlog.bench.records import RESULTS, Record, append, read, rows_by_detector, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.bench.work import RATE, fitted, new_detector, own_settings, refuse_others
from oddlog.datasets import RawDataset, attach_labels, open_dataset, read_labels
from oddlog.detectors import DETECTORS, Detector
from oddlog.drain import Novelties
from oddlog.evaluate import Resampling, average_precision
from oddlog.evaluate.decision import decide
from oddlog.formats import read_events
from oddlog.group import Window, group
from oddlog.pipeline import Judge
from oddlog.pipeline.prepare import with_templates
from oddlog.simulate.unstable import change_templates, disturb_events
from oddlog.split import check_no_leak, cut_sessions_at_random

OUT = RESULTS / "unstable.jsonl"
DOCUMENT = Path(__file__).parents[1] / "docs" / "unstable.md"
CHEAP = ("decision_tree", "nearest_neighbour", "logistic_regression", "counts", "key_set")
PARTS = (0.4, 0.1, 0.1, 0.4)
NONE, TEMPLATES, RELEASE, EVENTS = ("none", "templates", "release", "events")
NEAREST, THOROUGH = ("nearest", "thorough")
RELEASED = 0.3  # share of the templates that a release changes
THOROUGHLY = 3  # words of each
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
KINDS = (TEMPLATES, RELEASE, NEAREST, THOROUGH, EVENTS)
CASES = (
    *((kind, 0.0) for kind in (NONE, NEAREST)),
    *((kind, share) for kind in KINDS for share in SHARES),
)
ALIKE = 0.5  # of all words of two templates, shared
FIGURES = {
    "f1_own": "F1 by the detector's own rule",
    "auprc": "Area under precision and recall",
    "false_alarm_rate": f"False alarms where {RATE:.0%} is asked for",
}
ABOUT = {
    TEMPLATES: "Share of the templates that are reworded",
    RELEASE: f"Share of the sessions that a program wrote which reworded {RELEASED:.0%} of them",
    NEAREST: "The same, unknown templates taken for the known ones most alike",
    THOROUGH: f"As before, up to {THOROUGHLY} words of each of these templates changed",
    EVENTS: "Share of the sessions in which events are duplicated, dropped or shuffled",
}


@dataclass(frozen=True, eq=False)
class Test:
    """A test as some log has it, and the share of its sessions that were changed."""

    sequences: Sequences
    touched: float


def labelled_cut(folder: Path, seed: int) -> Cut:
    """Draw the raw sample's sessions, anomalies too, into training, validation, calibration, test.

    Drawn at random and not cut in time, so that what the changes do is all that changes.
    """
    dataset = open_dataset("hdfs_raw", folder)
    assert isinstance(dataset, RawDataset)
    assert dataset.labels is not None
    events, _ = read_events(dataset.path, dataset.layout)
    sequences, _ = group(events, Window(by="session"))
    sequences, _ = attach_labels(sequences, read_labels(dataset.labels))
    drawn, _ = cut_sessions_at_random(sequences, PARTS, seed)
    *parts, test = (sequences.take(index) for index in drawn)
    check_no_leak(*parts, test)
    parts, test, templates = mine(parts, test, dataset.layout)
    [*parts, test], _ = mark_ends([*parts, test], test, sequences)
    return Cut(parts, test, templates)


def unstable(cut: Cut, kind: str, share: float, seed: int) -> Test:
    """Return the test as a log that has changed would have it."""
    test = cut.test
    if kind == EVENTS:
        return Test(disturb_events(test, share, seed), share)
    if kind == NONE:
        return Test(test, 0.0)
    changed = change_templates(
        test,
        share if kind == TEMPLATES else RELEASED,
        seed,
        n_words=THOROUGHLY if kind == THOROUGH else 1,
    )
    own = np.isin(test.template_ids(), changed.edits["template_id"].to_numpy())
    touched = np.bincount(test.owners, own, minlength=len(test)) > 0
    if kind == TEMPLATES:
        return Test(matched_again(changed.sequences, cut), float(touched.mean()))
    order = np.random.default_rng(seed).permutation(len(test))
    late, early = np.split(order, [round(share * len(test))])
    both = Sequences.concat([changed.sequences.take(late), test.take(early)])
    return Test(
        matched_again(both, cut, nearest=kind in (NEAREST, THOROUGH)),
        float(touched[late].sum() / len(test)),
    )


def matched_again(sequences: Sequences, cut: Cut, *, nearest: bool = False) -> Sequences:
    """Match messages to the templates of training, and unknown ones to the most alike if asked."""
    novel = Novelties(cut.templates.config)
    matched = with_templates(sequences, cut.templates, novel)
    if not nearest:
        return matched
    known = {
        template: set(cut.templates.text(template).split()) for template in cut.templates.ids()
    }
    taken = {}
    for template in range(-novel.n_templates, 0):
        own = set(novel.text(template).split())
        shares = {other: len(own & words) / len(own | words) for other, words in known.items()}
        best = max(shares, key=lambda other: shares[other])
        taken[template] = best if shares[best] >= ALIKE else template
    ids = pl.col("template_id").replace(taken)
    return replace(matched, events=matched.events.with_columns(ids))


def judged(judge: Judge, test: Test) -> Record:
    """Return the figures of a fitted detector on a test."""
    anomalous, how = test.sequences.anomalous, Resampling(n=2)
    scores = judge.detector.score(test.sequences.without_labels())
    at_rate = decide(judge.calibration.flags(scores.sequence), anomalous, how)
    own = judge.detector.paper_rule(scores)
    by_rule = None if own is None else decide(own, anomalous, how)
    return {
        "n": len(anomalous),
        "n_anomalous": int(anomalous.sum()),
        "touched": test.touched,
        "unknown": float((test.sequences.template_ids() < 0).mean()),
        "auprc": average_precision(scores.sequence, anomalous),
        "f1_own": by_rule and by_rule.f1.value,
        "f1_at_rate": at_rate.f1.value,
        "false_alarm_rate": at_rate.false_alarm_rate.value,
        "recall": at_rate.recall.value,
    }


def run_detector(
    cut: Cut, run: Run, detector: Detector, tests: Mapping[tuple[str, float], Test]
) -> Iterator[Record]:
    """Fit a detector once on the log as it is, and judge it on the tests."""
    resumed = run.checkpoints is not None and run.checkpoints.is_dir()
    began = time.process_time()
    judge = fitted(Bench("unstable", run.seed, cut), detector, run)
    fit_s = None if resumed else round(time.process_time() - began, 1)
    for (kind, share), test in tests.items():
        yield {
            "seed": run.seed,
            "detector": detector.name,
            "kind": kind,
            "share": share,
            "settings": detector.config.model_dump(mode="json"),
            "fit_s": fit_s,
            **source(),
            **judged(judge, test),
        }


def run_seed(seed: int, chosen: Mapping[str, Detector], out: Path, work: Path | None) -> None:
    """Measure what the file does not hold of a seed."""
    there = {
        (record["detector"], record["kind"], record["share"])
        for record in read(out)
        if record["seed"] == seed
    }
    missing = {name: [case for case in CASES if (name, *case) not in there] for name in chosen}
    if not any(missing.values()):
        return
    cut = labelled_cut(Path(os.environ["ODDLOG_DATA"]), seed)
    tests = {case: unstable(cut, *case, seed) for case in CASES}
    for name, cases in missing.items():
        if cases:
            fresh = type(chosen[name])(chosen[name].config)
            place = work and work / f"unstable-{seed}" / name
            run = Run(seed, checkpoints=place, resume=place is not None)
            for record in run_detector(cut, run, fresh, {case: tests[case] for case in cases}):
                append(out, [record])
                print(headline(record), flush=True)


def headline(record: Mapping[str, Any]) -> str:
    """Say a record in one line."""
    figures = " ".join(f"{name} {record[name] or 0:.3f}" for name in FIGURES)
    return (
        f"seed {record['seed']} {record['detector']:<20} {record['kind']} {record['share']:.0%} "
        f"(sessions changed {record['touched']:.0%}) {figures}"
    )


def tables(records: Sequence[Record]) -> str:
    """Return a table for each kind of change and figure, detectors down, shares across."""
    names = [name for name in DETECTORS if any(r["detector"] == name for r in records)]
    shares = (0.0, *SHARES)
    blocks = [sizes(records)]
    for kind, about in ABOUT.items():
        blocks.append(f"### {about}")
        touched = [cell(records, kind, share, None, "touched") for share in shares]
        for figure, title in FIGURES.items():
            rows = [
                [f"`{name}`", *(cell(records, kind, share, name, figure) for share in shares)]
                for name in names
            ]
            if figure == "f1_own":
                rows.append(["share of sessions changed", *touched])
            header = [title, *(f"{share:.0%}" for share in shares)]
            blocks.append(markdown(header, rows))
    return "\n\n".join(blocks)


def cell(records: Iterable[Record], kind: str, share: float, name: str | None, figure: str) -> str:
    """Return mean and deviation over seeds; a share of nothing is the log as it is."""
    without = NEAREST if kind in (NEAREST, THOROUGH) else NONE
    case = (kind, share) if share else (without, 0.0)
    own = [r for r in records if (r["kind"], r["share"]) == case]
    if name is None:  # a figure of the test: the same for every detector
        return spread({r["seed"]: r[figure] for r in own}.values(), 2)
    return spread([r[figure] for r in own if r["detector"] == name])


def sizes(records: Sequence[Record]) -> str:
    """Say what was measured."""
    n, n_odd = (sorted({record[name] for record in records}) for name in ("n", "n_anomalous"))
    n_seeds = len({record["seed"] for record in records})
    own = {name: len({r["seed"] for r in rs}) for name, rs in rows_by_detector(records).items()}
    fewer = [f"`{name}` has {count}" for name, count in own.items() if count < n_seeds]
    return (
        f"{n_seeds} seeds{''.join(f', {each}' for each in fewer)}; mean ± standard deviation; "
        f"{n[0]:,} sessions of the test, {n_odd[0]} to {n_odd[-1]} of them anomalous."
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=CHEAP, metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME.SETTING=VALUE")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--work", type=Path, help="keep and take up checkpoints in this folder")
    parser.add_argument("--table", action="store_true", help="write docs/unstable.md from --out")
    asked = parser.parse_args(words)
    if asked.table:
        insert(DOCUMENT, "unstable", tables(read(asked.out)))
        return
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    own = own_settings(asked.detectors, asked.set)
    chosen = {name: new_detector(name, own[name]) for name in asked.detectors}
    refuse_others(asked.out, read(asked.out), chosen)
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        run_seed(seed, chosen, asked.out, asked.work)


if __name__ == "__main__":
    main()
