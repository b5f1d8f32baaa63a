"""What a person sees of the benchmarks fits a terminal, and a pipe gets a line for each cell."""

import re
from io import StringIO

import pytest
from rich.console import Console

import known_bench
from oddlog.bench import show
from oddlog.bench.config import BenchConfig, read_config
from oddlog.bench.plan import Asked, plan
from oddlog.bench.records import append
from oddlog.bench.runner import Failure


@pytest.fixture
def screen():
    """Return a terminal of 80 columns, and what was written to it."""
    file = StringIO()
    return Console(file=file, force_terminal=True, no_color=True, width=80, height=20), file


def shown(file):
    """Return what was written, without styles."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


@pytest.fixture
def begun(tmp_path):
    """Return the plan of a benchmark of which one cell of four is done."""
    config = BenchConfig(
        title="A title that is far too long to stand in one line beside what is done",
        about="a", protocol="simulated", detectors=("counts", "lookup"), seeds=2,
    )  # fmt: skip
    (task,) = known_bench.tasks(tmp_path, 0)
    append(tmp_path / "b.jsonl", [known_bench.of_cell(task.cell)])
    return plan("honest/b", config, Asked(tmp_path))


def test_the_list_says_what_is_missing_within_80_columns(screen, begun):
    console, file = screen
    show.show_list(console, show.listed([begun], {"paper/x": read_config("paper/logbert-hdfs")}))
    lines = shown(file).splitlines()
    assert max(map(len, lines)) <= 80
    assert any("1 of 4" in line for line in lines)
    assert any("missing: lookup (2), counts (1)" in line for line in lines)
    assert any("python benchmarks/logbert.py" in line for line in lines)


def test_the_summary_tells_means_and_what_learns_from_labels(screen, begun, tmp_path):
    (task,) = known_bench.tasks(tmp_path, 1)
    record = known_bench.of_cell(task.cell) | {"detector": "lookup", "learns_from": "labelled"}
    append(begun.path, [record, record | {"seed": 1}])
    console, file = screen
    show.show_summary(console, begun)
    text = shown(file)
    assert max(map(len, text.splitlines())) <= 80
    assert [line.split()[:3] for line in text.splitlines() if "0.500" in line] == [
        ["counts", "1", "0.500"],
        ["lookup*", "2", "0.500"],
    ]
    assert "* learns from labels" in text


def test_a_pipe_gets_a_line_for_each_finished_cell(tmp_path):
    file = StringIO()
    tasks = known_bench.tasks(tmp_path, 0, 1)
    with show.board(Console(file=file), 2) as board:
        for task in tasks:
            board.started(task)
            board.moved(task, "fitting", 1, 2)
        board.ended(tasks[1], Failure("b", "went\x1b[31m wrong"))
        board.ended(tasks[0], known_bench.of_cell(tasks[0].cell))
    first, second = file.getvalue().splitlines()
    assert first == "1/2 b counts seed 1: failed: went\\x1b[31m wrong"
    assert second.startswith("2/2 b seed 0 counts")


def test_a_terminal_shows_the_stage_of_each_cell_and_then_what_was_found(screen, tmp_path):
    console, file = screen
    (task,) = known_bench.tasks(tmp_path, 0)
    with show.board(console, 1) as board:
        board.started(task)
        board.moved(task, "fitting", 1, 2)
        board.ended(task, known_bench.of_cell(task.cell))
    assert "b seed 0 counts" in shown(file)
