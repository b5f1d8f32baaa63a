"""systemd's journal: followed from its cursor, each entry once."""

import json
import os
import time

import pytest

from journal import FakeJournal
from oddlog.errors import ArtifactError, ConfigError, FormatError
from oddlog.journald import Journal
from serving import wait_for

NOW = 0.0


@pytest.fixture
def journal(tmp_path, monkeypatch):
    made = FakeJournal(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{made.folder}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def follow_it(journal):
    opened = []

    def follow(**options):
        opened.append(Journal(**options))
        return opened[-1]

    yield follow
    for one in opened:
        one.close()


def read(feed, n):
    """Return the messages of the next so many entries, and of those that come just behind."""
    found = []

    def poll():
        found.extend(feed.poll(NOW)["text"].to_list())
        return len(found) >= n

    wait_for(poll)
    time.sleep(0.05)
    poll()
    return [json.loads(text)["MESSAGE"] for text in found]


def test_what_is_added_to_the_journal_is_read(journal, follow_it):
    journal.write("old")
    feed = follow_it()
    journal.write("one", "two")
    assert read(feed, 2) == ["one", "two"]


def test_a_journal_is_read_from_its_start_if_that_is_wanted(journal, follow_it):
    journal.write(*map(str, range(30)))
    assert read(follow_it(from_start=True), 30) == [str(n) for n in range(30)]


def test_a_restart_goes_on_behind_the_last_entry_that_was_read(journal, follow_it):
    journal.write("old")
    first = follow_it()
    journal.write("one", "two")
    read(first, 2)
    state = json.loads(json.dumps(first.state()))
    first.close()
    journal.write(*map(str, range(30)))  # more than the ten that journalctl shows by itself
    assert read(follow_it(state=state), 30) == [str(n) for n in range(30)]


def test_what_came_before_anything_was_read_is_not_lost_in_a_restart(journal, follow_it):
    journal.write("old")
    state = follow_it().state()
    journal.write("one")
    assert read(follow_it(state=state), 1) == ["one"]


def test_a_journal_that_was_empty_at_the_first_start_is_read_from_its_start(journal, follow_it):
    state = follow_it().state()
    assert state == {"cursor": None}
    journal.write("one")
    assert read(follow_it(state=state), 1) == ["one"]


def test_an_entry_that_the_journal_has_dropped_costs_no_other_one(journal, follow_it):
    journal.write("one", "two")
    state = {"cursor": "s=0;i=0;b=0;m=0;t=0;x=0"}
    assert read(follow_it(state=state), 2) == ["one", "two"]


def test_a_long_message_is_read_whole(journal, follow_it):
    journal.write("x" * 5_000)
    assert read(follow_it(from_start=True), 1) == ["x" * 5_000]


def test_entries_of_earlier_boots_are_asked_for(journal, follow_it):
    journal.write("one")
    read(follow_it(from_start=True), 1)
    assert all("--boot=all" in options for options in journal.asked)


def test_a_journalctl_that_ends_is_told_and_what_was_not_saved_comes_again(journal, follow_it):
    journal.write("one")
    feed = follow_it(from_start=True)
    state = feed.state()
    journal.crash()
    with pytest.raises(FormatError, match="ended, with status 1"):
        wait_for(lambda: feed.poll(NOW) is None)
    (journal.folder / "crash").unlink()
    assert read(follow_it(state=state), 1) == ["one"]


def test_a_machine_without_a_journal_is_told_of(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no journalctl"):
        Journal()


def test_a_damaged_state_is_refused(journal):
    with pytest.raises(ArtifactError, match="damaged"):
        Journal(state={"files": {}})
