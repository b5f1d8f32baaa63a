"""The scripts that measure how fast networks learn and score."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from oddlog import Run, Sequences
from oddlog.bench.work import new_detector
from oddlog.distinct import find_distinct
from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, Chunks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ONE, TWO = FIRST_CANDIDATE + 1, FIRST_CANDIDATE + 2
SESSIONS = Sequences.from_ids([[1, 2, 3, 1], [1, 2, 3], [2, 2], [3, 1, 1]] * 4)


@pytest.fixture
def benchmark(monkeypatch):
    """Return a function that imports one of the scripts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def training(benchmark):
    return benchmark("training")


@pytest.fixture
def inference(benchmark):
    return benchmark("inference")


@pytest.fixture
def networks(benchmark):
    return benchmark("networks")


def strings_of(*lists):
    sizes = np.array([len(item) for item in lists], dtype=np.int64)
    flat = np.array([token for item in lists for token in item], dtype=np.int64)
    return find_distinct(flat, Chunks(np.cumsum(sizes) - sizes, sizes, np.zeros_like(sizes)))


def test_a_meter_keeps_what_the_best_epoch_took(training, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 4.0, 6.0])  # start; step, epoch; step, epoch
    monkeypatch.setattr(training.time, "process_time", lambda: next(clock))
    meter = training.Meter()
    meter.start()
    for number, loss in ((1, 0.5), (2, 0.7)):
        meter.reads(10, 8, 100.0)
        meter.progress("stage", 1, 1)
        meter.epoch("stage", number, 9, loss)
    (cost,) = meter.stages.values()
    assert (cost.best_epoch, cost.epochs, cost.most) == (1, 2, 9)
    assert (cost.best_cpu_s, cost.cpu_s, cost.valid_cpu_s) == (3.0, 6.0, 4.0)
    assert (cost.cells, cost.tokens, cost.operations, cost.steps) == (20, 16, 200.0, 2)


def test_a_meter_tells_stages_apart_that_learn_side_by_side(training):
    fitted = new_detector(
        "loggpt", ["loggpt.epochs=2", "loggpt.cut_rate=0", "loggpt.count_steps=40"]
    )
    meter = training.Meter()
    heard = training.listen(meter, "loggpt", fitted.config)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meter.start()
    fitted.fit(SESSIONS, SESSIONS, Run(0, progress=meter.progress, epoch=meter.epoch))
    torch.set_num_threads(before)
    heard.remove()
    order, counts = (meter.stages[name] for name in ("language model", "counts"))
    assert (order.epochs, order.steps) == (2, 2)
    assert counts.steps == counts.epochs > 2
    assert (order.threads, counts.threads) == (1, 1)
    assert 0 < order.cpu_s < order.wall_s + 0.1
    assert order.tokens == 2 * 19  # of four strings, without what is only predicted


@pytest.mark.parametrize(
    ("detector", "settings", "read"),
    [
        ("loggpt", ("reads=order", "cut_rate=0"), (19, 4 * 5)),  # the last token is only predicted
        ("logbert", ("reads=order", "cut_rate=0", "epoch_batches=1"), (20, 4 * 6)),
        ("gpt2_classifier", ("weigh=distinct", "unmarked_rate=0", "max_steps=1"), (20, 4 * 6)),
    ],
)
def test_what_a_network_is_trained_on_is_counted_as_it_is_read(training, detector, settings, read):
    labels = ["", "", "", "anomaly"] if detector == "gpt2_classifier" else [None] * 4
    sessions = Sequences.from_ids([[1, 2, 3, 1], [1, 2, 3], [2, 2], [3, 1, 1]], labels)
    few = {"loggpt": "epochs=1", "logbert": "epochs=1", "gpt2_classifier": "min_steps=1"}
    chosen = [f"{detector}.{value}" for value in (*settings, few[detector])]
    fitted = new_detector(detector, chosen)
    meter = training.Meter()
    heard = training.listen(meter, detector, fitted.config)
    meter.start()
    fitted.fit(sessions, sessions, Run(0, progress=meter.progress, epoch=meter.epoch))
    heard.remove()
    (cost,) = meter.stages.values()
    assert (cost.tokens, cost.cells, cost.steps) == (*read, 1)
    assert cost.operations > 2 * cost.tokens * 2 * 12 * 60**2  # two layers' weights, at least


def test_windows_of_deeplog_are_counted_whole(training):
    fitted = new_detector("deeplog", ["deeplog.epochs=1"])
    meter = training.Meter()
    heard = training.listen(meter, "deeplog", fitted.config)
    meter.start()
    fitted.fit(SESSIONS, SESSIONS, Run(0, progress=meter.progress, epoch=meter.epoch))
    heard.remove()
    (cost,) = meter.stages.values()
    assert cost.tokens == cost.cells
    assert cost.cells % fitted.config.window == 0


def test_flags_that_differ_by_the_tolerance_have_not_moved(inference):
    eager = np.repeat(np.arange(100.0), 2)  # each score calibrates and is judged
    near = eager + 0.9e-4
    assert inference.moved(eager, near)[0] == 0
    assert inference.moved(eager, eager)[1:] == (1 + 5 + 20 - 3, 300)


def test_a_flag_that_is_lost_has_moved_once_at_each_rate_that_raised_it(inference):
    eager = np.repeat(np.arange(100.0), 2)
    other = eager.copy()
    other[-1] = 0.0
    assert inference.moved(eager, other)[0] == 2  # at 5 % and 20 %; at 1 % it was the threshold


