"""The script that measures what long logs take."""

import argparse
import csv
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
LINE = (
    b"08110%d 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block blk_%d src: /10.0.0.1:5\n"
)
TEXT = b"".join(LINE % (day, block) for day, block in ((1, 7), (1, 8), (2, 7)))


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("memory")


def test_repeats_are_later_and_of_other_blocks_to_the_line(memory):
    lines = b"".join(memory.repeats(TEXT, 5)).splitlines()
    found = [(line.split()[0], memory._BLOCK.search(line)[0]) for line in lines]
    assert found == [
        (b"081101", b"blk_70000"),
        (b"081101", b"blk_80000"),
        (b"081102", b"blk_70000"),
        (b"081103", b"blk_70001"),
        (b"081103", b"blk_80001"),
    ]


def test_every_block_of_every_repeat_has_its_label(memory, monkeypatch, tmp_path):
    (tmp_path / "anomaly_label_2pct.csv").write_text(
        "BlockId,Label\nblk_7,Normal\nblk_8,Anomaly\n", encoding="utf-8"
    )
    monkeypatch.setattr(memory, "data", lambda name: tmp_path / name)
    monkeypatch.setattr(memory, "sample", lambda: TEXT)
    memory.write_labels(tmp_path / "labels.csv", 5)
    with (tmp_path / "labels.csv").open(encoding="utf-8", newline="") as file:
        labels = {row["BlockId"]: row["Label"] for row in csv.DictReader(file)}
    blocks = {b.decode() for b in memory._BLOCK.findall(b"".join(memory.repeats(TEXT, 5)))}
    assert blocks == set(labels)
    assert labels["blk_80001"] == "Anomaly"


def test_a_measured_command_leaves_the_model_and_no_results(memory, monkeypatch, tmp_path):
    lines = [
        LINE % (1 + n // 400, n // 2) + (LINE % (1 + n // 400, n // 2)).replace(b"10.0", b"10.1")
        for n in range(1600)
    ]
    log = tmp_path / "hdfs.log"
    log.write_bytes(b"".join(lines))
    log.with_suffix(".csv").write_text(
        "BlockId,Label\n"
        + "".join(f"blk_{n},{('Normal', 'Anomaly')[n % 9 == 0]}\n" for n in range(800)),
        encoding="utf-8",
    )
    monkeypatch.setattr(memory, "sample", log.read_bytes)
    model = memory.fit(tmp_path, "key_set", "session", distinct=False)
    before = sorted(tmp_path.iterdir())
    options = argparse.Namespace(detector="key_set", window="session")
    found = {command: memory.measure(command, log, model, options) for command in ("fit", "score")}
    assert all(record["peak_mb"] > 50 and record["cpu_s"] > 0 for record in found.values())
    assert [command for command, record in found.items() if "flagged" in record] == ["score"]
    assert set(tmp_path.iterdir()) - set(before) == {tmp_path / "scratch"}
