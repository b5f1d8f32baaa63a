"""What a client of the service sees: lines taken or refused, alerts, feedback, health, the page."""

import gzip
import json
import re

import cramjam
import pytest

from oddlog.serve.access import Access
from oddlog.serve.inbox import FullError
from oddlog.serve.journal import JournalError
from oddlog.serve.lines import Limits
from serving import BURNS, listening, story, wait_for
from test_serve_receivers import export, push, push_json

TOKEN = "a-token-that-is-long-enough"
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}
PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a service, and a client of it, for tests that leave no trace another would trip on."""
    limits = Limits(body_bytes=1 << 20, unpacked_bytes=1 << 21, n_lines=5000, line_chars=1000)
    with listening(tmp_path_factory.mktemp("serve"), limits=limits) as found:
        yield found


@pytest.fixture(scope="module")
def client(server):
    return server[1]


@pytest.fixture(scope="module")
def alert(client):
    """Return the alert on the session that burns, as the API shows it."""
    client.post("/v1/lines", content="\n".join(story()), headers=TEXT)
    return wait_for(lambda: client.get("/v1/alerts").json()["alerts"])[0]


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """Return a client of a service that asks for a token."""
    access = Access(token=TOKEN)
    with listening(tmp_path_factory.mktemp("serve"), access=access) as (_, found):
        yield found


def test_lines_are_answered_with_how_many_were_taken(client):
    body = client.post("/v1/lines", content=b"one\ntwo" + b"x" * 2000, headers=TEXT).json()
    assert body == {"accepted": 2, "cut": 1}


def test_an_alert_holds_its_lines_and_what_is_odd_about_them(alert):
    assert alert["session"] == BURNS
    assert [line["text"].split()[2] for line in alert["lines"]] == ["open", "disk", "close"]
    assert alert["culprits"][0]["text"].endswith(f"disk burns at {BURNS}")
    assert alert["culprits"][0]["expected"] is not None


def test_an_alert_can_be_asked_for_by_its_id(client, alert):
    assert client.get(f"/v1/alerts/{alert['id']}").json()["session"] == BURNS
    assert client.get("/v1/alerts/none-such").status_code == 404


def test_alerts_are_filtered(client, alert):
    for query, n in [("session=" + BURNS, 1), ("text=BURNS", 1), ("source=db", 0), ("kind=x", 0)]:
        assert len(client.get(f"/v1/alerts?{query}").json()["alerts"]) == n, query
    assert client.get("/v1/alerts?limit=1").json()["next"] == alert["revision"]
    assert client.get(f"/v1/alerts?before={alert['revision']}").json()["alerts"] == []


def test_feedback_is_kept_and_can_be_taken_back(client, alert):
    where = f"/v1/alerts/{alert['id']}/feedback"
    assert client.post(where, json={"verdict": "false_alarm"}).json()["verdict"] == "false_alarm"
    assert client.get("/v1/alerts?verdict=none").json()["alerts"] == []
    assert client.post(where, json={"verdict": "snooze"}).json()["until"] is not None
    assert client.post(where, json={"verdict": "none"}).json()["verdict"] == "none"
    assert client.post(where, json={"verdict": "maybe"}).status_code == 422


def test_a_change_reaches_those_who_follow(client, alert):
    with client.stream("GET", f"/v1/alerts/stream?after={alert['revision'] - 1}") as stream:
        told = iter(stream.iter_lines())
        data = next(line for line in told if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["id"] == alert["id"]
        client.post(f"/v1/alerts/{alert['id']}/feedback", json={"verdict": "real"})
        data = next(line for line in told if line.startswith("data: "))
        assert json.loads(data.removeprefix("data: "))["verdict"] == "real"
    client.post(f"/v1/alerts/{alert['id']}/feedback", json={"verdict": "none"})


def test_a_batch_gets_its_verdict_at_once(client):
    body = client.post("/v1/score", content="\n".join(story()), headers=TEXT).json()
    assert body["n_verdicts"] == 1
    assert body["verdicts"][0]["key"] == BURNS
    assert body["verdicts"][0]["culprits"][0]["text"].endswith(f"disk burns at {BURNS}")


def packed(content: bytes) -> bytes:
    """Return the same bytes at any time of day: tests are named after them."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("path", "headers", "content", "status"),
    [
        ("/v1/logs", PROTOBUF, export("a").SerializeToString(), 200),
        ("/v1/logs", {**PROTOBUF, "content-encoding": "gzip"},
         packed(export("a").SerializeToString()), 200),
        ("/v1/logs", JSON, b'{"resourceLogs": []}', 200),
        ("/v1/logs", PROTOBUF, b"\xff\xff", 400),
        ("/v1/logs", TEXT, b"a", 415),
        ("/loki/api/v1/push", PROTOBUF, bytes(cramjam.snappy.compress_raw(push("a"))), 204),
        ("/loki/api/v1/push", JSON, push_json(["1700000000000000000", "a"], job="x"), 204),
        ("/loki/api/v1/push", PROTOBUF, push("a"), 400),
        ("/v1/lines", {**JSON, "content-encoding": "gzip"}, packed(b'"a"'), 200),
        ("/v1/lines", JSON, b'{"a', 400),
        ("/v1/lines", {"content-type": "image/png"}, b"a", 415),
        ("/v1/lines", {**TEXT, "content-encoding": "br"}, b"a", 415),
        ("/v1/lines", TEXT, b"x" * (2 << 20), 413),
        ("/v1/lines", {**TEXT, "content-encoding": "gzip"}, packed(bytes(3 << 20)), 413),
        ("/v1/lines", TEXT, b"x\n" * 5001, 413),
    ],
)  # fmt: skip
def test_what_is_sent_is_taken_or_refused_by_what_it_is(client, path, headers, content, status):
    answer = client.post(path, content=content, headers=headers)
    assert answer.status_code == status, answer.text


