"""The search for settings: what it looks at, what it keeps, what it says."""

import json
import shutil
import sys
import tomllib
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from oddlog import cli
from oddlog.config import read_toml
from oddlog.detectors import detector_class
from oddlog.errors import ArtifactError, ConfigError, LabelsError
from oddlog.pipeline import make_config
from oddlog.run import Run
from oddlog.simulate import simulate, write
from oddlog.tune_cli import parse_duration
from oddlog.tuning import SPACES, Choice, Range, Search, Trial, Tuned, parse_space, tune
from oddlog.tuning.judging import Judging
from oddlog.tuning.search import _GivenUp, _Watch
from oddlog.tuning.spaces import space_of

SESSION = r"blk_\d+"
BASE = {"session_by": SESSION, "train_share": 0.4, "valid_share": 0.3, "calibration_share": 0.3}
NGRAM = make_config({**BASE, "detector": "ngram"}, "test")
SMALL = {
    "layers": 1, "heads": 2, "width": 12, "epochs": 4, "max_steps": 12, "batch_size": 8,
    "count_steps": 4, "context": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return simulate(240, anomaly_share=0.1, seed=2)


@pytest.fixture(scope="module")
def log(made, tmp_path_factory):
    return write(made, tmp_path_factory.mktemp("tuning"))[0]


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    return tmp_path_factory.mktemp("journal") / "search.jsonl"


@pytest.fixture(scope="module")
def searched(log, journal):
    """Two trials, with a journal."""
    return tune([log], NGRAM, search=Search(2, storage=journal, n_repeats=0))


def scores_of(tuned):
    return [(dict(trial.settings), trial.score) for trial in (tuned.default, *tuned.trials)]


# what is searched


def test_values_and_ranges_are_read_as_toml():
    asked = ["width=32,64", "score=rank,surprise", "dropout=0.0..0.3", "n=2..8", "shuffle=true"]
    assert parse_space(asked) == {
        "width": Choice((32, 64)),
        "score": Choice(("rank", "surprise")),
        "dropout": Range(0.0, 0.3),
        "n": Range(2, 8),
        "shuffle": Choice((True,)),
    }


@pytest.mark.parametrize("item", ["width", "=1,2", "n=", "n=1,,2", "n=8..2", "n=1..", "n=a..b"])
def test_a_space_of_another_form_is_refused(item):
    with pytest.raises(ConfigError, match="--space"):
        parse_space([item])


def test_a_range_of_whole_numbers_gives_whole_ones():
    assert [Range(1, 5).whole, Range(1, 5.0).whole] == [True, False]


def test_a_wide_range_is_drawn_from_by_its_logarithm():
    assert [Range(1e-4, 1e-3).by_logarithm, Range(0.0, 1.0).by_logarithm] == [True, False]


@pytest.mark.parametrize("detector", SPACES)
def test_what_is_declared_are_settings_around_their_defaults(detector):
    settings = detector_class(detector).Config().model_dump()
    assert [
        name for name, found in SPACES[detector].items() if not found.holds(settings[name])
    ] == []


def test_what_is_given_is_not_searched_unless_it_is_asked_for():
    assert [*space_of("ngram", {"n": 3}, {})] == ["score"]
    assert space_of("ngram", {"n": 3}, {"n": Choice((4, 5))})["n"] == Choice((4, 5))


@pytest.mark.parametrize(
    ("detector", "given", "asked"),
    [
        ("ngram", {}, {"width": Choice((1,))}),
        ("new_event", {}, {}),
        ("log_cluster", {"threshold": 0.1}, {}),
    ],
)
def test_nothing_to_search_and_unknown_settings_are_refused(detector, given, asked):
    with pytest.raises(ConfigError, match=r"--space"):
        space_of(detector, given, asked)


# what is looked at


def test_the_calibration_part_is_not_looked_at(made, searched, tmp_path):
    lines = made.lines
    cut = round(0.75 * len(lines))
    other = [*lines[:cut], *(line.replace(" blk", " another word blk") for line in lines[cut:])]
    changed = tmp_path / "changed.log"
    changed.write_text("\n".join([*other, ""]))
    found = tune([changed], NGRAM, search=Search(2, n_repeats=0))
    assert scores_of(found) == scores_of(searched)


def test_the_defaults_are_those_of_the_given_settings(log, searched):
    given = make_config({**BASE, "detector": "ngram", "ngram": {"n": 2}}, "test")
    found = tune([log], given, search=Search(1, n_repeats=0))
    assert found.default.score != searched.default.score
    assert set(found.trials[0].settings) == {"score"}


def test_a_detector_that_learns_from_labels_is_judged_by_them(made, log):
    config = make_config({**BASE, "detector": "decision_tree", "cut": "random"}, "test")
    found = tune([log], config, labels=made.labels, search=Search(1, n_repeats=0))
    assert "labelled anomalies" in found.measure
    assert all(0 < trial.score <= 1 for trial in found.trials)


def test_labels_without_an_anomaly_to_judge_by_are_refused(log):
    config = make_config({**BASE, "detector": "decision_tree"}, "test")
    with pytest.raises(LabelsError, match="one class alone"):
        tune([log], config, search=Search(1))


# how it goes on


def test_a_search_that_is_continued_keeps_its_trials_and_adds_to_them(
    log, searched, journal, tmp_path
):
    copy = shutil.copy(journal, tmp_path)
    search = Search(3, storage=Path(copy), resume=True, n_repeats=0)
    found = tune([log], NGRAM, search=search)
    assert (found.default, found.trials[:2]) == (searched.default, searched.trials)
    assert len(found.trials) == 3


def test_a_journal_is_not_written_over_unasked(log, searched, journal):
    with pytest.raises(ConfigError, match="--resume continues it"):
        tune([log], NGRAM, search=Search(3, storage=journal))


def test_the_journal_of_another_search_is_refused(log, searched, journal):
    search = Search(3, storage=journal, resume=True)
    with pytest.raises(ConfigError, match="another log, seed or space"):
        tune([log], NGRAM, search=search, run=Run(7))


def test_a_file_that_is_no_journal_is_refused(log, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("not a journal\n")
    with pytest.raises(ArtifactError, match="not the journal"):
        tune([log], NGRAM, search=Search(1, storage=other, resume=True))


@pytest.mark.parametrize("storage", [None, "missing"])
def test_there_has_to_be_something_to_resume(storage, log, tmp_path):
    search = Search(1, storage=storage and tmp_path / storage, resume=True)
    with pytest.raises(ConfigError, match="journal"):
        tune([log], NGRAM, search=search)


def test_a_trial_that_fails_is_reported_and_ends_nothing(log):
    space = {"n": Choice((4, 99)), "score": Choice(("surprise",))}
    found = tune([log], NGRAM, search=Search(6, space=space, n_repeats=0))
    outcomes = {trial.settings["n"]: trial.outcome for trial in found.trials}
    assert outcomes == {4: "judged", 99: "failed"}
    assert any("less than or equal to 16" in line for line in found.lines())


def test_an_unforeseen_failure_says_where_and_nothing_of_the_log(log, monkeypatch):
    fine = Judging.score

    def score(self, settings, run):
        if settings:
            raise ValueError("blk_4391 is secret")
        return fine(self, settings, run)

    monkeypatch.setattr(Judging, "score", score)
    found = tune([log], NGRAM, search=Search(1, n_repeats=0))
    assert found.trials[0].outcome == "failed"
    assert "ValueError at test_tuning.py" in found.trials[0].reason
    assert "secret" not in "".join(found.lines())


def test_the_budget_ends_the_search_and_leaves_time_to_fit_again(log):
    seconds = count(step=5)  # every look at the clock is five seconds later
    search = Search(budget_s=200, n_repeats=1)
    found = tune([log], NGRAM, search=search, clock=lambda: next(seconds))
    assert 1 < len(found.trials) < 20
    assert next(seconds) < 260


def test_settings_that_cannot_be_fitted_at_first_are_an_error(log):
    config = make_config({**BASE, "detector": "ngram"}, "test")
    config = config.model_copy(update={"settings": {"n": 99}})
    with pytest.raises(ConfigError, match="n"):
        tune([log], config, search=Search(1))


def test_an_interrupted_search_gives_the_best_so_far(log, monkeypatch):
    fine, calls = Judging.score, count()

    def score(self, settings, run):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return fine(self, settings, run)

    monkeypatch.setattr(Judging, "score", score)
    found = tune([log], NGRAM, search=Search(9))
    assert (found.interrupted, len(found.trials), found.repeats) == (True, 2, ())
    assert found.best.score == max(t.score for t in (found.default, *found.trials))


# networks


class Pruned:
    def report(self, value, step):
        self.last = (value, step)

    def should_prune(self):
        return self.last[1] >= 5


def test_a_watch_reports_the_best_loss_of_each_tenth_of_the_first_stage():
    watch = _Watch(None, float("inf"), lambda: 0.0)
    for done, loss in ((1, 3.0), (2, 2.0), (3, 2.5)):
        watch("order", done, 4, loss)
    watch("counts", 4, 4, 0.1)
    assert watch.losses == {2: 3.0, 5: 2.0, 7: 2.0}


def test_a_trial_among_the_worst_is_given_up_between_epochs():
    watch = _Watch(Pruned(), float("inf"), lambda: 0.0)
    watch("order", 1, 4, 3.0)
    with pytest.raises(_GivenUp) as given_up:
        watch("order", 2, 4, 2.0)
    assert given_up.value.args[1] == "pruned"


def test_a_trial_past_its_time_is_stopped_at_its_next_epoch():
    with pytest.raises(_GivenUp) as given_up:
        _Watch(None, 10.0, lambda: 11.0)("order", 1, 4, 3.0)
    assert given_up.value.args[1] == "stopped"


def test_a_network_is_searched_and_its_losses_reach_the_pruner(log, tmp_path):
    optuna = pytest.importorskip("optuna")
    small = {**SMALL, "reads": "order"}
    config = make_config({**BASE, "detector": "loggpt", "loggpt": small}, "test")
    journal = tmp_path / "journal"
    space = {"learning_rate": Choice((1e-3, 2e-3)), "dropout": Choice((0.0, 0.1))}
    search = Search(2, space=space, storage=journal, n_repeats=0)
    found = tune([log], config, search=search)
    assert {trial.outcome for trial in found.trials} == {"judged"}
    backend = optuna.storages.journal.JournalFileBackend(str(journal))
    study = optuna.load_study(study_name="oddlog", storage=optuna.storages.JournalStorage(backend))
    steps = [sorted(trial.intermediate_values) for trial in study.trials]
    assert steps == [[2, 5, 7, 10]] * 3  # the defaults, and two trials


# what comes of it


def trial(score, *, seed=0, **settings):
    outcome = "failed" if score is None else "judged"
    return Trial(settings, seed, outcome, score, "", 1.0, 2.0)


def result(best, default, again=()):
    first, tried = trial(default), trial(best, n=5)
    repeats = tuple((trial(b, seed=i, n=5), trial(d, seed=i)) for i, (b, d) in enumerate(again, 1))
    return Tuned(NGRAM, "area", (tried,), first, tried, repeats)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (result(0.8, 0.5, [(0.7, 0.5), (0.71, 0.52)]), "better"),
        (result(0.8, 0.5, [(0.7, 0.5), (0.51, 0.52)]), "noise"),
        (result(0.8, 0.7, [(0.7, 0.5), (0.69, 0.52)]), "noise"),
        (result(0.8, 0.5, [(0.5, 0.5), (0.52, 0.52)]), "defaults"),
        (result(0.8, 0.5, [(None, 0.5)]), "defaults"),
        (result(0.8, 0.5), "not repeated"),
    ],
)
def test_only_fits_with_other_seeds_say_whether_the_best_is_better(found, verdict):
    assert found.verdict == verdict
    assert (found.config.settings == {"n": 5}) is (verdict != "defaults")


