"""The examples run as they stand, and do what they say."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import oddlog
from oddlog.detectors import DETECTORS
from oddlog.simulate import simulate, write

EXAMPLES = Path(__file__).parents[1] / "examples"
LONGEST = 60  # lines


def run(name, *arguments):
    """Run an example and return what it printed."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return a folder with a normal log, and one with planted faults that are new events."""
    folder = tmp_path_factory.mktemp("logs")
    write(simulate(700, anomaly_share=0.0, seed=1), folder / "normal")
    odd = simulate(100, anomaly_share=0.1, seed=2, kinds=("unseen_error",))
    write(odd, folder / "odd")
    return folder


@pytest.fixture(scope="module")
def model(logs):
    """Return what the training example says, and the model that it leaves."""
    said = run("train_on_normal.py", logs / "normal" / "cluster.log", logs / "model", "new_event")
    return said, logs / "model"


@pytest.fixture
def pairs(monkeypatch):
    """Make the example's detector known for the time of a test."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setitem(DETECTORS, "pairs", "add_a_detector:Pairs")


@pytest.fixture(scope="module")
def pairs_model(logs):
    """Return the model folder of the detector of one's own."""
    run("add_a_detector.py", logs / "normal" / "cluster.log", logs / "pairs")
    return logs / "pairs"


def are_odd(sequences, logs):
    """Return (n,) whether each sequence is one that a fault was planted in."""
    labels = (logs / "odd" / "labels.csv").read_text()
    return np.array([f"{key},unseen_error" in labels for key in sequences.keys])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST


def test_training_says_how_the_log_was_cut(model):
    assert "700 sequences cut into" in model[0]


def test_training_says_what_its_false_alarm_rate_amounts_to(model):
    assert "at a rate of at most 2.00%" in model[0]


def test_scoring_points_at_lines_of_the_log(model, logs):
    said = run("score_a_file.py", model[1], logs / "odd" / "cluster.log")
    lines = (logs / "odd" / "cluster.log").read_text().splitlines()
    first = next(line for line in said.splitlines() if "cluster.log:" in line)
    number, message = first.split("cluster.log:")[1].split(": ", 1)
    assert lines[int(number) - 1].endswith(message)


def test_scoring_finds_what_was_planted(model, logs):
    said = run("score_a_file.py", model[1], logs / "odd" / "cluster.log")
    labels = (logs / "odd" / "labels.csv").read_text().splitlines()
    named = [line.split(":")[0] for line in said.splitlines() if ": p = " in line]
    assert [f"{name},unseen_error" in labels for name in named] == [True] * 5


@pytest.mark.usefixtures("pairs")
def test_a_detector_of_ones_own_can_be_loaded_by_name(pairs_model):
    assert oddlog.load(pairs_model).detector.name == "pairs"


@pytest.mark.usefixtures("pairs")
def test_a_detector_of_ones_own_ranks_planted_errors_above_most(pairs_model, logs):
    result = oddlog.load(pairs_model).score([logs / "odd" / "cluster.log"])
    odd, score = are_odd(result.sequences, logs), result.scores.sequence
    assert np.mean(score[odd][:, None] > score[~odd]) > 0.8


@pytest.mark.usefixtures("pairs")
def test_a_detector_of_ones_own_names_the_planted_line(pairs_model, logs):
    result = oddlog.load(pairs_model).score([logs / "odd" / "cluster.log"])
    planted = (logs / "odd" / "planted.csv").read_text()
    named = [
        any(f",{culprit['line']},unseen_error" in planted for culprit in culprits)
        for culprits in result.explain(np.flatnonzero(are_odd(result.sequences, logs)))
    ]
    assert named == [True] * 10


@pytest.mark.usefixtures("pairs")
def test_a_detector_of_ones_own_scores_nothing_as_nothing(pairs_model, logs):
    pipeline = oddlog.load(pairs_model)
    sequences, _ = pipeline.read([logs / "odd" / "cluster.log"])
    nothing = sequences.take(np.array([], dtype=np.int64))
    assert len(pipeline.score_sequences(nothing)) == 0


def test_loggpt_has_its_second_stage_and_finds_what_no_count_shows(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["loggpt.py"])
    runpy.run_path(str(EXAMPLES / "loggpt.py"), run_name="__main__")  # here torch is loaded once
    said = capsys.readouterr().out
    assert "second stage, epoch 3: 0." in said
    found, alarms = (
        float(number.rstrip("%"))
        for number in said.splitlines()[-1].split(": ")[1].split()[::2][:2]
    )
    assert found >= 90
    assert alarms <= 5
