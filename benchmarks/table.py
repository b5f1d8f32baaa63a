"""Turn benchmarks/results/*.jsonl into docs/results.md and the block of the README.

python benchmarks/table.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).parent
DOCUMENT = HERE.parent / "docs" / "results.md"
README = HERE.parent / "README.md"
MARKS = ("<!-- results:begin -->", "<!-- results:end -->")
Record = dict[str, Any]

ABOUT = {
    "hdfs-full": (
        "HDFS_v1, all 575,059 sessions, as event ids",
        "5,000 normal sessions drawn at random are cut into training (2,500), validation (500) and "
        "calibration (2,000); every other session is the test. No time order: the set has none.",
    ),
    "hdfs-raw": (
        "HDFS_v1, raw lines of a 2 % sample, cut in time",
        "Sessions that end in the first half of the log, normal ones only, are drawn into training "
        "(65 %), validation (10 %) and calibration (25 %); sessions that begin in the second half "
        "are the test, and what lies across the cut is discarded. Templates are mined from the "
        "training part.",
    ),
    "bgl-windows": (
        "Blue Gene/L, windows of 100 lines, cut in time",
        "1,885,280 lines of the log's second half as event ids, in their order, are cut at half; "
        "windows do not overlap and are anomalous if one of their lines is. Normal windows of the "
        "first half are drawn into training (65 %), validation (10 %) and calibration (25 %); the "
        "second half is the test. No rate asked of the first half holds in it: its normal windows "
        "are others.",
    ),
    "bgl-raw": (
        "Blue Gene/L, raw lines, windows of 20, cut in time",
        "The log's first 100,000 lines, two days and a half, are cut at half; a window is "
        "anomalous if one of its lines is. Normal windows of the first half are drawn into "
        "training (65 %), validation (10 %) and calibration (25 %); the second half is the test. "
        "Templates are mined from the training part. Every anomaly of the test has a template of "
        "its own, so that this set tells little but whether culprits are found.",
    ),
    "adfa": (
        "ADFA-LD, system calls of a Linux host, six kinds of attack",
        "The 833 official training traces are drawn into training (85 %) and validation (15 %); "
        "of the 4,372 further normal traces 1,000 are drawn as calibration, and the others are "
        "the test, with all 746 attacks.",
    ),
    "simulated": (
        "Simulated storage cluster, eight kinds of planted fault",
        "3,000 normal sessions, cut in time as `oddlog fit` does, are learned; another log of "
        "5,000 sessions, 5 % of them with one fault, is the test. The seed is that of the logs "
        "too.",
    ),
}

CONTAMINATED = {
    "hdfs-full": "HDFS_v1 as event ids: 3,500 + 500 + 1,000 sessions; the test is 60,000 normal "
    "sessions and 16,588 anomalies.",
    "hdfs-raw": "HDFS_v1, raw lines, cut in time: 2,600 + 400 + 1,000 sessions of the first half; "
    "the test is the second half.",
    "simulated": "Simulated storage cluster: 2,200 + 300 + 850 sessions; the test is another log "
    "of 1,500 sessions, a fifth of them faulty.",
}


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """Return mean and standard deviation over seeds."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{mean(known):.{digits}f} ± {stdev(known):.{digits}f}"


def at(rate: float, figure: str) -> Callable[[Record], float | None]:
    def read(record: Record) -> float | None:
        for found in record["evaluation"]["at_rates"]:
            if found["asked"] == rate:
                return found["decision"][figure]["value"]
        raise KeyError(rate)

    return read


def measured_at(records: list[Record]) -> str:
    """Name the version and the commits that gave the records, where they tell."""
    known = {(r["version"], r["commit"][:9] + r["commit"][40:]) for r in records if r.get("commit")}
    if not known:
        return ""
    return " Measured with " + ", ".join(f"{v} at {c}" for v, c in sorted(known)) + "."


