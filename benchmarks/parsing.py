"""Measure masks and templates: accuracy and speed beside drain3, and what the defaults cost.

python benchmarks/parsing.py accuracy|defaults|masks|speed|from-file [--into FILE] [--out FILE]

Data comes from the folder that ODDLOG_DATA names. Every table is printed; ``--into`` puts it
between the marks of its name in a document, ``--out`` appends its rows as JSON lines. Times are
processor seconds of all threads, the best of the rounds, taken in turns in one process, so that
other work on the machine and several cores flatter nobody.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
from drain3.drain import Drain
from drain3.masking import AbstractMaskingInstruction, LogMasker

from oddlog.bench.records import append, source
from oddlog.bench.render import insert, markdown
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.formats import LAYOUTS, read_events
from oddlog.masks import SETS, Masks, mask, masks_for, replacement

Row = dict[str, Any]
PAPER = {"depth": 4, "similarity": 0.5}
ROUNDS = 3


class PythonMask(AbstractMaskingInstruction):
    """One of our masks for drain3: the same pattern in Python's engine."""

    def __init__(self, pattern: str, token: str) -> None:
        super().__init__(token)
        self.regex = re.compile(pattern)
        self.text = replacement(pattern, token).replace("${keep}", r"\g<keep>")

    def mask(self, content: str, mask_prefix: str, mask_suffix: str) -> str:
        """Return the masked text; our token needs neither prefix nor suffix."""
        return self.regex.sub(self.text, content)


def drain3_masker(masks: Masks) -> LogMasker:
    return LogMasker([PythonMask(*step) for step in masks.steps()], "", "")


def drain3_ids(messages: list[str], config: DrainConfig) -> list[int]:
    """Return an id per line: mask and learn one after the other, as drain3 is used."""
    masker = drain3_masker(config.masks)
    drain = Drain(config.depth, config.similarity, config.max_children)
    return [drain.add_log_message(masker.mask(text))[0].cluster_id for text in messages]


def our_ids(messages: pl.Series, config: DrainConfig) -> pl.Series:
    return Templates(config).learn(messages)


def config_of(layout: str, **settings: Any) -> DrainConfig:
    return DrainConfig.model_validate({"masks": masks_for(layout), **settings})


# Data


def data_folder() -> Path:
    if "ODDLOG_DATA" not in os.environ:
        raise SystemExit("set ODDLOG_DATA to the folder of real logs")
    return Path(os.environ["ODDLOG_DATA"])


def systems() -> list[str]:
    return sorted(p.name for p in (data_folder() / "loghub_2k").iterdir() if p.is_dir())


def labelled(system: str, *, corrected: bool = False) -> tuple[pl.Series, pl.Series] | None:
    """Return (2000,) messages and their true event ids, None where there are none."""
    folder = "loghub_2k_corrected" if corrected else "loghub_2k"
    suffix = "_corrected" if corrected else ""
    path = data_folder() / folder / system / f"{system}_2k.log_structured{suffix}.csv"
    if not path.exists():
        return None
    table = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy")
    return table["Content"].fill_null(""), table["EventId"]


def mixed(n_lines: int) -> pl.Series:
    """Return the messages of all systems, shuffled, repeated until there are n_lines."""
    messages = [text for system in systems() for text in labelled(system)[0]]
    shuffler = random.Random(0)
    repeated: list[str] = []
    while len(repeated) < n_lines:
        shuffler.shuffle(messages)
        repeated += messages
    return pl.Series(repeated[:n_lines])


def nearly_distinct(n_lines: int) -> pl.Series:
    """Return messages of three shapes with names that no mask knows: nearly every one distinct."""
    draw = random.Random(0)
    shapes = (
        "user {} logged in on terminal {} for the second time this day",
        "copy of volume {} to {} finished without any error being seen",
        "service restarted by operator {} because the host {} asked for it",
    )
    names = ("".join(draw.choices("abcdefghijklmnop", k=7)) for _ in iter(int, 1))
    return pl.Series([draw.choice(shapes).format(next(names), next(names)) for _ in range(n_lines)])


def without_templates(n_lines: int) -> pl.Series:
    """Return messages that share no words: each founds a template."""
    draw = random.Random(0)
    word = lambda: "".join(draw.choices("abcdefghijklmnop", k=7))  # noqa: E731 - used once
    return pl.Series([" ".join(["note", *(word() for _ in range(8))]) for _ in range(n_lines)])


# Accuracy


