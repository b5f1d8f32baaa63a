"""The command as a process: killed in the middle, and looked at by a person on call."""

import pytest

from serving import BURNS, CHROMIUM, command, story, wait_for
from watching import fitted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    fitted().save(folder)
    return folder


def alert_of(client):
    return wait_for(lambda: client.get("/v1/alerts").json()["alerts"], 60)[0]


def test_a_kill_between_two_requests_loses_nothing(tmp_path, model):
    told = story()
    for first in range(0, len(told), 41):
        with command(model, tmp_path) as (client, server):
            part = "\n".join(told[first : first + 41])
            text = {"content-type": "text/plain"}
            client.post("/v1/lines?source=web", content=part, headers=text).raise_for_status()
            server.kill()
    with command(model, tmp_path) as (client, _):
        alert = alert_of(client)
        assert (alert["session"], alert["n_events"]) == (BURNS, 3)


def test_kills_while_a_file_is_read_lose_and_double_no_line(tmp_path, model):
    log, told = tmp_path / "app.log", story()
    log.touch()
    places = tmp_path / "state" / "files.json"
    for first in range(0, len(told), 41):
        with command(model, tmp_path, "--from", str(log)) as (_, server):
            wait_for(places.exists)
            before = places.read_bytes()
            with log.open("a") as file:
                file.write("".join(f"{line}\n" for line in told[first : first + 41]))
            wait_for(lambda before=before: places.read_bytes() != before)
            server.kill()  # with the lines on their way
    with command(model, tmp_path, "--from", str(log)) as (client, _):
        alert = alert_of(client)
        assert (alert["session"], alert["n_events"]) == (BURNS, 3)


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs chromium")
def test_a_person_on_call_sees_an_alert_and_judges_it(tmp_path, model):
    sync_api = pytest.importorskip("playwright.sync_api")
    with command(model, tmp_path) as (client, _), sync_api.sync_playwright() as tool:
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
