"""Logs with more events than are to be held while learning: whole sessions or windows, drawn."""

import itertools
import logging
import statistics
from pathlib import Path
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import oddlog
from oddlog.errors import ConfigError
from oddlog.group import Window, group
from oddlog.pipeline import PipelineConfig
from oddlog.pipeline.prepare import cut_log, read_sources
from oddlog.pipeline.reading import Reading
from oddlog.pipeline.sample import hold
from oddlog.run import Run

N_SESSIONS = 400
STEPS = ("open req_{}", "read req_{}", "close req_{}")
BY = "req_[0-9]+"


def write_log(path: Path) -> Path:
    """Write sessions of three or six lines, interleaved; some lines are also another one's."""
    lines = ["2026-03-01T00:00:00+00:00 a app: nothing named"]
    for number in range(N_SESSIONS):
        time = f"2026-03-01T{number // 60:02d}:{number % 60:02d}"
        for second, text in enumerate(STEPS * (1 + number % 2)):
            other = f" after req_{number - 1}" if number % 7 == 3 and not second else ""
            lines.append(f"{time}:{second:02d}+00:00 a app: {text.format(number)}{other}")
    path.write_text("\n".join(sorted(lines)) + "\n")
    return path


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("sample") / "long.log")


def read(log, window="session"):
    return Reading([log], "syslog_iso", BY, Window.parse(window))


def by_session(events):
    """Return the lines of each session, by its id."""
    sequences, _ = group(events, Window())
    return {
        key: sequences.lines(i)["line"].to_list() for i, key in enumerate(sequences.keys.to_list())
    }


def test_of_a_log_that_is_short_enough_all_is_held(log):
    held = hold(read(log), 10_000, seed=0)
    whole, reports = read_sources([log], "syslog_iso", BY)
    assert_frame_equal(held.events, whole.drop("raw"))
    assert (held.reads, held.summary()) == (reports, None)


def test_of_a_longer_one_whole_sessions_are_held_and_no_more_events_than_asked(log):
    held = hold(read(log), 500, seed=0)
    whole = by_session(read_sources([log], "syslog_iso", BY)[0])
    drawn = by_session(held.events)
    assert 0 < held.events.height <= 500
    assert drawn == {key: whole[key] for key in drawn}


def test_each_session_has_the_same_chance(log):
    held = hold(read(log), 500, seed=0)
    drawn = by_session(held.events)
    assert len(drawn) == pytest.approx(held.share * N_SESSIONS, rel=0.3)
    n_long = sum(int(key.removeprefix("req_")) % 2 for key in drawn)
    assert n_long == pytest.approx(len(drawn) / 2, rel=0.4)


def test_the_same_seed_draws_the_same_and_another_seed_others(log):
    first, again, other = (hold(read(log), 500, seed=seed).events for seed in (0, 0, 1))
    assert_frame_equal(first, again)
    assert set(by_session(first)) != set(by_session(other))


def test_what_is_drawn_is_told(log):
    held = hold(read(log), 500, seed=0)
    assert held.n_events == sum(report.n_events for report in held.reads) == 1801
    told = held.summary()
    assert told is not None
    assert told.startswith(f"{held.events.height:,} of 1,801 events held")


def test_the_log_ends_where_it_ends_though_its_last_session_is_not_held(log):
    whole = hold(read(log), 10_000, seed=0)
    assert_frame_equal(hold(read(log), 60, seed=0).ends, whole.ends)


def windows_of(sequences):
    """Return key, source, lines, start and end of each window, in order."""
    starts, ends = sequences.starts.tolist(), sequences.ends.tolist()
    return [
        (key, *sequences.lines(i).select("source", "line").rows(), starts[i], ends[i])
        for i, key in enumerate(sequences.keys.to_list())
    ]