def grouping_accuracy(predicted: pl.Series, truth: pl.Series) -> float:
    """Return the share of lines whose predicted group is exactly a true group (Zhu et al. 2019)."""
    table = pl.DataFrame({"p": predicted, "t": truth}).select(
        in_p=pl.len().over("p"), in_t=pl.len().over("t"), in_both=pl.len().over("p", "t")
    )
    exact = (pl.col("in_p") == pl.col("in_both")) & (pl.col("in_t") == pl.col("in_both"))
    return table.select(exact.mean()).item()


def accuracy() -> Iterator[Row]:
    for system in systems():
        messages, truth = labelled(system)
        layout = system.lower() if system.lower() in SETS else "generic"
        paper, ours = config_of("generic", **PAPER), config_of("generic")
        theirs = pl.Series(drain3_ids(messages.to_list(), paper))
        corrected = labelled(system, corrected=True)
        templates = Templates(ours)
        learned = templates.learn(messages)
        found = templates.match(messages, Novelties(ours))
        yield {
            "system": system,
            "drain3, depth 4, 0.5": grouping_accuracy(theirs, truth),
            "oddlog, depth 4, 0.5": grouping_accuracy(our_ids(messages, paper), truth),
            "drain3, depth 5, 0.7": grouping_accuracy(
                pl.Series(drain3_ids(messages.to_list(), ours)), truth
            ),
            "oddlog (default)": grouping_accuracy(found, truth),
            "lines that match elsewhere": int((found != learned).sum()),
            "masks of the layout": grouping_accuracy(our_ids(messages, config_of(layout)), truth),
            "no masks, depth 4, 0.5": grouping_accuracy(
                our_ids(messages, config_of("none", **PAPER)), truth
            ),
            "default, corrected truth": corrected
            and grouping_accuracy(our_ids(corrected[0], ours), corrected[1]),
        }


def with_mean(rows: list[Row]) -> list[Row]:
    means: Row = {"system": "mean"}
    for name in list(rows[0])[1:]:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = sum(values) / len(values)
    return [*rows, means]


def defaults() -> Iterator[Row]:
    """Yield what settings do to lines of later: learn a log's first half, match its second."""
    for layout in ("generic", "none"):
        for depth in (4, 5, 6):
            for similarity in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
                config = config_of(layout, depth=depth, similarity=similarity)
                halves = [novelty(system, config) for system in systems()]
                yield {"masks": layout, "depth": depth, "similarity": similarity, **mean(halves)}


def novelty(system: str, config: DrainConfig) -> Row:
    messages, truth = labelled(system)
    half = len(messages) // 2
    templates = Templates(config)
    templates.learn(messages[:half])
    templates.freeze()
    novel = templates.match(messages[half:], Novelties(config)) < 0
    is_new = ~truth[half:].is_in(truth[:half].unique().implode())
    return {
        "grouping accuracy": grouping_accuracy(our_ids(messages, config), truth),
        "known events called novel": (novel & ~is_new).sum() / max((~is_new).sum(), 1),
        "new events found": (novel & is_new).sum() / is_new.sum() if is_new.any() else None,
        "templates": templates.n_templates,
    }


def mean(rows: list[Row]) -> Row:
    return {
        name: sum(v for row in rows if (v := row[name]) is not None)
        / sum(row[name] is not None for row in rows)
        for name in rows[0]
    }


# Speed


