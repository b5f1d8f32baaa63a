"""Turn benchmarks/results/*.jsonl into docs/results.md and the block of the README.

python benchmarks/table.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import mean
from textwrap import fill

from figures import figures, slice_title
from overview import overview
from paper import paper_track
from sections import contamination_section, masked_section

from oddlog.bench.config import BenchConfig, config_names, read_config
from oddlog.bench.measure import FEW
from oddlog.bench.plan import Asked, plan
from oddlog.bench.records import RESULTS, Record, measured_at, read, rows_by_detector
from oddlog.bench.render import insert, markdown, spread
from oddlog.calibrate import n_needed
from oddlog.detectors import BASELINES

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
IN_README = ("ensemble", "loggpt", "logbert", "deeplog", "ngram", "log_cluster", *BASELINES)
OWN_COLUMN = ("no_unseen_key", "known_counts")
Blocks = Mapping[str, Mapping[str, list[Record]]]


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


def asked_rates(records: list[Record]) -> list[float]:
    """Return the asked rates, the one of the flags first."""
    return [found["asked"] for found in records[0]["evaluation"]["at_rates"]]


def percent(rate: float) -> str:
    """Return a rate as text, such as "0.5 %"."""
    return f"{100 * rate:g} %"


def auprc(record: Record) -> float:
    """Return the area under precision and recall, 0 where it is not defined."""
    return record["evaluation"]["ranking"]["auprc"]["value"] or 0.0


def interval(record: Record) -> str:
    """Return the bootstrap interval of the AUPRC, "-" where resampling cannot give one."""
    found = record["evaluation"]["ranking"]["auprc"]
    if found.get("low") is None:
        return "-"
    return f"{found['low']:.3f}-{found['high']:.3f}"


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
    header, rates = ["AUPRC"], asked_rates(records)
    few = records[0]["evaluation"]["n_anomalous"] < FEW
    header += ["95 % of the first seed"] if few else []
    for rate in rates:
        header += [f"realised at {percent(rate)}", "recall", "F1"]

    def cells(own: list[Record]) -> list[str]:
        found = [spread(map(auprc, own))]
        found += [interval(own[0])] if few else []
        for rate in rates:
            found.append(spread(map(at(rate, "false_alarm_rate"), own), 4))
            found += [spread(map(at(rate, figure), own)) for figure in ("recall", "f1")]
        return found

    return table(blocks_of(records), header, cells)


def ranking_table(records: list[Record]) -> str:
    """Return AUROC, AUPRC on the slices that close a shortcut, times and memory."""
    first, slices = records[0]["slices"], OWN_COLUMN
    names = {"no_unseen_key": "no unseen template", "known_counts": "known counts"}
    header = ["AUROC"]
    for key in slices:
        known = next((r["slices"][key] for r in records if key in r["slices"]), first.get(key))
        size = f" ({known['n_anomalous']:,} of {known['n']:,})" if known else ""
        header.append(f"AUPRC, {names[key]}{size}")

    def cells(own: list[Record]) -> list[str]:
        found = [spread((r["evaluation"]["ranking"]["auroc"]["value"] for r in own), 4)]
        found += [spread(r["slices"].get(key, {}).get("auprc") for r in own) for key in slices]
        found += [spread((r[time] for r in own), 1) for time in ("fit_s", "score_s")]
        return [*found, spread((r.get("peak_mb") for r in own), 0)]

    return table(blocks_of(records), [*header, "fit, s", "score, s", "peak, MB"], cells)


def slice_table(records: list[Record]) -> str:
    """Return the AUPRC on further slices, with its interval where anomalies are few."""
    known = [record for record in records if "not_a_copy" in record["slices"]]
    if not known:
        return ""
    sizes = known[0]["slices"]
    names = [name for name in sizes if name not in OWN_COLUMN and not name.startswith("type_")]
    header = [
        f"{slice_title(name)} ({sizes[name]['n_anomalous']:,} of {sizes[name]['n']:,})"
        for name in names
    ]

    def cells(own: list[Record]) -> list[str]:
        return [slice_cell([record["slices"].get(name, {}) for record in own]) for name in names]

    return f"""
AUPRC on further slices: sequences of which training has no copy, or none with the same counts of
templates, and by number of events; with fewer than {FEW} anomalies the interval of the first seed:

{table(blocks_of(known), header, cells)}
"""


def slice_cell(found: list[dict]) -> str:
    """Return mean and deviation of the AUPRC, and the first interval if there is one."""
    text = spread(each.get("auprc") for each in found)
    low, high = found[0].get("auprc_interval") or (None, None)
    return text if low is None else f"{text} [{low:.3f}, {high:.3f}]"


def rule_table(records: list[Record]) -> str:
    """Return what the detectors' own rules give, for those that have one."""
    figures = {"precision": "precision", "recall": "recall", "f1": "F1"}

    def cells(own: list[Record]) -> list[str] | None:
        rules = [record["own_rule"] for record in own if "own_rule" in record]
        return [spread(rule[f] for rule in rules) for f in figures] if rules else None

    return table(blocks_of(records), list(figures.values()), cells)


