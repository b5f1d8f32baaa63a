"""Logs with more events than are to be held while learning: whole sessions, drawn at random."""

import logging
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import oddlog
from oddlog.errors import ConfigError
from oddlog.group import Window, group
from oddlog.pipeline import PipelineConfig
from oddlog.pipeline.prepare import read_sources
from oddlog.pipeline.reading import Reading
from oddlog.pipeline.sample import hold

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


@pytest.mark.parametrize("window", ["lines:10", "time:60s", "session,gap=30s"])
def test_windows_that_need_neighbouring_lines_are_held_whole_and_this_is_told(log, window, caplog):
    with caplog.at_level(logging.WARNING, "oddlog"):
        held = hold(read(log, window), 500, seed=0)
    assert held.events.height == held.n_events == 1801
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
