"""Alerts on their way out: to real servers on this machine."""

import json
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller

from oddlog.alerts.outbox import Outbox, Retry, deliver
from oddlog.alerts.sinks import (
    DeliveryError,
    JsonLines,
    Mail,
    MailConfig,
    Webhook,
    WebhookConfig,
)
from oddlog.alerts.telling import as_ecs, details, headline
from oddlog.config import build
from oddlog.errors import ConfigError
from oddlog.findings import Alert

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ALERT = Alert(
    key="req_1001",
    score=2.0,
    p_value=0.0099,
    threshold=0.5,
    first_time=NOON,
    last_time=NOON,
    sources=("a.log",),
    lines=(("a.log", 7, "disk burns \x1b[31m"),),
    culprits=(
        {
            "source": "a.log",
            "line": 7,
            "time": NOON.isoformat(),
            "text": "disk burns \x1b[31m",
            "message": "disk burns \x1b[31m",
            "template": "disk burns <*>",
            "template_id": -1,
            "score": 1.0,
            "position": 0,
            "missing": False,
            "expected": [{"template": "copy <*>", "probability": 0.9}],
            "by": None,
        },
    ),
    count=3,
    model="key_set",
    id="0123456789abcdef",
    signature="unknown: disk burns <*>",
    raised=NOON,
    n_events=3,
)


class Receiver(ThreadingHTTPServer):
    """Remembers requests, and answers them with the codes it is told."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests, self.answers = [], []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers), json.loads(body)))
        code, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def webhook(receiver, **settings):
    config = WebhookConfig(url=f"{receiver.url}/secret/path", **settings)
    return Webhook(config, NOON.timestamp)


def test_a_headline_says_what_is_odd_and_how_rare_that_is():
    told = "req_1001: unknown: disk burns <*> (p 0.0099, 3 events, 3 times)"
    assert headline(ALERT) == told


def test_details_name_the_line_and_what_was_expected():
    told = details(ALERT)
    assert "7 | disk burns \\x1b[31m" in told
    assert "  expected 90% copy <*>" in told


def test_no_text_of_an_alert_acts_on_a_terminal():
    told = [headline(replace(ALERT, key="\x1b[2J")), *details(ALERT)]
    assert all(line.isprintable() for line in told)


def test_a_record_bears_the_names_of_ecs():
    record = as_ecs(ALERT)
    assert record["@timestamp"] == "2026-03-02T12:00:00+00:00"
    assert record["event"]["kind"] == "alert"
    assert record["event"]["id"] == ALERT.id
    assert record["rule"]["name"] == ALERT.signature
    assert record["log"]["file"]["path"] == "a.log"


def test_a_file_gets_a_line_for_each_alert(tmp_path):
    sink = JsonLines(tmp_path / "new" / "alerts.jsonl")
    sink.send(ALERT)
    sink.send(replace(ALERT, key="lone \udc80 surrogate"))
    records = [json.loads(line) for line in sink.path.read_text().splitlines()]
    assert [record["oddlog"]["key"] for record in records] == ["req_1001", "lone \udc80 surrogate"]


def test_a_file_that_cannot_be_written_may_be_later(tmp_path):
    with pytest.raises(DeliveryError, match="directory") as caught:
        JsonLines(tmp_path).send(ALERT)
    assert caught.value.again


def test_a_webhook_gets_the_record(receiver, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "s3cret")
    webhook(receiver, token_env="A_TOKEN", headers={"X-Scope": "ops"}).send(ALERT)
    ((path, headers, body),) = receiver.requests
    assert (path, headers["Authorization"], headers["X-Scope"]) == (
        "/secret/path",
        "Bearer s3cret",
        "ops",
    )
    assert body == json.loads(json.dumps(as_ecs(ALERT)))


def test_slack_gets_a_text_in_which_nothing_is_markup(receiver):
    webhook(receiver, style="slack").send(replace(ALERT, key="<!channel> *a* & b"))
    text = receiver.requests[0][2]["text"]
    assert "&lt;!channel&gt;" in text
    assert "*a*" not in text
    assert "&amp; b" in text


def test_alertmanager_gets_what_its_api_takes(receiver):
    config = WebhookConfig(url=receiver.url, style="alertmanager", lasts_s=60)
    Webhook(config, NOON.timestamp).send(ALERT)
    path, _, ((told),) = receiver.requests[0]
    assert path == "/api/v2/alerts"
    assert told["labels"] == {
        "alertname": "OddlogAnomaly",
        "signature": "unknown: disk burns <*>",
        "detector": "key_set",
        "source": "a.log",
    }
    assert (told["startsAt"], told["endsAt"]) == (
        "2026-03-02T12:00:00+00:00",
        "2026-03-02T12:01:00+00:00",
    )
    assert told["annotations"]["id"] == ALERT.id


@pytest.mark.parametrize(
    ("code", "again"), [(500, True), (503, True), (429, True), (400, False), (404, False)]
)
def test_a_refusal_says_whether_it_may_pass(receiver, code, again):
    receiver.answers = [(code, {})]
    with pytest.raises(DeliveryError, match=str(code)) as caught:
        webhook(receiver).send(ALERT)
    assert caught.value.again is again


def test_a_receiver_may_ask_to_wait(receiver):
    receiver.answers = [(429, {"Retry-After": "7"})]
    with pytest.raises(DeliveryError) as caught:
        webhook(receiver).send(ALERT)
    assert caught.value.wait_s == 7


def test_a_redirect_is_not_followed(receiver):
    receiver.answers = [(307, {"Location": f"{receiver.url}/elsewhere"})]
    with pytest.raises(DeliveryError, match="307"):
        webhook(receiver).send(ALERT)
    assert len(receiver.requests) == 1


def test_no_connection_may_come_back(receiver):
    closed = Webhook(WebhookConfig(url="http://127.0.0.1:9/"), NOON.timestamp)
    with pytest.raises(DeliveryError, match="webhook at 127") as caught:
        closed.send(ALERT)
    assert caught.value.again


def test_the_path_of_a_webhook_is_in_no_message(receiver):
    receiver.answers = [(404, {})]
    with pytest.raises(DeliveryError) as caught:
        webhook(receiver).send(ALERT)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "http:///x", "nonsense"])
def test_only_http_is_posted_to(url):
    with pytest.raises(ConfigError, match="http"):
        build(WebhookConfig, {"url": url}, "test")


def test_a_secret_that_is_not_set_is_said():
    with pytest.raises(ConfigError, match="NO_SUCH_TOKEN"):
        Webhook(WebhookConfig(url="http://a", token_env="NO_SUCH_TOKEN"), NOON.timestamp)


class Post:
    """An SMTP server's handler; it remembers mails, or refuses them."""

    def __init__(self):
        self.mails, self.code = [], "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 -- aiosmtpd's name
        if self.code.startswith("250"):
            mail = message_from_bytes(envelope.content, policy=policy.default)
            self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail))
        return self.code