def command(name: str, records: list[Record]) -> str:
    """Return how the records are made, with what differs from the config."""
    n_seeds = len({record["seed"] for record in records})
    config, names = config_of(name), list(rows_by_detector(records))
    known = config.assignments(config.settings)
    assigned = dict.fromkeys(each for record in records for each in record.get("set", []))
    seeds = "" if n_seeds == config.seeds else f" --seeds {n_seeds}"
    chosen = "" if set(names) == set(config.detectors) else f" --detectors {','.join(names)}"
    sets = "".join(f" --set {each}" for each in assigned if each not in known)
    return f"oddlog bench {name}{seeds}{chosen}{sets}"


def config_of(name: str) -> BenchConfig:
    """Return the config whose records a file of this name holds."""
    config = read_config(f"honest/{name}")
    if not isinstance(config, BenchConfig):
        raise TypeError(f"{name} is of another track")
    return config


def section(name: str, records: list[Record]) -> str:
    """Return all that is told of one benchmark."""
    config = config_of(name)
    first = records[0]
    of_seed = {record["seed"]: record for record in records}
    seeds = sorted(of_seed)
    found = first["evaluation"]
    parts = ", ".join(f"{size:,}" for size in first["sizes"])
    text = f"""{config.about} Parts of the first seed: {parts}; test {found["n_sequences"]:,}
sequences, {found["n_anomalous"]:,} of them anomalous;
{spread(map(unseen_share, of_seed.values()), 2)} % of its normal ones hold a template that
training does not. Mean ± standard deviation over seeds {seeds[0]} to
{seeds[-1]}. An asked rate counts for normal sequences; the realised one is measured on the test;
"-" where the calibration is too small for it. By chance the AUPRC is
{found["n_anomalous"] / found["n_sequences"]:.3f}. {first["machine"]}, one thread.
{measured_at(records)}"""
    rest = "".join(part(records) for part in (rule_section, class_table, culprit_table))
    rest += figure_section(name, records)
    return f"""## {config.title}

`{command(name, records)}`

{fill(text, 100, break_long_words=False, break_on_hyphens=False)}

{main_table(records)}
{time_table(records)}
Ranking: AUROC; AUPRC where no template is new to training, and where the counts of all templates
are those of a training sequence besides, so that an anomaly can be known by its order alone (in
brackets how many are anomalous, first seed); processor seconds, memory of the process:

{ranking_table(records)}
{slice_table(records)}{rest}"""


def figure_section(name: str, records: list[Record]) -> str:
    """Return how the document shows a benchmark's figures."""
    by = starred(records)
    shown = figures(name, by)
    told = "\n\\* learns from labels.\n" if shown and any(key.endswith("*") for key in by) else ""
    return "".join(f"\n![{title}](figures/{file})\n" for title, file, _ in shown) + told


def starred(records: list[Record]) -> dict[str, list[Record]]:
    """Return records by detector, a star behind those that learn from labels."""
    return {
        detector + "*" * (own[0].get("learns_from") == "labelled"): own
        for block in blocks_of(records).values()
        for detector, own in block.items()
    }


def write_figures(name: str, records: list[Record]) -> None:
    """Draw a benchmark's figures into their files."""
    folder = DOCUMENT.parent / "figures"
    folder.mkdir(exist_ok=True)
    for _, file, text in figures(name, starred(records)):
        (folder / file).write_text(text)


def rule_section(records: list[Record]) -> str:
    """Return the rules' table with its heading, if there is a rule."""
    if not any("own_rule" in record for record in records):
        return ""
    return f"""
Each detector's own rule, without calibration ([detectors.md](detectors.md)):

{rule_table(records)}
"""


def time_table(records: list[Record]) -> str:
    """Return what becomes of the first asked rate in each fifth of a test that lies in time."""
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

    asked = percent(asked_rates(records)[0])
    return f"""
Realised rate / recall at an asked {asked} in each fifth of the test, in the order of time (in
brackets how many are anomalous), means over seeds:

{table(blocks_of(timed), header, cells)}
"""


def average(values: list[float | None], digits: int) -> str:
    """Return the mean of what is known, "-" of nothing."""
    known = [value for value in values if value is not None]
    return f"{mean(known):.{digits}f}" if known else "-"


def class_table(records: list[Record]) -> str:
    """Return the recall on each class of anomaly at the first asked rate, if there are several."""
    classes = sorted(records[0].get("by_class", {}))
    if len(classes) < 2:
        return ""

    def cells(own: list[Record]) -> list[str]:
        return [spread((r["by_class"].get(c) for r in own), 2) for c in classes]

    asked = percent(asked_rates(records)[0])
    found = table(blocks_of(records), classes, cells)
    return f"\nRecall by class at an asked {asked}:\n\n{found}\n"


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
    names = [name.partition("/")[2] for name in config_names("honest")]
    names = [name for name in names if results.get(name)]
    parts = [section(name, results[name]) for name in names]
    for name in names:
        write_figures(name, results[name])
    if results.get("contamination"):
        parts.append(contamination_section(results["contamination"]))
    if results.get("masked"):
        parts.append(masked_section(results["masked"]))
    parts.append(paper_track(results))
    plans = [plan(each, read_config(each), Asked(RESULTS)) for each in config_names("honest")]
    DOCUMENT.write_text(
        "# Results\n\nWritten by `python benchmarks/table.py` from `benchmarks/results/`; "
        f"do not edit.\n\n{overview(plans, results)}\n" + "\n".join(parts)
    )
    short = [r for r in results.get("hdfs-full", []) if r["detector"] in IN_README]
    if short:
        insert(README, "results", main_table(short))


if __name__ == "__main__":
    main()
