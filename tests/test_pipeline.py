"""Fitting and loading a pipeline: what learns from what, and what is refused."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

import oddlog
from oddlog.config import Config
from oddlog.datasets import attach_labels
from oddlog.detectors import DETECTORS
from oddlog.errors import ArtifactError, ConfigError, FormatError, LabelsError, OddlogError
from oddlog.findings import Explanation, Scores
from oddlog.group import Window
from oddlog.pipeline import PipelineConfig, fit_sequences, make_config
from oddlog.pipeline.prepare import prepare, read_sources
from oddlog.run import Run
from oddlog.simulate import simulate, write

KEY_SET = {"detector": "key_set", "session_by": r"blk_\d+"}
SCORE = """
import sys
import numpy as np
import oddlog
model, log, out = sys.argv[1:]
np.save(out, oddlog.load(model, device="cpu").score([log]).scores.sequence)
"""


class Recorder:
    """A detector that remembers what it was shown, and scores by length."""

    name: ClassVar[str] = "recorder"
    learns_from = "normal"
    causal = False
    Config = Config
    fitted: ClassVar[list] = []
    scored: ClassVar[list] = []

    def __init__(self, config):
        self.config = config

    def fit(self, train, valid, run):
        self.fitted[:] = [train, valid]

    def score(self, sequences):
        self.scored.append(sequences)
        return Scores(sequence=sequences.lengths.astype(np.float32))

    def explain(self, sequences):
        return [Explanation(key, ()) for key in sequences.keys]

    def save(self, folder):
        (folder / "config.json").write_text("{}")


class Failing(Recorder):
    name = "failing"

    def fit(self, train, valid, run):
        raise FormatError("the middle of a fit")


class FromLabels(Recorder):
    name = "from_labels"
    learns_from = "labelled"


@pytest.fixture
def recorder(monkeypatch):
    for cls in (Recorder, Failing, FromLabels):
        monkeypatch.setitem(DETECTORS, cls.name, f"{__name__}:{cls.__name__}")
    Recorder.fitted.clear()
    Recorder.scored.clear()
    return Recorder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return a folder with a normal log and one with faults, and the truth about that."""
    folder = tmp_path_factory.mktemp("logs")
    write(simulate(500, anomaly_share=0.0, seed=1), folder / "normal")
    faulty = simulate(200, anomaly_share=0.2, seed=2, kinds=("unseen_error", "foreign_step"))
    write(faulty, folder / "faulty")
    return folder, faulty


@pytest.fixture(scope="module")
def fitted(logs, tmp_path_factory):
    model = tmp_path_factory.mktemp("models") / "model"
    log = logs[0] / "normal" / "cluster.log"
    return oddlog.fit([log], make_config(KEY_SET, "test"), model=model), model


def write_log(path, events):
    """Write (second, message) pairs as lines that carry a time."""
    lines = [f"2026-03-02 08:{s // 60 % 60:02}:{s % 60:02} {text}" for s, text in events]
    path.write_text("\n".join([*lines, ""]))
    return path


def req(i):
    return f"req_{1000 + i}"


def sessions_log(path, n=40, extra=()):
    """Write n sessions of three lines each, one after the other, and further (second, message)."""
    steps = ("open", "copy", "close")
    events = [(3 * i + k, f"{step} {req(i)}") for i in range(n) for k, step in enumerate(steps)]
    return write_log(path, sorted([*events, *extra], key=lambda event: event[0]))


def settings(**changes):
    return make_config({"detector": "new_event", "session_by": r"req_\d+"} | changes, "test")


def lines_of(sequences):
    events = sequences.events
    return set(zip(events["source"], events["line"], strict=True))


def test_planted_faults_outrank_normal_sessions(fitted, logs):
    result = fitted[0].score([logs[0] / "faulty" / "cluster.log"])
    labelled, _ = attach_labels(result.sequences, logs[1].labels)
    faulty, score = labelled.anomalous, result.scores.sequence
    assert (score[faulty][:, None] > score[~faulty]).mean() > 0.9