def test_the_file_is_what_fit_takes(log):
    given = make_config({**BASE, "window": "session,gap=60s", "detector": "ngram"}, "test")
    found = replace(result(0.8, 0.5, [(0.7, 0.5)]), base=given)
    again = make_config(tomllib.loads(found.to_toml()), "test")
    assert again == given.model_copy(update={"settings": {"n": 5}})


def test_the_file_tells_what_was_won_and_what_it_cost():
    told = [
        line
        for line in result(0.8, 0.5, [(0.7, 0.5)]).to_toml().splitlines()
        if line.startswith("#")
    ]
    assert any("0.5000 (seed 0), 0.5000 (seed 1)" in line for line in told)
    assert any("0.8000 (seed 0), 0.7000 (seed 1) with n = 5" in line for line in told)
    assert any("4.0 s of processor time, 8.0 s by the clock" in line for line in told)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400)])
def test_a_budget_has_a_unit(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-1m", "0s", "infs", "nanh"])
def test_a_budget_of_another_form_is_refused(text):
    with pytest.raises(ConfigError, match="--budget"):
        parse_duration(text)


def test_the_command_writes_settings_that_fit_takes(log, tmp_path, monkeypatch, capsys):
    out = tmp_path / "best.toml"
    settings = [word for name, value in BASE.items() for word in ("--set", f"{name}={value}")]
    words = ["tune", log, "--detector", "ngram", *settings, "--trials", "1", "--out", out]
    monkeypatch.setattr(sys, "argv", ["oddlog", *map(str, words)])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 0
    (told,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert make_config(read_toml(out), "test").settings == told["settings"]
    assert make_config(read_toml(out), "test").session_by == SESSION


def test_a_command_without_its_extra_is_answered_with_it(log, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"command 'tune' needs optuna: pip .*oddlog\[tune\]"):
        tune([log], NGRAM, search=Search(1))
