"""Figures of docs/results.md: cost against quality, slices, curves, scores, culprits.

``table.py`` writes them into docs/figures; a benchmark has those for which its records hold what is
drawn: records from before they held curves have none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from statistics import mean

import svg

from oddlog.bench.records import Record

By = Mapping[str, list[Record]]
N_CURVES = 8
FIRST = ("first", "first_three")


def figures(name: str, by: By) -> list[tuple[str, str, str]]:
    """Draw the figures of a benchmark; return what each shows, its file's name, and its text.

    Args:
        name: The benchmark's.
        by: Records by detector, the best first.
    """
    drawn = {
        "cost": ("Processor seconds to fit against AUPRC, means over seeds", cost(by)),
        "slices": ("F1 by slice at the first asked rate, means over seeds", slices(by)),
        "curves": ("Precision along recall, means over seeds", curves(by)),
        "scores": ("Scores of the first seed by class, logarithmic heights", scores(by)),
        "culprits": ("Culprits that are labelled lines", culprits(by)),
    }
    return [(title, f"{name}-{kind}.svg", text) for kind, (title, text) in drawn.items() if text]


def cost(by: By) -> str:
    """Draw what a detector costs and is worth; nothing of fewer than two."""
    values = []
    for detector, own in by.items():
        seconds = [record["fit_s"] for record in own if record["fit_s"] is not None]
        if seconds:
            areas = [r["evaluation"]["ranking"]["auprc"]["value"] or 0.0 for r in own]
            values.append((detector, mean(seconds), mean(areas)))
    return svg.points("Cost against quality", values) if len(values) > 1 else ""


def slices(by: By) -> str:
    """Draw the F1 on every slice that has anomalies."""
    known = {name: own for name, own in by.items() if "not_a_copy" in own[0]["slices"]}
    if not known:
        return ""
    sizes = next(iter(known.values()))[0]["slices"]
    names = [name for name, size in sizes.items() if size["n_anomalous"]]
    rows = []
    for detector, own in known.items():
        found = [[r["slices"].get(name, {}).get("f1") for r in own] for name in names]
        found = [[value for value in values if value is not None] for values in found]
        rows.append((detector, [mean(values) if values else None for values in found]))
    columns = [
        "\n".join([*slice_title(name).split(), f"({sizes[name]['n_anomalous']:,})"])
        for name in names
    ]
    return svg.cells("F1 by slice", columns, rows)


def slice_title(name: str) -> str:
    """Return what a person reads of a slice."""
    low, _, high = name.removeprefix("length_").partition("_")
    if low.isdigit():
        return f"{low} to {high} events" if high else f"{low} events and more"
    return name.removeprefix("type_").replace("_", " ")


def curves(by: By) -> str:
    """Draw precision along recall of the best few."""
    lines = []
    for detector, own in list(by.items()):
        drawn = [record["curve"] for record in own if "curve" in record]
        if drawn:
            lines.append((detector, [mean(values) for values in zip(*drawn, strict=True)]))
    return svg.curves("Precision along recall", lines[:N_CURVES]) if lines else ""


def scores(by: By) -> str:
    """Draw the scores of each class, with the threshold."""
    rows = []
    for detector, own in by.items():
        found = min(own, key=lambda record: record["seed"]).get("histogram")
        if found:
            edges, threshold = found["edges"], found["threshold"]
            at = None if threshold is None else place(threshold, edges)
            rows.append((detector, found["normal"], found["anomalous"], at))
    return svg.histograms("Scores by class", rows) if rows else ""


def place(value: float, edges: list[float]) -> float:
    """Return where a value stands among the edges of bins, as a share of all bins."""
    i = bisect_left(edges, value)
    if i in (0, len(edges)):
        return min(i, len(edges) - 1) / (len(edges) - 1)
    low, high = edges[i - 1], edges[i]
    return (i - 1 + (value - low) / (high - low)) / (len(edges) - 1)


def culprits(by: By) -> str:
    """Draw how often culprits are labelled lines."""
    known = {name: own for name, own in by.items() if "lines" in own[0]}
    if not known:
        return ""
    figure = {
        name: [mean(r["lines"][key] or 0.0 for r in own) for key in FIRST]
        for name, own in known.items()
    }
    first = next(iter(known.values()))
    chance = [mean(record["lines"][f"chance_{key}"] or 0.0 for record in first) for key in FIRST]
    rows = [(name, *shares) for name, shares in figure.items()]
    return svg.bars("Culprits", rows, (chance[0], chance[1]))
