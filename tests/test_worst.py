"""The report of a log larger than memory: that of the log read whole."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import oddlog
from oddlog.calibrate import Calibration
from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.pipeline import Wanted, make_config, score_log
from oddlog.pipeline import parts as parts_module
from oddlog.pipeline.result import Result
from oddlog.pipeline.worst import Worst
from oddlog.report import render

STEPS = ("open", "copy", "close")
ODD = {7: "burns", 19: "copy", 31: "burns", 55: "melts", 56: "burns"}


def log(n: int, *, odd: bool) -> str:
    lines = [
        f"2026-03-02 {8 + i // 60:02}:{i % 60:02}:{10 + k} {step} req_{1000 + i}"
        for i in range(n)
        for k, step in enumerate((STEPS[0], ODD[i], *STEPS[1:]) if odd and i in ODD else STEPS)
    ]
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worst")
    (folder / "normal.log").write_text(log(500, odd=False))
    config = make_config({"detector": "counts", "session_by": r"req_\d+"}, "test")
    return oddlog.fit([folder / "normal.log"], config, model=folder / "model")


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "N_BUCKETS", 8)
    (tmp_path / "new.log").write_text(log(90, odd=True))
    (tmp_path / "other.log").write_text(log(40, odd=True).replace("req_", "req_9"))
    return [tmp_path / "new.log", tmp_path / "other.log"]


@pytest.mark.parametrize("rate", [0.01, 1e-6], ids=["flagged", "nothing can be flagged"])
@pytest.mark.parametrize("n_sources", [1, 2])
@pytest.mark.parametrize("part_events", [40, 100, 10_000])
def test_the_report_of_parts_is_that_of_the_whole(pipeline, logs, part_events, n_sources, rate):
    wanted = Wanted(false_alarm_rate=rate, report=True)
    found = score_log(pipeline, logs[:n_sources], wanted, part_events=part_events)
    whole = pipeline.score(logs[:n_sources]).at(rate)
    text = render(found.judged)
    assert text == render(whole.judged())
    assert text.count("burns") > 2


def result_of(scores, keys):
    sequences = Sequences.from_ids([[1, 2]] * len(scores))
    sequences = replace(sequences, keys=pl.Series("key", keys))
    return Result(
        sequences,
        Scores(np.array(scores, dtype=np.float32)),
        Calibration(np.arange(40.0), 0.1),
        detector=None,
        text_of=str,
    )


def lines(*numbers):
    return pl.DataFrame({"_line": numbers})


def test_of_equal_scores_those_that_come_first_in_the_log_are_kept():
    worst = Worst(3)
    worst.add(result_of([50, 60, 50], ["d", "e", "f"]), lines(7, 8, 9))
    worst.add(result_of([50, 2, 50], ["a", "b", "c"]), lines(1, 2, 8))
    result, places = worst.found()
    assert result.sequences.keys.to_list() == ["e", "a", "d"]
    assert places["_line"].to_list() == [8, 1, 7]
    assert result.scores.sequence.tolist() == [60, 50, 50]


def test_what_is_not_flagged_is_told_only_where_nothing_can_be():
    for rate, keys in ((0.1, ["b"]), (1e-6, ["b", "a"])):
        worst = Worst(2)
        part = result_of([3, 60, 2], ["a", "b", "c"])
        worst.add(replace(part, calibration=part.calibration.at(rate)), lines(1, 2, 3))
        assert worst.found()[0].sequences.keys.to_list() == keys


def test_threads_may_add_at_once_and_the_worst_do_not_depend_on_which_is_first():
    worst = Worst(20)
    scores = np.random.default_rng(0).permutation(1000).reshape(50, 20)
    parts = [result_of(part, [f"s{score}" for score in part]) for part in scores]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(worst.add, parts, [lines(*range(20))] * 50))
    assert worst.found()[0].scores.sequence.tolist() == [float(s) for s in range(999, 979, -1)]


def test_verdicts_without_a_report_write_none(pipeline, logs, tmp_path):
    with pytest.raises(ValueError, match="report=True"):
        score_log(pipeline, logs).to_html(tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
