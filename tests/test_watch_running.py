"""From lines written to a file to alerts told: the loop, its state, the command."""

import json
import os
import shutil
import subprocess
import sys
from itertools import count

import pytest

from oddlog.alerts import AlertingConfig, Outlets
from oddlog.config import build
from oddlog.errors import ArtifactError, ConfigError
from oddlog.follow import Follower, Pipe
from oddlog.watch import WatchConfig, Watcher
from oddlog.watch.running import SAVE_S, Clock, Keeper, run
from watching import ODD, START, USUAL, fitted, lines


class Shown:
    def __init__(self):
        self.told, self.stats = [], None

    def alerts(self, begun):
        self.told += begun

    def status(self, stats, now):
        self.stats = stats


def scripted(steps, every_s=1.0):
    """Return a clock that takes a step each time it is waited for, and stops after the last."""
    ticks, steps = count(), iter([*steps, None])

    def wait(_):
        step = next(steps)
        if step is not None:
            step()
        return step is None

    return Clock(lambda: START + every_s * next(ticks), wait)


def writes(path, told):
    def write():
        with path.open("a") as file:
            file.write("".join(f"{line}\n" for line in told))

    return write


def idle():
    pass


@pytest.fixture
def log(tmp_path):
    return tmp_path / "app.log"


def watched(log, steps, *, config=None, keeper=None, told=None, every_s=1.0):
    """Follow a log through the steps; return what was shown."""
    pipeline = fitted("new_event")
    saved = keeper.load() if keeper else None
    store = keeper.feedback if keeper else None
    if saved:
        watcher = Watcher.restore(pipeline, saved["watcher"], config=config, feedback=store)
    else:
        watcher = Watcher(pipeline, config, feedback=store)
    feed = Follower([log], from_start=True, state=saved and saved["feed"])
    outlets = Outlets(build(AlertingConfig, {"file": told} if told else {}, "test"), lambda: START)
    shown = Shown()
    run(watcher, feed, outlets, shown, scripted(steps, every_s), keeper=keeper)
    feed.close()
    return shown


def renamed(log):
    return lambda: log.rename(log.with_suffix(".log.1"))


def copied_and_cut(log):
    def rotate():
        shutil.copy2(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)

    return rotate


@pytest.mark.parametrize("rotation", [renamed, copied_and_cut])
def test_an_odd_session_across_a_rotation_is_one_alert(log, tmp_path, rotation):
    session, told = lines([USUAL, USUAL, ODD, USUAL]), tmp_path / "alerts.jsonl"
    steps = [
        writes(log, session[:7]),
        idle,
        writes(log, session[7:8]),  # the odd line itself is written just before the rotation
        rotation(log),
        writes(log, session[8:]),
        *[idle] * 4,
    ]
    shown = watched(log, steps, told=told)
    assert [alert.key for alert in shown.told] == ["req_1002"]
    assert shown.stats.n_lines == len(session)
    (record,) = map(json.loads, told.read_text().splitlines())
    assert record["rule"]["name"] == "unknown: disk burns at <SESSION>"
    assert record["event"]["id"] == shown.told[0].id


def test_a_restart_in_the_middle_of_a_session_goes_on(log, tmp_path):
    session, keeper = lines([USUAL, ODD, USUAL]), Keeper(tmp_path / "state")
    config = WatchConfig(early=False)
    first = watched(log, [writes(log, session[:4]), idle], keeper=keeper, config=config)
    second = watched(log, [writes(log, session[4:]), *[idle] * 4], keeper=keeper, config=config)
    assert (first.told, second.stats.n_lines) == ([], len(session))
    (alert,) = second.told
    assert [text[20:] for _, _, text in alert.lines] == [f"{step} req_1001" for step in ODD]


def test_what_was_not_saved_comes_again_under_the_same_id(log, tmp_path):
    """As after ``kill -9``: the state is that of a while ago."""
    keeper = Keeper(tmp_path / "state")
    watched(log, [writes(log, lines([USUAL]))], keeper=keeper)
    state = (keeper.folder / "state.json").read_text()
    more = lines([ODD, USUAL], first=2000, second=60)
    once = watched(log, [writes(log, more), *[idle] * 4], keeper=keeper)
    (keeper.folder / "state.json").write_text(state)
    again = watched(log, [idle] * 4, keeper=keeper)
    assert [alert.id for alert in again.told] == [alert.id for alert in once.told]
    assert len(once.told) == 1


def test_the_state_is_saved_from_time_to_time(log, tmp_path):
    keeper, found = Keeper(tmp_path / "state"), []
    steps = [lambda: found.append(keeper.load() is not None)] * 2
    watched(log, [*steps, *[idle] * 4, *steps], keeper=keeper, every_s=SAVE_S / 4)
    assert found == [False, False, True, True]


