"""A service on a small log, for the tests of what serves."""

import http.server
import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import polars as pl
import uvicorn

from oddlog.serve.alerting import Streams
from oddlog.serve.app import create_app
from oddlog.serve.inbox import Room
from oddlog.serve.lines import LINE_COLUMNS
from oddlog.serve.metrics import Metrics
from oddlog.serve.service import Service, ServiceConfig
from oddlog.serve.worker import Pacing
from oddlog.watch import WatchConfig
from watching import ODD, START, USUAL, fitted, lines

MAIN = "import sys; from oddlog.cli import main; sys.argv = sys.argv[1:]; main()"
CHROMIUM = Path("/usr/bin/chromium")
FAST = Pacing(push_lines=1000, tick_s=0.02, save_s=0.0, retry_s=0.02)
STORY = [USUAL] * 20 + [ODD] + [USUAL] * 20
"""Forty sessions in their order, and one on a disk that burns."""
BURNS = "req_1020"


def table(texts, source="web"):
    """Return lines as a receiver gives them."""
    columns = {"source": source, "text": list(texts), "time": None, "template": None}
    return pl.DataFrame(columns, schema=LINE_COLUMNS)


def config(folder, **changes):
    watch = WatchConfig(quiet_s=0.0)
    settings = ServiceConfig(folder, pacing=FAST, watch=watch, room=Room(n_lines=10_000))
    return replace(settings, **changes)


def hurried():
    """Return a clock on which a second lasts a millisecond, so that silent sessions end."""
    begun = time.monotonic()
    return lambda: START + 10_000 + 1000 * (time.monotonic() - begun)


@contextmanager
def running(folder, *, sinks=None, clock=None, **changes):
    """Run a service, and stop it in order."""
    made = Service(fitted(), config(folder, **changes), sinks=sinks, clock=clock or hurried())
    made.start()
    try:
        yield made
    finally:
        made.stop()


def wait_for(condition, seconds=20.0):
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found


def story(first=1000):
    return lines(STORY, first)


@contextmanager
def listening(folder, *, access=None, limits=None, **changes):
    """Run a service behind HTTP on a free port; yield it and a client of it."""
    metrics = Metrics()
    service = Service(fitted(), config(folder, **changes), clock=hurried(), latencies=metrics.took)
    streams = Streams()
    app = create_app(service, access, limits=limits, metrics=metrics, streams=streams)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield service, client
    finally:
        streams.closing = True
        server.should_exit = True
        thread.join(20)


@contextmanager
def command(model, folder, *options):
    """Run the command ``oddlog serve``; yield a client of it and the process."""
    asked = [sys.executable, "-c", MAIN, "oddlog", "serve", str(model), "--port", "0"]
    asked += ["--state", str(folder / "state"), *options]
    with subprocess.Popen(asked, stderr=subprocess.PIPE, text=True) as server:
        url = server.stderr.readline().split()[-1]
        with httpx2.Client(base_url=url, timeout=30) as client:
            try:
                yield client, server
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)


@contextmanager
def receiver():
    """Run a receiver of alerts; yield its URL and what it gets."""
    got = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/alerts", got
    server.shutdown()
    thread.join()
    server.server_close()
