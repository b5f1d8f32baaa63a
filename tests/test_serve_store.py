"""What the database keeps, and what it says when it cannot."""

import os
import shutil
import sqlite3
import subprocess
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from oddlog.alerts import Feedback
from oddlog.errors import ArtifactError, ConfigError
from oddlog.findings import Alert
from oddlog.serve import tables
from oddlog.serve.store import Store, StoreError, Wanted

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ALERT = Alert(
    key="req_7", score=2.5, p_value=0.01, threshold=1.0, first_time=NOW, last_time=NOW,
    sources=("web", "db"), lines=(("web", 3, "disk \x00 burns"),), culprits=(), count=1,
    model="key_set", id="a1", signature="unknown: disk <*> burns", raised=NOW, n_events=1,
)  # fmt: skip


@pytest.fixture
def store(tmp_path):
    made = Store(f"sqlite:///{tmp_path / 'alerts.db'}")
    yield made
    made.close()


def said(verdict="false_alarm", alert_id="a1", until=None):
    return Feedback(alert_id, verdict, ALERT.signature, (2.5, 3.0), NOW, until)


def test_an_alert_comes_back_as_it_was(store):
    store.put([ALERT], 5.0)
    (kept,) = store.alerts()
    assert kept.alert == ALERT
    assert (kept.source, kept.session, kept.raised) == ("web", "req_7", NOW.timestamp())


def test_an_alert_that_comes_again_replaces_itself_and_keeps_its_verdict(store):
    assert store.put([ALERT], 5.0) == 1
    store.put_feedback(said())
    assert store.put([replace(ALERT, count=9)], 6.0) == 0
    (kept,) = store.alerts()
    assert (kept.count, kept.verdict) == (9, "false_alarm")


def test_every_change_has_a_revision_of_its_own(store):
    store.put([ALERT, replace(ALERT, id="a2")], 5.0)
    store.put([replace(ALERT, count=2)], 6.0)
    store.put_feedback(said(alert_id="a2"))
    assert [(kept.id, kept.revision) for kept in store.changed(0)] == [("a1", 3), ("a2", 4)]
    assert store.revision == 4


def test_of_two_of_one_id_in_one_go_the_last_counts(store):
    store.put([ALERT, replace(ALERT, count=2)], 5.0)
    assert [kept.count for kept in store.alerts()] == [2]


def test_only_what_was_said_last_counts(store):
    store.put([ALERT], 5.0)
    store.put_feedback(said("real"))
    store.put_feedback(said("snooze", until=NOW))
    assert store.feedback() == [said("snooze", until=NOW)]
    store.withdraw_feedback("a1", 9.0)
    assert store.feedback() == []
    assert [row["verdict"] for row in store.feedback_of("a1")] == ["real", "snooze", "none"]


def test_feedback_on_no_alert_is_not_kept(store):
    store.put_feedback(said(alert_id="none such"))
    assert store.feedback() == []


def test_a_new_alert_is_due_at_each_sink_until_it_is_delivered(store):
    store.put([ALERT], 5.0, sinks=["hook", "mail"])
    store.put([replace(ALERT, count=2)], 6.0, sinks=["hook", "mail"])
    assert [kept.id for kept in store.due("hook")] == ["a1"]
    store.delivered("hook", ["a1"])
    assert store.n_due() == {"mail": 1}


def test_offsets_are_kept_with_the_alerts_or_not_at_all(store, monkeypatch):
    store.put([], 5.0, offsets={"logs/0": 7, "logs/1": 2})
    store.put([ALERT], 5.0, offsets={"logs/0": 9})
    assert store.offsets() == {"logs/0": 9, "logs/1": 2}
    with pytest.raises(StoreError):
        store.put([replace(ALERT, id="a2", score=None)], 6.0, offsets={"logs/0": 11})
    assert store.offsets()["logs/0"] == 9


def test_a_text_with_wildcards_is_searched_as_it_is(store):
    store.put([ALERT], 5.0)
    assert store.alerts(Wanted(text="BURNS"))
    assert not store.alerts(Wanted(text="%burns"))


def test_readers_do_not_wait_for_a_writer(store, tmp_path):
    store.put([ALERT], 5.0)
    writer = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    found = []
    reader = threading.Thread(target=lambda: found.extend(store.alerts()))
    reader.start()
    reader.join(5)
    writer.close()
    assert len(found) == 1


def test_tables_of_another_version_are_refused(tmp_path, store):
    with sqlite3.connect(tmp_path / "alerts.db") as connection:
        connection.execute("UPDATE oddlog_meta SET value = '0'")
    connection.close()
    with pytest.raises(ArtifactError, match="of version 0, this oddlog reads 1"):
        Store(f"sqlite:///{tmp_path / 'alerts.db'}")


@pytest.mark.parametrize(
    "url", ["nonsense", "mysql://host/name", "sqlite:////no/such/folder/alerts.db"]
)
def test_a_database_that_cannot_be_used_is_a_setting_to_change(url):
    with pytest.raises(ConfigError):
        Store(url)


def test_a_password_is_not_shown():
    with pytest.raises(ConfigError) as error:
        Store("postgresql://oddlog:secret@127.0.0.1:1/none")
    assert "secret" not in str(error.value)
    assert "***" in str(error.value)


def test_what_is_written_is_sql_that_postgresql_takes():
    dialect = postgresql.dialect()
    for table in tables.metadata.sorted_tables:
        assert "CREATE TABLE" in str(sa.schema.CreateTable(table).compile(dialect=dialect))
        sql = str(tables.upsert(table, "postgresql").compile(dialect=dialect))
        assert "ON CONFLICT" in sql


NOBODY = 65534


@pytest.fixture
def postgres(tmp_path_factory):
    """Run a PostgreSQL server as nobody, and return the URL of its database."""
    if not shutil.which("initdb") or os.getuid():
        pytest.skip("needs root and PostgreSQL's initdb and pg_ctl")
    pytest.importorskip("psycopg")
    folder = tmp_path_factory.mktemp("postgres")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    os.chown(folder, NOBODY, NOBODY)
    place = folder / "data"

    def run(*command):
        subprocess.run(command, check=True, user=NOBODY, stdout=subprocess.DEVNULL, timeout=120)

    run("initdb", "-D", place, "-A", "trust", "-U", "oddlog")
    options = f"-k {folder} -c listen_addresses=''"
    run("pg_ctl", "-D", place, "-o", options, "-l", folder / "log", "-w", "start")
    yield f"postgresql://oddlog@/postgres?host={folder}"
    run("pg_ctl", "-D", place, "-m", "fast", "stop")


@pytest.mark.slow
def test_postgresql_keeps_what_sqlite_keeps(postgres):
    store = Store(postgres)
    assert store.put([ALERT], 5.0, sinks=["hook"], offsets={"logs/0": 3}) == 1
    assert store.put([replace(ALERT, count=4)], 6.0) == 0
    store.put_feedback(said())
    (kept,) = store.alerts(Wanted(text="BURNS", source="web"))
    assert kept.alert == replace(ALERT, count=4)
    assert (kept.verdict, kept.revision) == ("false_alarm", 3)
    assert (store.feedback(), store.n_due(), store.offsets()) == (
        [said()], {"hook": 1}, {"logs/0": 3},
    )  # fmt: skip
    store.close()
