"""Following a system that has changed: what is adopted, what is kept, what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import oddlog
from oddlog.artifact import read_json
from oddlog.errors import ArtifactError, ConfigError, OddlogError
from oddlog.findings import Scores
from oddlog.pipeline import Judge, make_config, update_pipeline
from oddlog.pipeline.update import FEWEST
from oddlog.run import Run

SETTINGS = {"detector": "key_set", "session_by": r"req_\d+", "false_alarm_rate": 0.02}
USUAL = ("open", "copy", "close")
RELEASE = ("open", "lease granted to", "copy", "close")
FAULT = ("open", "disk burns at", "close")
SHORT = ("open", "close")


def write(path, sessions):
    """Write sessions one after the other, a second between two lines."""
    told, second = [], 0
    for number, steps in enumerate(sessions):
        for step in steps:
            clock = f"{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
            told.append(f"2026-03-02 {clock} {step} req_{1000 + number}")
            second += 1
    path.write_text("\n".join([*told, ""]))
    return path


def every_fifth(other, n=800, *, also=()):
    """Return usual sessions, every fifth another, and some (number, session) in their places."""
    sessions = [other if number % 5 == 0 else USUAL for number in range(n)]
    for number, session in also:
        sessions[number] = session
    return sessions


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    faults = [(number, FAULT) for number in (11, 222, 333)]
    return {
        "old": write(folder / "old.log", [USUAL] * 600),
        "release": write(folder / "release.log", every_fifth(RELEASE)),
        "mixed": write(folder / "mixed.log", every_fifth(RELEASE, also=faults)),
        "short": write(folder / "short.log", every_fifth(SHORT)),
        "odd": write(folder / "odd.log", [FAULT, RELEASE, USUAL]),
    }


@pytest.fixture(scope="module")
def fitted(logs):
    return oddlog.fit([logs["old"]], make_config(SETTINGS, "test"))


@pytest.fixture
def model(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def updated(fitted, logs):
    return update_pipeline(fitted, [logs["mixed"]])


def flags(pipeline, log):
    return pipeline.score([log]).flags.tolist()


def texts(templates):
    return [found.text for found in templates]


def test_what_a_release_adds_is_no_longer_flagged(fitted, updated, logs):
    assert flags(fitted, logs["odd"]) == [True, True, False]
    assert flags(updated.pipeline, logs["odd"]) == [True, False, False]


def test_only_templates_in_enough_sequences_are_adopted(updated):
    assert texts(updated.adopted) == ["lease granted to <SESSION>"]
    assert texts(updated.left) == ["disk burns at <SESSION>"]


def test_a_template_id_never_changes(fitted, updated):
    old, new = fitted.templates, updated.pipeline.templates
    assert [new.text(i) for i in old.ids()] == [old.text(i) for i in old.ids()]
    assert [found.template_id for found in updated.adopted] == [old.next_id]


def test_the_old_pipeline_stays_as_it_is(fitted, updated, logs):
    assert not set(updated.pipeline.templates.ids()) <= set(fitted.templates.ids())
    assert flags(fitted, logs["odd"])[1]


def test_every_rule_learns_and_is_calibrated_anew(fitted, updated):
    assert updated.learned == ("key_set", "new_event", "counts")
    old = {"key_set": fitted.judge, **fitted.baselines}
    new = {"key_set": updated.pipeline.judge, **updated.pipeline.baselines}
    assert all(len(new[n].calibration) != len(old[n].calibration) for n in old)


def test_the_flags_before_and_after_are_told(updated):
    assert updated.before.flagged.rate == pytest.approx(0.2, abs=0.02)
    assert updated.after.flagged.rate <= 0.02
    assert updated.before.warning is not None
    told = "\n".join(updated.lines())
    for part in ("before: 20", "lease granted", "1 templates stay unknown", "key_set, new_event"):
        assert part in told


def test_a_log_with_nothing_new_only_calibrates_and_with_all_of_it(fitted, logs):
    found = update_pipeline(fitted, [logs["old"]])
    assert (found.adopted, found.learned) == ((), ())
    assert len(found.pipeline.calibration) == 600
    assert "only calibrated again" in "\n".join(found.lines())
    assert found.pipeline.detector is fitted.detector


def test_a_shift_of_known_templates_is_learned_too(fitted, logs):
    found = update_pipeline(fitted, [logs["short"]])
    assert found.adopted == ()
    assert found.learned == ("key_set", "new_event", "counts")


def test_labelled_anomalies_are_neither_adopted_nor_learned(fitted, tmp_path):
    sessions = [FAULT if number % 5 == 0 else USUAL for number in range(800)]
    log = write(tmp_path / "log", sessions)
    names = [f"req_{1000 + number}" for number in range(800)]
    labels = pl.DataFrame(
        {"session": names, "label": ["fault" if s is FAULT else "" for s in sessions]}
    )
    assert len(update_pipeline(fitted, [log]).adopted) == 1
    assert update_pipeline(fitted, [log], labels=labels).adopted == ()


def test_sequences_with_a_template_left_unknown_are_not_learned_from(updated):
    n_learned = 390 + 520 - updated.left[0].n_sequences  # of the old log, of the new one
    assert updated.pipeline.detector._fitted().sets.frequency.sum() == n_learned


def test_assumed_anomalies_are_left_out_as_in_a_fit(fitted, logs):
    found = update_pipeline(fitted, [logs["mixed"]], settings={"assume_anomalies": 0.02})
    assert found.pipeline.manifest["trimmed"]["training"]["left_out"] >= found.left[0].n_sequences
    assert set(found.pipeline.trimmed["key"]) >= {f"req_{1000 + n}" for n in (11, 222, 333)}
    again = update_pipeline(found.pipeline, [logs["mixed"]], settings={"assume_anomalies": 0})
    assert "trimmed" not in again.pipeline.manifest


def test_a_lower_share_adopts_what_is_rarer(fitted, logs):
    found = update_pipeline(fitted, [logs["mixed"]], settings={"adopt_share": 0.001})
    assert len(found.adopted) == 2
    assert found.pipeline.config.adopt_share == 0.001


def test_few_sequences_never_make_a_template_normal(fitted, tmp_path):
    few = [(number, FAULT) for number in range(FEWEST - 1)]
    log = write(tmp_path / "log", every_fifth(USUAL, n=250, also=few))
    found = update_pipeline(fitted, [log], settings={"adopt_share": 1e-6})
    assert (found.adopted, len(found.left)) == ((), 1)


def test_more_unknown_sequences_than_may_be_flagged_are_told(fitted, tmp_path):
    rare = [(20 * i, ("open", "x " * (3 + i), "close")) for i in range(40)]
    log = write(tmp_path / "log", every_fifth(USUAL, also=rare))
    found = update_pipeline(fitted, [log])
    assert found.unknown_share > 0.02
    assert "no longer odd enough" in "\n".join(found.lines())


def test_another_rate_is_taken_over(fitted, logs):
    found = update_pipeline(fitted, [logs["release"]], settings={"false_alarm_rate": 0.05})
    assert found.pipeline.calibration.false_alarm_rate == 0.05


def test_what_needs_a_new_fit_is_refused(fitted, logs):
    with pytest.raises(ConfigError, match="detector cannot be changed without a new fit"):
        update_pipeline(fitted, [logs["release"]], settings={"detector": "counts"})


def test_too_few_sequences_for_the_rate_are_refused(fitted, logs):
    with pytest.raises(ConfigError, match="too few for a false-alarm rate"):
        update_pipeline(fitted, [logs["release"]], settings={"false_alarm_rate": 0.0001})


@pytest.mark.parametrize("text", ["", "no session here\n" * 50, "\x00\x01\x02" * 9000])
def test_a_log_that_is_none_is_refused_and_the_model_stays(model, text, tmp_path):
    before = sorted(path.name for path in model.parent.iterdir())
    (tmp_path / "new.log").write_text(text)
    with pytest.raises(OddlogError):
        oddlog.update([tmp_path / "new.log"], model=model)
    assert sorted(path.name for path in model.parent.iterdir() if path.name != "new.log") == before


def test_the_model_before_is_kept_beside_the_new_one_and_can_be_loaded(model, logs):
    first = oddlog.update([logs["release"]], model=model)
    second = oddlog.update([logs["release"]], model=model)
    assert (first.kept, second.kept) == (Path(f"{model}.1"), Path(f"{model}.2"))
    assert [flags(oddlog.load(folder), logs["odd"])[1] for folder in (first.kept, model)] == [
        True,
        False,
    ]


def test_an_updated_model_is_loaded_as_it_was_saved(model, logs):
    found = oddlog.update([logs["mixed"]], model=model)
    loaded = oddlog.load(model)
    again, saved = (p.score([logs["odd"]]) for p in (loaded, found.pipeline))
    assert np.array_equal(again.scores.sequence, saved.scores.sequence)
    assert loaded.baselines["counts"].calibration.scores.tolist() == (
        found.pipeline.baselines["counts"].calibration.scores.tolist()
    )


def test_with_another_place_to_write_the_old_model_is_left_alone(model, logs, tmp_path):
    found = oddlog.update([logs["release"]], model=model, out=tmp_path / "new")
    assert found.kept is None
    assert not Path(f"{model}.1").exists()
    assert flags(oddlog.load(tmp_path / "new"), logs["odd"]) == [True, False, False]


def test_the_manifest_tells_of_each_update(model, logs):
    oddlog.update([logs["release"]], model=model, run=Run(seed=7))
    told = read_json(model / "manifest.json")["updates"]
    assert [(record["seed"], record["adopted"]) for record in told] == [(7, [3])]
    assert told[0]["sources"][0]["name"] == "release.log"


@pytest.mark.parametrize("n_done", [0, 1])
def test_a_crash_at_the_end_leaves_a_model_to_load(model, logs, monkeypatch, n_done):
    """Two renames swap the folders; a crash may come before either."""
    rename, done = Path.replace, []

    def crash(self, target):
        if self.is_dir():
            if len(done) == n_done:
                raise SystemExit("killed")
            done.append(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", crash)
    monkeypatch.setattr("oddlog.artifact.shutil.rmtree", lambda *_, **__: None)
    with pytest.raises(SystemExit):
        oddlog.update([logs["release"]], model=model)
    monkeypatch.undo()
    folder = model if model.exists() else Path(f"{model}.1")
    assert flags(oddlog.load(folder), logs["odd"])[1]


def test_where_only_the_kept_model_is_there_the_error_names_it(model):
    model.rename(f"{model}.1")
    with pytest.raises(ArtifactError, match=r"model\.1 is the one before an update"):
        oddlog.load(model)


def test_no_model_there_is_told(logs, tmp_path):
    with pytest.raises(ArtifactError, match="no oddlog model there"):
        oddlog.update([logs["release"]], model=tmp_path / "none")


def test_what_is_no_model_is_not_replaced(model, logs, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("text")
    with pytest.raises(ArtifactError, match="is no oddlog model"):
        oddlog.update([logs["release"]], model=model, out=tmp_path / "mine")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(model, logs, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ArtifactError, match="cannot write there"):
        oddlog.update([Path("never read.log")], model=model)


class Deaf:
    """A detector that cannot learn on."""

    name, learns_from, causal = "deaf", "normal", False

    def score(self, sequences):
        return Scores(sequence=sequences.lengths.astype(np.float32))


def test_a_detector_that_cannot_learn_on_is_only_calibrated(fitted, logs):
    baselines = {**fitted.baselines, "deaf": Judge(Deaf(), fitted.calibration)}
    found = update_pipeline(replace(fitted, baselines=baselines), [logs["release"]])
    assert "deaf" not in found.learned
    assert "only calibrated again: deaf" in "\n".join(found.lines())


def test_the_record_is_plain(updated):
    record = json.loads(json.dumps(updated.to_dict()))
    assert record["adopted"][0]["text"] == "lease granted to <SESSION>"
