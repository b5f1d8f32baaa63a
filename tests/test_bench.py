"""A benchmark's cells: data cut as promised, a test without labels, each cell measured once."""

import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from known_bench import tiny
from oddlog import PipelineConfig, Run, Sequences
from oddlog.bench import protocols
from oddlog.bench.blind import blind
from oddlog.bench.config import BenchConfig
from oddlog.bench.measure import Bench, over_time, slice_of
from oddlog.bench.plan import Asked, plan, plans_to_run, tasks_of
from oddlog.bench.protocols import PROTOCOLS, Cut, hdfs_labelled
from oddlog.bench.runner import keep
from oddlog.bench.slices import holds, slices_of
from oddlog.bench.work import Cell, peak_memory_mb, run_cell
from oddlog.datasets import IdDataset, dataset_files
from oddlog.detectors import BASELINES
from oddlog.detectors.key_set import KeySet
from oddlog.detectors.new_event import NewEvent
from oddlog.drain import Templates
from oddlog.errors import ConfigError, DetectorError, FormatError, LabelsError
from oddlog.evaluate import Resampling
from oddlog.events import column
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.pipeline import fit_sequences


@pytest.fixture(scope="module", params=["adfa", "bgl-raw", "bgl-windows", "hadoop"])
def cut(request, data_folder):
    """Return the data of one benchmark."""
    return PROTOCOLS[request.param](data_folder, 0)


@pytest.mark.data
def test_what_learns_from_normals_is_given_normals_without_labels(cut):
    keys = pl.concat([part.keys for part in cut.learned("normal")])
    learned = pl.concat([part.labels for part in cut.learned("normal")])
    odd = pl.concat([part.keys.filter(part.anomalous) for part in cut.parts])
    assert learned.is_null().all()
    assert not keys.is_in(odd.implode()).any()


@pytest.mark.data
def test_what_is_learned_is_apart_from_what_is_judged(cut):
    keys = pl.concat([part.keys for part in (*cut.parts, cut.test)])
    assert keys.is_unique().all()


@pytest.mark.data
def test_some_of_what_is_judged_is_anomalous(cut):
    assert 0 < cut.test.anomalous.sum() < len(cut.test)


@pytest.mark.data
def test_another_seed_learns_from_others(data_folder):
    cuts = [PROTOCOLS["adfa"](data_folder, seed) for seed in (0, 1)]
    assert set(cuts[0].parts[0].keys) != set(cuts[1].parts[0].keys)


@pytest.mark.data
def test_no_application_of_hadoop_is_in_two_parts(data_folder):
    dataset = protocols.opened("hadoop", data_folder, IdDataset)
    owner = dict(zip(dataset.sequences.keys, dataset.columns["application"], strict=True))
    cut = PROTOCOLS["hadoop"](data_folder, 0)
    found = [{owner[key] for key in part.keys} for part in (*cut.parts, cut.test)]
    assert sum(map(len, found)) == len(set.union(*found)) == 55


@pytest.fixture
def run_tiny(monkeypatch, tmp_path):
    """Return a function that measures detectors on ``tiny``, and the file that it writes."""
    monkeypatch.setitem(PROTOCOLS, "tiny", tiny)
    out = tmp_path / "tiny.jsonl"

    def run(*detectors, settings=None, **asked):
        config = BenchConfig(
            title="t", about="a", protocol="tiny", detectors=detectors, seeds=1,
            settings=settings or {},
        )  # fmt: skip
        wanted = Asked(tmp_path, **asked)
        for task in tasks_of([plan("tiny", config, wanted)], wanted):
            keep(task, run_cell(task.cell))

    return run, out


def records_in(out):
    """Return the records of a file."""
    return [json.loads(line) for line in out.read_text().splitlines()]


def names_in(out):
    """Return the detectors whose records a file holds."""
    return [record["detector"] for record in records_in(out)]


def test_another_detector_is_added_without_the_first_being_fitted_again(run_tiny, monkeypatch):
    run, out = run_tiny
    run("new_event")
    before = out.read_text()
    monkeypatch.setattr(NewEvent, "fit", lambda *_: pytest.fail("fitted again"))
    run("new_event", "key_set")
    assert out.read_text().startswith(before)
    assert names_in(out) == ["new_event", "key_set"]


def test_a_file_with_other_settings_of_a_detector_is_refused(run_tiny):
    run, out = run_tiny
    run("counts")
    with pytest.raises(ConfigError, match="other settings of counts"):
        run("counts", set=("counts.idf=true",))
    assert names_in(out) == ["counts"]


