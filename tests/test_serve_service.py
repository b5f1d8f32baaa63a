"""Lines in, alerts in the store; whatever happens in between, none is lost."""

from dataclasses import replace

import polars as pl
import pytest

from oddlog.errors import ArtifactError, ConfigError
from oddlog.serve.inbox import FullError, Room
from oddlog.serve.saved import load, save
from oddlog.serve.service import OTHERS, Service
from oddlog.serve.store import StoreError, Wanted
from serving import BURNS, STORY, config, running, story, table, wait_for
from watching import ODD, START, USUAL, fitted, lines


def test_an_odd_session_is_an_alert_in_the_store(tmp_path):
    with running(tmp_path) as service:
        assert service.submit(table(story())).result(10) == 123
        (alert,) = wait_for(service.store.alerts)
    assert alert.session == BURNS
    assert alert.source == "web"
    assert any(c["text"].endswith(f"disk burns at {BURNS}") for c in alert.record["culprits"])


def test_what_was_accepted_is_judged_before_the_service_ends(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
    with running(tmp_path) as service:
        assert [alert.session for alert in service.store.alerts()] == [BURNS]


def test_a_session_that_is_open_at_the_end_goes_on_after_a_restart(tmp_path):
    told = lines([ODD])
    late = {"watch": config(tmp_path).watch.model_copy(update={"early": False})}
    with running(tmp_path, clock=lambda: START, **late) as service:
        service.submit(table(told[:2])).result(10)
    with running(tmp_path, clock=lambda: START, **late) as service:
        assert service.store.alerts() == []
        service.submit(table([*told[2:], *lines([USUAL], 2000, 500)])).result(10)
        (alert,) = wait_for(service.store.alerts)
        assert alert.record["n_events"] == 3


def test_lines_that_no_state_holds_are_judged_again(tmp_path):
    service = Service(fitted(), config(tmp_path), clock=lambda: START + 10_000)
    service.inbox.start()  # as if it was killed between journal and worker
    service.submit(table(story())).result(10)
    service.inbox.close()
    service.journal.close()
    service.store.close()
    with running(tmp_path) as service:
        (alert,) = wait_for(service.store.alerts)
    assert alert.session == BURNS


def test_a_replay_gives_the_same_alerts_and_no_other(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (before,) = wait_for(service.store.alerts)
    (tmp_path / "state.json.zst").unlink()  # everything is judged again
    with running(tmp_path) as service:
        wait_for(lambda: service.worker.position == 123)
        (after,) = service.store.alerts()
    assert (after.id, after.count) == (before.id, before.count)


def test_what_does_not_fit_is_refused_with_a_time_to_come_again(tmp_path):
    service = Service(fitted(), config(tmp_path, room=Room(n_lines=150)), clock=lambda: START)
    service.inbox.start()
    service.submit(table(story())).result(10)
    with pytest.raises(FullError) as refused:
        service.submit(table(story()))
    assert refused.value.retry_s >= 1
    service.start_worker()
    wait_for(lambda: service.inbox.n_lines == 0)
    assert service.submit(table(story(2000))).result(10) == 123
    service.stop()
    assert service.worker.position == 246


def test_more_than_all_the_room_is_taken_when_there_is_all_of_it(tmp_path):
    with running(tmp_path, room=Room(n_lines=10)) as service:
        assert service.submit(table(story())).result(10) == 123


def test_a_database_that_fails_for_a_while_delays_alerts_and_loses_none(tmp_path, monkeypatch):
    with running(tmp_path) as service:
        put, failures = service.store.put, iter([True, True])

        def failing(*args, **options):
            if next(failures, False):
                raise StoreError("disk I/O error")
            return put(*args, **options)

        monkeypatch.setattr(service.store, "put", failing)
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
        assert alert.session == BURNS
        assert service.unready() is None


def test_ending_while_the_database_fails_leaves_the_lines_in_the_journal(tmp_path, monkeypatch):
    def failing(*args, **options):
        raise StoreError("disk I/O error")

    with running(tmp_path) as service, monkeypatch.context() as patched:
        patched.setattr(service.store, "put", failing)
        service.submit(table(story())).result(10)
        wait_for(lambda: service.worker.trouble)
        assert service.unready() == "disk I/O error"
        service.stop()
    with running(tmp_path) as service:
        assert [alert.session for alert in wait_for(service.store.alerts)] == [BURNS]


def test_a_false_alarm_silences_what_is_odd_in_the_same_way(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
        said = service.feedback(alert.id, "false_alarm")
        assert said.verdict == "false_alarm"
        service.submit(table(lines([ODD], 3000, 10_000))).result(10)
        wait_for(lambda: service.worker.position == 126)
        wait_for(lambda: service.worker.stats.n_silenced)
        assert len(service.store.alerts()) == 1


def test_feedback_that_is_taken_back_silences_nothing(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
        service.feedback(alert.id, "false_alarm")
        assert service.feedback(alert.id, None).verdict == "none"
        assert service.watcher.feedback_store.all() == []


def test_feedback_outlives_a_restart(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
        service.feedback(alert.id, "snooze", START + 1e6)
    with running(tmp_path) as service:
        (kept,) = service.watcher.feedback_store.all()
        assert (kept.verdict, kept.until.timestamp()) == ("snooze", START + 1e6)


def test_feedback_on_an_alert_that_the_watcher_has_forgotten_is_kept(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
    (tmp_path / "state.json.zst").unlink()
    for segment in (tmp_path / "journal").glob("*.journal"):
        segment.unlink()
    with running(tmp_path) as service:
        assert service.feedback(alert.id, "false_alarm").verdict == "false_alarm"
        assert [kept.signature for kept in service.watcher.feedback_store.all()] == [
            alert.signature
        ]


def test_feedback_on_no_alert_is_none(tmp_path):
    with running(tmp_path) as service:
        assert service.feedback("no such", "real") is None


def test_a_batch_is_judged_as_a_file_would_be(tmp_path):
    with running(tmp_path) as service:
        records = service.score(table(story()))
        assert [record["key"] for record in records] == [BURNS]
        assert len(service.score(table(story()), every=True)) == len(STORY)
        assert service.worker.position == 0


def test_a_batch_without_a_session_has_no_verdict(tmp_path):
    with running(tmp_path) as service:
        assert service.score(table(["no session here"])) == []
        assert service.score(table([])) == []


def test_sources_beyond_the_limit_become_one(tmp_path):
    with running(tmp_path, max_sources=2) as service:
        texts = lines([USUAL, ODD])
        many = pl.concat([table([text], f"pod-{i}") for i, text in enumerate(texts)])
        service.submit(many).result(10)
        wait_for(lambda: service.worker.position == 6)
        assert set(service.watcher.state()["intake"]["sources"]) == {"pod-0", "pod-1", OTHERS}


def test_the_last_minutes_say_what_came(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        wait_for(lambda: service.worker.stats.n_windows == len(STORY))
        rows = service.worker.minutes.rows()
        assert sum(row.n_lines for row in rows) == 123
        assert sum(row.n_windows for row in rows) == len(STORY)
        assert sum(row.n_alerts for row in rows) == 1
        assert max(row.high for row in rows) > 0


def test_the_state_of_another_model_is_refused(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        wait_for(service.store.alerts)
    saved = load(tmp_path)
    save(tmp_path, replace(saved, watcher={**saved.watcher, "model": "another"}))
    with pytest.raises(ArtifactError, match="of another model"):
        Service(fitted(), config(tmp_path))


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / "state.json.zst").write_bytes(b"\x28\xb5\x2f\xfd nonsense")
    with pytest.raises(ArtifactError, match="damaged"):
        Service(fitted(), config(tmp_path))


def test_two_services_do_not_share_a_folder(tmp_path):
    with running(tmp_path), pytest.raises(ConfigError, match="in use by another process"):
        Service(fitted(), config(tmp_path))


class Recording:
    """A sink that remembers, and fails as often as it is told to."""

    def __init__(self, n_failures=0):
        self.alerts = []
        self._left = n_failures

    def send(self, alert):
        if self._left:
            self._left -= 1
            raise StoreError("no answer")
        self.alerts.append(alert)


def test_an_alert_is_delivered_once(tmp_path):
    sink = Recording()
    with running(tmp_path, sinks={"hook": sink}) as service:
        service.submit(table(story())).result(10)
        wait_for(lambda: sink.alerts)
        wait_for(lambda: not service.store.n_due())
    with running(tmp_path, sinks={"hook": sink}):
        pass
    assert [alert.key for alert in sink.alerts] == [BURNS]


def test_a_sink_that_does_not_answer_has_its_alerts_later(tmp_path, monkeypatch):
    monkeypatch.setattr("oddlog.serve.delivery.FIRST_WAIT_S", 0.01)
    sink = Recording(n_failures=2)
    with running(tmp_path, sinks={"hook": sink}) as service:
        service.submit(table(story())).result(10)
        wait_for(lambda: sink.alerts)


def test_what_was_not_delivered_is_delivered_after_a_restart(tmp_path):
    failing, sink = Recording(n_failures=1000), Recording()
    with running(tmp_path, sinks={"hook": failing}) as service:
        service.submit(table(story())).result(10)
        wait_for(service.store.n_due)
    with running(tmp_path, sinks={"hook": sink}):
        wait_for(lambda: sink.alerts)


def test_alerts_are_found_by_what_they_are(tmp_path):
    with running(tmp_path) as service:
        service.submit(table(story())).result(10)
        (alert,) = wait_for(service.store.alerts)
        found = {
            name: len(service.store.alerts(Wanted(**{name: value})))
            for name, value in {
                "source": "web", "session": BURNS, "signature": alert.signature,
                "text": "DISK BURNS", "since": alert.raised, "verdict": "none",
            }.items()
        }  # fmt: skip
        assert set(found.values()) == {1}, found
        for other in (Wanted(source="db"), Wanted(text="100%"), Wanted(until=alert.raised)):
            assert service.store.alerts(other) == []
