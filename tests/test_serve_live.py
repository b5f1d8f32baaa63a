"""Real collectors and a real browser against the command: each line's way to an alert, seen."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import cramjam
import httpx2
import pytest

from serving import BURNS, story, wait_for
from test_serve_receivers import push
from watching import fitted

pytestmark = pytest.mark.slow
MAIN = "import sys; from oddlog.cli import main; sys.argv = sys.argv[1:]; main()"
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    fitted().save(folder)
    return folder


@contextmanager
def serving(model, folder, *options):
    """Run the command; yield a client and the process."""
    command = [sys.executable, "-c", MAIN, "oddlog", "serve", str(model), "--port", "0"]
    command += ["--state", str(folder / "state"), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as server:
        url = server.stderr.readline().split()[-1]
        with httpx2.Client(base_url=url, timeout=30) as client:
            try:
                yield client, server
            finally:
                server.send_signal(signal.SIGTERM)
                server.wait(60)


@pytest.fixture
def webhook():
    """Run a receiver of alerts; return its URL and what it got."""
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


def alert_of(client):
    return wait_for(lambda: client.get("/v1/alerts").json()["alerts"], 60)[0]


def test_opentelemetrys_exporter_reaches_store_and_webhook(tmp_path, model, webhook):
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    url, got = webhook
    with serving(model, tmp_path, "--webhook", url) as (client, _):
        provider = LoggerProvider(resource=Resource.create({"service.name": "checkout"}))
        exporter = OTLPLogExporter(endpoint=str(client.base_url).rstrip("/") + "/v1/logs")
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        logger = provider.get_logger("test")
        for text in story():
            logger.emit(body=text, severity_text="INFO")
        provider.shutdown()
        alert = alert_of(client)
        assert (alert["session"], alert["source"]) == (BURNS, "checkout")
        wait_for(lambda: got, 60)
    assert BURNS in json.dumps(got[0])


def test_promtails_push_reaches_the_store(tmp_path, model):
    with serving(model, tmp_path) as (client, _):
        body = bytes(cramjam.snappy.compress_raw(push(*story())))
        headers = {"content-type": "application/x-protobuf"}
        assert client.post("/loki/api/v1/push", content=body, headers=headers).status_code == 204
        assert alert_of(client)["source"] == "api@web-3"


def test_a_kill_between_two_requests_loses_nothing(tmp_path, model):
    told = story()
    for first in range(0, len(told), 41):
        with serving(model, tmp_path) as (client, server):
            part = "\n".join(told[first : first + 41])
            text = {"content-type": "text/plain"}
            client.post("/v1/lines?source=web", content=part, headers=text).raise_for_status()
            server.kill()
    with serving(model, tmp_path) as (client, _):
        alert = alert_of(client)
        assert (alert["session"], alert["n_events"]) == (BURNS, 3)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_a_person_on_call_sees_an_alert_and_judges_it(tmp_path, model):
    sync_api = pytest.importorskip("playwright.sync_api")
    with serving(model, tmp_path) as (client, _), sync_api.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        trouble = []
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("console", lambda told: trouble.append(told.text) if told.type == "error" else None)
        page.goto(str(client.base_url))
        page.get_by_text("No alert waits for a person.").wait_for(timeout=30_000)
        text = {"content-type": "text/plain"}
        client.post("/v1/lines?source=web", content="\n".join(story()), headers=text)
        page.get_by_text(BURNS, exact=True).wait_for(timeout=60_000)  # without a reload
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        assert page.locator("li.culprit mark").first.inner_text().endswith(f"disk burns at {BURNS}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.keyboard.press("f")
        page.get_by_text("No alert waits for a person.").wait_for(timeout=30_000)
        assert client.get("/v1/alerts").json()["alerts"][0]["verdict"] == "false_alarm"
        browser.close()
    assert trouble == []
