"""Guard how near the networks come to what the machine can do, learning and scoring.

    python benchmarks/shares.py            # a minute of one core: adds a run to what is recorded
    python benchmarks/shares.py --guard    # fails where a share has fallen

No time is compared: a share is of the floating-point operations per second that the same process
reaches in a large product of matrices just before and behind, in processor seconds, so that a
slower or busier machine moves both. Each network is fitted for a few dozen steps to sessions of
HDFS_v1 and reads others (``networks``). ``--guard`` fails where a share is below ``KEPT`` of the
median of the recorded runs, one JSON line each in benchmarks/results/shares.jsonl.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch are imported

import torch
from networks import LEARNED, halves, learned, peak, reading
from training import PASSES, Meter, listen

from oddlog import Run, Sequences
from oddlog.bench.records import RESULTS, append, measured_at, read, source
from oddlog.bench.render import insert, markdown
from oddlog.bench.work import new_detector

DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
OUT = RESULTS / "shares.jsonl"
KEPT = 0.6
"""Of the median recorded share: the band within which other work on a machine moves it."""
ROUNDS = 4
Shares = dict[str, float]


def warm_up() -> None:
    """Make one step, as the first of a process imports a part of torch."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.sum().backward()
    torch.optim.AdamW([weight], fused=True).step()


def measure(detector: str, windows: Sequences, unseen: Sequences) -> Shares:
    """Return a network's shares of the limit."""
    limit, meter = peak(), Meter()
    heard = listen(meter, detector, new_detector(detector, []).config)
    meter.start()
    graph = learned(detector, windows, Run(0, progress=meter.progress, epoch=meter.epoch))
    heard.remove()
    (cost,) = meter.stages.values()
    subject, seconds = reading(detector, graph, unseen), []
    with torch.inference_mode():
        for _ in range(ROUNDS):
            began = time.process_time()
            for inputs in subject.batches:
                subject.graph.network(*inputs)
            seconds.append(time.process_time() - began)
    limit = max(limit, peak())
    trained = cost.cpu_s - cost.valid_cpu_s
    return {
        f"{detector}, learning": PASSES * cost.operations / trained / limit,
        f"{detector}, scoring": subject.operations / min(seconds) / limit,
    }


def medians(known: list[Shares]) -> Shares:
    """Return the median of each recorded share."""
    names = list(dict.fromkeys(name for shares in known for name in shares))
    return {name: statistics.median(s[name] for s in known if name in s) for name in names}


def fallen(found: Shares, known: list[Shares]) -> list[str]:
    """Name the shares that are below ``KEPT`` of the recorded ones."""
    before = medians(known)
    return [
        f"{name}: {share:.1%}, recorded {before[name]:.1%}"
        for name, share in found.items()
        if name in before and share < KEPT * before[name]
    ]


def table(records: list[dict]) -> str:
    """Return the section of docs/performance.md."""
    known = [record["shares"] for record in records]
    rows = [
        [name, f"{middle:.0%}", f"{min(own) / middle:.2f} to {max(own) / middle:.2f}"]
        for name, middle in medians(known).items()
        if (own := [shares[name] for shares in known if name in shares])
    ]
    runs = f"runs: {len(known)}, under the load of other work. {measured_at(records)}"
    told = f"`python benchmarks/shares.py`, {runs}"
    return f"{told}\n\n{markdown(['network', 'of the limit, median', 'runs by it'], rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--guard", action="store_true", help="record nothing, fail where one fell")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.table:
        return insert(DOCUMENT, "shares", table(read(asked.out)))
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    warm_up()
    found: Shares = {}
    windows, unseen = halves("hdfs")
    for detector in LEARNED:
        found |= measure(detector, windows, unseen)
    print(
        markdown(["network", "of the limit"], [[n, f"{share:.1%}"] for n, share in found.items()])
    )
    if not asked.guard:
        append(asked.out, [{"shares": found, "machine": platform.machine(), **source()}])
    elif lost := fallen(found, [record["shares"] for record in read(asked.out)]):
        sys.exit("further from the machine's limit than recorded:\n" + "\n".join(lost))
    return None


if __name__ == "__main__":
    main()
