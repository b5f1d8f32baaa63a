"""Logs larger than memory: the verdicts of the parts are those of the log read whole."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import oddlog
from oddlog.drain import Novelties
from oddlog.errors import ConfigError
from oddlog.group import Window
from oddlog.pipeline import PipelineConfig, Wanted, score_log
from oddlog.pipeline import parts as parts_module
from oddlog.pipeline.parts import LogParts
from oddlog.pipeline.reading import Reading

WINDOWS = [
    "session,max=4",
    "session,gap=22s",
    "session,age=30s",
    "session,gap=40s,age=40s,max=3",
    "lines:7/3",
    "time:60s/30s",
]
START = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = ("open {}", "read {} of 37 bytes", "read {} of 4 bytes", "close {}")


def name(number: int) -> str:
    return f"sid_{1000 + number}"


def write_log(path: Path, n_sessions: int, seed: int) -> Path:
    """Write interleaved sessions; a few lines name two, one none, one is of several lines."""
    draw = Random(seed)
    lines = []
    for number in range(n_sessions):
        begin = START + timedelta(seconds=20 * number)
        for step, text in enumerate(STEPS[: draw.randint(2, 4)]):
            other = f" after {name(number - 1)}" if draw.random() < 0.1 else ""
            lines.append(
                (
                    begin + timedelta(seconds=draw.randint(5, 25) * step),
                    text.format(name(number)) + other,
                )
            )
    lines += [(START, "nothing named"), (START, f"fell over {name(3)}\n  at once")]
    if seed > 1:
        lines += [(START + timedelta(seconds=200 * k), f"burnt {name(7 * k)}") for k in range(1, 6)]
    lines.sort(key=lambda line: line[0])
    hosts = ("a", "b")
    told = (
        f"{time:%Y-%m-%dT%H:%M:%S+00:00} {draw.choice(hosts)} app: {text}\n" for time, text in lines
    )
    path.write_text("".join(told))
    return path


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch):
    monkeypatch.setattr(parts_module, "N_BUCKETS", 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def fitted(folder):
    """Return a function that fits a pipeline, each once."""
    learned = write_log(folder / "learned.log", 150, 1)

    @cache
    def fit(window: str):
        config = PipelineConfig(
            detector="new_event",
            format="syslog_iso",
            session_by="sid_[0-9]+",
            window=Window.parse(window),
            false_alarm_rate=0.05,
        )
        return oddlog.fit([learned], config)

    return fit


@pytest.mark.parametrize("part_events", [150, 300], ids=["a bucket each", "of several buckets"])
@pytest.mark.parametrize("window", WINDOWS)
def test_verdicts_of_parts_are_those_of_the_whole(window, part_events, folder, fitted):
    pipeline = fitted(window)
    log = write_log(folder / "new.log", 120, 2)
    whole = pipeline.score([log])
    every = Wanted(every=True, explain=True)
    found = score_log(pipeline, [log], every, part_events=part_events)
    expected = whole.verdicts(every=True, explain=True)
    keys = ["first_line", "key"]  # in which order two that begin on one line come is left open
    assert_frame_equal(found.table.sort(keys), expected.sort(keys), check_exact=True)
    assert found.drift == whole.drift
    assert found.lines() == whole.lines()
    assert found.flags.sum() == whole.flags.sum() > 0


@pytest.mark.parametrize("window", ["session,gap=22s", "session,age=30s"])
def test_events_out_of_order_and_before_the_first_time_age_sessions_as_in_the_whole(
    window, folder, fitted
):
    lines = write_log(folder / "ordered.log", 120, 2).read_text().splitlines()
    for place in range(20, len(lines) - 4, 9):
        lines[place], lines[place + 3] = lines[place + 3], lines[place]
    log = folder / "disordered.log"
    log.write_text("\n".join([f"up {name(0)}", f"up {name(1)}", *lines, ""]))
    pipeline = fitted(window)
    whole = pipeline.score([log])
    found = score_log(pipeline, [log], Wanted(every=True), part_events=150)
    keys = ["first_line", "key"]
    expected = whole.verdicts(every=True).sort(keys)
    assert_frame_equal(found.table.sort(keys), expected, check_exact=True)
    assert found.lines() == whole.lines()
    told = " ".join(found.lines())
    assert "out of order in time" in told
    assert "before the first time" in told


@pytest.mark.parametrize(
    "window", ["session,max=4", "session,max=4,gap=30s", "session,age=30s", "time:60s,per=host"]
)
def test_several_sources_are_merged_as_in_the_whole(window, folder, fitted):
    pipeline = fitted(window)
    logs = [write_log(folder / f"{part}.log", 60, seed) for part, seed in (("b", 3), ("a", 4))]
    whole = pipeline.score(logs).verdicts(every=True)
    found = score_log(pipeline, logs, Wanted(every=True), part_events=150).table
    keys = ["source", "first_line", "key"]
    assert_frame_equal(found.sort(keys), whole.sort(keys), check_exact=True)


def test_flagged_sequences_come_worst_first_whatever_part_they_are_of(folder, fitted):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "new.log", 120, 2)
    found = score_log(pipeline, [log], part_events=150)
    assert found.table.height == found.flags.sum() == len(found.flagged())
    assert found.table["score"].is_sorted(descending=True)
    assert_frame_equal(found.table, pipeline.score([log]).verdicts(), check_row_order=False)


def test_another_rate_flags_as_a_result_at_that_rate(folder, fitted):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "new.log", 120, 2)
    found = score_log(pipeline, [log], Wanted(false_alarm_rate=0.5), part_events=150)
    assert found.flags.sum() == pipeline.score([log]).at(0.5).flags.sum()


@pytest.mark.parametrize("part_events", [150, 10_000])
def test_where_nothing_can_be_flagged_the_highest_scores_are_told(part_events, folder, fitted):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "new.log", 120, 2)
    wanted = Wanted(explain=True, false_alarm_rate=1e-6, n_highest=4)
    found = score_log(pipeline, [log], wanted, part_events=part_events)
    whole = pipeline.score([log]).at(1e-6)
    expected = whole.verdicts(explain=True, chosen=whole.highest(4))
    assert found.table["score"].to_list() == expected["score"].to_list()
    assert found.table["culprits"].list.len().min() > 0
    assert not found.table["flagged"].any()


def test_what_scores_highest_is_told_only_where_nothing_can_be_flagged(folder, fitted):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "new.log", 120, 2)
    found = score_log(pipeline, [log], Wanted(n_highest=1))
    assert found.table.height == found.flags.sum() > 1


def test_parts_of_a_log_that_is_too_large_are_small_and_leave_nothing_behind(
    folder, fitted, tmp_path
):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "long.log", 400, 5)
    reading = Reading([log], "syslog_iso", "sid_[0-9]+", Window())
    novel = Novelties(pipeline.templates.config)
    parts = LogParts(reading, pipeline.templates, novel, tmp_path, part_events=200)
    heights = [part.events.height for part in parts.parts(lambda *_: None)]
    assert max(heights) <= 200
    assert sum(heights) >= parts.report.n_events - parts.report.n_outside > 1000
    assert not list(tmp_path.iterdir())


def test_an_empty_log_has_no_verdicts(tmp_path, fitted):
    empty = tmp_path / "empty.log"
    empty.write_text("")
    found = score_log(fitted("session,max=4"), [empty])
    assert (len(found), found.table.height) == (0, 0)
    assert any("no sequences" in line for line in found.lines())


def test_a_long_log_without_sessions_has_no_verdicts(tmp_path, fitted):
    log = tmp_path / "other.log"
    log.write_text("".join(f"2026-03-01T00:00:00+00:00 a app: hello {i}\n" for i in range(300)))
    pipeline = fitted("session,max=4")
    found = score_log(pipeline, [log], part_events=100)
    assert (len(found), found.table.height) == (0, 0)
    assert found.lines() == pipeline.score([log]).lines()
    assert "none of 300 events is in a window" in found.familiarity.warning


def test_records_are_ready_for_json(folder, fitted):
    pipeline = fitted("session,max=4")
    log = write_log(folder / "new.log", 60, 2)
    records = list(score_log(pipeline, [log], Wanted(explain=True), part_events=150).records())
    assert records == pl.DataFrame(records, schema=None, infer_schema_length=None).to_dicts()
    assert records[0]["first_time"].startswith("2026-03-01T")


@pytest.mark.parametrize("reads", [True, False])
def test_only_a_detector_that_reads_messages_is_given_them(reads, folder, fitted, monkeypatch):
    pipeline = fitted("session,max=4")
    kind = type(pipeline.detector)
    given, score = [], kind.score

    def look(self, sequences):
        given.append("message" in sequences.events.columns)
        return score(self, sequences)

    monkeypatch.setattr(kind, "score", look)
    monkeypatch.setattr(kind, "reads_messages", reads, raising=False)
    log = write_log(folder / "new.log", 120, 2)
    score_log(pipeline, [log], Wanted(every=True), part_events=150)
    assert len(given) > 2
    assert set(given) == {reads}


def test_judges_share_the_threads_of_torch_and_give_them_back(folder, fitted, monkeypatch):
    pipeline = fitted("session,max=4")
    kind = type(pipeline.detector)
    seen, score = [], kind.score

    def look(self, sequences):
        seen.append(torch.get_num_threads())
        return score(self, sequences)

    before = torch.get_num_threads()
    monkeypatch.setattr(kind, "score", look)
    torch.set_num_threads(4)
    score_log(pipeline, [write_log(folder / "new.log", 120, 2)], part_events=150)
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 4
    assert set(seen) == {2}


def test_an_error_in_a_part_is_told(folder, fitted, monkeypatch):
    pipeline = fitted("session,max=4")

    def fail(self, sequences):
        raise ConfigError("no way to score this")

    monkeypatch.setattr(type(pipeline.detector), "score", fail)
    with pytest.raises(ConfigError, match="no way"):
        score_log(pipeline, [write_log(folder / "new.log", 120, 2)], part_events=150)
