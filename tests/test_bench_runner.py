"""Cells in processes of their own: kept when done, apart from each other, gone with the run."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

import known_bench
from oddlog.bench import runner
from oddlog.bench.records import read
from oddlog.bench.runner import run_tasks
from oddlog.cli import app


def test_what_fails_takes_no_other_with_it(tmp_path):
    heard = known_bench.Heard()
    failures = run_tasks(
        known_bench.tasks(tmp_path, 0, 1, 2), jobs=3, board=heard, job=known_bench.told
    )
    assert sorted(record["seed"] for record in read(tmp_path / "b.jsonl")) == [0]
    assert "ZeroDivisionError" in heard.outcomes[1].message
    assert "in told" in heard.outcomes[1].detail
    assert "killed by SIGKILL; the system may have run out of memory" in heard.outcomes[2].message
    assert {failure.name for failure in failures} == {"b counts seed 1", "b counts seed 2"}
    assert (0, "fitting", 1, 2) in heard.stages


@pytest.mark.parametrize(
    ("running", "jobs", "free_mb", "may"),
    [
        (0, 1, 100, True),  # alone it may always try
        (1, 1, None, False),
        (1, 2, None, True),
        (1, 2, 1200, True),
        (1, 2, 1199, False),
        (2, 3, 1800, True),
    ],
)
def test_cells_run_together_where_memory_allows(tmp_path, running, jobs, free_mb, may):
    task, *others = known_bench.tasks(tmp_path, *range(running + 1), memory_mb=600)
    assert runner.may_start(task, others, jobs, free_mb) == may


@pytest.mark.parametrize(
    ("kept", "seed", "may"), [(True, 0, False), (True, 1, True), (False, 0, True)]
)
def test_an_ensemble_waits_for_members_whose_checkpoints_it_takes_up(tmp_path, kept, seed, may):
    (task,) = known_bench.tasks(tmp_path, 0)
    member = replace(task, cell=replace(task.cell, work=tmp_path if kept else None))
    ensemble = replace(member, cell=replace(member.cell, detector="ensemble", seed=seed))
    assert runner.may_start(ensemble, [member], 2, None) == may


def test_a_cell_that_another_run_has_kept_is_not_kept_twice(tmp_path):
    (task,) = known_bench.tasks(tmp_path, 0)
    for _ in range(2):
        runner.keep(task, known_bench.of_cell(task.cell))
    assert len(read(task.path)) == 1


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import known_bench
from oddlog.bench.runner import run_tasks
if __name__ == "__main__":
    tasks, heard = known_bench.tasks(Path({folder!r}), 7), known_bench.Heard()
    run_tasks(tasks, jobs=1, board=heard, job=known_bench.waits)
"""


def test_a_cell_ends_with_the_run_that_was_killed_and_leaves_nothing(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(KILLED.format(path=sys.path, folder=str(tmp_path)))
    run = subprocess.Popen([sys.executable, str(script)])
    at_work = tmp_path / "7"
    assert eventually(at_work.exists)
    assert eventually(lambda: at_work.read_text() != "")
    run.kill()
    run.wait()
    assert eventually(lambda: not is_alive(int(at_work.read_text())))
    assert read(tmp_path / "b.jsonl") == []


def eventually(holds, seconds=100):
    """Return whether something comes to hold within a time that a busy machine may need."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False


def is_alive(pid):
    """Return whether a process is there and has not ended."""
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_the_quick_benchmarks_go_on_where_they_were_killed(tmp_path):
    words = [sys.executable, "-m", "oddlog.cli", "bench", "--quick", "--out", str(tmp_path)]
    words = [sys.executable, "-c", "from oddlog.cli import main; main()", *words[3:]]
    run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def lines():
        return [line for path in tmp_path.rglob("*.jsonl") for line in path.read_text().split("\n")]

    assert eventually(lambda: len(lines()) > 2, 600)
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = [line for line in lines() if line]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert set(before) <= set(lines())
    assert len([line for line in lines() if line]) - len(before) == done.stderr.count(" fit ")
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert again.stdout == done.stdout
    assert " fit " not in again.stderr


def test_without_a_name_the_command_says_what_there_is(tmp_path):
    done = CliRunner().invoke(app, ["bench", "--out", str(tmp_path)])
    assert '"name": "honest/adfa"' in done.stdout
    assert done.exit_code == 0


def test_a_benchmark_that_is_not_there_is_answered_with_the_nearest(tmp_path):
    done = CliRunner().invoke(app, ["bench", "hdfs-fulll", "--out", str(tmp_path)])
    assert "did you mean 'hdfs-full'?" in str(done.exception)


def test_a_detector_that_is_not_there_is_answered_with_the_nearest(tmp_path):
    words = ["bench", "simulated", "--detectors", "count", "--out", str(tmp_path)]
    assert "did you mean 'counts'?" in str(CliRunner().invoke(app, words).exception)


@pytest.mark.skipif(os.environ.get("ODDLOG_DATA") is None, reason="no data")
def test_nothing_is_run_where_all_is_done(tmp_path):
    words = ["bench", "adfa", "--detectors", "new_event", "--seeds", "1"]
    results = Path(__file__).parents[1] / "benchmarks" / "results"
    done = CliRunner().invoke(app, [*words, "--out", str(results)])
    assert '"detector": "loggpt"' in done.stdout
    assert done.exit_code == 0