def seconds(
    *actions: Callable[[], Any],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Return the least time of each action, taken in turns; processor time unless told."""
    least = [float("inf")] * len(actions)
    for _ in range(rounds):
        for i, action in enumerate(actions):
            start = clock()
            action()
            least[i] = min(least[i], clock() - start)
    return least


def from_file() -> Iterator[Row]:
    """Yield wall times from a file to a template id per line; to be run on an idle machine."""
    folder = data_folder()
    with tempfile.TemporaryDirectory() as scratch:
        mix = Path(scratch) / "mixed.log"
        mix.write_text("\n".join(mixed(100_000)) + "\n", encoding="utf-8")
        logs = (
            (folder / "hdfs/HDFS_2pct.log.gz", "hdfs"),
            (folder / "bgl/bgl_100k.log.gz", "bgl"),
            (mix, "plain"),
        )
        for path, layout in logs:
            config = config_of(LAYOUTS[layout].masks)
            ours, theirs = seconds(
                lambda p=path, n=layout, c=config: our_ids(
                    read_events(p, n, columns=())[0]["message"], c
                ),
                lambda p=path, n=layout, c=config: drain3_ids(python_messages(p, n), c),
                rounds=2,
                clock=time.perf_counter,
            )
            yield {
                "log": path.name,
                "oddlog, s": ours,
                "drain3, s": theirs,
                "ratio": f"{theirs / ours:.1f} x",
            }


def speed() -> Iterator[Row]:
    folder = data_folder()
    for name, layout in (("hdfs/HDFS_2pct.log.gz", "hdfs"), ("bgl/bgl_100k.log.gz", "bgl")):
        yield race(name, read_events(folder / name, layout)[0]["message"], layout, folder / name)
    yield race("16 systems mixed, 32,000 lines", mixed(32_000), "generic")
    yield race("16 systems mixed, 100,000 lines", mixed(100_000), "generic")
    yield race("nearly all distinct, 3 shapes", nearly_distinct(100_000), "generic")
    yield race("nothing in common", without_templates(4_000), "generic")


def race(name: str, messages: pl.Series, layout: str, path: Path | None = None) -> Row:
    config = config_of(layout)
    lines = messages.to_list()
    templates = Templates(config)
    templates.learn(messages)
    templates.freeze()
    actions = [
        lambda: drain3_ids(lines, config),
        lambda: our_ids(messages, config),
        lambda: templates.match(messages, Novelties(config)),
    ]
    if path:
        actions.append(lambda: our_ids(read_events(path, layout, columns=())[0]["message"], config))
        actions.append(lambda: drain3_ids(python_messages(path, layout), config))
    theirs, learning, matching, *from_file = seconds(*actions)
    masker = drain3_masker(config.masks)
    same = sum(
        a == masker.mask(b) for a, b in zip(mask(messages, config.masks), lines, strict=True)
    )
    return {
        "log": name,
        "lines": len(lines),
        "distinct masked": mask(messages, config.masks).n_unique(),
        "templates": templates.n_templates,
        "masked alike": same / len(lines),
        "drain3 lines/s": round(len(lines) / theirs),
        "learn": f"{theirs / learning:.1f} x",
        "match": f"{theirs / matching:.1f} x",
        "from file, drain3 in memory": f"{theirs / from_file[0]:.1f} x" if from_file else None,
        "from file, both": f"{from_file[1] / from_file[0]:.1f} x" if from_file else None,
    }


def python_messages(path: Path, layout: str) -> list[str]:
    """Read a log as a user of drain3 does: line by line, the header taken off by a regex."""
    header = re.compile(LAYOUTS[layout].pattern)
    messages = []
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.rstrip("\n")
            found = header.match(text)
            messages.append(text[found.end() :] if found else text)
    return messages


def masks() -> Iterator[Row]:
    """Yield ways to mask a column, relative to one mask after the other on every line."""
    folder = data_folder()
    logs = {
        name: read_events(folder / path, name)[0]["message"]
        for name, path in (("hdfs", "hdfs/HDFS_2pct.log.gz"), ("bgl", "bgl/bgl_100k.log.gz"))
    }
    for name, messages in logs.items():
        steps = masks_for(name).steps()
        one_pass = "|".join(pattern for pattern, _ in steps)
        python = drain3_masker(masks_for(name))
        each, alternation, ours, by_python = seconds(
            lambda m=messages, s=steps: successive(m, s),
            lambda m=messages, p=one_pass: m.str.replace_all(p, "<*>"),
            lambda m=messages, n=name: mask(m, masks_for(n)),
            lambda m=messages, p=python: [p.mask(text) for text in m],
        )
        yield {
            "log": name,
            "distinct messages": messages.n_unique() / len(messages),
            "one after the other": 1.0,
            "one alternation": each / alternation,
            "oddlog": each / ours,
            "Python's re": each / by_python,
        }


def successive(messages: pl.Series, steps: list[tuple[str, str]]) -> pl.Series:
    for pattern, token in steps:
        messages = messages.str.replace_all(pattern, replacement(pattern, token))
    return messages


# Output


def shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if value < 10 else f"{value:.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    commands = {
        "accuracy": accuracy,
        "defaults": defaults,
        "masks": masks,
        "speed": speed,
        "from-file": from_file,
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=commands)
    parser.add_argument("--into", type=Path, help="a document with marks for the table")
    parser.add_argument("--out", type=Path, help="append the rows as JSON lines")
    arguments = parser.parse_args()
    rows = list(commands[arguments.command]())
    if arguments.command == "accuracy":
        rows = with_mean(rows)
    head = list(rows[0])
    table = markdown(head, [[shown(row[name]) for name in head] for row in rows])
    print(table)
    if arguments.into:
        insert(arguments.into, arguments.command, table)
    if arguments.out:
        stamp = {"benchmark": arguments.command, "drain3": version("drain3"), **source()}
        append(arguments.out, [stamp | row for row in rows])


if __name__ == "__main__":
    main()
