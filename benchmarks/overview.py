"""The head of docs/results.md: a row for each benchmark, and what of it has not been run yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any

from oddlog.bench.plan import Plan
from oddlog.bench.records import Record, rows_by_detector
from oddlog.bench.render import markdown
from oddlog.bench.show import listed

KINDS = ("normal", "labelled")


def overview(plans: Iterable[Plan], results: Mapping[str, list[Record]]) -> str:
    """Return what ranks best on each benchmark, and how many of its cells have been run."""
    header = ["benchmark", "best from normal sequences", "best from labels", "by chance"]
    header += ["cells run", "not run yet (seeds)"]
    rows = [
        row_of(row, results.get(row["name"].removeprefix("honest/"), []))
        for row in listed(plans, {})
    ]
    return f"""Each row is a set of cells, a detector and a seed each. What ranks best is told by
the mean AUPRC over the seeds that ran; the section behind the name has intervals, rates and slices.

{markdown(header, rows)}
"""


def row_of(row: Mapping[str, Any], records: list[Record]) -> list[str]:
    """Return the cells of one benchmark's row; a name without records has no section."""
    title = f"[{row['title']}](#{anchor(row['title'])})" if records else row["title"]
    run = f"{row['done']} of {row['cells']}"
    return [title, *(best(records, kind) for kind in KINDS), chance(records), run, missing(row)]


def best(records: list[Record], kind: str) -> str:
    """Return the detector of the highest mean AUPRC that learns from this kind of data."""
    own = [r for r in records if r.get("learns_from", "normal") == kind]
    found = {
        name: mean(r["evaluation"]["ranking"]["auprc"]["value"] or 0.0 for r in runs)
        for name, runs in rows_by_detector(own).items()
    }
    if not found:
        return "-"
    name = max(found, key=lambda each: found[each])
    return f"`{name}` {found[name]:.3f}"


def chance(records: list[Record]) -> str:
    """Return the AUPRC of scores that know nothing: the share of anomalies."""
    if not records:
        return "-"
    found = records[0]["evaluation"]
    return f"{found['n_anomalous'] / found['n_sequences']:.3f}"


def missing(row: Mapping[str, Any]) -> str:
    """Return the detectors that lack seeds, those that lack the same ones together."""
    together: dict[str, list[str]] = {}
    for name, seeds in row["missing"].items():
        together.setdefault(", ".join(map(str, seeds)), []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)} ({seeds})" for seeds, names in together.items())


def anchor(title: str) -> str:
    """Return where a heading can be linked to: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
