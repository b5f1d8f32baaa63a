"""Runs told to a tracker: what is told, what is not, and that it never costs a run.

The trackers themselves write into a folder here, where they are installed.
"""

import json
import logging
import sqlite3
import sys
from threading import Thread

import pytest

from oddlog import cli, track
from oddlog.bench.runner import Failure
from oddlog.bench.tracked import Tracked, figures
from oddlog.errors import ConfigError
from oddlog.simulate import simulate, write
from oddlog.track import TRACKERS, flat, told_of_epochs

SESSION = r"blk_\d+"


class Notebook:
    """A tracker that remembers."""

    def __init__(self, name):
        self.name, self.told = name, []

    def settings(self, values):
        self.told.append(("settings", flat(values)))

    def metrics(self, values, step=None):
        self.told.append(("metrics", dict(values), step))

    def artifact(self, name, path):
        self.told.append(("artifact", name, str(path)))

    def close(self, *, failed):
        self.told.append(("close", failed))


@pytest.fixture
def notebooks(monkeypatch):
    """Let "notebook" be a tracker; return those that were begun."""
    begun = []

    def begin(name):
        begun.append(Notebook(name))
        return begun[-1]

    monkeypatch.setattr(track, "TRACKERS", {"notebook": begin})
    return begun


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    return write(simulate(200, anomaly_share=0.0, seed=3), folder)[0]