def write_hosts(path: Path, seed: int) -> Path:
    """Write a log of two hosts, with lines out of order in time, and a first one without time."""
    draw = Random(seed)
    seconds = [4 * number - draw.choice((0, 0, 0, 9)) for number in range(1, 900)]
    times = [f"2026-03-01T{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}+00:00" for s in seconds]
    lines = [f"{time} {draw.choice('ab')} app: step {k % 5}" for k, time in enumerate(times)]
    path.write_text("\n".join(["up", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    "window",
    ["lines:10", "lines:10/3", "time:60s", "time:60s/25s", "lines:8,per=host", "time:60s,per=host"],
)
def test_drawn_windows_are_those_of_the_log_read_whole(window, tmp_path):
    log = write_hosts(tmp_path / "hosts.log", 1)
    reading = Reading([log], "syslog_iso", None, Window.parse(window))
    held = hold(reading, 300, seed=0)
    whole = windows_of(group(read_sources([log], "syslog_iso", None)[0], reading.window)[0])
    drawn = windows_of(held.windows.sequences)
    assert 0 < held.events.height <= 300
    assert 3 < len(drawn) < len(whole) / 2
    assert drawn == [each for each in whole if each in drawn]


@pytest.mark.parametrize("window", ["lines:10", "time:60s"])
def test_windows_of_several_files_are_drawn_each_by_itself(window, tmp_path):
    logs = [write_hosts(tmp_path / f"{name}.log", seed) for seed, name in enumerate("ba")]
    reading = Reading(logs, "syslog_iso", None, Window.parse(window))
    drawn = windows_of(hold(reading, 600, seed=0).windows.sequences)
    whole = windows_of(group(read_sources(logs, "syslog_iso", None)[0], reading.window)[0])
    assert sorted(drawn) == sorted(each for each in whole if each in drawn)
    suffixes = [
        {key.removeprefix(str(log)) for key, *_ in drawn if key.startswith(str(log))}
        for log in logs
    ]
    assert all(suffixes)
    assert suffixes[0] != suffixes[1]


@pytest.mark.parametrize("window", ["session,gap=3s", "session,age=2s", "session,gap=3s,max=4"])
@pytest.mark.parametrize("n_files", [1, 2])
def test_sessions_that_the_clock_ends_are_drawn_with_it(window, n_files, log, tmp_path):
    lines = log.read_text().splitlines(keepends=True)
    logs = [tmp_path / f"{name}.log" for name in "ba"[:n_files]]
    for number, part in enumerate(logs):
        part.write_text("".join(lines[number::n_files]))
    reading = Reading(logs, "syslog_iso", BY, Window.parse(window))
    held = hold(reading, 500, seed=0)
    whole = group(read_sources(logs, "syslog_iso", BY)[0], reading.window)[0]
    ids = set(held.events["sessions"].explode())
    of_drawn = [key.split("~")[0] in ids for key in whole.keys]
    expected = sorted(windows_of(whole.take(of_drawn)))
    assert sorted(windows_of(group(held.events, reading.window, held.clock)[0])) == expected
    assert 0 < held.events.height <= 500
    assert 10 < len(expected) < len(whole) / 2


def test_each_window_has_the_same_chance(log):
    chances = [0] * 37
    for seed in range(40):
        for key in hold(read(log, "lines:50"), 700, seed=seed).windows.sequences.keys:
            chances[int(key.rsplit(":")[-1]) // 50] += 1
    assert min(chances) > 0
    spread = statistics.variance(chances) / statistics.mean(chances)
    assert spread == pytest.approx(1 - statistics.mean(chances) / 40, rel=0.6)  # binomial


def test_the_same_seed_draws_the_same_windows_wherever_the_log_lies(log, tmp_path):
    other = tmp_path / "elsewhere.log"
    other.write_text(log.read_text())
    first, again, there = (
        hold(read(place, "lines:10"), 500, seed=seed).windows.sequences
        for place, seed in ((log, 0), (log, 0), (other, 0))
    )
    assert windows_of(first) == windows_of(again)
    assert first.events["line"].to_list() == there.events["line"].to_list()
    changed = hold(read(log, "lines:10"), 500, seed=1).windows.sequences
    assert windows_of(changed) != windows_of(first)


def test_drawn_windows_are_told(log):
    held = hold(read(log, "lines:10"), 500, seed=0)
    told = held.summary()
    assert told.startswith(f"{held.events.height:,} of 1,801 events held: windows drawn at random")


def test_overlapping_windows_that_lie_across_a_cut_are_in_no_part(log):
    config = PipelineConfig(detector="new_event", max_events=1700, window="lines:20/5")
    cut = cut_log([log], config, labels=None, learns_from="normal", seed=0)
    lines = [set(part.events["line"]) for part in cut.parts]
    assert all(max(a) < min(b) for a, b in itertools.pairwise(lines))
    assert "discarded (they lie across a cut)" in " ".join(cut.report.lines())


def test_the_window_of_a_long_log_without_sessions_is_chosen_by_its_beginning(tmp_path):
    log = write_hosts(tmp_path / "hosts.log", 1)
    config = PipelineConfig(detector="new_event", format="syslog_iso", max_events=500)
    cut = cut_log([log], config, labels=None, learns_from="normal", seed=0)
    assert cut.window.by == "time"
    assert "by the first" in cut.report.window
    assert sum(part.events.height for part in cut.parts) <= 500


def test_sessions_asked_of_a_long_log_that_names_none_are_refused(tmp_path):
    reading = Reading([write_hosts(tmp_path / "a.log", 1)], "syslog_iso", None, Window())
    with pytest.raises(ConfigError, match="no line names a session"):
        hold(reading, 500, seed=0)


@pytest.mark.parametrize(
    ("window", "told"),
    [("lines:100", "no window is short enough"), ("time:60s", "no windows to learn from")],
)
def test_windows_that_cannot_be_held_or_made_are_refused(window, told, tmp_path):
    log = tmp_path / "untimed.log"
    log.write_text("step by step\n" * 300)
    reading = Reading([log], "plain", None, Window.parse(window))
    with pytest.raises(ConfigError, match=told):
        hold(reading, 50, seed=0)


def write_bursts(path: Path, n_lines: int, draw: Random) -> Path:
    """Write a log in which a line is mostly followed by one like it."""
    step, steps = 0, []
    for _ in range(n_lines):
        if draw.random() < 0.3:
            step = min(int(draw.expovariate(0.35)), 11)
        steps.append(f"did {'abcdefghijkl'[step] * 3} well\n")
    path.write_text("".join(steps))
    return path


def test_a_false_alarm_rate_holds_on_later_windows_though_windows_were_drawn(tmp_path):
    draw, rate, found = Random(7), 0.1, []
    config = PipelineConfig(
        detector="isolation_forest",
        format="plain",
        window="lines:10",
        max_events=8_000,
        false_alarm_rate=rate,
    )
    for seed in range(8):
        learned = write_bursts(tmp_path / "learned.log", 20_000, draw)
        later = write_bursts(tmp_path / "later.log", 10_000, draw)
        fitted = oddlog.fit([learned], config, run=Run(seed=seed))
        found.append(fitted.score([later]).flags.mean())
    assert statistics.mean(found) == pytest.approx(rate, abs=0.02)


def test_windows_per_host_of_several_files_are_held_whole_and_this_is_told(tmp_path, caplog):
    logs = [write_hosts(tmp_path / f"{name}.log", seed) for seed, name in enumerate("ba")]
    reading = Reading(logs, "syslog_iso", None, Window.parse("lines:10,per=host"))
    with caplog.at_level(logging.WARNING, "oddlog"):
        held = hold(reading, 500, seed=0)
    assert held.events.height == held.n_events == 1800
    assert held.summary() is None
    assert [record.getMessage().split(",")[0] for record in caplog.records] == [
        "more than max_events = 500 events"
    ]


def test_sessions_longer_than_what_may_be_held_are_refused(tmp_path):
    one = tmp_path / "one.log"
    one.write_text("2026-03-01T00:00:00+00:00 a app: open req_1\n" * 50)
    with pytest.raises(ConfigError, match="max_events = 20"):
        hold(read(one), 20, seed=0)


def test_several_files_are_merged_as_when_they_are_read_whole(log, tmp_path):
    lines = log.read_text().splitlines(keepends=True)
    halves = [tmp_path / "b.log", tmp_path / "a.log"]
    for number, half in enumerate(halves):
        half.write_text("".join(lines[number::2]))
    reading = Reading(halves, "syslog_iso", BY, Window())
    whole, _ = read_sources(halves, "syslog_iso", BY)
    assert_frame_equal(hold(reading, 10_000, seed=0).events, whole.drop("raw"))
    held = hold(reading, 500, seed=0).events
    places = held.select("source", "line")
    assert_frame_equal(
        places, whole.select("source", "line").join(places, ["source", "line"], "semi")
    )


def test_a_model_is_fitted_to_what_is_held(log, tmp_path):
    config = PipelineConfig(
        detector="new_event",
        format="syslog_iso",
        session_by=BY,
        max_events=900,
        false_alarm_rate=0.1,
    )
    fitted = oddlog.fit([log], config, model=tmp_path / "model")
    assert any("sessions drawn at random" in line for line in fitted.manifest["preparation"])
    assert oddlog.load(tmp_path / "model").config.max_events == 900
    assert isinstance(fitted.score([log]).table(), pl.DataFrame)
