"""Each collector for real, end to end: to a row in SQLite, to a browser, to a webhook."""

import os
import shutil
import sqlite3
from contextlib import contextmanager

import cramjam
import pytest

import oddlog
from journal import FakeJournal, messages, write_log
from oddlog.pipeline import make_config
from serving import BURNS, CHROMIUM, STORY, command, receiver, story, wait_for
from test_serve_kafka import admin, produce, tansu
from test_serve_receivers import push
from watching import N_NORMAL, USUAL, fitted

pytestmark = pytest.mark.slow
HALF = 61  # lines of the story; the odd session stands astride


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folders of a model of plain lines and of one of the journal's entries."""
    folder = tmp_path_factory.mktemp("models")
    fitted().save(folder / "lines")
    write_log(folder / "journal.log", [USUAL] * N_NORMAL)
    asked = {"detector": "key_set", "session_by": r"req_\d+", "false_alarm_rate": 0.02}
    oddlog.fit([folder / "journal.log"], make_config(asked, "test")).save(folder / "journal")
    return folder


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as tool:
        found = tool.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opentelemetry(folder):
    """OpenTelemetry's own SDK, over OTLP/HTTP."""
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    def send(client):
        provider = LoggerProvider()
        exporter = OTLPLogExporter(endpoint=str(client.base_url).rstrip("/") + "/v1/logs")
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
        logger = provider.get_logger("test")
        for text in story():
            logger.emit(body=text, severity_text="INFO")
        provider.shutdown()

    yield [], send


@contextmanager
def promtail(folder):
    """A push as promtail makes it: protobuf in snappy's block format."""

    def send(client):
        body = bytes(cramjam.snappy.compress_raw(push(*story())))
        headers = {"content-type": "application/x-protobuf", "user-agent": "promtail/3.5.0"}
        client.post("/loki/api/v1/push", content=body, headers=headers).raise_for_status()

    yield [], send


@contextmanager
def kafka(folder):
    """A topic of a broker that is a process of its own."""
    with contextmanager(tansu)() as brokers:
        client = admin.AdminClient({"bootstrap.servers": brokers})
        client.create_topics([admin.NewTopic("logs", 1, 1)])["logs"].result(20)
        yield ["--from", f"kafka://{brokers}/logs"], lambda _: produce(brokers, "logs", story())


def file(rotate):
    """Return a log that is rotated in the middle of the story, in one of logrotate's ways."""

    @contextmanager
    def feed(folder):
        log = folder / "app.log"
        log.touch()

        def send(client):
            wait_for((folder / "state" / "files.json").exists, 60)
            write(log, story()[:HALF])
            rotate(log)
            write(log, story()[HALF:])

        yield ["--from", str(log)], send

    return feed


def write(log, told):
    with log.open("a") as opened:
        opened.write("".join(f"{line}\n" for line in told))


def renamed(log):
    log.rename(f"{log}.1")


def copied_and_cut(log):
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)


@contextmanager
def journald(folder):
    """systemd's journal, as its journalctl prints it."""
    journal = FakeJournal(folder / "bin")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{journal.folder}{os.pathsep}{os.environ['PATH']}")

        def send(client):
            wait_for((folder / "state" / "journald.json").exists, 60)
            journal.write(*messages(STORY))

        yield ["--from", "journald"], send


COLLECTORS = {
    "opentelemetry": opentelemetry,
    "promtail": promtail,
    "kafka": kafka,
    "renamed": file(renamed),
    "copytruncate": file(copied_and_cut),
    "journald": journald,
}


@pytest.mark.parametrize("name", COLLECTORS)
def test_an_odd_session_reaches_sqlite_the_browser_and_a_webhook(tmp_path, models, browser, name):
    model = models / ("journal" if name == "journald" else "lines")
    with (
        receiver() as (hook, got),
        COLLECTORS[name](tmp_path) as (options, send),
        command(model, tmp_path, "--webhook", hook, *options) as (client, _),
    ):
        page = browser.new_page()
        page.goto(str(client.base_url))
        send(client)
        row = wait_for(lambda: stored(tmp_path / "state" / "alerts.db"), 60)
        page.get_by_text(BURNS, exact=True).wait_for(timeout=60_000)  # without a reload
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        culprit = page.locator("li.culprit mark").first.inner_text()
        page.close()
        wait_for(lambda: any(BURNS in str(alert) for alert in got), 60)
    assert row == ("unknown: disk burns at <SESSION>", 1)
    assert f"disk burns at {BURNS}" in culprit


def stored(database):
    """Return signature and count of the odd session's alert, as any program can read them."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as opened:
        found = opened.execute(
            "SELECT signature, count FROM oddlog_alerts WHERE session = ?", [BURNS]
        ).fetchone()
    opened.close()
    return found