def run_command(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["oddlog", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code


def test_nobody_is_told_where_no_tracker_is_asked_for(notebooks):
    with track.track(None, "fit") as told:
        told.metrics({"loss": 1.0})
    assert notebooks == []


def test_an_unknown_tracker_is_answered_with_those_that_there_are():
    with pytest.raises(ConfigError, match="there are: mlflow, trackio"), track.track("wandb", "x"):
        pass


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_tracker_is_answered_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=rf"pip .*oddlog\[{name}\]"), track.track(name, "x"):
        pass


def test_a_run_is_closed_as_failed_where_it_fails(notebooks):
    with pytest.raises(KeyError), track.track("notebook", "fit"):
        raise KeyError("x")
    assert notebooks[0].told == [("close", True)]


def test_a_tracker_that_fails_is_warned_of_once_and_told_no_more(notebooks, caplog, monkeypatch):
    def fail(self, values, step=None):
        raise OSError("secret message")

    monkeypatch.setattr(Notebook, "metrics", fail)
    with caplog.at_level(logging.WARNING), track.track("notebook", "fit") as told:
        told.metrics({"loss": 1.0})
        told.metrics({"loss": 2.0})
    assert [record.getMessage() for record in caplog.records] == [
        "notebook was told no more of this run: OSError; the run goes on"
    ]


def test_values_are_numbers_or_short_texts():
    found = flat({"a": {"b": True, "c": {"d": 0.5}}, "e": "x" * 900, "f": None})
    assert found == {"a.b": "True", "a.c.d": 0.5, "e": "x" * 500, "f": "None"}


def test_epochs_are_told_with_their_loss():
    notebook = Notebook("x")
    told_of_epochs(notebook)("loggpt", 3, 10, 0.25)
    assert notebook.told == [("metrics", {"loggpt.valid_loss": 0.25}, 3)]


def test_a_fit_tells_settings_sizes_and_where_the_model_is(notebooks, log, tmp_path, monkeypatch):
    words = ["--session-by", SESSION, "--detector", "ngram", "--set", "ngram.n=3"]
    words += ["--model", tmp_path / "model", "--track", "notebook"]
    assert run_command(monkeypatch, "fit", log, *words) == 0
    (notebook,) = notebooks
    settings, metrics, artifact, close = notebook.told
    assert notebook.name == "fit ngram"
    assert (settings[1]["seed"], settings[1]["settings.n"]) == (0, 3)
    assert set(metrics[1]) == {"training", "validation", "calibration", "templates"}
    assert (artifact, close) == (("artifact", "model", str(tmp_path / "model")), ("close", False))


def test_nothing_of_the_log_is_told(notebooks, log, tmp_path, monkeypatch):
    words = ["--session-by", SESSION, "--detector", "counts", "--track", "notebook"]
    run_command(monkeypatch, "fit", log, *words, "--model", tmp_path / "model")
    told = json.dumps(notebooks[0].told)
    words_of_log = {word for line in log.read_text().splitlines()[:50] for word in line.split()}
    secret = {word for word in words_of_log if len(word) > 6 and word.isalnum()}
    assert len(secret) > 10
    assert [word for word in secret if word in told] == []
    assert log.name not in told


def test_a_search_tells_every_trial_and_what_is_best(notebooks, log, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    words = ["--session-by", SESSION, "--detector", "ngram", "--trials", "2", "--track", "notebook"]
    assert run_command(monkeypatch, "tune", log, *words, "--out", tmp_path / "best.toml") == 0
    told = notebooks[0].told
    trials = [event for event in told if event[0] == "metrics"]
    assert [step for _, _, step in trials] == [0, 1]
    assert all({"score", "cpu_s", "wall_s", "tried.n"} <= set(found) for _, found, _ in trials)
    assert "verdict" in told[-3][1]
    assert told[-2] == ("artifact", "config", str(tmp_path / "best.toml"))


class Silent:
    """A board that counts."""

    n = 0

    def ended(self, task, outcome):
        self.n += 1


def record():
    decision = {
        name: {"value": value}
        for name, value in {"false_alarm_rate": 0.02, "recall": 0.9, "precision": 0.8}.items()
    }
    decision["f1"] = {"value": None}
    evaluation = {
        "ranking": {"auprc": {"value": 0.7}, "auroc": {"value": 0.95}},
        "at_rates": [{"asked": 0.01, "decision": decision}],
    }
    return {"benchmark": "adfa", "detector": "ngram", "seed": 2, "settings": {"n": 4},
            "evaluation": evaluation, "fit_s": 1.5, "score_s": 0.5}  # fmt: skip


def test_a_benchmarks_figures_have_the_asked_rate_in_their_names():
    assert figures(record()) == {
        "auprc": 0.7, "auroc": 0.95, "fit_s": 1.5, "score_s": 0.5,
        "false_alarm_rate_at_0.01": 0.02, "recall_at_0.01": 0.9, "precision_at_0.01": 0.8,
    }  # fmt: skip


def test_each_finished_cell_of_a_benchmark_is_a_run_and_is_still_shown(notebooks):
    board = Silent()
    tracked = Tracked(board, "notebook")
    tracked.ended(None, record())
    tracked.ended(None, Failure("adfa ngram 3", "too little memory"))
    assert board.n == 2
    assert [notebook.name for notebook in notebooks] == ["adfa ngram 2"]
    assert notebooks[0].told[0][1]["settings.n"] == 4


def tell(name):
    with track.track(name, "fit ngram") as told:
        told.settings({"detector": "ngram", "ngram": {"n": 4}})
        for step, loss in ((1, 1.0), (2, 0.5)):  # as a network that learns in its own thread
            telling = Thread(target=told.metrics, args=({"loss": loss}, step))
            telling.start()
            telling.join()
        told.artifact("model", "some/model")


def test_trackio_keeps_settings_figures_and_paths_in_its_folder(tmp_path, monkeypatch, capsys):
    pytest.importorskip("trackio")
    utils = sys.modules["trackio.utils"]
    sqlite = sys.modules["trackio.sqlite_storage"]
    for module in (utils, sqlite):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path, raising=False)
    tell("trackio")
    assert capsys.readouterr().out == ""
    with sqlite3.connect(tmp_path / "oddlog.db") as database:
        kept = [json.loads(row[0]) for row in database.execute("select metrics from metrics")]
        (config,) = [json.loads(row[0]) for row in database.execute("select config from configs")]
    database.close()
    assert kept == [
        {"loss": 1.0}, {"loss": 0.5}, {"artifact.model": "some/model"}, {"status": "finished"},
    ]  # fmt: skip
    assert (config["detector"], config["ngram.n"]) == ("ngram", 4)


@pytest.mark.filterwarnings("ignore")  # of its own libraries, some of them about each other
def test_mlflow_keeps_settings_figures_and_paths_in_its_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("alembic")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    tell("mlflow")
    (run,) = mlflow.search_runs(experiment_names=["oddlog"], output_format="list")
    assert run.data.params == {"detector": "ngram", "ngram.n": "4"}
    assert run.data.metrics == {"loss": 0.5}
    assert run.data.tags["artifact.model"] == "some/model"
    assert (run.info.run_name, run.info.status) == ("fit ngram", "FINISHED")
