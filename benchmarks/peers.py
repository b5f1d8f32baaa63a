"""From a file to a template id for every line: our processor time beside that of other miners.

python benchmarks/peers.py --work DIR [--logs NAME ...] [--rounds N] [--into FILE] [--guard]

Each peer gets a virtual environment of its own below the work folder, made when it is missing, and
every run is a process of its own that times itself: processor seconds of all threads and seconds on
the clock, reading and unpacking included, the best of the rounds, which go through all tools in
turn. Ratios are the peer's time by ours. Records go to ``benchmarks/results/peers.jsonl``; with
``--guard`` nothing is recorded, and the command fails where a ratio of processor times is below
``KEPT`` of the least that was recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from parsing import config_of, data_folder, mixed, nearly_distinct

from oddlog.bench.records import append, read, source
from oddlog.bench.render import insert, markdown
from oddlog.formats import LAYOUTS
from oddlog.masks import replacement

RESULTS = Path(__file__).parent / "results" / "peers.jsonl"
KEPT = 0.6  # of the least recorded ratio: another machine, or load, moves them by a third
BUSY = 0.95  # of the time on the clock that a process with one thread gets on a machine of its own
N_LINES = 100_000
PEERS = {
    "logfold": ("logfold==0.5.0",),
    "tipping": ("tipping==0.2.1",),
    "drain3": ("drain3==0.9.11",),
}

READ = """
import gzip, json, re, sys, time
job = json.loads(sys.argv[1])
path = job["path"]
def lines():
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as file:
        return file.read().split("\\n")[:-1]
def timed(action):
    clock, begin = time.perf_counter(), time.process_time()
    n = len(action())
    cpu_s = time.process_time() - begin
    return {"cpu_s": cpu_s, "wall_s": time.perf_counter() - clock, "n": n}
"""
WORK = {
    "logfold": """
from logfold import Miner
miner = Miner(format="plain")
def learn():
    texts = lines()
    miner.add_many(texts)
    return miner.match_many(texts)
def match():
    return miner.match_many(lines())
print(json.dumps({"learn": timed(learn), "match": timed(match)}))
""",
    "tipping": """
import tipping
print(json.dumps({"learn": timed(lambda: tipping.parse(lines())[0])}))
""",
    "drain3": """
from drain3.drain import Drain
masks = [(re.compile(pattern), text) for pattern, text in job["masks"]]
header = re.compile(job["header"])
def learn():
    drain = Drain(job["depth"], job["similarity"], job["max_children"])
    ids = []
    for text in lines():
        found = header.match(text)
        text = text[found.end():] if found else text
        for pattern, token in masks:
            text = pattern.sub(token, text)
        ids.append(drain.add_log_message(text)[0].cluster_id)
    return ids
print(json.dumps({"learn": timed(learn)}))
""",
    "oddlog": """
from pathlib import Path
import polars as pl
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.formats.read import iter_shaped
from oddlog.masks import masks_for
from oddlog.formats import LAYOUTS
layout = job["layout"]
config = DrainConfig(masks=masks_for(LAYOUTS[layout].masks))
templates = Templates(config)
def ids(of):
    chunks = iter_shaped(path, layout, columns=())
    return pl.concat([of(chunk.events["message"], chunk.shaped) for chunk in chunks])
def learn():
    return ids(templates.learn)
def match():
    novel = Novelties(config)
    return ids(lambda messages, shaped: templates.match(messages, novel, shaped))
result = {"learn": timed(learn)}
templates.freeze()
print(json.dumps({**result, "match": timed(match)}))
""",
}


def logs(work: Path) -> dict[str, tuple[Path, str]]:
    """Return path and layout of each log; those that are made up are written once."""
    made = {"mixed": mixed, "distinct": nearly_distinct}
    for name, make in made.items():
        path = work / f"{name}.log"
        if not path.exists():
            path.write_text("\n".join(make(N_LINES)) + "\n", encoding="utf-8")
    folder = data_folder()
    return {
        "HDFS sample": (folder / "hdfs" / "HDFS_2pct.log.gz", "hdfs"),
        "BGL_100k": (folder / "bgl" / "bgl_100k.log.gz", "bgl"),
        "16 systems mixed": (work / "mixed.log", "plain"),
        "nearly all distinct": (work / "distinct.log", "plain"),
    }


def python_of(work: Path, peer: str) -> str:
    """Return the interpreter of a peer's environment, made if it is missing."""
    python = work / f"venv-{peer}" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
        install = [python, "-m", "pip", "install", "--quiet", *PEERS[peer]]
        subprocess.run(install, check=True)
    return str(python)