def unseen_share(record: Record) -> float:
    """Return the percentage of normal test sequences that hold a template new to training."""
    found, known = record["evaluation"], record["slices"]["no_unseen_key"]
    n_normal = found["n_sequences"] - found["n_anomalous"]
    return 100 * (1 - (known["n"] - known["n_anomalous"]) / n_normal)


def rows_by_detector(records: list[Record]) -> dict[str, list[Record]]:
    grouped: dict[str, list[Record]] = {}
    for record in records:
        grouped.setdefault(record["detector"], []).append(record)
    return grouped


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    return "\n".join(lines)


def main_table(records: list[Record]) -> str:
    header = ["detector", "AUPRC"]
    for rate in ("1 %", "0.5 %", "0.1 %"):
        header += [f"realised at {rate}", "recall", "F1"]
    rows = []
    for name, own in rows_by_detector(records).items():
        cells = [name, spread(r["evaluation"]["ranking"]["auprc"]["value"] for r in own)]
        for rate in (0.01, 0.005, 0.001):
            cells.append(spread(map(at(rate, "false_alarm_rate"), own), 4))
            cells += [spread(map(at(rate, figure), own)) for figure in ("recall", "f1")]
        rows.append(cells)
    return markdown(header, rows)


def rule_table(records: list[Record]) -> str:
    header = ["detector", "precision", "recall", "F1", "AUROC", "AUPRC, no unseen key", "score, s"]
    rows = []
    for name, own in rows_by_detector(records).items():
        rules = [record.get("own_rule", {}) for record in own]
        cells = [name, *(spread(r.get(f) for r in rules) for f in ("precision", "recall", "f1"))]
        cells.append(spread((r["evaluation"]["ranking"]["auroc"]["value"] for r in own), 4))
        cells.append(spread(r["slices"]["no_unseen_key"]["auprc"] for r in own))
        cells.append(spread((r["score_s"] for r in own), 1))
        rows.append(cells)
    return markdown(header, rows)


def section(name: str, records: list[Record]) -> str:
    title, about = ABOUT[name]
    first = records[0]
    seeds = sorted({record["seed"] for record in records})
    rules = [record for record in records if record["detector"] == "new_event"]
    found = first["evaluation"]
    fits = [record["fit_s"] for record in records if record["fit_s"] is not None]
    parts = ", ".join(f"{size:,}" for size in first["sizes"])
    assigned = "".join(f" --set {each}" for each in first.get("set", []))
    return f"""## {title}

`python benchmarks/honest.py {name} --seeds {len(seeds)}{assigned}`

{about}
Parts of the first seed: {parts}; test {found["n_sequences"]:,} sequences, {found["n_anomalous"]:,}
of them anomalous; {spread(map(unseen_share, rules), 2)} % of its normal ones hold a template that
training does not. Mean ± standard deviation over seeds {seeds[0]} to {seeds[-1]}; fitting LogGPT
and the rules took {spread(fits, 0)} s ({first["machine"]}, one thread). An asked rate counts for
normal sequences; the realised one is measured on the test.{measured_at(records)}

{main_table(records)}

Each detector's own rule (no calibration: LogGPT's is the paper's top-K with K half of the training
keys, the others' is "never seen in training"), its AUROC, its AUPRC on the sequences whose
templates all occur in training, and the time to score the test:

{rule_table(records)}
{class_table(records)}{culprit_table(records)}"""


def class_table(records: list[Record]) -> str:
    """Return the recall on each class of anomaly at an asked 1 %, if there are several."""
    classes = sorted(records[0].get("by_class", {}))
    if len(classes) < 2:
        return ""
    rows = [
        [name, *(spread((r["by_class"].get(c) for r in own), 2) for c in classes)]
        for name, own in rows_by_detector(records).items()
    ]
    return f"\nRecall by class at an asked 1 %:\n\n{markdown(['detector', *classes], rows)}\n"


