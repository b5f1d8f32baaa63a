"""Turn benchmarks/results/*.jsonl into docs/results.md and the block of the README.

python benchmarks/table.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean
from textwrap import fill

from records import RESULTS, Record, measured_at, read, rows_by_detector
from render import insert, markdown, spread
from sections import contamination_section, masked_section

from oddlog.calibrate import n_needed
from oddlog.detectors import BASELINES

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
IN_README = ("ensemble", "loggpt", "logbert", "deeplog", "ngram", "log_cluster", *BASELINES)
DEFAULT = {"loggpt", *BASELINES}
RATES = ((0.01, "1 %"), (0.005, "0.5 %"), (0.001, "0.1 %"))
Blocks = Mapping[str, Mapping[str, list[Record]]]

ORDER = (
    "A session sends {} requests in an order of its own and gets their answers in the same order "
    "({}), with events between them that mean nothing; a fault changes the order of the answers. "
    "4,000 normal sessions are the training, 500 the validation, 2,000 the calibration; the test "
    "is 5,000 others, 5 % of them faulty."
)
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
    "hdfs-labelled": (
        "HDFS_v1 as event ids, 10 % of the sessions labelled",
        "10 % of the sessions of each class are drawn, with their labels, nine tenths of them into "
        "training and one into validation; 2,000 normals of the others are the calibration, and "
        "the rest is the test. What learns from normal sequences is given the normal ones of the "
        "same parts. Drawn at random, 95 % of the test's sessions are copies of a training session "
        "and 99.8 % have the counts of one: `lookup` says what that alone gives.",
    ),
    "hdfs-few-labels": (
        "HDFS_v1 as event ids, 1 % of the sessions labelled",
        "As above with a tenth of the labels.",
    ),
    "bgl-windows": (
        "Blue Gene/L, windows of 100 lines, cut in time",
        "1,885,280 lines of the log's second half as event ids, in their order, are cut in time "
        "into training (54 %), validation (6 %), calibration (20 %) and test (20 %), the same for "
        "every seed; windows do not overlap and are anomalous if one of their lines is. What "
        "learns from labels is given those of training and validation, the others their normal "
        "windows. 6 % of the calibration's normal windows hold a template that training does not, "
        "and 61 % of the test's last fifth: this set tells what a promised rate is worth on a "
        "system that changes.",
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
        "The 833 official training traces are drawn into training (65 %), validation (10 %) and "
        "calibration (25 %); the 4,372 further normal traces and all 746 attacks are the test. The "
        "further ones were recorded apart and are longer.",
    ),
    "simulated": (
        "Simulated storage cluster, eight kinds of planted fault",
        "3,000 normal sessions, cut in time as `oddlog fit` does, are learned; another log of "
        "5,000 sessions, 5 % of them with one fault, is the test. The seed is that of the logs "
        "too.",
    ),
    "order-easy": (
        "Simulated sessions, wrong in their order alone: three requests",
        ORDER.format("three", "6 orders, each of which training shows hundreds of times"),
    ),
    "order-hard": (
        "Simulated sessions, wrong in their order alone: six requests",
        ORDER.format("six", "720 orders, each of which training shows a few times"),
    ),
}


def at(rate: float, figure: str) -> Callable[[Record], float | None]:
    """Return what reads a figure at an asked rate, None where the calibration is too small for it.

    Nothing can be flagged then, and figures of that are none of the detector's.
    """

    def read_figure(record: Record) -> float | None:
        if record["sizes"][2] < n_needed(rate):
            return None
        for found in record["evaluation"]["at_rates"]:
            if found["asked"] == rate:
                return found["decision"][figure]["value"]
        raise KeyError(rate)

    return read_figure


def auprc(record: Record) -> float:
    """Return the area under precision and recall, 0 where it is not defined."""
    return record["evaluation"]["ranking"]["auprc"]["value"] or 0.0


def unseen_share(record: Record) -> float:
    """Return the percentage of normal test sequences that hold a template new to training."""
    found, known = record["evaluation"], record["slices"]["no_unseen_key"]
    n_normal = found["n_sequences"] - found["n_anomalous"]
    return 100 * (1 - (known["n"] - known["n_anomalous"]) / n_normal)


def blocks_of(records: list[Record]) -> Blocks:
    """Return records by what they were learned from, then by detector, the best AUPRC first."""
    titles: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.get("learns_from", "normal") == "labelled"):
        if record.get("learns_from") == "labelled":
            n, n_odd = sum(record["sizes"][:2]), sum(record["anomalous"])
            title = f"from {n:,} labels, {n_odd:,} of them of anomalies"
        else:
            title = "from normal sequences"
        titles.setdefault(title, []).append(record)
    return {
        title: dict(
            sorted(
                rows_by_detector(own).items(),
                key=lambda named: (-mean(map(auprc, named[1])), named[0]),
            )
        )
        for title, own in titles.items()
    }


def table(
    blocks: Blocks,
    header: list[str],
    cells_of: Callable[[list[Record]], list[str] | None],
    more: Iterable[list[str]] = (),
) -> str:
    """Return one row per detector, a line above each block where there are several.

    Args:
        blocks: As ``blocks_of`` gives them.
        header: Names of the cells, without the detector's.
        cells_of: What a detector's records say; None for no row.
        more: Rows behind the others.
    """
    n_seeds = max(len(own) for block in blocks.values() for own in block.values())
    rows = []
    for title, block in blocks.items():
        if len(blocks) > 1:
            rows.append([f"*{title}*", *[""] * len(header)])
        for name, own in block.items():
            told = f"`{name}`" + (f" ({len(own)} of {n_seeds} seeds)" if len(own) < n_seeds else "")
            cells = cells_of(own)
            if cells is not None:
                rows.append([told, *cells])
    return markdown(["detector", *header], [*rows, *more])


def main_table(records: list[Record]) -> str:
    """Return ranking, and what is realised, found and worth at each asked rate."""
    header = ["AUPRC"]
    for _, rate in RATES:
        header += [f"realised at {rate}", "recall", "F1"]

    def cells(own: list[Record]) -> list[str]:
        found = [spread(map(auprc, own))]
        for rate, _ in RATES:
            found.append(spread(map(at(rate, "false_alarm_rate"), own), 4))
            found += [spread(map(at(rate, figure), own)) for figure in ("recall", "f1")]
        return found

    return table(blocks_of(records), header, cells)


def ranking_table(records: list[Record]) -> str:
    """Return AUROC, AUPRC on the slices, and times."""
    first, slices = records[0]["slices"], ("no_unseen_key", "known_counts")
    names = {"no_unseen_key": "no unseen template", "known_counts": "known counts"}
    header = ["AUROC"]
    for key in slices:
        known = next((r["slices"][key] for r in records if key in r["slices"]), first.get(key))
        size = f" ({known['n_anomalous']:,} of {known['n']:,})" if known else ""
        header.append(f"AUPRC, {names[key]}{size}")

    def cells(own: list[Record]) -> list[str]:
        found = [spread((r["evaluation"]["ranking"]["auroc"]["value"] for r in own), 4)]
        found += [spread(r["slices"].get(key, {}).get("auprc") for r in own) for key in slices]
        return [*found, *(spread((r[time] for r in own), 1) for time in ("fit_s", "score_s"))]

    return table(blocks_of(records), [*header, "fit, s", "score, s"], cells)


def rule_table(records: list[Record]) -> str:
    """Return what the detectors' own rules give, for those that have one."""
    figures = {"precision": "precision", "recall": "recall", "f1": "F1"}

    def cells(own: list[Record]) -> list[str] | None:
        rules = [record["own_rule"] for record in own if "own_rule" in record]
        return [spread(rule[f] for rule in rules) for f in figures] if rules else None

    return table(blocks_of(records), list(figures.values()), cells)