def test_a_loaded_pipeline_scores_the_same_in_a_new_process(fitted, logs, tmp_path):
    pipeline, model = fitted
    log = logs[0] / "faulty" / "cluster.log"
    out = tmp_path / "scores.npy"
    subprocess.run([sys.executable, "-c", SCORE, str(model), str(log), str(out)], check=True)
    assert np.load(out).tolist() == pipeline.score([log]).scores.sequence.tolist()


def test_a_loaded_pipeline_flags_the_same(fitted, logs):
    pipeline, model = fitted
    log = logs[0] / "faulty" / "cluster.log"
    assert oddlog.load(model).score([log]).flags.tolist() == pipeline.score([log]).flags.tolist()


def test_the_manifest_says_what_was_learned_from(fitted, logs):
    log = logs[0] / "normal" / "cluster.log"
    told = oddlog.load(fitted[1]).manifest
    assert told["sources"] == [
        {
            "name": "cluster.log",
            "bytes": log.stat().st_size,
            "sha256": hashlib.sha256(log.read_bytes()).hexdigest(),
        }
    ]


def test_training_validation_and_calibration_share_no_line(recorder, tmp_path):
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(detector="recorder"))
    parts = [lines_of(part) for part in (*recorder.fitted, recorder.scored[0])]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_a_detector_of_normals_never_sees_a_label(recorder, tmp_path):
    log = sessions_log(tmp_path / "a.log")
    labels = pl.DataFrame({"session": [req(i) for i in range(40)], "label": [""] * 40})
    oddlog.fit([log], settings(detector="recorder"), labels=labels)
    assert not any(part.labelled.any() for part in (*recorder.fitted, *recorder.scored))


def test_labelled_anomalies_are_kept_from_a_detector_of_normals(recorder, tmp_path):
    log = sessions_log(tmp_path / "a.log")
    odd = [req(1), req(2), req(38)]
    labels = pl.DataFrame({"session": odd, "label": ["anomaly"] * 3})
    oddlog.fit([log], settings(detector="recorder"), labels=labels)
    keys = {key for part in (*recorder.fitted, *recorder.scored) for key in part.keys}
    assert not keys & set(odd)


def test_labelled_anomalies_are_counted_where_they_were_left_out(tmp_path):
    log = sessions_log(tmp_path / "a.log")
    odd = pl.DataFrame({"session": [req(1), req(2), req(38)], "label": ["anomaly"] * 3})
    report = oddlog.fit([log], settings(), labels=odd).report
    assert report is not None
    assert report.n_dropped == (2, 0, 1)
    assert "labelled anomalies left out: 2 of training" in "\n".join(report.lines())


def test_labels_inside_the_log_keep_anomalies_out_too(tmp_path):
    log = tmp_path / "a.log"
    flag = {3: "FATAL", 38: "FATAL"}
    log.write_text("".join(f"{flag.get(i, '-')} step of {req(i)}\n" for i in range(40)))
    config = settings(format=r"(?P<label>\S+) (?P<message>.*)")
    report = oddlog.fit([log], config).report
    assert report is not None
    assert report.n_dropped == (1, 0, 1)


def test_a_detector_of_labels_sees_them(recorder, tmp_path):
    log = sessions_log(tmp_path / "a.log")
    labels = pl.DataFrame({"session": [req(1), req(2)], "label": ["disk", ""]})
    oddlog.fit([log], settings(detector="from_labels"), labels=labels)
    assert recorder.fitted[0].anomalous.sum() == 1


def test_a_detector_of_labels_is_calibrated_on_normals_alone(recorder, tmp_path):
    log = sessions_log(tmp_path / "a.log")
    labels = pl.DataFrame({"session": [req(1), req(38)], "label": ["disk", "disk"]})
    oddlog.fit([log], settings(detector="from_labels"), labels=labels)
    assert req(38) not in recorder.scored[0].keys.to_list()