def culprit_table(records: list[Record]) -> str:
    """Return how well culprits and event scores point at labelled lines, if there are any."""
    if "lines" not in records[0]:
        return ""
    header = ["detector", "first", "first three", "line AUPRC"]
    figures = ("first", "first_three", "line_auprc")
    rows = [
        [name, *(spread(r["lines"].get(figure) for r in own) for figure in figures)]
        for name, own in rows_by_detector(records).items()
    ]
    rules = [record["lines"] for record in records if record["detector"] == "new_event"]
    by_chance = ("chance_first", "chance_first_three", "line_auprc_by_chance")
    rows.append(["by chance", *(spread(r[figure] for r in rules) for figure in by_chance)])
    n = spread((r["n"] for r in rules), 0)
    return f"""
Culprits against line labels. First: the share of the {n} anomalous sequences, flagged or not, whose
first culprit is a labelled line; first three: one of the first three is; line AUPRC: the lines of
the whole test ranked by their event scores; by chance: lines picked blindly.

{markdown(header, rows)}
"""


def contamination_table(records: list[Record]) -> str:
    """Return what each true and assumed share gives, for the detectors that can miss or find."""
    names = [name for name in rows_by_detector(records) if name != "new_event"]
    header = ["true", "assumed", "found in training"]
    header += [f"{name}: {what}" for name in names for what in ("realised", "recall", "at clean")]
    rows = []
    for true, assumed in sorted({(r["true"], r["assumed"]) for r in records}):
        case = [r for r in records if (r["true"], r["assumed"]) == (true, assumed)]
        found = [r["share_found"] for r in case if r["detector"] == names[0] and true and assumed]
        cells = [f"{true:.1%}", f"{assumed:.1%}", spread(found, 2)]
        for own in (rows_by_detector(case).get(name, []) for name in names):
            cells.append(spread((r["realised"] for r in own), 4))
            cells.append(spread((r["recall"] for r in own), 2))
            cells.append(spread((r["recall_at_clean_realised"] for r in own), 2))
        rows.append(cells)
    return markdown(header, rows)


def contamination_section(records: list[Record]) -> str:
    """Say what unknown anomalies in what is learned from cost, log by log."""
    n_seeds = {
        name: len({record["seed"] for record in own})
        for name, own in rows_by_detector(records).items()
    }
    logs = {name: [r for r in records if r["log"] == name] for name in CONTAMINATED}
    tables = "\n\n".join(
        f"{CONTAMINATED[name]}\n\n{contamination_table(own)}" for name, own in logs.items() if own
    )
    return f"""## Anomalies in the log that is learned from

`python benchmarks/contamination.py --seeds {n_seeds["counts"]} --set detector=counts`, and LogGPT
(reading order alone, fewer epochs) by
`python benchmarks/contamination.py --seeds {n_seeds.get("loggpt", 0)} --set loggpt.reads=order
--set loggpt.epochs=15`.

A share of training, validation and calibration is anomalous, and nobody says which (true); as many
are assumed, or none, or too many (assumed: `assume_anomalies`). Found in training: the share of the
anomalies in training and validation that were left out. At an asked 1 %: the realised rate and the
recall; at clean: the recall at the rate that the same detector realised where nothing was anomalous
and nothing assumed. The test of a log and seed is always the same. Mean ± standard deviation over
{n_seeds["counts"]} seeds, {n_seeds.get("loggpt", 0)} for LogGPT.

{tables}
"""


def load() -> dict[str, list[Record]]:
    return {
        path.stem: [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((HERE / "results").glob("*.jsonl"))
    }


def write_between_marks(path: Path, text: str) -> None:
    before, begin, rest = path.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if begin and end:
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def main() -> None:
    results = load()
    parts = [section(name, results[name]) for name in ABOUT if name in results]
    if "contamination" in results:
        parts.append(contamination_section(results["contamination"]))
    body = "\n".join(parts)
    DOCUMENT.write_text(
        "# Results\n\nWritten by `python benchmarks/table.py` from `benchmarks/results/`; "
        "do not edit.\n\n" + body
    )
    if "hdfs-full" in results:
        write_between_marks(README, main_table(results["hdfs-full"]))


if __name__ == "__main__":
    main()
