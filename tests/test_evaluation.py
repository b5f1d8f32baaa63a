"""Evaluating a log larger than memory: the figures of the log read whole."""

from random import Random

import polars as pl
import pytest
from polars.testing import assert_series_equal

import oddlog
from oddlog.errors import LabelsError
from oddlog.group import Window
from oddlog.pipeline import PipelineConfig, evaluate_log
from oddlog.pipeline import parts as parts_module

STEPS = ("open", "read", "read", "close")


def write_log(path, n_sessions, seed):
    """Write sessions one after the other; every ninth has a step that no other has."""
    draw, lines = Random(seed), []
    for number in range(n_sessions):
        steps = [*STEPS[: draw.randint(2, 4)], *(["burn"] if seed and number % 9 == 4 else [])]
        for second, step in enumerate(steps):
            time = f"2026-03-01T{number // 60:02d}:{number % 60:02d}:{second:02d}"
            lines.append(f"{time}+00:00 a app: {step} sid_{number}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluation")


@pytest.fixture(scope="module")
def pipeline(folder):
    config = PipelineConfig(
        detector="counts",
        format="syslog_iso",
        session_by="sid_[0-9]+",
        window=Window(),
        false_alarm_rate=0.05,
    )
    return oddlog.fit([write_log(folder / "learned.log", 200, 0)], config)


@pytest.fixture(scope="module")
def log(folder):
    return write_log(folder / "new.log", 240, 1)


@pytest.fixture(scope="module")
def labels():
    """Label some sessions, the odd ones and more."""
    numbers = range(0, 240, 2)
    kinds = ["fire" if number % 9 == 4 else "" for number in numbers]
    return pl.DataFrame({"session": [f"sid_{number}" for number in numbers], "label": kinds})


@pytest.mark.parametrize("part_events", [100, 300, 10_000])
def test_the_figures_are_those_of_the_log_read_whole(
    part_events, pipeline, log, labels, monkeypatch
):
    monkeypatch.setattr(parts_module, "N_BUCKETS", 8)
    whole = pipeline.score([log], labels=labels)
    found = evaluate_log(pipeline, [log], labels, part_events=part_events)
    assert found.evaluations == pipeline.evaluate(whole)
    assert_series_equal(found.labels, whole.sequences.labels, check_names=False)
    assert found.flags.tolist() == whole.flags.tolist()
    assert sorted(found.notes) == sorted(whole.lines())
    assert found.flags.any()


def test_the_detector_comes_first_and_the_rules_beside_it(pipeline, log, labels):
    names = list(evaluate_log(pipeline, [log], labels).evaluations)
    assert names == ["counts", "new_event", "key_set"]


def test_a_log_without_labels_is_refused(pipeline, log):
    with pytest.raises(LabelsError, match="no sequence has a label"):
        evaluate_log(pipeline, [log])


def test_labels_of_another_log_are_refused(pipeline, log):
    others = pl.DataFrame({"session": ["blk_1"], "label": [""]})
    with pytest.raises(LabelsError, match="blk_1"):
        evaluate_log(pipeline, [log], others, part_events=100)