@pytest.fixture
def post():
    handler = Post()
    with socket.create_server(("127.0.0.1", 0)) as free:
        handler.port = free.getsockname()[1]
    controller = Controller(handler, hostname="127.0.0.1", port=handler.port)
    controller.start()
    yield handler
    controller.stop()


def mail(post, **settings):
    values = {"host": "127.0.0.1", "port": post.port, "security": "none", "sender": "odd@log.org"}
    return Mail(build(MailConfig, values | {"to": ["ops@log.org"]} | settings, "test"))


def test_a_mail_says_what_is_odd(post):
    mail(post).send(ALERT)
    ((sender, to, told),) = post.mails
    assert (sender, to) == ("odd@log.org", ["ops@log.org"])
    assert told["Subject"].strip() == f"oddlog: {headline(ALERT)}"
    assert "7 | disk burns" in told.get_content()


def test_a_log_adds_no_header_to_a_mail(post):
    mail(post).send(replace(ALERT, key="x\r\nBcc: all@log.org"))
    assert post.mails[0][2]["Bcc"] is None


@pytest.mark.parametrize(("code", "again"), [("451 busy", True), ("554 no", False)])
def test_a_server_that_refuses_a_mail_says_whether_it_may_pass(post, code, again):
    post.code = code
    with pytest.raises(DeliveryError, match=code[:3]) as caught:
        mail(post).send(ALERT)
    assert caught.value.again is again


def test_a_server_without_tls_gets_no_mail_that_asks_for_it(post):
    with pytest.raises(DeliveryError):
        mail(post, security="starttls").send(ALERT)
    assert post.mails == []


class Moody:
    """A sink that fails as often as it is told."""

    name = "moody"

    def __init__(self, n_failures, **error):
        self.n_failures, self.error, self.sent = n_failures, {"again": True} | error, []

    def send(self, alert):
        if self.n_failures:
            self.n_failures -= 1
            raise DeliveryError("in a mood", **self.error)
        self.sent.append(alert.id)


def tried(sink, retry, *, give_up=False):
    waits = []
    failed = deliver(sink, ALERT, retry, lambda s: waits.append(s) or give_up)
    return failed, waits


def test_waits_double_up_to_a_bound():
    assert tried(Moody(5), Retry(first_s=1, most_s=6)) == (None, [1, 2, 4, 6, 6])


def test_a_receiver_that_asks_for_longer_is_waited_for():
    assert tried(Moody(1, wait_s=5), Retry(first_s=1))[1] == [5]


def test_after_so_many_tries_an_alert_is_given_up():
    assert tried(Moody(9), Retry(tries=3, first_s=1)) == ("in a mood", [1, 2])


def test_what_cannot_pass_is_not_tried_again():
    assert tried(Moody(1, again=False), Retry()) == ("in a mood", [])


def test_who_stops_gives_up_at_once():
    assert tried(Moody(9), Retry(), give_up=True) == ("in a mood", [1])


def test_an_outbox_delivers_in_order():
    sink = Moody(2)
    with Outbox(sink, Retry(first_s=0.001)) as outbox:
        outbox.put([replace(ALERT, id=str(n)) for n in range(5)])
        assert outbox.drain(10)
        assert (outbox.n_sent, outbox.n_given_up, outbox.n_waiting) == (5, 0, 0)
    assert sink.sent == ["0", "1", "2", "3", "4"]


def test_an_outbox_that_cannot_deliver_gives_up_the_oldest():
    sink = Moody(9_999)
    outbox = Outbox(sink, Retry(first_s=60), most=3)
    outbox.put([replace(ALERT, id=str(n)) for n in range(9)])
    assert outbox.n_given_up >= 5
    outbox.close(0.01)
    assert sink.sent == []


def test_tls_from_the_start_gets_no_mail_through_to_a_server_without(post):
    with pytest.raises(DeliveryError):
        mail(post, security="tls").send(ALERT)
    assert post.mails == []