def test_a_detector_of_labels_refuses_a_log_without_anomalies(recorder, tmp_path):
    log = sessions_log(tmp_path / "a.log")
    with pytest.raises(LabelsError, match="holds no anomaly"):
        oddlog.fit([log], settings(detector="from_labels"))


def test_a_template_that_only_calibration_has_is_unknown_there(tmp_path):
    log = sessions_log(tmp_path / "a.log", extra=[(118, f"disk of {req(39)} on fire")])
    prepared = prepare([log], settings(), labels=None, learns_from="normal", seed=0)
    events = prepared.parts[2].events
    ids = events.filter(pl.col("message").str.contains("fire"))["template_id"]
    assert (len(ids), ids.max()) == (1, -1)


def test_templates_are_mined_from_training_alone(tmp_path):
    log = sessions_log(tmp_path / "a.log", extra=[(118, f"disk of {req(39)} on fire")])
    texts = oddlog.fit([log], settings()).templates.table()["template"]
    assert not texts.str.contains("fire").any()


@pytest.mark.parametrize(
    ("lines", "wanted", "said"),
    [
        ("2026-03-02 08:{m:02}:{s:02} step {i}", "time:5s", "no sessions, but times"),
        ("step {i}", "lines:100", "neither sessions nor times"),
    ],
)
def test_without_sessions_windows_are_of_time_or_of_lines(tmp_path, lines, wanted, said):
    log = tmp_path / "a.log"
    rows = [lines.format(m=i // 60, s=i % 60, i=i) for i in range(1200)]
    log.write_text("\n".join([*rows, ""]))
    pipeline = oddlog.fit([log], make_config({"detector": "new_event"}, "test"))
    assert pipeline.report is not None
    assert str(pipeline.config.window) == wanted
    assert said in pipeline.report.window


def test_where_lines_name_sessions_those_are_the_windows(tmp_path):
    pipeline = oddlog.fit([sessions_log(tmp_path / "a.log")], settings())
    assert pipeline.report is not None
    assert pipeline.report.window == "session (the lines name sessions)"


def test_a_window_that_was_asked_for_is_taken(tmp_path):
    pipeline = oddlog.fit([sessions_log(tmp_path / "a.log")], settings(window="lines:4"))
    assert pipeline.report is not None
    assert pipeline.report.window == "lines:4 (as asked)"


def test_the_window_rule_of_the_model_cuts_later_logs(tmp_path):
    log = sessions_log(tmp_path / "a.log")
    oddlog.fit([log], settings(window="lines:4"), model=tmp_path / "model")
    result = oddlog.load(tmp_path / "model").score([log])
    assert result.sequences.lengths.tolist() == [4] * 30


def test_the_format_of_the_model_reads_later_logs(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"[{i}] step of {req(i)}\n" for i in range(40)))
    oddlog.fit([log], settings(format=r"\[\d+\] (?P<message>.*)"), model=tmp_path / "model")
    result = oddlog.load(tmp_path / "model").score([log])
    assert result.sequences.messages().head(2).to_list() == ["step of req_1000", "step of req_1001"]


def test_another_format_can_be_given_for_one_log(tmp_path):
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=tmp_path / "model")
    other = tmp_path / "b.log"
    other.write_text("<1> open req_7\n")
    model = oddlog.load(tmp_path / "model")
    result = model.score([other], format=r"<\d> (?P<message>.*)")
    assert result.sequences.messages().to_list() == ["open req_7"]


def test_several_files_are_merged_by_time(tmp_path):
    one = write_log(tmp_path / "one.log", [(1, "a"), (4, "d")])
    two = write_log(tmp_path / "two.log", [(2, "b"), (3, "c")])
    events, _ = read_sources([one, two], "auto", None)
    assert events["message"].to_list() == ["a", "b", "c", "d"]


def test_merging_keeps_each_files_own_order_though_its_clock_runs_backwards(tmp_path):
    one = write_log(tmp_path / "one.log", [(5, "a"), (1, "late"), (6, "d")])
    two = write_log(tmp_path / "two.log", [(2, "b"), (7, "e")])
    events, _ = read_sources([one, two], "auto", None)
    assert events["message"].to_list() == ["b", "a", "late", "d", "e"]


