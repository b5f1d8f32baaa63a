"""The head of docs/results.md."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def overview(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("overview")


def record(detector, seed, auprc, learns_from="normal"):
    ranking = {"auprc": {"value": auprc}}
    evaluation = {"ranking": ranking, "n_sequences": 40, "n_anomalous": 10}
    return {
        "detector": detector,
        "seed": seed,
        "learns_from": learns_from,
        "evaluation": evaluation,
    }


ROW = {"name": "honest/x", "title": "A log, 1 % of it: all/most", "done": 4, "cells": 9}


def test_the_best_of_each_kind_is_by_the_mean_over_the_seeds_that_ran(overview):
    records = [
        record("counts", 0, 0.9),
        record("counts", 1, 0.5),
        record("ngram", 0, 0.8),
        record("lookup", 0, 0.6, "labelled"),
    ]
    cells = overview.row_of({**ROW, "missing": {}}, records)
    assert cells[1:] == ["`ngram` 0.800", "`lookup` 0.600", "0.250", "4 of 9", ""]


def test_what_has_not_been_run_is_named_together_by_its_seeds(overview):
    row = {**ROW, "missing": {"deeplog": [1, 2], "loggpt": [0, 1, 2], "logbert": [1, 2]}}
    assert overview.missing(row) == "`deeplog`, `logbert` (1, 2); `loggpt` (0, 1, 2)"


def test_a_benchmark_without_records_has_no_section_to_go_to(overview):
    cells = overview.row_of({**ROW, "missing": {}}, [])
    assert cells == [ROW["title"], "-", "-", "-", "4 of 9", ""]


def test_every_link_of_the_document_goes_to_a_heading_of_it(overview):
    document = (BENCHMARKS.parent / "docs" / "results.md").read_text(encoding="utf-8")
    lines = document.splitlines()
    headings = {overview.anchor(line.lstrip("# ")) for line in lines if line.startswith("#")}
    links = [line.partition("](#")[2].partition(")")[0] for line in lines if "](#" in line]
    assert links
    assert set(links) <= headings
    assert overview.anchor(ROW["title"]) == "a-log-1--of-it-allmost"