def test_the_score_of_a_string_is_its_worst_surprise(networks):
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]]))
    subject = networks.Subject("x", None, [], [torch.tensor([[0, 1, -1]])], 3, 1.0)
    assert subject.scores([logits]) == pytest.approx([-np.log(0.1)])


def test_the_score_of_a_class_is_what_is_left_of_normal(networks):
    subject = networks.Subject("x", None, [], None, 3, 1.0)
    assert subject.scores([torch.tensor([[0.75, 0.25], [0.5, 0.5]])]) == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("detector", ["loggpt", "logbert", "gpt2_classifier", "deeplog"])
def test_a_subject_has_a_score_for_all_that_it_reads(networks, detector):
    labels = ["", "", "", "anomaly"] * 40
    sessions = Sequences.from_ids([[1, 2, 3, 1, 2], [1, 2, 3], [2, 2], [3, 1, 1]] * 40, labels)
    graph = networks.learned(detector, sessions, Run(0))
    strings = strings_of([BEGIN, ONE, TWO, ONE, TWO, END], [BEGIN, TWO, END])
    subject = networks._SUBJECTS[detector](graph, strings)
    with torch.inference_mode():
        scores = subject.scores([graph.network.eval()(*inputs) for inputs in subject.batches])
    n_windows = 6  # pasts of the seven keys and ends, of which the first of both strings is one
    assert len(scores) == (n_windows if detector == "deeplog" else 2)
    assert (scores > 0).all() or detector == "logbert"  # which masks nothing in a short string
    assert subject.operations > 1000 * subject.n_tokens


def test_a_share_that_has_fallen_below_the_band_is_named(benchmark):
    shares = benchmark("shares")
    known = [{"loggpt, scoring": share, "deeplog, scoring": 0.4} for share in (0.2, 0.24, 0.9)]
    low = shares.KEPT * 0.24 - 0.001
    found = {"loggpt, scoring": low, "deeplog, scoring": 0.3, "unknown": 0.0}
    assert shares.fallen(found, known) == [f"loggpt, scoring: {low:.1%}, recorded 24.0%"]


def training_record(training, **figures):
    stage = training.StageCost(
        "next key", 1, 5, 40, 3, 0.5, 10.0, 12.0, 0.0, 6.0, 7.0, 2.0, 50, 1000, 900
    )
    stage.operations = 4e9
    record = {"detector": "deeplog", "threads": 1, "load": 2.0, "limit": 3e9, "peak_mb": 700.0}
    record |= {
        "before_mb": 500.0,
        "wall_s": 13.0,
        "machine": "x",
        "version": "1",
        "commit": "c" * 40,
    }
    return record | {"stages": [training.asdict(stage)]} | figures


def test_a_row_of_training_tells_rates_without_validation_and_passes_of_a_step(training):
    record = training_record(training)
    row = training.row_of(record, record["stages"][0])
    # 900 tokens in 8 s; three passes of 4e9 operations in 8 s of 3e9 a second
    assert row[2:8] == ["1", "3 of 5", "6.0", "10.0", "", ""]
    assert row[8:] == ["20%", "0.1", "50%", "10.0%", "700"]


def test_the_clock_is_told_of_an_idle_machine_and_the_latest_record_counts(training):
    alone = training_record(training)
    alone["stages"][0]["wall_s"] = 10.2  # of which 10.0 are the processor's
    records = [training_record(training), alone]
    text = training.table(records)
    assert text.count("`deeplog`") == 1
    assert "| 7.0 | 13.0 |" in text


def test_stages_that_learn_side_by_side_are_told_as_such(training):
    record = training_record(training, threads=2)
    (stage,) = record["stages"]
    assert training.row_of(record, stage)[2] == "1 of 2"
    assert training.row_of(record, stage)[6:8] == ["7.0", "13.0"]  # it has not waited for a core
    assert training.row_of(record, stage | {"waited_s": 0.7})[6] == ""
    assert "side by side" in training.table([record])
    assert "side by side" not in training.table([training_record(training)])


def test_ways_without_a_record_are_named(inference):
    eager = {"detector": "loggpt", "data": "hdfs", "way": "eager", "seconds": 1.0, "apart": 0.0}
    eager |= {"scores_apart": 0.0, "flags_moved": 0, "flags": 9, "flags_raised": 1, "filled": 1.0}
    eager |= {"tokens_per_s": 5e4, "share_of_limit": 0.2, "limit": 9e10, "machine": "x"}
    text = inference.table([eager | {"version": "1", "commit": None}])
    lacking = text.replace("\n", " ").split("Not measured yet: ")[1]
    assert "| `loggpt` | HDFS | eager | 50 | 1.00 | 20% | 100% | 0e+00 | 0e+00 | 0 of 9 |" in text
    assert "loggpt on HDFS by int8" in lacking
    assert "deeplog on HDFS by prefixes" not in lacking


def test_what_is_recorded_is_not_measured_again(inference, tmp_path):
    out = tmp_path / "inference.jsonl"
    known = [{"detector": "deeplog", "data": "hdfs", "way": way} for way in ("eager", "int8")]
    inference.append(out, known)
    asked = inference.argparse.Namespace(
        out=out, again=False, detectors=["deeplog", "logbert"], ways=["int8", "prefixes"]
    )
    assert inference.missing(asked, "hdfs") == {"logbert": ["eager", "int8"]}
    asked.again = True
    assert list(inference.missing(asked, "hdfs")) == ["deeplog", "logbert"]