def test_a_session_across_two_files_is_one(tmp_path):
    one = write_log(tmp_path / "one.log", [(1, "open req_1"), (9, "close req_1")])
    two = write_log(tmp_path / "two.log", [(5, "copy req_1")])
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=tmp_path / "model")
    result = oddlog.load(tmp_path / "model").score([one, two])
    found = result.table().select("n_events", "n_sources", "first_line", "last_line").rows()
    assert found == [(3, 2, 1, 2)]


def test_the_same_file_twice_is_refused(tmp_path):
    log = sessions_log(tmp_path / "a.log")
    with pytest.raises(ConfigError, match=r"a\.log: given twice"):
        oddlog.fit([log, log], settings())


def test_a_file_whose_name_is_not_utf8_is_refused_with_what_to_do(tmp_path):
    log = sessions_log(tmp_path / os.fsdecode(b"caf\xe9.log"))
    with pytest.raises(ConfigError, match="the name is not UTF-8; rename the file"):
        oddlog.fit([log], settings())


def test_a_place_that_cannot_be_written_to_is_refused_before_the_log_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write there; name another folder"):
        oddlog.fit([tmp_path / "absent.log"], settings(), model=tmp_path / "file" / "model")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_that_is_in_no_list_is_refused_with_what_to_do(tmp_path, kind):
    log = sessions_log(tmp_path / "a.log")
    with pytest.raises(ConfigError, match=r"a list of paths: \['.*a\.log'\]"):
        oddlog.fit(kind(log), settings())


def test_a_window_can_be_given_as_text():
    assert PipelineConfig(window="lines:10/5").window == Window.parse("lines:10/5")


def test_a_window_that_is_none_is_refused_with_an_example():
    with pytest.raises(ConfigError, match="not a window; write one like session, lines:100"):
        PipelineConfig(window="daily")


def test_no_file_at_all_is_refused():
    with pytest.raises(ConfigError, match="no log given"):
        oddlog.fit([], settings())


def test_a_session_regex_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="found in no message"):
        oddlog.fit([sessions_log(tmp_path / "a.log")], settings(session_by=r"job_\d+"))


def test_windows_by_session_of_a_log_without_sessions_are_refused(tmp_path):
    config = make_config({"detector": "new_event", "window": "session"}, "test")
    with pytest.raises(ConfigError, match="no line names a session"):
        oddlog.fit([sessions_log(tmp_path / "a.log")], config)


def test_windows_of_time_of_a_log_without_times_are_refused(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("step\n" * 100)
    config = make_config({"detector": "new_event", "window": "time:60s"}, "test")
    with pytest.raises(ConfigError, match=r"training part has no windows.*no time yet"):
        oddlog.fit([log], config)


def test_windows_of_lines_cannot_be_cut_at_random(tmp_path):
    config = settings(window="lines:4", cut="random")
    with pytest.raises(ConfigError, match="not at random"):
        oddlog.fit([sessions_log(tmp_path / "a.log")], config)


def test_sessions_can_be_cut_at_random(tmp_path):
    log = sessions_log(tmp_path / "a.log", n=100)
    prepared = [
        prepare([log], settings(cut="random"), labels=None, learns_from="normal", seed=seed)
        for seed in (1, 1, 2)
    ]
    first, again, other = (done.parts[0].keys.to_list() for done in prepared)
    assert first == again
    assert first != other


def test_too_few_sessions_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"part \d of 3 would be empty.*use more log"):
        oddlog.fit([sessions_log(tmp_path / "a.log", n=2)], settings())


def test_an_empty_log_is_refused(tmp_path):
    (tmp_path / "a.log").write_text("")
    with pytest.raises(FormatError, match=r"a\.log: empty"):
        oddlog.fit([tmp_path / "a.log"], settings())


