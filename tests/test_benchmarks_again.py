"""Recorded cells run once more: what counts as the same, and what is told of what is not."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from oddlog.bench.config import read_config
from oddlog.bench.records import read
from oddlog.bench.work import Cell, run_cell

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def again(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("again")


def record(auprc, seed=0, hits=5, false_alarms=1):
    """Return as much of a record as is compared."""
    decision = {"n_hits": hits, "n_false_alarms": false_alarms}
    evaluation = {"ranking": {"auprc": {"value": auprc}}, "at_rates": [{"decision": decision}]}
    head = {"benchmark": "b", "detector": "counts", "seed": seed, "commit": "c"}
    return {**head, "evaluation": evaluation}


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (record(0.5), "same"),
        (record(0.5, hits=4), "within the seeds"),
        (record(0.58), "within the seeds"),
        (record(0.61), "moved"),
        (None, "failed"),
    ],
)
def test_a_cell_is_compared_by_what_its_seeds_differ(again, now, expected):
    seeds = [record(0.5), record(0.6, seed=1)]
    assert again.compared(seeds[0], now, "", seeds)["outcome"] == expected


def test_one_seed_alone_says_nothing_of_a_difference_until_another_is_recorded(again, tmp_path):
    only = record(0.5)
    line = again.compared(only, record(0.5001), "", [only])
    assert line["outcome"] == "one seed"
    assert again.compared(only, record(0.5), "", [only])["outcome"] == "same"
    for other, expected in ((0.6, "within the seeds"), (0.50005, "moved")):
        records = (only, record(other, seed=1))
        (tmp_path / "b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
        (found,) = again.judged_now([line], tmp_path)
        assert found["outcome"] == expected


def test_what_is_not_the_same_is_told_with_both_figures(again):
    seeds = [record(0.5), record(0.6, seed=1)]
    lines = [
        again.compared(seeds[0], record(0.7), "", seeds),
        again.compared(record(0.6, seed=1), None, "another test", seeds),
    ]
    text = again.table(lines)
    assert "| b | 2 | 0 | 0 | 0 | 1 | 1 |" in text
    assert "| b | `counts` | 0 | 0.5000 | 0.7000 | 0.1000 | moved |" in text
    assert "| b | `counts` | 1 | 0.6000 | - | 0.1000 | failed: another test |" in text


def test_a_cell_comes_out_again_and_a_changed_record_is_found(again, tmp_path, monkeypatch):
    config = read_config("quick/order")
    monkeypatch.setattr(again, "configs", lambda names: {"order": config})
    monkeypatch.setattr(again, "DOCUMENT", tmp_path / "doc.md")
    (tmp_path / "doc.md").write_text("<!-- again:begin -->\n<!-- again:end -->\n")
    cells = [Cell("order", config.protocol, (), name, 0) for name in config.detectors]
    kept = {record["detector"]: record for record in map(run_cell, cells)}
    kept["counts"]["evaluation"]["ranking"]["auprc"]["value"] += 0.125
    lines = [json.dumps(each) + "\n" for each in kept.values()]
    (tmp_path / "order.jsonl").write_text("".join(lines))
    out = tmp_path / "again.jsonl"
    arguments = ["--results", str(tmp_path), "--out", str(out), "--most-s", "1000"]
    for _ in range(2):  # the second time nothing is left to do
        monkeypatch.setattr(sys, "argv", ["again.py", *arguments])
        again.main()
    assert {r["detector"]: r["outcome"] for r in read(out)} == {
        "counts": "one seed",
        "ngram": "same",
    }
    assert len(read(out)) == 2