def test_a_record_from_before_a_setting_existed_has_its_default(run_tiny):
    run, out = run_tiny
    run("counts")
    record = json.loads(out.read_text())
    del record["settings"]["idf"]
    out.write_text(json.dumps(record) + "\n")
    run("counts")
    assert names_in(out) == ["counts"]


def test_records_of_another_test_are_refused(run_tiny):
    run, out = run_tiny
    run("counts")
    out.write_text(json.dumps(json.loads(out.read_text()) | {"test_sha256": "?"}) + "\n")
    with pytest.raises(ConfigError, match="another test of this seed"):
        run("counts", "key_set")


def test_a_setting_of_no_chosen_detector_is_refused(run_tiny):
    with pytest.raises(ConfigError, match="of none of the detectors counts"):
        run_tiny[0]("counts", set=("loggpt.layers=2",))


def test_an_ensemble_is_given_the_settings_of_its_members_alone(run_tiny):
    run, out = run_tiny
    settings = {"ensemble": {"members": ["key_set", "counts"]}, "counts": {"idf": True}}
    run("ensemble", "ngram", settings=settings, set=("ngram.n=2",))
    combined, ngram = records_in(out)
    assert combined["settings"]["settings"] == {"counts": {"idf": True}}
    assert ngram["set"] == ["ngram.n=2"]


def test_what_is_taken_up_from_a_checkpoint_has_no_time_of_its_own(run_tiny, monkeypatch, tmp_path):
    def fit(detector, train, valid, run):
        assert run.resume
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        (run.checkpoints / "stage.safetensors").touch()
        learn(detector, train, valid, run)

    learn = KeySet.fit
    monkeypatch.setattr(KeySet, "fit", fit)
    run, out = run_tiny
    run("key_set", work=tmp_path / "work")
    first = records_in(out)[0]["fit_s"]
    out.unlink()
    run("key_set", work=tmp_path / "work")
    assert first is not None
    assert records_in(out)[0]["fit_s"] is None


def test_detectors_are_judged_as_a_pipeline_judges_them(run_tiny):
    run, out = run_tiny
    run(*BASELINES)
    cut = tiny(None, 0)
    config = PipelineConfig(detector="counts")
    pipeline = fit_sequences(cut.parts, templates=cut.templates, config=config, run=Run(0))
    judges = {"counts": pipeline.judge, **pipeline.baselines}
    for record in records_in(out):
        judge = judges[record["detector"]]
        flags = judge.calibration.flags(judge.detector.score(cut.test.without_labels()).sequence)
        decision = record["evaluation"]["decision"]
        assert decision["n_hits"] == flags[cut.test.anomalous].sum()
        assert decision["n_false_alarms"] == flags[~cut.test.anomalous].sum()


def test_a_second_run_finds_the_same(run_tiny):
    run, out = run_tiny
    run("counts", "ngram")
    first = records_in(out)
    out.unlink()
    run("counts", "ngram")
    same = ("evaluation", "slices", "curve", "histogram", "over_time", "test_sha256")
    for one, other in zip(first, records_in(out), strict=True):
        assert {key: one[key] for key in same} == {key: other[key] for key in same}


def test_a_record_tells_memory_times_and_packages(run_tiny):
    run, out = run_tiny
    run("counts")
    (record,) = records_in(out)
    assert 50 < record["peak_mb"] <= peak_memory_mb()
    assert record["fit_wall_s"] >= 0
    assert record["environment"]["polars"] == pl.__version__


def peek(monkeypatch, score):
    """Let ``new_event`` score what it is shown as a function says; return what is to be judged."""

    def scored(detector, sequences):
        return Scores(np.asarray(score(sequences), dtype=np.float32))

    monkeypatch.setattr(NewEvent, "score", scored)
    monkeypatch.setattr(NewEvent, "paper_rule", lambda *_: None)
    monkeypatch.setitem(PROTOCOLS, "leaky", leaky)
    return Cell("leaky", "leaky", (), "new_event", 0)


def leaky(folder, seed):
    """Return a cut in which labels can be read from names, raw lines, places and sources."""
    cut = tiny(folder, seed)
    parts = []
    for part in (*cut.parts, cut.test):
        odd = part.anomalous[part.owners]
        raw = pl.Series("raw", ["fault" if each else "-" for each in odd])
        label = pl.Series("label", ["fault" if each else "" for each in odd])
        source = pl.Series("source", ["bad.log" if each else "good.log" for each in odd])
        keys = pl.Series("key", ["bad" if each else "good" for each in part.anomalous]) + part.keys
        events = part.events.with_columns(raw, label, source)
        parts.append(replace(part, keys=keys, events=events))
    return replace(cut, parts=parts[:3], test=parts[3])