def test_a_missing_log_is_refused(tmp_path):
    with pytest.raises(FormatError, match=r"gone\.log: no such file"):
        oddlog.fit([tmp_path / "gone.log"], settings())


def test_a_calibration_too_small_for_the_rate_says_that_nothing_can_be_flagged(tmp_path):
    pipeline = oddlog.fit([sessions_log(tmp_path / "a.log")], settings())
    assert "nothing can be flagged; give 89 more" in pipeline.calibration_note()


def test_a_large_calibration_says_in_which_range_the_rate_should_lie(tmp_path):
    config = settings(false_alarm_rate=0.2)
    note = oddlog.fit([sessions_log(tmp_path / "a.log")], config).calibration_note()
    assert "at most 20.00%, by 10 calibration sequences" in note


def test_labels_of_another_log_are_refused(tmp_path):
    labels = pl.DataFrame({"session": ["blk_1"], "label": ["anomaly"]})
    with pytest.raises(LabelsError, match="none of 1 labels"):
        oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), labels=labels)


def test_a_part_of_nothing_but_labelled_anomalies_is_refused(tmp_path):
    log = sessions_log(tmp_path / "a.log")
    odd = [req(i) for i in range(30, 40)]
    labels = pl.DataFrame({"session": odd, "label": ["anomaly"] * 10})
    with pytest.raises(ConfigError, match="calibration part holds nothing but"):
        oddlog.fit([log], settings(), labels=labels)


def test_a_folder_that_is_no_model_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="is no oddlog model"):
        oddlog.fit([tmp_path / "no.log"], settings(), model=tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_fit_that_fails_leaves_the_old_model_whole(recorder, tmp_path):
    log, model = sessions_log(tmp_path / "a.log"), tmp_path / "model"
    oddlog.fit([log], settings(), model=model)
    with pytest.raises(FormatError, match="middle of a fit"):
        oddlog.fit([log], settings(detector="failing"), model=model)
    assert oddlog.load(model).detector.name == "new_event"


def test_a_new_fit_takes_the_old_models_place(tmp_path):
    log, model = sessions_log(tmp_path / "a.log"), tmp_path / "model"
    oddlog.fit([log], settings(), model=model)
    oddlog.fit([log], settings(detector="key_set"), model=model)
    assert oddlog.load(model).detector.name == "key_set"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_other_rules_are_stored_as_baselines(fitted):
    assert sorted(oddlog.load(fitted[1]).baselines) == ["counts", "new_event"]


def test_a_damaged_baseline_hinders_evaluation_but_not_scoring(tmp_path):
    log, model = sessions_log(tmp_path / "a.log"), tmp_path / "model"
    oddlog.fit([log], settings(), model=model)
    (model / "baselines" / "counts" / "calibration.json").write_text("{")
    pipeline = oddlog.load(model)
    assert len(pipeline.score([log]))
    with pytest.raises(ArtifactError, match=r"counts.calibration\.json: damaged"):
        pipeline.baselines["counts"]


def test_baselines_of_a_later_fit_are_refused(tmp_path):
    log, model = sessions_log(tmp_path / "a.log"), tmp_path / "model"
    oddlog.fit([log], settings(), model=model, run=Run(seed=1))
    pipeline = oddlog.load(model)
    oddlog.fit([log], settings(), model=model, run=Run(seed=2))
    with pytest.raises(ArtifactError, match="after this one was loaded; load it again"):
        pipeline.baselines["counts"]


def test_a_loaded_model_can_be_saved_over_itself_with_its_baselines(tmp_path):
    log, model = sessions_log(tmp_path / "a.log"), tmp_path / "model"
    fitted = oddlog.fit([log], settings(), model=model)
    oddlog.load(model).save(model)
    stored = oddlog.load(model).baselines["counts"].calibration.scores
    assert stored.tolist() == fitted.baselines["counts"].calibration.scores.tolist()


def test_a_setting_of_another_version_is_named_when_a_model_is_loaded(tmp_path):
    model = tmp_path / "model"
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=model)
    text = (model / "config.toml").read_text()
    (model / "config.toml").write_text("bygone = 1\n" + text)
    with pytest.raises(ArtifactError, match=r"unknown setting 'bygone'.*manifest\.json names"):
        oddlog.load(model)


