"""Files that are followed by name, through all that happens to them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from oddlog import follow
from oddlog.errors import ArtifactError, FormatError
from oddlog.follow import LINGER_S, Follower


@pytest.fixture
def log(tmp_path):
    return tmp_path / "app.log"


@pytest.fixture
def follow_it(log):
    """Return a function that follows the log, or others, and stops when the test ends."""
    begun = []

    def begin(*paths, **settings):
        begun.append(Follower(paths or [log], **settings))
        return begun[-1]

    yield begin
    for follower in begun:
        follower.close()


def write(path, *lines, end="\n"):
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines[:-1]) + lines[-1] + end)


def poll(follower, now=0.0):
    return follower.poll(now)["text"].to_list()


def resumed(follower, follow_it):
    state = json.loads(json.dumps(follower.state()))
    follower.close()
    return follow_it(state=state)


def numbers(first, last):
    return [f"line {number}" for number in range(first, last)]


def test_only_what_is_added_is_read(log, follow_it):
    write(log, "old")
    follower = follow_it()
    write(log, "new")
    assert [poll(follower), poll(follower)] == [["new"], []]


def test_what_is_there_is_read_where_that_is_asked_for(log, follow_it):
    write(log, "old")
    assert poll(follow_it(from_start=True)) == ["old"]


def test_lines_bear_the_name_under_which_they_are_followed(log, follow_it):
    write(log, "a")
    assert follow_it(from_start=True).poll(0)["source"].to_list() == [str(log)]


def test_a_line_is_read_once_its_end_was_written(log, follow_it):
    follower = follow_it()
    write(log, "half a", end="")
    early = poll(follower)
    write(log, " line")
    assert [early, poll(follower)] == [[], ["half a line"]]


def test_a_file_may_come_later(log, follow_it):
    follower = follow_it()
    assert (poll(follower), follower.missing) == ([], [str(log)])
    write(log, "a")
    assert (poll(follower), follower.missing) == (["a"], [])


def test_a_folder_is_refused(tmp_path, follow_it):
    with pytest.raises(FormatError, match="folder"):
        follow_it(tmp_path)


def test_a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_start(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    write(log, "2")
    log.rename(log.with_suffix(".log.1"))
    write(log, "3")
    assert (poll(follower), follower.n_gaps) == (["2", "3"], 0)


def test_what_is_still_written_to_a_renamed_file_is_read(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    old = log.rename(log.with_suffix(".log.1"))
    write(log, "3")
    poll(follower, 0)
    write(old, "2")
    write(old, "unfinished", end="")
    assert poll(follower, 1) == ["2"]
    assert poll(follower, LINGER_S) == ["unfinished"]


def test_a_file_that_is_deleted_and_made_anew_is_read_from_its_start(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    write(log, "2")
    log.unlink()
    assert poll(follower) == ["2"]
    write(log, "3")
    assert poll(follower) == ["3"]


def copytruncate(log):
    shutil.copy2(log, log.with_suffix(".log.1"))
    os.truncate(log, 0)


def test_a_file_that_was_copied_and_truncated_is_read_from_its_start(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    copytruncate(log)
    write(log, "2")
    assert (poll(follower), follower.n_gaps) == (["2"], 0)


def test_what_was_cut_before_it_was_read_is_read_from_the_copy(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    write(log, "2")
    copytruncate(log)
    write(log, "3")
    assert (poll(follower), follower.n_gaps) == (["2", "3"], 0)


def test_a_file_that_grew_beyond_what_was_read_after_it_was_cut_is_read_from_its_start(
    log, follow_it
):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    copytruncate(log)
    write(log, "another beginning, and longer")
    assert poll(follower) == ["another beginning, and longer"]


def test_what_was_cut_and_is_nowhere_is_counted(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    os.truncate(log, 0)
    write(log, "x")
    assert (poll(follower), follower.n_gaps) == (["x"], 1)


def test_after_a_restart_reading_goes_on_where_it_stood(log, follow_it):
    write(log, "1", "2")
    follower = follow_it(from_start=True)
    poll(follower)
    write(log, "3")
    assert poll(resumed(follower, follow_it)) == ["3"]


@pytest.mark.parametrize("rotate", ["rename", "copytruncate"])
def test_a_rotation_during_a_restart_loses_no_line(log, rotate, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    write(log, "2")
    state = json.loads(json.dumps(follower.state()))
    follower.close()
    if rotate == "rename":
        log.rename(log.with_suffix(".log.1"))
    else:
        copytruncate(log)
    write(log, "3")
    follower = follow_it(state=state)
    assert (poll(follower), follower.n_gaps) == (["2", "3"], 0)


def test_an_inode_that_was_given_out_again_is_not_taken_for_the_old_file(log, follow_it):
    write(log, "the first file")
    follower = follow_it(from_start=True)
    poll(follower)
    state = follower.state()
    follower.close()
    log.write_text("another file, in the same place and longer than it was\n")
    assert len(poll(follow_it(state=state))) == 1


def test_what_was_given_out_after_the_last_saved_state_comes_again(log, follow_it):
    write(log, "1")
    follower = follow_it(from_start=True)
    poll(follower)
    state = follower.state()
    write(log, "2")
    poll(follower)
    assert poll(follow_it(state=state)) == ["2"]


def test_a_damaged_state_is_refused(log, follow_it):
    with pytest.raises(ArtifactError, match="damaged"):
        follow_it(state={"files": {str(log): [{"offset": 1}]}})


def test_a_backlog_comes_in_portions(log, monkeypatch, follow_it):
    monkeypatch.setattr(follow, "POLL_BYTES", 64)
    write(log, *numbers(0, 50))
    follower, found, n_polls = follow_it(from_start=True), [], 0
    while len(found) < 50:
        found += poll(follower)
        n_polls += 1
    assert (found, n_polls > 5) == (numbers(0, 50), True)


def test_the_backlog_of_a_renamed_file_comes_before_the_new_one(log, monkeypatch, follow_it):
    monkeypatch.setattr(follow, "POLL_BYTES", 64)
    write(log, *numbers(0, 30))
    follower = follow_it(from_start=True)
    found = poll(follower)
    log.rename(log.with_suffix(".log.1"))
    write(log, *numbers(30, 50))
    while len(found) < 50:
        found += poll(follower)
    assert found == numbers(0, 50)


def test_a_line_without_an_end_does_not_fill_the_memory(log, monkeypatch, follow_it):
    monkeypatch.setattr(follow, "POLL_BYTES", 64)
    monkeypatch.setattr(follow, "MAX_LINE_BYTES", 16)
    write(log, "x" * 100)
    follower = follow_it(from_start=True)
    found = [text for _ in range(9) for text in poll(follower)]
    assert ("".join(found), max(map(len, found)) <= 64) == ("x" * 100, True)


def test_bytes_that_are_no_text_are_written_out(log, follow_it):
    log.write_bytes(b"caf\xe9\r\n")
    assert poll(follow_it(from_start=True)) == ["caf\\xe9"]


@pytest.mark.parametrize("way", ["create", "copytruncate"])
@pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed")
def test_logrotate_loses_and_doubles_no_line(log, way, follow_it):
    config = log.with_name("rotate.conf")
    config.write_text(f"{log} {{\n  rotate 3\n  {way}\n}}\n")
    config.chmod(0o644)
    follower, found = follow_it(from_start=True), []
    for turn in range(3):
        write(log, *numbers(10 * turn, 10 * turn + 5))
        found += poll(follower)
        write(log, *numbers(10 * turn + 5, 10 * turn + 10))
        state = ["-s", str(log.with_name("state"))]
        subprocess.run([shutil.which("logrotate") or "", "-f", *state, str(config)], check=True)
        found += poll(follower)
    assert (found, follower.n_gaps) == (numbers(0, 30), 0)
    assert Path(f"{log}.1").exists()


def test_files_whose_names_are_not_utf8_are_told_apart(tmp_path, follow_it):
    paths = [os.fsdecode(os.fsencode(tmp_path) + b"/" + name) for name in (b"\xe8", b"\xe9")]
    for path in paths:
        write(Path(path), "a line")
    sources = follow_it(*paths, from_start=True).poll(0.0)["source"].to_list()
    assert sources == [f"{tmp_path}/\\xe8", f"{tmp_path}/\\xe9"]