def first_of(shown, name, value):
    """Return whether the first event of each sequence has a value in a column, if it is there."""
    told = column(shown.events, name) == value
    return told.fill_null(value=False).to_numpy()[shown.offsets[:-1]]


@pytest.mark.parametrize(
    "read",
    [
        lambda shown: shown.anomalous,
        lambda shown: np.bincount(shown.owners, shown.event_anomalous()),
        lambda shown: shown.keys.str.contains("bad").to_numpy(),
        lambda shown: first_of(shown, "raw", "fault"),
        lambda shown: first_of(shown, "source", "bad.log"),
    ],
    ids=["labels", "labels of lines", "names", "raw lines", "sources"],
)
def test_a_detector_that_peeks_at_labels_finds_nothing(monkeypatch, read):
    cell = peek(monkeypatch, lambda shown: np.zeros(len(shown)) + read(shown))
    found = run_cell(cell)["evaluation"]
    assert found["ranking"]["auroc"]["value"] == 0.5
    assert found["decision"]["n_hits"] == 0


def test_the_order_of_a_test_says_nothing_of_its_labels():
    order = blind(tiny(None, 0).test, 0).order
    assert sorted(order) == list(range(45))
    assert not (np.flatnonzero(order >= 40) >= 40).all()


@pytest.mark.parametrize(
    "score",
    [lambda shown: np.arange(len(shown)), lambda shown: np.full(len(shown), len(shown))],
    ids=["by place", "by how many there are"],
)
def test_a_detector_that_ranks_what_it_is_shown_among_itself_is_refused(monkeypatch, score):
    with pytest.raises(DetectorError, match="depend on what else it is shown"):
        run_cell(peek(monkeypatch, score))


def test_a_detector_that_leaves_a_sequence_out_is_refused(monkeypatch):
    cell = peek(monkeypatch, lambda shown: np.zeros(len(shown) - (len(shown) == 45)))
    with pytest.raises((DetectorError, IndexError)):
        run_cell(cell)


def test_what_is_blamed_is_put_back_where_it_belongs():
    test = Sequences.from_ids([[1, 2], [3], [4, 5, 6]], ["", "x", ""])
    shown = blind(test, 1)
    starts = shown.sequences.offsets
    last = [
        Explanation(key, (Culprit(row=int(end) - 1, position=0, score=1.0),))
        for key, end in zip(shown.sequences.keys, starts[1:], strict=True)
    ]
    back = shown.put_back_blame(last, test)
    assert [each.key for each in back] == test.keys.to_list()
    assert [each.culprits[0].row for each in back] == [1, 2, 5]


def test_scores_of_what_is_shown_are_put_back_where_they_belong():
    test = Sequences.from_ids([[1, 2], [3], [4, 5, 6]], ["", "x", ""])
    shown = blind(test, 1)
    ids = shown.sequences.template_ids()
    first = ids[shown.sequences.offsets[:-1]]
    back = shown.put_back(Scores(first, ids, {"a": first, "b": ids}, ("",), first[:, None]))
    assert back.sequence.tolist() == back.measures["a"].tolist() == [1, 3, 4]
    assert back.event.tolist() == back.measures["b"].tolist() == [1, 2, 3, 4, 5, 6]
    assert back.class_probs[:, 0].tolist() == [1, 3, 4]


