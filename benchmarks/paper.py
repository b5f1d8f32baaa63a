"""The paper track: each paper's own protocol beside what it published, never beside honest figures.

Scripts measure it (``command`` in the configs below ``oddlog/bench/configs/paper``), ``table.py``
writes it into docs/results.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from textwrap import fill
from typing import Any

from oddlog.bench.config import PaperConfig, Row, config_names, read_config
from oddlog.bench.records import Record, measured_at
from oddlog.bench.render import markdown, spread

HEAD = """# Papers' own protocols

Each as its paper splits and judges, so that figures can be compared with what was published. Every
one has leaks, named beside it: nothing here says how well a detector does, and nothing of it may
stand beside the tables above.
"""
FIGURES = ("precision", "recall", "f1")


def paper_track(results: Mapping[str, list[Record]]) -> str:
    """Return the whole track; a protocol without records has the published figures alone."""
    configs = {name: read_config(name) for name in config_names("paper")}
    sections = [
        section(config, results.get(config.results, []))
        for config in configs.values()
        if isinstance(config, PaperConfig)
    ]
    return "\n".join([HEAD, *sections])


def section(config: PaperConfig, records: list[Record]) -> str:
    """Return one protocol: what it is, its leaks, and its figures beside the published ones."""
    own = [record for row in config.rows for record in chosen(records, row)]
    text = f"{config.about} Known leaks: {config.leaks}. {measured_at(flat(own))}"
    return f"""## {config.title}

`{config.command}`

{fill(text.strip(), 100, break_long_words=False, break_on_hyphens=False)}

{table(config, records)}
"""


def flat(records: list[Record]) -> list[Record]:
    """Return records whose version and commit stand beside their figures."""
    return [{"commit": None, **record, **record.get("source", {})} for record in records]


def chosen(records: list[Record], row: Row) -> list[Record]:
    """Return the records that a row is of."""
    return [
        record
        for record in records
        if all(record.get(name) == value for name, value in row.where.items())
    ]


def figure(record: Record, path: str, name: str) -> float | None:
    """Return a figure, which may be kept with its interval."""
    found: Any = reduce(lambda group, key: group[key], [*path.split("."), name], record)
    return found["value"] if isinstance(found, dict) else found


def table(config: PaperConfig, records: list[Record]) -> str:
    """Return the published figures, ours below them, and by how much the F1 differ."""
    published = config.published
    rows = [[published.source, "", *(f"{getattr(published, name):.3f}" for name in FIGURES), ""]]
    for row in config.rows:
        own = chosen(records, row)
        if not own:
            continue
        found = {name: [figure(r, row.figures, name) for r in own] for name in FIGURES}
        known = [value for value in found["f1"] if value is not None]
        difference = sum(known) / len(known) - published.f1
        cells = [spread(found[name]) for name in FIGURES]
        rows.append([row.name, str(len(own)), *cells, f"{difference:+.3f}"])
    return markdown(["", "runs", "precision", "recall", "F1", "difference in F1"], rows)