def command(name: str, records: list[Record]) -> str:
    """Return how the records are made, with the detectors and settings that are not the default."""
    n_seeds = len({record["seed"] for record in records})
    names = list(rows_by_detector(records))
    chosen = "" if set(names) <= DEFAULT else f" --detectors {' '.join(names)}"
    assigned = dict.fromkeys(each for record in records for each in record.get("set", []))
    sets = "".join(f" --set {each}" for each in assigned)
    return f"python benchmarks/honest.py {name} --seeds {n_seeds}{chosen}{sets}"


def section(name: str, records: list[Record]) -> str:
    """Return all that is told of one benchmark."""
    title, about = ABOUT[name]
    first = records[0]
    of_seed = {record["seed"]: record for record in records}
    seeds = sorted(of_seed)
    found = first["evaluation"]
    parts = ", ".join(f"{size:,}" for size in first["sizes"])
    text = f"""{about} Parts of the first seed: {parts}; test {found["n_sequences"]:,} sequences,
{found["n_anomalous"]:,} of them anomalous; {spread(map(unseen_share, of_seed.values()), 2)} % of
its normal ones hold a template that training does not. Mean ± standard deviation over seeds
{seeds[0]} to {seeds[-1]}. An asked rate counts for normal sequences; the realised one is measured
on the test; "-" where the calibration is too small for it. {first["machine"]}, one thread.
{measured_at(records)}"""
    return f"""## {title}

`{command(name, records)}`

{fill(text, 100, break_long_words=False, break_on_hyphens=False)}

{main_table(records)}
{time_table(records)}
Ranking: AUROC; AUPRC where no template is new to training, and where the counts of all templates
are those of a training sequence besides, so that an anomaly can be known by its order alone (in
brackets how many are anomalous, first seed); processor seconds:

{ranking_table(records)}
{rule_section(records)}{class_table(records)}{culprit_table(records)}"""


