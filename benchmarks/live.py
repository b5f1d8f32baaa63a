"""What a running `oddlog serve` bears: sustained load, kills, malformed bodies.

    python benchmarks/live.py load MODEL LOG --lines-per-s 20000 --seconds 300
    python benchmarks/live.py kill MODEL LOG --kills 100
    python benchmarks/live.py fuzz MODEL --bodies 10000

Each starts the command itself, on a free port and in a folder of its own, and prints one JSON line:
what was asked, what was measured, on what. ``load`` repeats LOG, with every session's name made new
in each round, over a few connections and as fast as is asked, and reads latency from the service's
own histogram. ``kill``
sends LOG in pieces and kills the service while it works on each; every line that was acknowledged
has to be judged in the end, and what `oddlog score` flags has to be an alert or on one. ``fuzz``
sends bodies that are damaged, random or huge; none may be answered with 500 or end the service.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

import oddlog

MAIN = "import sys; from oddlog.cli import main; sys.argv = sys.argv[1:]; main()"
TEXT = {"content-type": "text/plain"}
PER_REQUEST = 1000
PATHS = ("/v1/logs", "/loki/api/v1/push", "/v1/lines", "/v1/score")
TYPES = ("application/x-protobuf", "application/json", "text/plain", "application/x-ndjson", "x/y")
ENCODINGS = ("", "gzip", "zstd", "deflate", "snappy", "br")
STARTED_S = 180.0
SETTLED_S = 10.0  # a source's last line is held back for a moment, as more may belong to it
BOMB_BYTES = 80 << 20  # more than a request may hold once it is unpacked


@dataclass(frozen=True, eq=False)
class Running:
    """A service that was started: its process and a client of it."""

    process: subprocess.Popen[str]
    client: httpx2.Client

    def metrics(self) -> dict[str, float]:
        """Return the service's metrics by name, buckets with their edge behind it."""
        text = self.client.get("/metrics").text
        samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
        return {s.name + s.labels.get("le", ""): s.value for s in samples}

    def peak_mb(self) -> float:
        """Return the most memory that the service held so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


@contextmanager
def serving(model: Path, state: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-c", MAIN, "oddlog", "serve", str(model), "--port", "0"]
    command += ["--state", str(state), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        with httpx2.Client(base_url=told.split()[-1], timeout=60) as client:
            running = Running(process, client)
            try:
                wait_for(lambda: client.get("/readyz").status_code == 200, STARTED_S)
                yield running
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(180)


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain")
        time.sleep(0.05)


def rounds(lines: Sequence[str], session: str) -> Iterator[str]:
    """Yield lines for ever, each round with other sessions."""
    pattern, number = re.compile(session), 0
    while True:
        for line in lines:
            yield pattern.sub(rf"\g<0>{number:04}", line) if number else line
        number += 1


def quantile(metrics: dict[str, float], share: float) -> float:
    """Return the upper edge of the bucket of the latency histogram that holds a quantile."""
    edges = sorted(
        (float(name.removeprefix("oddlog_latency_seconds_bucket")), n)
        for name, n in metrics.items()
        if name.startswith("oddlog_latency_seconds_bucket")
    )
    total = edges[-1][1]
    return next(edge for edge, n in edges if n >= share * total)


def load(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    lines = options.log.read_text(encoding="utf-8", errors="replace").splitlines()
    told = rounds(lines, options.session)
    n_sent, refused = 0, []
    sending: deque[Future[int]] = deque()
    with (
        serving(options.model, folder / "state") as running,
        ThreadPoolExecutor(options.senders) as senders,
    ):
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < options.seconds:
            if n_sent > passed * options.lines_per_s:
                time.sleep(0.005)
                continue
            body = "\n".join(next(told) for _ in range(PER_REQUEST))
            if len(sending) == options.senders:
                refused.append(sending.popleft().result())
            sending.append(senders.submit(send, running.client, body))
            n_sent += PER_REQUEST
        refused += [one.result() for one in sending]
        seconds = time.monotonic() - begun
        wait_for(lambda: running.metrics()["oddlog_queued_lines"] == 0, 600)
        metrics, peak = running.metrics(), running.peak_mb()
    return {
        "n_lines": n_sent,
        "lines_per_s": round(n_sent / seconds),
        "seconds": round(seconds),
        "n_refused": sum(refused),
        "p50_below_s": quantile(metrics, 0.5),
        "p99_below_s": quantile(metrics, 0.99),
        "peak_mb": round(peak),
        "n_alerts": metrics["oddlog_alerts_total"],
        "n_windows": metrics["oddlog_windows_total"],
    }


def send(client: httpx2.Client, body: str) -> int:
    """Send lines until they are taken; return how often they were refused for want of room."""
    n_refused = 0
    while (answer := client.post("/v1/lines", content=body, headers=TEXT)).status_code == 429:
        n_refused += 1
        time.sleep(0.2)
    answer.raise_for_status()
    return n_refused


def kill(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Send pieces; kill the service while it works on them, so many times."""
    lines = options.log.read_text(encoding="utf-8", errors="replace").splitlines()
    size = -(-len(lines) // (options.kills + 1))
    pieces = [lines[i : i + size] for i in range(0, len(lines), size)]
    dice, n_accepted = random.Random(options.seed), 0
    for number, piece in enumerate(pieces):
        with serving(options.model, folder / "state", "--false-alarm-rate", "0.01") as running:
            body = "\n".join(piece)
            answer = running.client.post("/v1/lines?source=log", content=body, headers=TEXT)
            answer.raise_for_status()
            n_accepted += answer.json()["accepted"]
            if number < len(pieces) - 1:
                time.sleep(dice.expovariate(4.0))
                running.process.kill()
    with serving(options.model, folder / "state", "--false-alarm-rate", "0.01") as running:
        wait_for(lambda: running.metrics()["oddlog_queued_lines"] == 0, 600)
        time.sleep(SETTLED_S)
        n_judged = running.metrics()["oddlog_lines_total"]
        sessions = _alerts(running.client)
    result = oddlog.load(options.model).score([options.log]).at(0.01)
    flagged = set(result.sequences.keys.gather(result.flagged()).to_list())
    return {
        "n_kills": len(pieces) - 1,
        "n_accepted": n_accepted,
        "n_judged": n_judged,
        "n_stories": len(sessions),
        "n_folded_and_raised": sum(sessions.values()),
        "n_flagged_by_score": len(flagged),
        "n_stories_not_flagged_by_score": len(set(sessions) - flagged),
    }


def _alerts(client: httpx2.Client) -> dict[str, int]:
    """Return every alert's session, and how many windows were counted on it."""
    found, before = {}, None
    while True:
        query = {"limit": "500"} | ({} if before is None else {"before": str(before)})
        page = client.get("/v1/alerts", params=query).json()
        found |= {alert["session"]: alert["count"] for alert in page["alerts"]}
        before = page["next"]
        if before is None:
            return found


def fuzz(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    dice, statuses = random.Random(options.seed), {}
    with serving(options.model, folder / "state") as running:
        pid = running.process.pid
        for _ in range(options.bodies):
            path, headers, body = _malformed(dice)
            answer = running.client.post(path, content=body, headers=headers)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        healthy = running.client.get("/healthz").status_code == 200
        alive = running.process.poll() is None and running.process.pid == pid
        peak = running.peak_mb()
    return {
        "n_bodies": options.bodies,
        "statuses": {str(status): statuses[status] for status in sorted(statuses)},
        "n_errors": sum(n for status, n in statuses.items() if status >= 500),
        "alive": alive and healthy,
        "peak_mb": round(peak),
    }


def _malformed(dice: random.Random) -> tuple[str, dict[str, str], bytes]:
    """Return a path, headers and a body of which at least one does not fit the others."""
    shape = dice.randrange(5)
    if shape == 0:
        body = dice.randbytes(dice.randrange(2000))
    elif shape == 1:
        body = gzip.compress(dice.randbytes(500))[: dice.randrange(1, 500)]
    elif shape == 2:
        body = b"[" * dice.randrange(100_000)
    elif shape == 3:
        whole = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {}}]}]}]})
        place = dice.randrange(len(whole))
        body = (whole[:place] + chr(dice.randrange(256)) + whole[place + 1 :]).encode()
    else:
        body = _bomb()
    headers = {"content-type": dice.choice(TYPES), "content-encoding": dice.choice(ENCODINGS)}
    return dice.choice(PATHS), headers, body


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(BOMB_BYTES), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("load", "kill", "fuzz"):
        command = commands.add_parser(name)
        command.add_argument("model", type=Path)
        if name != "fuzz":
            command.add_argument("log", type=Path)
        command.add_argument("--seed", type=int, default=1)
    commands.choices["load"].add_argument("--lines-per-s", type=int, default=20_000)
    commands.choices["load"].add_argument("--seconds", type=int, default=300)
    commands.choices["load"].add_argument("--senders", type=int, default=4)
    commands.choices["load"].add_argument("--session", default=r"blk_-?\d+")
    commands.choices["kill"].add_argument("--kills", type=int, default=100)
    commands.choices["fuzz"].add_argument("--bodies", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"load": load, "kill": kill, "fuzz": fuzz}[options.command](options, Path(folder))
    asked = {name: str(value) for name, value in vars(options).items()}
    print(json.dumps({"asked": asked, "n_cpus": os.cpu_count(), "load": os.getloadavg(), **found}))


if __name__ == "__main__":
    main()