def job_of(path: Path, layout: str) -> str:
    config = config_of(LAYOUTS[layout].masks)
    masks = [
        (pattern, replacement(pattern, token).replace("${keep}", r"\g<keep>"))
        for pattern, token in config.masks.steps()
    ]
    job = {"path": str(path), "layout": layout, "masks": masks, "header": LAYOUTS[layout].pattern}
    tree = {"depth": config.depth, "similarity": config.similarity}
    return json.dumps({**job, **tree, "max_children": config.max_children})


def run(python: str, tool: str, job: str) -> dict[str, dict[str, float]]:
    command = [python, "-c", READ + WORK[tool], job]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(work: Path, wanted: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return a record for each log: the least seconds of each tool, by what it does."""
    pythons = {"oddlog": sys.executable} | {peer: python_of(work, peer) for peer in PEERS}
    records = []
    for name, (path, layout) in logs(work).items():
        if wanted and name not in wanted:
            continue
        job = job_of(path, layout)
        least: dict[str, dict[str, dict[str, float]]] = {"cpu_s": {}, "wall_s": {}}
        for _ in range(rounds):
            for tool, python in pythons.items():
                for what, found in run(python, tool, job).items():
                    for clock, of_tools in least.items():
                        of_tool = of_tools.setdefault(tool, {})
                        of_tool[what] = min(of_tool.get(what, found[clock]), found[clock])
                    n_lines = int(found["n"])
        seconds, clock = least["cpu_s"], least["wall_s"]
        records.append({"log": name, "lines": n_lines, "seconds": seconds, "clock": clock})
    return records


def ratios(record: dict[str, Any], seconds: str = "seconds") -> dict[str, float]:
    """Return each peer's time by ours: learning by learning, matching by matching."""
    ours = record[seconds]["oddlog"]
    return {
        f"{peer}, {what}": spent / ours[what]
        for peer in PEERS
        for what, spent in record[seconds][peer].items()
    }


def was_idle(record: dict[str, Any]) -> bool:
    """Return whether the peer that has one thread had a core to itself: so the clock counts."""
    spent, clock = record["seconds"]["drain3"], record.get("clock", {}).get("drain3")
    return clock is not None and spent["learn"] >= BUSY * clock["learn"]


def table(records: list[dict[str, Any]]) -> str:
    names = list(ratios(records[0]))
    head = ["log", "lines", "time", "oddlog learn, ns/line", "oddlog match, ns/line", *names]
    rows = []
    for record in records:
        title = [record["log"], f"{record['lines']:,}"]
        for seconds in ("seconds", *(("clock",) if was_idle(record) else ())):
            ours = record[seconds]["oddlog"]
            cost = [f"{ours[what] / record['lines'] * 1e9:,.0f}" for what in ("learn", "match")]
            found = [f"{ratio:.2f} x" for ratio in ratios(record, seconds).values()]
            kind = "processor" if seconds == "seconds" else "clock"
            rows.append([*title, kind, *cost, *found])
            title = ["", ""]
    return markdown(head, rows)


def fallen(records: list[dict[str, Any]]) -> list[str]:
    """Name the ratios that are below ``KEPT`` of the least recorded ones."""
    known: dict[tuple[str, str], float] = {}
    for record in read(RESULTS):
        for name, ratio in ratios(record).items():
            place = record["log"], name
            known[place] = min(ratio, known.get(place, ratio))
    return [
        f"{record['log']}: {name} {ratio:.2f}, the least recorded {before:.2f}"
        for record in records
        for name, ratio in ratios(record).items()
        if (before := known.get((record["log"], name))) and ratio < KEPT * before
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--logs", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--into", type=Path, help="a document with marks for the table")
    parser.add_argument("--guard", action="store_true", help="fail where a ratio has fallen")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    found = measure(arguments.work.absolute(), arguments.logs, arguments.rounds)
    text = table(found)
    print(text)
    if arguments.guard:
        if lost := fallen(found):
            sys.exit("slower beside the peers than recorded:\n" + "\n".join(lost))
        return
    machine = {"cores": os.cpu_count(), **source()}
    append(RESULTS, [{**record, **machine} for record in found])
    if arguments.into:
        insert(arguments.into, "peers", text)


if __name__ == "__main__":
    main()