def test_feedback_from_another_process_is_followed(log, tmp_path):
    keeper = Keeper(tmp_path / "state")
    (alert,) = watched(log, [writes(log, lines([ODD])), *[idle] * 4], keeper=keeper).told
    keeper.say(alert.id, "false_alarm", {"given": alert.raised})
    more = writes(log, lines([ODD, USUAL], first=2000, second=60))
    later = watched(log, [more, *[idle] * 4], keeper=keeper, config=WatchConfig(story_s=1))
    assert (later.told, later.stats.n_silenced) == ([], 1)


def test_feedback_on_an_unknown_alert_or_without_a_watch_is_refused(log, tmp_path):
    keeper = Keeper(tmp_path / "state")
    with pytest.raises(ArtifactError, match="no state"):
        keeper.say("x", "real", {})
    watched(log, [idle], keeper=keeper)
    with pytest.raises(ConfigError, match="'x'"):
        keeper.say("x", "real", {})


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense"])
def test_a_damaged_state_is_refused(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        Keeper(tmp_path).load()


def test_a_pipe_gives_whole_lines_and_at_its_end_the_rest():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file:
        pipe = Pipe(file, "-")
        found = []
        for part in (b"a\nb", b"", b"c\nd", None):
            os.close(write) if part is None else os.write(write, part)
            found.append(pipe.poll(START)["text"].to_list())
        assert (found, pipe.ended) == ([["a"], [], ["bc"], ["d"]], True)


def test_what_waits_for_a_receiver_outlives_the_process(tmp_path):
    settings = {"webhook": [{"url": "http://127.0.0.1:9/"}], "retry": {"first_s": 60}}
    config = build(AlertingConfig, settings, "test")
    watcher = Watcher(fitted("new_event"))
    alerts = watcher.push(lines([ODD, USUAL]), START)
    outlets = Outlets(config, lambda: START)
    outlets.tell(alerts)
    state = json.loads(json.dumps(outlets.state()))
    outlets.close(0.01)
    again = Outlets(config, lambda: START)
    again.load(state)
    assert again.outboxes[0].waiting() == alerts
    again.close(0.01)


def test_the_command_reads_standard_input_to_its_end(tmp_path):
    fitted("new_event").save(tmp_path / "model")
    told = "\n".join([*lines([USUAL, ODD, USUAL]), ""])
    command = [sys.executable, "-c", "from oddlog.cli import main; main()", "watch", "-"]
    more = ["--model", str(tmp_path / "model"), "--alerts", str(tmp_path / "a.jsonl")]
    done = subprocess.run(
        [*command, *more], input=told, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "9 lines, 3 windows judged, 1 alerts\n")
    (record,) = map(json.loads, done.stdout.splitlines())
    assert record["oddlog"]["key"] == "req_1001"
    assert json.loads((tmp_path / "a.jsonl").read_text()) == record


def test_a_watch_that_could_never_raise_an_alert_is_refused(tmp_path, capsys, monkeypatch):
    from oddlog.cli import main

    fitted("new_event").save(tmp_path / "model")
    options = ["-", "--model", str(tmp_path / "model"), "--false-alarm-rate", "0.001"]
    monkeypatch.setattr(sys, "argv", ["oddlog", "watch", *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert "nothing can be flagged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "its end; --from-start reads what is there already"),
        (["--from-start"], "its start"),
        (["--state", "state"], "where the watch before it stood"),
    ],
)
def test_a_watch_tells_where_it_begins_and_what_is_not_there(
    options, said, capsys, monkeypatch, tmp_path
):
    from oddlog.cli import main

    monkeypatch.chdir(tmp_path)
    fitted("new_event").save(tmp_path / "model")
    (tmp_path / "a.log").write_text("one line\n")
    command = ["oddlog", "watch", "a.log", "b.log", "--model", "model", *options]
    monkeypatch.setattr(sys, "argv", command)
    at_once = Clock(lambda: START, lambda _: True)
    monkeypatch.setattr("oddlog.watch.running.Clock", lambda *_: at_once)
    for _ in range(1 + ("--state" in options)):
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
    told = capsys.readouterr().err.splitlines()[-3:-1]
    assert told == [
        f"watching a.log, b.log, from {said}",
        "b.log: not there yet; it is read once it is",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name files"),
        (["-", "a.log"], "one of them"),
        (["a.log", "--budget", "many"], "20/day"),
        (["a.log", "--webhook", "ftp://a"], "http"),
        (["a.log", "--set", "stori_s=1"], "story_s"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said, capsys, monkeypatch, tmp_path):
    from oddlog.cli import main

    monkeypatch.setattr(sys, "argv", ["oddlog", "watch", "--model", str(tmp_path), *options])
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, said in capsys.readouterr().err) == (1, True)