def test_otlp_is_told_how_many_lines_were_cut(client):
    body = export("x" * 2000).SerializeToString()
    assert b"1 lines" in client.post("/v1/logs", content=body, headers=PROTOBUF).content


def test_no_room_is_answered_with_when_to_come_again(server, monkeypatch):
    def full(*args):
        raise FullError("5 lines wait to be judged", 7)

    service, client = server
    monkeypatch.setattr(service.inbox, "submit", full)
    answer = client.post("/v1/lines", content="a", headers=TEXT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_a_full_disk_is_answered_with_come_again(server, monkeypatch):
    def full(*args):
        raise JournalError("no space left")

    service, client = server
    monkeypatch.setattr(service.journal, "append", full)
    answer = client.post("/v1/lines", content="a", headers=TEXT)
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    wait_for(lambda: service.inbox.n_lines == 0)


def test_health_and_readiness_are_told(client):
    assert client.get("/healthz").json() == client.get("/readyz").json() == {"status": "ok"}


def test_a_worker_that_died_makes_the_service_unhealthy(server, monkeypatch):
    service, client = server
    monkeypatch.setattr(service.worker, "failure", "KeyError")
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 503


def test_metrics_are_told_in_prometheus_format(client, alert):
    from prometheus_client.parser import text_string_to_metric_families

    text = client.get("/metrics").text
    found = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert found["oddlog_alerts_total"] == 1
    assert found["oddlog_lines_total"] >= 123
    assert found["oddlog_latency_seconds_count"] >= 1
    assert found["oddlog_ready"] == 1


def test_openapi_knows_every_endpoint_and_its_refusals(client):
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v1/logs", "/loki/api/v1/push", "/v1/lines", "/v1/score"):
        told = paths[path]["post"]
        assert {"400", "401", "413", "415", "429", "503"} <= set(told["responses"])
        assert told["requestBody"]["content"]
    assert {"/v1/alerts", "/v1/alerts/{alert_id}/feedback", "/metrics"} <= set(paths)


@pytest.mark.parametrize("path", ["/v1/alerts", "/metrics", "/openapi.json", "/v1/alerts/stream"])
def test_without_the_token_nothing_is_told(locked, path):
    assert locked.get(path).status_code == 401
    wrong = {"authorization": "Bearer " + TOKEN[:-1]}
    assert locked.get(path, headers=wrong).status_code == 401


def test_without_the_token_no_line_is_taken(locked):
    assert locked.post("/v1/lines", content="a", headers=TEXT).status_code == 401


def test_with_the_token_everything_is_told(locked):
    right = {"authorization": f"Bearer {TOKEN}"}
    assert locked.get("/v1/alerts", headers=right).status_code == 200


def test_health_is_told_to_everybody(locked):
    assert locked.get("/healthz").status_code == 200


def test_a_browser_logs_in_with_the_token_and_keeps_no_copy_of_it(locked):
    assert locked.get("/").headers["location"] == "/login"
    assert locked.post("/login", data={"token": "wrong"}).status_code == 401
    answer = locked.post("/login", data={"token": TOKEN})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}
    assert locked.get("/").status_code == 200
    locked.cookies.clear()


def test_a_name_that_is_not_the_services_is_refused(client):
    assert client.get("/v1/alerts", headers={"host": "evil.example"}).status_code == 421


def test_what_another_page_asks_for_is_refused(client):
    other = {**TEXT, "origin": "https://evil.example"}
    assert client.post("/v1/lines", content="a", headers=other).status_code == 403


def test_every_answer_carries_a_policy_that_lets_nothing_in(client):
    for path in ("/", "/v1/alerts", "/none-such"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith(
            "default-src 'none'; script-src 'self'"
        )
        assert headers["x-content-type-options"] == "nosniff"


def test_the_page_shows_an_alert_with_its_lines(client, alert):
    page = client.get("/").text
    assert f'id="a-{alert["id"]}"' in page
    assert f"<mark>2026-03-02 08:01:01 disk burns at {BURNS}</mark>" in page


def test_the_page_asks_for_nothing_from_elsewhere(client):
    page = client.get("/").text
    assert not re.search(r'(?:src|href)="(?!/[^/])', page)
    for asset in re.findall(r'"(/assets/[^"]+)"', page):
        assert client.get(asset).status_code == 200


def test_a_button_of_the_page_works_without_its_script(client, alert):
    where = f"/alerts/{alert['id']}"
    answer = client.post(where, data={"verdict": "snooze", "for": "a week"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/#a-{alert['id']}")
    assert "Take back" in client.get("/?show=snooze").text
    client.post(where, data={"verdict": "none"})


def test_what_a_log_says_cannot_act_on_the_page(tmp_path):
    odd = "<img src=x onerror=alert(1)> \"' \x1b[31m \u202e </mark>"
    told = [text.replace("disk burns at", odd) for text in story()]
    with listening(tmp_path) as (service, client):
        client.post("/v1/lines?source=<b>", content="\n".join(told), headers=TEXT)
        wait_for(service.store.alerts)
        page = client.get("/").text
    assert "<img" not in page
    assert "<code><b>" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
