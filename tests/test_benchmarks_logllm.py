"""LogLLM's benchmark: folds that share nothing, figures by hand."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from oddlog.events import Sequences

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("logllm")


def test_every_sequence_is_in_one_test_and_in_none_of_its_training(benchmark):
    sequences = Sequences.from_ids([[number] for number in range(23)])
    tested = []
    for (train, valid), test in benchmark.folds_at_random(sequences):
        parts = [set(part.keys) for part in (train, valid, test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 23
        tested += parts[2]
    assert sorted(tested) == sorted(sequences.keys)


def test_a_sequence_is_new_if_training_has_none_of_its_texts_in_that_order(benchmark):
    train, test = Sequences.from_ids([[1, 2]]), Sequences.from_ids([[1, 2], [2, 1], [3]])
    assert benchmark.is_new(train, test).tolist() == [False, True, True]


def test_figures_are_those_of_the_flags(benchmark):
    flags, truth = np.array([1, 1, 1, 0], dtype=bool), np.array([1, 0, 1, 1], dtype=bool)
    found = benchmark.judge(flags, np.array([0.9, 0.8, 0.7, 0.1]), truth)
    assert [found[name] for name in ("precision", "recall", "f1")] == pytest.approx([2 / 3] * 3)
    assert benchmark.counts_of(found) == (2, 1, 1)
    assert benchmark.counts_of({k: v for k, v in found.items() if k != "n_flagged"}) == (2, 1, 1)


def test_tests_of_several_folds_are_judged_as_one(benchmark):
    one = {"n": 10, "n_anomalous": 2, "n_flagged": 2, "recall": 1.0, "precision": 1.0}
    other = {"n": 10, "n_anomalous": 2, "n_flagged": 1, "recall": 0.0, "precision": 0.0}
    found = benchmark.pooled([one, other])  # 2 hits, 1 false alarm, 2 missed
    assert found.value == pytest.approx(4 / 7)
    assert found.low < found.value < found.high


def test_the_table_has_the_mean_of_a_detectors_folds(benchmark):
    figures = {"n": 4, "n_anomalous": 1, "precision": 0.5, "recall": 1.0, "auprc": None}
    records = [
        {
            "protocol": "adfa",
            "detector": "lookup",
            "fit_s": 1.0,
            "all": {**figures, "f1": f1},
            "new": {**figures, "n": 1, "f1": 0.0},
        }
        for f1 in (0.6, 0.8)
    ]
    row = "| adfa | `lookup` | 2 | 2 | 0.500 ± 0.000 | 1.000 ± 0.000 | 0.700 ± 0.141 | - | 0.667 ["
    assert row in benchmark.table(records)
