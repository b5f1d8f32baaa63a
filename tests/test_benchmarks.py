"""The benchmarks' data: what is learned is normal, and apart from what is judged."""

import importlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import oddlog
from oddlog.simulate import simulate

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Return a function that imports one of the scripts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def result(**figures):
    """Return a record of one detector and seed, as much of it as the text reads."""
    at_rates = [
        {
            "asked": asked,
            "decision": {key: {"value": 0} for key in ("false_alarm_rate", "recall", "f1")},
        }
        for asked in (0.01, 0.005, 0.001)
    ]
    ranking = {"auprc": {"value": 0.5}, "auroc": {"value": 0.5}}
    evaluation = {"n_sequences": 10, "n_anomalous": 2, "ranking": ranking, "at_rates": at_rates}
    record = {"seed": 0, "detector": "new_event", "set": [], "sizes": [3, 2, 1], "fit_s": 1.0}
    record |= {"score_s": 1.0, "machine": "x", "evaluation": evaluation}
    return (
        record | {"slices": {"no_unseen_key": {"n": 6, "n_anomalous": 0, "auprc": 0.1}}} | figures
    )


@pytest.fixture(scope="module", params=["adfa", "bgl-raw"])
def cut(request, data_folder):
    """Return the data of one benchmark."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("protocols").PROTOCOLS[request.param](data_folder, 0)


@pytest.mark.data
def test_what_is_learned_is_normal(cut):
    assert [part.labels.unique().to_list() for part in cut.parts] == [[""], [""], [""]]


@pytest.mark.data
def test_what_is_learned_is_apart_from_what_is_judged(cut):
    keys = pl.concat([part.keys for part in (*cut.parts, cut.test)])
    assert keys.is_unique().all()


@pytest.mark.data
def test_some_of_what_is_judged_is_anomalous(cut):
    assert 0 < cut.test.anomalous.sum() < len(cut.test)


@pytest.mark.data
def test_another_seed_learns_from_others(benchmark, data_folder):
    cuts = [benchmark("protocols").PROTOCOLS["adfa"](data_folder, seed) for seed in (0, 1)]
    assert set(cuts[0].parts[0].keys) != set(cuts[1].parts[0].keys)


def test_a_record_names_the_version_and_the_commit(benchmark):
    source = benchmark("honest").source()
    assert source["version"] == oddlog.__version__
    assert source["commit"] is None or re.fullmatch(r"[0-9a-f]{40}( dirty)?", source["commit"])


def test_a_spread_is_the_mean_and_the_deviation_of_what_is_known(benchmark):
    spread = benchmark("table").spread
    assert [spread([0.5, None, 1.5]), spread([0.25, None]), spread([None])] == [
        "1.000 ± 0.707",
        "0.250",
        "-",
    ]


def test_a_section_names_the_command_with_its_settings(benchmark):
    text = benchmark("table").section("adfa", [result(set=["loggpt.layers=2"])])
    assert "`python benchmarks/honest.py adfa --seeds 1 --set loggpt.layers=2`" in text


def test_a_section_names_the_commits_of_its_records(benchmark):
    records = [
        result(version="0.1.0", commit="a" * 40),
        result(version="0.1.0", commit="b" * 40 + " dirty"),
    ]
    text = benchmark("table").section("adfa", records)
    assert "Measured with 0.1.0 at aaaaaaaaa, 0.1.0 at bbbbbbbbb dirty." in text


def test_a_section_tells_the_share_of_normal_sequences_with_a_new_template(benchmark):
    text = benchmark("table").section("adfa", [result()])
    assert "25.00 % of its normal ones hold a template" in text


def test_a_section_tells_recall_by_class_only_where_there_are_several(benchmark):
    section = benchmark("table").section
    one, two = {"anomaly": 0.5}, {"Adduser": 0.5, "Web_Shell": None}
    told = ["by class" in section("adfa", [result(by_class=classes)]) for classes in (one, two)]
    assert told == [False, True]


def test_a_section_tells_culprits_beside_chance(benchmark):
    lines = {"n": 2, "first": 0.5, "first_three": 0.75, "line_auprc": 0.125}
    lines |= {"chance_first": 0.1, "chance_first_three": 0.3, "line_auprc_by_chance": 0.01}
    text = benchmark("table").section("bgl-raw", [result(lines=lines)])
    assert "| new_event | 0.500 | 0.750 | 0.125 |\n| by chance | 0.100 | 0.300 | 0.010 |" in text


@pytest.mark.parametrize(("kind", "n_more"), [("insert", 1), ("reword", 0)])
def test_a_release_changes_what_its_share_of_sessions_writes(benchmark, kind, n_more):
    drift = benchmark("drift")
    old = simulate(60, anomaly_share=0.0, seed=1, noise_share=0.0)
    new = drift.release(old, kind, 0.5, seed=2)
    added = pl.Series(list((Counter(new.lines) - Counter(old.lines)).elements()))
    changed = set(added.str.extract(r"(blk_\d+)"))
    assert 15 < len(changed) < 45
    assert len(new.lines) - len(old.lines) == n_more * len(changed)
    assert drift.release(old, kind, 0.0, seed=2).lines.to_list() == old.lines.to_list()


def test_contaminated_parts_hold_their_share_of_anomalies_and_no_session_twice(benchmark):
    contamination = benchmark("contamination")
    pool = oddlog.Sequences.from_ids([[1]] * 200, labels=[""] * 180 + ["fault"] * 20)
    bench = contamination.Bench(pool, (100, 20, 40), pool, None)
    parts = contamination.contaminated(bench, 0.1, seed=0)
    assert [(len(part), int(part.anomalous.sum())) for part in parts] == [
        (100, 10),
        (20, 2),
        (40, 4),
    ]
    assert pl.concat([part.keys for part in parts]).is_unique().all()


def test_more_contamination_only_replaces_normal_sessions(benchmark):
    contamination = benchmark("contamination")
    pool = oddlog.Sequences.from_ids([[1]] * 200, labels=[""] * 180 + ["fault"] * 20)
    bench = contamination.Bench(pool, (100, 20, 40), pool, None)
    clean, poisoned = (contamination.contaminated(bench, share, 0)[1] for share in (0.0, 0.1))
    kept = poisoned.keys.filter(~poisoned.anomalous)
    assert set(kept) <= set(clean.keys)


def test_recall_is_read_at_the_threshold_that_realises_the_rate(benchmark):
    normal, odd = [float(i) for i in range(100)], [97.5, 98.5, 200.0]
    truth = np.array([False] * 100 + [True] * 3)
    found = benchmark("contamination").recall_at(np.array(normal + odd), truth, 0.01)
    assert found == pytest.approx(2 / 3)
