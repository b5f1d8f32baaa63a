"""Files and the journal as the service reads them: each line judged, none twice."""

import json
import os
import shutil
from contextlib import contextmanager

import pytest

from journal import FakeJournal
from oddlog.errors import ArtifactError, ConfigError
from oddlog.follow import Follower
from oddlog.serve import following
from oddlog.serve.following import FollowReader
from oddlog.serve.metrics import Metrics
from oddlog.serve.run import Settings, make_service
from oddlog.serve.service import Service
from serving import BURNS, config, hurried, story, wait_for
from watching import ODD, fitted, lines


@pytest.fixture
def log(tmp_path):
    return tmp_path / "app.log"


def write(log, told):
    with log.open("a") as file:
        file.write("".join(f"{line}\n" for line in told))


@contextmanager
def reading(folder, log, *, from_start=True):
    service = Service(fitted(), config(folder), clock=hurried())
    reader = FollowReader(
        "files", lambda place: Follower([log], from_start=from_start, state=place), service
    )
    service.add_feed(reader)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def judged(service, n):
    wait_for(lambda: service.worker.position >= n)
    return service.worker.position


def test_a_files_lines_become_alerts(tmp_path, log):
    write(log, story())
    with reading(tmp_path / "state", log) as service:
        (alert,) = wait_for(service.store.alerts)
    assert (alert.session, alert.source) == (BURNS, str(log))


def test_a_file_is_read_from_its_end_unless_told_otherwise(tmp_path, log):
    write(log, story())
    with reading(tmp_path / "state", log, from_start=False) as service:
        wait_for((tmp_path / "state" / "files.json").exists)
        write(log, lines([ODD], 3000, 10_000))
        assert judged(service, 3) == 3


def test_a_service_that_comes_back_reads_on(tmp_path, log):
    told = story()
    for part in (told[:50], told[50:]):
        write(log, part)
        with reading(tmp_path / "state", log) as service:
            judged(service, service.worker.position + len(part))
    assert service.worker.position == len(told)


def renamed(log):
    log.rename(f"{log}.1")


def copied_and_cut(log):
    shutil.copy2(log, f"{log}.1")
    os.truncate(log, 0)


@pytest.mark.parametrize("rotate", [renamed, copied_and_cut])
def test_a_rotation_while_the_service_is_away_costs_no_line(tmp_path, log, rotate):
    told = story()
    write(log, told[:40])
    with reading(tmp_path / "state", log) as service:
        judged(service, 40)
    write(log, told[40:60])
    rotate(log)
    write(log, told[60:])
    with reading(tmp_path / "state", log) as service:
        assert judged(service, len(told)) == len(told)
        wait_for(service.store.alerts)


def test_what_the_journal_did_not_get_is_read_again(tmp_path, log, monkeypatch):
    """The place is written first; only the journal says whether the lines were taken."""
    folder, told = tmp_path / "state", story()
    write(log, told[:30])
    with reading(folder, log) as service:
        judged(service, 30)
    write(log, told[30:])
    with monkeypatch.context() as patched:
        patched.setattr(following, "hand_over", lambda *args: False)  # as if killed before it
        with reading(folder, log):
            wait_for(lambda: set(json.loads((folder / "files.json").read_text())) == {"1", "2"})
    with reading(folder, log) as service:
        assert judged(service, len(told)) == len(told)


def test_a_service_that_begins_anew_goes_on_from_the_place_in_the_file(tmp_path, log, caplog):
    folder = tmp_path / "state"
    for part in (story()[:50], story()[50:]):
        write(log, part)
        with reading(folder, log) as service:
            judged(service, service.worker.position + len(part))
    shutil.rmtree(folder / "journal")
    (folder / "state.json.zst").unlink()
    with reading(folder, log) as service:
        write(log, lines([ODD], 3000, 10_000))
        assert judged(service, 3) == 3
    assert "of another journal" in caplog.text


def test_journald_is_read_through_its_own_program(tmp_path, monkeypatch):
    journal = FakeJournal(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{journal.folder}{os.pathsep}{os.environ['PATH']}")
    fitted().save(tmp_path / "model")
    settings = Settings(tmp_path / "model", tmp_path / "state", inputs=("journald",))
    service = make_service(settings, Metrics())
    service.start()
    wait_for((tmp_path / "state" / "journald.json").exists)
    journal.write("disk burns at req_1")
    wait_for(lambda: service.worker.position == 1)
    service.stop()
    assert journal.asked[-1][-1] == "--output=json"


@pytest.mark.parametrize(("what", "said"), [(".", "is a folder"), ("journald", "no journalctl")])
def test_what_cannot_be_followed_is_refused_at_the_start(tmp_path, monkeypatch, what, said):
    fitted().save(tmp_path / "model")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        make_service(Settings(tmp_path / "model", tmp_path / "state", inputs=(what,)), Metrics())


def test_a_service_that_could_never_raise_an_alert_is_refused(tmp_path):
    fitted().save(tmp_path / "model")
    settings = Settings(tmp_path / "model", tmp_path / "state", false_alarm_rate=0.001)
    with pytest.raises(ConfigError, match="nothing can be flagged"):
        make_service(settings, Metrics())


def test_a_damaged_place_is_told_of(tmp_path, log):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "files.json").write_text("[]")
    service = Service(fitted(), config(folder), clock=hurried())
    reader = FollowReader("files", lambda place: Follower([log], state=place), service)
    with pytest.raises(ArtifactError, match="damaged"):
        reader._saved(0)
    service.stop()