def rule_section(records: list[Record]) -> str:
    """Return the rules' table with its heading, if there is a rule."""
    if not any("own_rule" in record for record in records):
        return ""
    return f"""
Each detector's own rule, without calibration ([detectors.md](detectors.md)):

{rule_table(records)}
"""


def time_table(records: list[Record]) -> str:
    """Return what becomes of an asked 1 % in each fifth of a test that lies in time."""
    timed = [record for record in records if "over_time" in record]
    if not timed:
        return ""
    header = [
        f"fifth {number} ({piece['n_anomalous']:,} of {piece['n']:,})"
        for number, piece in enumerate(timed[0]["over_time"], 1)
    ]

    def cells(own: list[Record]) -> list[str]:
        return [
            " / ".join(
                average([r["over_time"][i][figure] for r in own], digits)
                for figure, digits in (("false_alarm_rate", 3), ("recall", 2))
            )
            for i in range(len(header))
        ]

    return f"""
Realised rate / recall at an asked 1 % in each fifth of the test, in the order of time (in brackets
how many are anomalous), means over seeds:

{table(blocks_of(timed), header, cells)}
"""


def average(values: list[float | None], digits: int) -> str:
    """Return the mean of what is known, "-" of nothing."""
    known = [value for value in values if value is not None]
    return f"{mean(known):.{digits}f}" if known else "-"


def class_table(records: list[Record]) -> str:
    """Return the recall on each class of anomaly at an asked 1 %, if there are several."""
    classes = sorted(records[0].get("by_class", {}))
    if len(classes) < 2:
        return ""

    def cells(own: list[Record]) -> list[str]:
        return [spread((r["by_class"].get(c) for r in own), 2) for c in classes]

    return f"\nRecall by class at an asked 1 %:\n\n{table(blocks_of(records), classes, cells)}\n"


def culprit_table(records: list[Record]) -> str:
    """Return how well culprits and event scores point at labelled lines, if there are any."""
    if "lines" not in records[0]:
        return ""
    figures = {"first": "first", "first_three": "first three", "line_auprc": "line AUPRC"}

    def cells(own: list[Record]) -> list[str]:
        return [spread(r["lines"].get(figure) for r in own) for figure in figures]

    blind = [record["lines"] for record in {r["seed"]: r for r in records}.values()]
    by_chance = ("chance_first", "chance_first_three", "line_auprc_by_chance")
    chance = ["by chance", *(spread(r.get(figure) for r in blind) for figure in by_chance)]
    n = spread((r["n"] for r in blind), 0)
    return f"""
Culprits against line labels. First: the share of the {n} anomalous sequences, flagged or not, whose
first culprit is a labelled line; first three: one of the first three is; line AUPRC: the lines of
the whole test ranked by their event scores; by chance: lines picked blindly.

{table(blocks_of(records), list(figures.values()), cells, [chance])}
"""


def main() -> None:
    results = {path.stem: read(path) for path in sorted(RESULTS.glob("*.jsonl"))}
    parts = [section(name, results[name]) for name in ABOUT if results.get(name)]
    if results.get("contamination"):
        parts.append(contamination_section(results["contamination"]))
    if results.get("masked"):
        parts.append(masked_section(results["masked"]))
    DOCUMENT.write_text(
        "# Results\n\nWritten by `python benchmarks/table.py` from `benchmarks/results/`; "
        "do not edit.\n\n" + "\n".join(parts)
    )
    short = [r for r in results.get("hdfs-full", []) if r["detector"] in IN_README]
    if short:
        insert(README, "results", main_table(short))


if __name__ == "__main__":
    main()
