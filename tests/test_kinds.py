"""Kinds of anomaly on their way from a label file to what a person reads."""

import json
from io import StringIO

import polars as pl
import pytest
from rich.console import Console

import oddlog
from oddlog.pipeline import make_config
from oddlog.terminal import show_classes, show_verdicts

USUAL = ["open", "copy", "close"]
FULL = ["open", "no space left on", "close"]
CUT = ["open", "connection lost to", "retry", "close"]
SESSIONS = [*[USUAL] * 18, FULL, CUT] * 20
KINDS = [*[""] * 18, "disk full", "network [bold]"] * 20
SETTINGS = {
    "detector": "decision_tree",
    "session_by": r"req_\d+",
    "cut": "random",
    "false_alarm_rate": 0.02,
}


def write(path, sessions, first):
    lines = [
        f"2026-03-02 {8 + n // 3600:02}:{n // 60 % 60:02}:{n % 60:02} {step} req_{first + n}"
        for n, steps in enumerate(sessions)
        for step in steps
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


def table(kinds, first):
    names = [f"req_{first + n}" for n in range(len(kinds))]
    return pl.DataFrame({"session": names, "label": kinds})


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    pytest.importorskip("sklearn", reason="a decision tree is fitted by scikit-learn")
    log = write(tmp_path_factory.mktemp("kinds") / "a.log", SESSIONS, 1000)
    return oddlog.fit([log], make_config(SETTINGS, "test"), labels=table(KINDS, 1000))


@pytest.fixture(scope="module")
def result(pipeline, tmp_path_factory):
    log = write(tmp_path_factory.mktemp("kinds") / "b.log", [USUAL, FULL, CUT, USUAL], 5000)
    kinds = ["", "disk full", "disk full", ""]  # the third is labelled wrongly
    return pipeline.score([log], labels=table(kinds, 5000))


def test_each_sequence_has_its_classes_likeliest_first(result):
    found = result.table()["classes"].to_list()
    assert [classes[0]["class"] for classes in found] == ["", "disk full", "network [bold]", ""]
    assert all(sum(c["probability"] for c in classes) == pytest.approx(1) for classes in found)


def test_a_detector_without_classes_has_none(pipeline, result):
    scores = pipeline.baselines["new_event"].detector.score(result.sequences)
    assert scores.class_probs is None
    assert "new_event" in pipeline.evaluate(result)
    assert pipeline.evaluate(result)["new_event"].classes is None


def test_records_with_classes_are_json(result):
    assert json.loads(json.dumps(result.records()))[0]["classes"][0]["probability"] == 1.0


def test_an_evaluation_says_which_class_is_taken_for_which(pipeline, result):
    found = pipeline.evaluate(result)["decision_tree"].classes
    assert found.names == ("", "disk full", "network [bold]")
    assert found.confusion == ((2, 0, 0), (0, 1, 1), (0, 0, 0))
    assert found.accuracy.value == 0.75


def test_the_terminal_names_the_kind_and_what_it_is_taken_for(pipeline, result):
    console = Console(width=80, file=StringIO(), record=True, force_terminal=True, highlight=False)
    show_verdicts(console, result.records(), n_shown=9, n_sequences=4)
    show_classes(console, pipeline.evaluate(result)["decision_tree"].classes)
    text = console.export_text()
    assert "looks like network [bold], 100%" in text
    assert "accuracy 0.750" in text
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[-3:] for line in text.splitlines() if line.startswith("disk full")] == [
        ["network", "[bold]", "1"]
    ]


def test_the_report_names_the_kind_beside_the_label(result, tmp_path):
    result.to_html(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert text.count('title="likeliest kind of anomaly">') == 2
    assert "network [bold] 100 %</span>" in text