@pytest.mark.parametrize("model", ["model", None])
def test_resuming_without_a_checkpoint_is_told(tmp_path, model, caplog):
    log = sessions_log(tmp_path / "a.log")
    folder = None if model is None else tmp_path / model
    oddlog.fit([log], settings(), model=folder, run=Run(resume=True))
    assert "nothing to resume: no checkpoint" in caplog.text


def test_a_fit_that_need_not_resume_is_not_told_so(tmp_path, caplog):
    log = sessions_log(tmp_path / "a.log")
    oddlog.fit([log], settings(), model=tmp_path / "model")
    assert "resume" not in caplog.text


def test_one_byte_of_a_model_that_has_changed_is_noticed(tmp_path):
    model = tmp_path / "model"
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=model)
    path = model / "detector" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"detector/model\.safetensors: damaged"):
        oddlog.load(model)


def test_settings_that_are_cut_off_where_they_still_can_be_read_are_noticed(tmp_path):
    model = tmp_path / "model"
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=model)
    text = (model / "config.toml").read_text()
    (model / "config.toml").write_text(text[: text.index("[drain]")])
    with pytest.raises(ArtifactError, match=r"config\.toml: damaged"):
        oddlog.load(model)


@pytest.mark.parametrize("name", ["config.toml", "templates.json", "calibration.json"])
def test_a_model_without_one_of_its_files_is_refused(tmp_path, name):
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(OddlogError, match=name):
        oddlog.load(tmp_path / "model")


def test_a_model_whose_config_names_another_detector_is_refused(tmp_path):
    model = tmp_path / "model"
    oddlog.fit([sessions_log(tmp_path / "a.log")], settings(), model=model)
    text = (model / "config.toml").read_text()
    (model / "config.toml").write_text(text.replace('"new_event"', '"counts"'))
    with pytest.raises(ArtifactError, match="disagree"):
        oddlog.load(model)


def test_sequences_of_ids_alone_can_be_fitted_and_scored(tmp_path):
    ids = oddlog.Sequences.from_ids([[0, 1, 2]] * 50)
    log = sessions_log(tmp_path / "a.log")
    templates = oddlog.fit([log], settings()).templates
    pipeline = fit_sequences(
        [ids, ids, ids], templates=templates, config=settings(), run=Run(seed=1)
    )
    odd = oddlog.Sequences.from_ids([[0, 1, 2], [0, 9, 2]])
    assert pipeline.score_sequences(odd).scores.sequence.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"detector": "lgpt"}, "no detector named 'lgpt'; there are: .*loggpt"),
        ({"detctor": "counts"}, "unknown setting 'detctor'; did you mean 'detector'"),
        ({"detector": 5}, "detector: 5 is no name"),
        ({"detector": "counts", "counts": 3}, "counts: a group of settings"),
        ({"detector": "counts", "counts": {"idff": True}}, "counts: .*did you mean 'idf'"),
        ({"detector": "counts", "settings": 3}, "settings: settings: "),
        ({"detector": "counts", "settings": 3, "counts": {}}, "settings: settings: "),
        ({"detector": "counts", "key_set": {}}, "settings of 'key_set', but .* 'counts'"),
        ({"window": "lines:x"}, "'x' is no number of lines"),
        ({"train_share": 0.9}, "sum to more than 1"),
        ({"false_alarm_rate": 2}, "false_alarm_rate"),
    ],
)
def test_settings_that_cannot_be_are_refused(values, said):
    with pytest.raises(ConfigError, match=said):
        make_config(values, "settings")


def test_a_detectors_group_and_the_settings_of_the_pipeline_are_one(tmp_path):
    config = make_config(
        {"detector": "counts", "settings": {"idf": True}, "counts": {"rule": "unseen"}}, "test"
    )
    assert config.settings == {"idf": True, "rule": "unseen"}