@pytest.mark.data
def test_a_damaged_data_file_is_refused(data_folder, tmp_path):
    for name in dataset_files("adfa_ld"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(data_folder / name, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    with (tmp_path / name).open("r+b") as file:
        file.seek(1000)
        file.write(b"?")
    cell = Cell("adfa", "adfa", ("adfa_ld",), "new_event", 0, folder=tmp_path)
    with pytest.raises(FormatError, match=r"adfa_ld\.parquet: SHA-256 .* but the benchmarks are"):
        run_cell(cell)


def test_data_that_are_not_there_are_asked_for(tmp_path):
    config = BenchConfig(title="t", about="a", protocol="adfa", detectors=("counts",))
    asked = Asked(tmp_path, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"reads adfa_ld/adfa_ld\.parquet: not in"):
        plans_to_run({"honest/adfa": config}, asked)


def test_what_learns_from_labels_is_given_labels_but_calibrated_on_normals():
    train, valid, calibration = tiny(None, 0).learned("labelled")
    assert [int(part.anomalous.sum()) for part in (train, valid)] == [4, 2]
    assert (len(calibration), calibration.labels.null_count()) == (120, 120)


def test_what_learns_from_labels_is_refused_where_there_are_none():
    cut = tiny(None, 0)
    cut = replace(cut, parts=[part.take(~part.anomalous) for part in cut.parts])
    with pytest.raises(LabelsError, match="learns from labels"):
        cut.learned("labelled")


def test_labels_are_drawn_in_the_same_share_of_each_class(monkeypatch):
    labels = [""] * 3000 + ["anomaly"] * 200
    whole = Sequences.from_ids([[1]] * 3200, labels)
    monkeypatch.setattr(protocols, "open_dataset", lambda *_: IdDataset(whole))
    cut = hdfs_labelled(None, 0, 0.1)
    drawn = [(len(part), int(part.anomalous.sum())) for part in (*cut.parts, cut.test)]
    assert drawn == [(288, 18), (32, 2), (2000, 0), (880, 180)]
    assert pl.concat([part.keys for part in (*cut.parts, cut.test)]).is_unique().all()


def sliced(train, test, labels=None):
    """Return the slices of a test of ids beside a training of ids."""
    learned = Sequences.from_ids(train, [""] * len(train))
    shown = Sequences.from_ids(test, labels or [""] * len(test))
    found = slices_of(Cut([learned] * 3, shown, Templates.from_texts({})))
    return {name: mask.astype(int).tolist() for name, mask in found.items()}


def test_slices_are_what_each_shortcut_leaves():
    found = sliced([[1, 2, 2], [3]], [[2, 1, 2], [1, 2], [3], [3, 4], [-1]])
    assert found == {
        "no_unseen_key": [1, 1, 1, 0, 0],
        "known_counts": [1, 0, 1, 0, 0],
        "not_a_copy": [1, 1, 0, 1, 1],
        "unknown_counts": [0, 1, 0, 1, 1],
    }


def test_slices_are_by_length_and_by_type_where_there_are_several():
    found = sliced([[1]], [[1] * 10, [1] * 11, [1] * 400], ["", "disk", "network"])
    names = ("length_1_10", "length_11_30", "length_301", "type_disk", "type_network")
    assert [found[name] for name in names] == [
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
        [1, 1, 0],
        [1, 0, 1],
    ]
    assert "length_31_100" not in found


def test_a_slice_tells_what_the_flags_are_worth_on_it():
    odd, flags, chosen = (np.array([*row]) == "1" for row in ("110011", "101001", "111100"))
    found = slice_of(np.array([4, 1, 3, 2, 9, 9]), odd, flags, chosen, Resampling(n=50))
    low, high = found.pop("auprc_interval")
    assert 0 < low < 0.75 < high <= 1
    assert found == {
        "n": 4, "n_anomalous": 2, "auprc": 0.75, "recall": 0.5, "false_alarm_rate": 0.5, "f1": 0.5
    }  # fmt: skip


def test_a_slice_without_anomalies_has_no_recall():
    nothing = np.zeros(2, dtype=bool)
    found = slice_of(np.array([1, 2]), nothing, nothing, ~nothing, Resampling(n=50))
    assert (found["auprc"], found["recall"], found["false_alarm_rate"]) == (None, None, 0.0)


def test_intervals_draw_neighbours_in_time_together():
    cut = tiny(None, 0)
    test = cut.test.take(np.arange(44, -1, -1))  # the last in time come first
    blocks = Bench("any", 0, replace(cut, test=test)).resampling.blocks
    assert blocks.tolist() == list(range(44, -1, -1))
    assert Bench("any", 0, replace(cut, in_time=False)).resampling.blocks is None


def test_rates_over_time_are_those_of_each_fifth_in_the_order_of_first_events():
    test = Sequences.from_ids([[1]] * 10, ["", "x"] * 5).take(range(9, -1, -1))
    flags = np.array([1, 0, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)  # the last in time come first
    found = over_time(flags, test)
    assert [(piece["n"], piece["n_anomalous"]) for piece in found] == [(2, 1)] * 5
    assert [piece["recall"] for piece in found] == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert [piece["false_alarm_rate"] for piece in found] == [0.0, 0.0, 0.0, 1.0, 0.0]


def test_a_fifth_without_anomalies_has_no_recall():
    test = Sequences.from_ids([[1]] * 5, [""] * 5)
    found = over_time(np.zeros(5, dtype=bool), test)
    assert [piece["recall"] for piece in found] == [None] * 5


@pytest.mark.parametrize("name", ["order-middle", "order-branch"])
def test_sessions_wrong_in_their_order_alone_have_the_counts_of_normal_ones(name, tmp_path):
    cut = PROTOCOLS[name](tmp_path, 0)
    assert cut.test.anomalous.sum() == 250
    assert holds(cut.test, cut.parts[0], in_order=False).all()
