"""Write the parts of README.md and docs/ that state facts about the code, from the code.

    python docs/generate.py                       everything (``make docs``)
    python docs/generate.py detectors formats     only these blocks
    python docs/generate.py --check detectors     change nothing; exit 1 if a block is out of date

A block stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``. ``demo``, ``record`` and
``kinds`` run the demo, about a minute; ``data`` reads the data sets below ODDLOG_DATA and is left
as it is where that is not set, and its row of a set where the set is not there.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from oddlog.config import Config
from oddlog.datasets import DATASETS, Dataset, IdDataset, IdStream, open_dataset, read_labels
from oddlog.demo import Demo, run_demo
from oddlog.detectors import DETECTORS, Detector, detector_class
from oddlog.errors import ConfigError
from oddlog.evaluate import recall_by_class
from oddlog.formats import LAYOUTS, read_events
from oddlog.report import Limits
from oddlog.run import Run
from oddlog.terminal import show_verdicts
from oddlog.tuning import SPACES

ROOT = Path(__file__).parents[1]
WIDTH = 100  # columns of what is shown as a terminal's output
DEMO = {"n_sessions": 3000, "seed": 1}  # what `oddlog demo` runs
STORY = "rare_branch"  # the kind of fault that the README's first screen tells of
N_LINES = 5  # shown around the culprit


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    lines += ["| " + " | ".join(str(cell) for cell in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def detectors() -> str:
    """Return the table of detectors."""
    return table([_detector_row(name, detector_class(name)) for name in DETECTORS])


def _detector_row(name: str, cls: type[Detector]) -> dict[str, str]:
    about = re.split(r"[.;]", inspect.getdoc(cls) or "", maxsplit=1)[0]
    module = inspect.getdoc(inspect.getmodule(cls)) or ""
    source = re.search(r"(?:Source|Paper): (.+?)(?:\.\s|;|\Z)", module, re.DOTALL)
    return {
        "detector": f"`{name}`",
        "what it does": " ".join(about.split()),
        "learns from": cls.learns_from,
        "live": "yes" if cls.causal else "no",
        "source": " ".join(source[1].split()) if source else "",
    }


def settings() -> str:
    """Return the settings of every detector with their defaults."""
    rows = []
    for name in DETECTORS:
        values = _values(detector_class(name).Config())
        shown = ", ".join(f"`{setting} = {json.dumps(value)}`" for setting, value in values)
        rows.append({"detector": f"`{name}`", "settings and defaults": shown or "none"})
    return table(rows)


def _values(config: Config, group: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in config:
        if isinstance(value, Config):
            yield from _values(value, f"{group}{name}.")
        else:
            yield f"{group}{name}", value


def limits() -> str:
    """Return how much a report holds, with what its docstring says of each limit."""
    about = inspect.getdoc(Limits) or ""
    rows = []
    for field in fields(Limits):
        told = re.search(
            rf"^    {field.name}: (.+?)(?=^    \w+:|\Z)", about, re.DOTALL | re.MULTILINE
        )
        text = " ".join(told[1].split()) if told else ""
        rows.append({"limit": f"`{field.name}`", "at most": f"{field.default:,}", "of": text})
    return table(rows)


def spaces() -> str:
    """Return what `oddlog tune` searches of every detector."""
    rows = []
    for name, space in SPACES.items():
        shown = "; ".join(f"`{setting}` {found}" for setting, found in space.items())
        rows.append({"detector": f"`{name}`", "searched": shown})
    return table(rows)


def formats() -> str:
    """Return the names of the formats, and which of them name sessions."""
    names = ", ".join(f"`{name}`" for name in LAYOUTS)
    sessions = ", ".join(f"`{name}`" for name, layout in LAYOUTS.items() if layout.session)
    return f"{len(LAYOUTS)} formats: {names}. Sessions by default: {sessions}."


@cache
def _demo() -> Demo:
    with tempfile.TemporaryDirectory() as folder:
        return run_demo(Path(folder), run=Run(DEMO["seed"], device="cpu"), **DEMO)


def _story() -> dict[str, Any]:
    """Return the record of the worst session in which a fault of kind ``STORY`` was planted."""
    result = _demo().result
    labels = dict(zip(result.sequences.keys, result.sequences.labels, strict=True))
    told = next(found for found in result.records(explain=True) if labels[found["key"]] == STORY)
    culprit = told["culprits"][0]
    return told | {"source": "cluster.log", "culprits": [culprit | {"source": "cluster.log"}]}


def demo() -> str:
    """Return a few lines of a session with a fault, and the alert that the demo raises for it."""
    sequences, told = _demo().result.sequences, _story()
    lines = sequences.lines(sequences.keys.index_of(told["key"]) or 0)
    place = min(told["culprits"][0]["position"], lines.height - 1)
    first = max(0, min(place - N_LINES // 2, lines.height - N_LINES))
    shown = "\n".join(lines["raw"][first : first + N_LINES])
    text = StringIO()
    show_verdicts(Console(file=text, width=WIDTH), [told], n_shown=1, n_sequences=len(sequences))
    alert = "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines()[2:])
    return f"```text\n{shown}\n```\n\n```text\n{alert}\n```"


def record() -> str:
    """Return the same alert as the record that a pipe or ``--out`` gets."""
    return f"```json\n{json.dumps(_story(), indent=2, default=str)}\n```"


def kinds() -> str:
    """Return how many of each kind of planted fault every fitted detector flags in the demo."""
    found = _demo()
    sequences = found.result.sequences
    blind = sequences.without_labels()
    flags = {found.pipeline.detector.name: found.result.flags}
    for name, judge in found.pipeline.baselines.items():
        flags[name] = judge.calibration.flags(judge.detector.score(blind).sequence)
    recalls = {
        name: {kind.name: kind for kind in recall_by_class(sequences.labels, flag)}
        for name, flag in flags.items()
    }
    own = recalls[found.pipeline.detector.name]
    rows: list[dict[str, str]] = [
        {"planted fault": f"`{kind}`", "sessions": str(own[kind].n)}
        | {f"`{name}`": _percent(recalls[name][kind].recall.value) for name in flags}
        for kind in sorted(own)
    ]
    normal = ~sequences.anomalous
    alarms = {f"`{name}`": f"{np.mean(flag[normal]):.1%}" for name, flag in flags.items()}
    rows.append({"planted fault": "none: false alarms", "sessions": f"{normal.sum():,}"} | alarms)
    return table(rows)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def data() -> str:
    """Return what the named data sets below ODDLOG_DATA hold.

    Of one that is not there the document keeps its row; which ones, is said.
    """
    folder, lines = Path(os.environ["ODDLOG_DATA"]), []
    told = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    written = re.search("<!-- data:begin -->\n(.*?)\n<!-- data:end -->", told, re.DOTALL)
    rows = written[1].splitlines() if written else []
    for name in DATASETS:
        try:
            opened = open_dataset(name, folder)
        except ConfigError as error:
            sys.stderr.write(f"data: left as it is: {error}\n")
            lines += [row for row in rows if row.startswith(f"| `{name}` |")]
        else:
            *head, line = table([{"name": f"`{name}`"} | _contents(opened)]).splitlines()
            rows[:2] = head
            lines.append(line)
    return "\n".join([*rows[:2], *lines])


def _contents(opened: Dataset) -> dict[str, str]:
    if isinstance(opened, IdDataset):
        n, ids = len(opened.sequences), opened.sequences.template_ids()
        events, labels = len(ids), opened.sequences.labels
        kind, what = "sequences of ids", f"{n:,} sequences"
    elif isinstance(opened, IdStream):
        ids = opened.events["template_id"].to_numpy()
        events, labels = opened.events.height, opened.events["label"]
        kind, what = "stream of ids", "-"
    else:
        events_table, report = read_events(opened.path, opened.layout)
        events, ids, kind = report.n_lines, np.empty(0), "raw log"
        labels = read_labels(opened.labels)["label"] if opened.labels else events_table["label"]
        what = f"{len(labels):,} sessions" if opened.labels else "-"
    found = labels.drop_nulls().filter(labels.drop_nulls() != "").value_counts(sort=True)
    classes = ", ".join(f"{label} {count:,}" for label, count in found.iter_rows())
    return {
        "kind": kind,
        "sequences": what,
        "events or lines": f"{events:,}",
        "ids": f"{len(np.unique(ids)):,}" if len(ids) else "-",
        "anomalous": f"{found['count'].sum():,}",
        "classes": classes if found.height > 1 else "-",
        "unlabelled": f"{labels.null_count():,}",
    }


BLOCKS: dict[str, Callable[[], str]] = {
    block.__name__: block
    for block in (detectors, settings, spaces, formats, limits, demo, record, kinds, data)
}


def fill(text: str, name: str, content: str) -> str:
    """Return the text with the content of a block replaced, wherever the block stands."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    pattern = re.compile(rf"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def outdated(names: Sequence[str]) -> dict[Path, str]:
    """Return the new text of each document that would change."""
    changed = {}
    contents = {name: BLOCKS[name]() for name in names}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        old = new = path.read_text(encoding="utf-8")
        for name, content in contents.items():
            new = fill(new, name, content)
        if new != old:
            changed[path] = new
    return changed


def main() -> int:
    """Generate, or check; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*BLOCKS, []], metavar="BLOCK")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    possible = [name for name in BLOCKS if name != "data" or os.environ.get("ODDLOG_DATA")]
    changed = outdated(asked.names or possible)
    for path, text in changed.items():
        sys.stdout.write(
            f"{path.relative_to(ROOT)}: {'out of date' if asked.check else 'written'}\n"
        )
        if not asked.check:
            path.write_text(text, encoding="utf-8")
    return int(asked.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
