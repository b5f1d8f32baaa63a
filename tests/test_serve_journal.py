"""What was accepted is replayed, whatever a crash left of the last write."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.errors import ArtifactError, ConfigError
from oddlog.serve import journal as journals
from oddlog.serve.journal import N_HEAD, Journal, JournalError
from oddlog.serve.lines import LINE_COLUMNS


@pytest.fixture
def opened():
    """Return how to open a journal; what was opened is closed at the end."""
    journals = []

    def open_journal(folder, **options):
        journals.append(Journal(folder, **options))
        return journals[-1]

    yield open_journal
    for journal in journals:
        journal.close()


def lines(*texts):
    columns = {"source": "web", "text": list(texts), "time": None, "template": None}
    return pl.DataFrame(columns, schema=LINE_COLUMNS)


def texts(journal, position=0):
    return [t for e in journal.replay(position, journal.end) for t in e.lines["text"]]


def written(folder, *batches):
    """Write batches and close the journal; return its only segment."""
    journal = Journal(folder)
    for number, batch in enumerate(batches):
        journal.append(lines(*batch), float(number), {})
    journal.close()
    (segment,) = folder.glob("*.journal")
    return segment


def test_entries_come_back_as_they_were_written(tmp_path, opened):
    journal = opened(tmp_path)
    journal.append(lines("a", "b"), 5.5, {"topic/0": 7})
    journal.close()
    (entry,) = opened(tmp_path).replay(0, 2)
    assert (entry.first, entry.end, entry.time, entry.marks) == (0, 2, 5.5, {"topic/0": 7})
    assert entry.lines.equals(lines("a", "b"))


def test_a_replay_begins_within_an_entry(tmp_path, opened):
    written(tmp_path, ["a", "b", "c"], ["d"])
    assert texts(opened(tmp_path), 1) == ["b", "c", "d"]


def test_a_replay_ends_before_what_is_written_meanwhile(tmp_path, opened):
    journal = opened(tmp_path)
    journal.append(lines("a"), 0.0, {})
    replay = journal.replay(0, journal.end)
    journal.append(lines("b"), 1.0, {})
    assert [entry.lines["text"].to_list() for entry in replay] == [["a"]]


@pytest.fixture(scope="module")
def two_entries(tmp_path_factory):
    """Return a segment of two entries, and how long the first is."""
    folder = tmp_path_factory.mktemp("journal")
    first = written(folder, ["a", "b"]).stat().st_size
    return written(folder, ["c"]).read_bytes(), first


@given(cut=st.integers(1, 10_000))
def test_of_an_entry_torn_by_a_crash_nothing_is_left(tmp_path_factory, two_entries, cut):
    folder = tmp_path_factory.mktemp("journal")
    content, whole = two_entries
    segment = folder / f"{0:020d}.journal"
    segment.write_bytes(content[: whole + 1 + cut % (len(content) - whole - 1)])
    torn = segment.stat().st_size - whole
    with Journal(folder) as journal:
        assert journal.n_torn == torn > 0
        assert texts(journal) == ["a", "b"]


def test_zeros_at_the_end_are_an_unfinished_write(tmp_path, opened):
    segment = written(tmp_path, ["a"])
    with segment.open("ab") as file:
        file.write(bytes(5000))
    journal = opened(tmp_path)
    assert journal.n_torn == 5000
    assert texts(journal) == ["a"]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_damage_before_the_end_is_an_error_wherever_it_is(
    tmp_path_factory, two_entries, place, bit
):
    folder = tmp_path_factory.mktemp("journal")
    content, whole = bytearray(two_entries[0]), two_entries[1]
    content[place % whole] ^= 1 << bit
    (folder / f"{0:020d}.journal").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged at byte 0"):
        Journal(folder)


def test_new_entries_follow_a_torn_one(tmp_path, opened):
    segment = written(tmp_path, ["a"])
    with segment.open("ab") as file:
        file.write(b"torn")
    journal = opened(tmp_path)
    journal.append(lines("b"), 1.0, {})
    journal.close()
    assert texts(opened(tmp_path)) == ["a", "b"]


def test_segments_are_deleted_once_all_of_their_lines_are_judged(tmp_path, opened):
    journal = opened(tmp_path, segment_bytes=1)  # a segment for each entry
    for text in "abc":
        journal.append(lines(text), 0.0, {})
    assert journal.drop(1) == 1
    assert texts(journal, 1) == ["b", "c"]


def test_the_last_segment_stays_for_its_name_says_where_the_journal_is(tmp_path, opened):
    journal = opened(tmp_path, segment_bytes=1)
    for text in "ab":
        journal.append(lines(text), 0.0, {})
    journal.drop(2)
    journal.close()
    assert opened(tmp_path).end == 2


def test_a_missing_segment_is_an_error(tmp_path, opened):
    journal = opened(tmp_path, segment_bytes=1)
    for text in "abc":
        journal.append(lines(text), 0.0, {})
    sorted(tmp_path.glob("*.journal"))[1].unlink()
    with pytest.raises(ArtifactError, match="a segment of the journal is missing"):
        texts(journal)


def test_an_empty_journal_begins_where_the_saved_state_is(tmp_path, opened):
    journal = opened(tmp_path, begin=41)
    assert journal.append(lines("a"), 0.0, {}).first == 41


def test_a_journal_that_lacks_judged_lines_is_not_the_one_of_the_state(tmp_path, opened):
    written(tmp_path, ["a"])
    with pytest.raises(ArtifactError, match="not of the same service"):
        opened(tmp_path, begin=2)


def test_a_folder_has_one_journal_at_a_time(tmp_path, opened):
    first = opened(tmp_path)
    with pytest.raises(ConfigError, match="in use by another process"):
        opened(tmp_path)
    first.close()
    opened(tmp_path)


def test_a_full_disk_refuses_a_write_and_keeps_what_was_there(tmp_path, monkeypatch, opened):
    journal = opened(tmp_path)
    journal.append(lines("a"), 0.0, {})

    def half(file, content):
        file.write(content[: N_HEAD + 3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journals, "_write", half)
        with pytest.raises(JournalError, match="No space left on device"):
            journal.append(lines("b"), 1.0, {})
    journal.append(lines("c"), 2.0, {})
    assert texts(journal) == ["a", "c"]


WRITER = """
import sys
from pathlib import Path
import test_serve_journal
from oddlog.serve.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=20_000)
for number in range(100_000):
    journal.append(test_serve_journal.lines(*(f"line {number}.{i}" for i in range(20))), 0.0, {})
    print(journal.end, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path, opened):
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
        acknowledged = 0
        while acknowledged < 1500:
            acknowledged = int(writer.stdout.readline())
        writer.kill()
        rest = writer.stdout.read().split()
    journal = opened(tmp_path)
    found = texts(journal)
    assert journal.end >= (int(rest[-1]) if rest else acknowledged)
    assert found == [f"line {n // 20}.{n % 20}" for n in range(journal.end)]
