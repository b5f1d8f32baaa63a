"""Many files scored by many workers: the verdicts are those of one process."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import oddlog
from oddlog.cli import main
from oddlog.errors import ConfigError, FormatError
from oddlog.group import Window
from oddlog.pipeline import PipelineConfig, Wanted, score_log
from oddlog.run import silent
from oddlog.scale import Engine, dask_cluster, engine_of, processes, score_files
from oddlog.scale import files as files_module
from oddlog.scale.files import pieces_of
from test_parts import few_buckets, write_log

assert few_buckets  # a fixture
WINDOWS = ["session", "session,max=4", "lines:7/3", "time:60s/30s"]
KEYS = ["source", "first_line", "key"]  # in which order two that begin on one line come is open


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def logs(folder):
    return [
        write_log(folder / f"{name}.log", 60, seed)
        for name, seed in zip("bac", (3, 4, 5), strict=True)
    ]


@pytest.fixture(scope="module")
def fitted(folder):
    """Return a function that fits a model, each once, and says where it is."""
    learned = write_log(folder / "learned.log", 150, 1)

    @cache
    def fit(window: str) -> Path:
        config = PipelineConfig(
            detector="new_event",
            format="syslog_iso",
            session_by="sid_[0-9]+",
            window=Window.parse(window),
            false_alarm_rate=0.05,
        )
        model = folder / window.replace("/", " ")
        oddlog.fit([learned], config, model=model)
        return model

    return fit


@contextmanager
def threads(n, scratch=None):
    with ThreadPoolExecutor(n) as pool:
        yield Engine(pool, n, scratch)


def scored(model, logs, wanted=None, **settings):
    with threads(2) as engine:
        return score_files(model, logs, engine, wanted, **settings)


@pytest.mark.parametrize("window", WINDOWS)
def test_verdicts_of_workers_are_those_of_one_process(window, fitted, logs):
    model = fitted(window)
    every = Wanted(every=True, explain=True)
    one = score_log(oddlog.load(model), logs, every)
    many = scored(model, logs, every)
    assert_frame_equal(many.table.sort(KEYS), one.table.sort(KEYS), check_exact=True)
    assert many.lines() == one.lines()
    assert many.drift == one.drift
    assert many.familiarity == one.familiarity
    assert many.flags.sum() == one.flags.sum() > 0


def test_flagged_ones_come_worst_first_at_the_wanted_rate(fitted, logs):
    model = fitted("session,max=4")
    wanted = Wanted(false_alarm_rate=0.3)
    found = scored(model, logs, wanted)
    assert found.table["score"].is_sorted(descending=True)
    assert found.table.height == score_log(oddlog.load(model), logs, wanted).table.height > 0


@pytest.mark.parametrize("window", ["session", "lines:4"])
def test_a_novelty_of_two_files_is_one_and_two_of_one_number_stay_two(window, fitted, tmp_path):
    head = "2026-03-01T00:00:0{}+00:00 a app: {} sid_1\n"
    paths = [tmp_path / "1.log", tmp_path / "2.log"]
    for path, words in zip(paths, (("burnt", "all wet now"), ("froze up", "burnt")), strict=True):
        path.write_text("".join(head.format(i, w) for i, w in enumerate(words)))
    found = scored(fitted(window), paths, Wanted(every=True, explain=True))
    told = {t.template_id: (t.text, t.n_events) for t in found.drift.unknown.templates}
    texts = {"burnt <SESSION>": 2, "all wet now <SESSION>": 1, "froze up <SESSION>": 1}
    assert sorted(told) == [-3, -2, -1]
    assert dict(told.values()) == texts
    for culprit in found.table["culprits"].explode().struct.unnest().iter_rows(named=True):
        assert told[culprit["template_id"]][0] == culprit["template"]


def test_files_without_sessions_and_empty_ones_have_no_verdicts(fitted, tmp_path):
    model = fitted("session,max=4")
    other, empty = tmp_path / "other.log", tmp_path / "empty.log"
    other.write_text("2026-03-01T00:00:00+00:00 a app: hello\n" * 5)
    empty.write_text("")
    found = scored(model, [other, empty])
    assert (len(found), found.table.height) == (0, 0)
    assert found.lines() == score_log(oddlog.load(model), [other, empty]).lines()


def test_nothing_is_left_in_the_scratch_folder(fitted, logs, tmp_path):
    with threads(2, tmp_path) as engine:
        assert len(score_files(fitted("session"), logs, engine)) > 0
    assert not list(tmp_path.iterdir())


def test_progress_counts_the_pieces(fitted, logs):
    told = []
    scored(fitted("session"), logs, progress=lambda *step: told.append(step))
    assert [step for step in told if step[0] == "sorting"] == [("sorting", i, 3) for i in range(4)]
    assert told[-1][0] == "scoring"
    assert told[-1][1] == told[-1][2] > 1


def test_pieces_hold_every_file_once_in_order(tmp_path):
    paths = [tmp_path / f"{i}.log" for i in range(40)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * (i % 7 * 100))
    names = [str(path) for path in paths]
    pieces = pieces_of(names, 3)
    assert [name for piece in pieces for name in piece] == names
    assert 3 <= len(pieces) <= 24


def test_a_damaged_file_is_told_as_by_one_process(fitted, logs, tmp_path):
    model = fitted("session")
    bad = tmp_path / "bad.log.gz"
    bad.write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(FormatError) as alone:
        score_log(oddlog.load(model), [*logs, bad])
    with pytest.raises(FormatError) as found:
        scored(model, [*logs, bad])
    assert str(found.value) == str(alone.value)


def test_what_workers_cannot_do_is_refused(fitted, logs, monkeypatch):
    model = fitted("session")
    for sources, wanted, reason in (
        (["-"], None, "standard input"),
        ([*logs, "absent.log"], None, "absent.log: no such file"),
        ([], None, "no log given"),
        (logs, Wanted(report=True), "a report is made by one process"),
    ):
        with pytest.raises((ConfigError, FormatError), match=reason):
            scored(model, sources, wanted)
    with pytest.raises(ConfigError, match="clock of all files"):
        scored(fitted("session,gap=40s"), logs)
    monkeypatch.setattr(files_module, "ASKS", frozenset({"new_event"}))
    with pytest.raises(ConfigError, match="new_event asks a server"):
        scored(model, logs)


def test_a_worker_with_another_model_is_refused(fitted, logs, monkeypatch):
    sort = files_module.sort_files
    monkeypatch.setattr(
        files_module, "sort_files", lambda job, s: sort(replace(job, fingerprint="another"), s)
    )
    with pytest.raises(ConfigError, match="a worker sees another model"):
        scored(fitted("session"), logs)


def test_workers_that_hash_otherwise_are_refused(fitted, logs, monkeypatch):
    sort = files_module.sort_files
    monkeypatch.setattr(
        files_module, "sort_files", lambda job, s: replace(sort(job, s), probe=len(s[0]))
    )
    longer = logs[0].with_name("much-longer.log")
    longer.write_text(logs[0].read_text())
    with pytest.raises(ConfigError, match="workers sort sessions differently"):
        scored(fitted("session"), [*logs, longer])


def test_a_device_that_workers_would_not_take_is_refused(fitted, logs, monkeypatch, capsys):
    arguments = ["score", str(logs[0]), "--model", str(fitted("session")), "--workers", "2"]
    monkeypatch.setattr("sys.argv", ["oddlog", *arguments, "--device", "cuda"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "--device cuda: workers choose theirs" in capsys.readouterr().err


def test_one_kind_of_workers_is_asked_for(tmp_path):
    for given, reason in (
        ((2, "tcp://h:1", tmp_path), "not both"),
        ((None, "tcp://h:1", None), "give --scratch"),
        ((None, None, tmp_path), "is for --workers and --dask"),
        ((2, None, tmp_path / "no"), "no such folder"),
        ((0, None, None), "at least one"),
    ):
        with pytest.raises(ConfigError, match=reason), engine_of(*given):
            pytest.fail("something was given")
    with engine_of(None, None, None) as engine:
        assert engine is None


def die(_):
    os._exit(1)


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line():
    with processes(1) as engine:
        work = files_module._Work(engine, silent)
        with pytest.raises(ConfigError, match="a worker died"):
            work.each("dying", die, [(None,)])


def test_processes_give_the_same_from_the_command_line(fitted, logs, tmp_path, capfd):
    model, out = fitted("session,max=4"), tmp_path / "odd.parquet"
    arguments = ["score", *map(str, logs), "--model", str(model), "--out", str(out)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.argv", ["oddlog", *arguments, "--workers", "2"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code in (0, None), capfd.readouterr().err
    expected = score_log(oddlog.load(model), logs).table
    assert_frame_equal(pl.read_parquet(out).sort(KEYS), expected.sort(KEYS), check_exact=True)


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        yield cluster


def test_a_dask_cluster_gives_the_same(cluster, fitted, logs, tmp_path):
    model = fitted("session,max=4")
    every = Wanted(every=True, explain=True)
    with dask_cluster(cluster.scheduler_address, tmp_path) as engine:
        assert engine.n_workers == 2
        found = score_files(model, logs, engine, every)
    expected = score_log(oddlog.load(model), logs, every).table
    assert_frame_equal(found.table.sort(KEYS), expected.sort(KEYS), check_exact=True)


@pytest.mark.slow
def test_a_lost_worker_of_a_cluster_costs_nothing_but_time(fitted, logs, tmp_path):
    distributed = pytest.importorskip("distributed")
    model, killed = fitted("session,max=4"), []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        pids = [nanny.pid for nanny in cluster.workers.values()]

        def kill(stage, done, total):
            if stage == "sorting" and done == 1:
                os.kill(pids[0], signal.SIGKILL)
                killed.append(pids[0])

        with dask_cluster(cluster.scheduler_address, tmp_path) as engine:
            found = score_files(model, logs, engine, Wanted(every=True), progress=kill)
    assert killed
    expected = score_log(oddlog.load(model), logs, Wanted(every=True)).table
    assert_frame_equal(found.table.sort(KEYS), expected.sort(KEYS), check_exact=True)


@pytest.mark.parametrize("address", ["nonsense", "10.0.0.1:8786", "tcp://host"])
def test_what_is_no_address_is_refused_at_once(address, tmp_path):
    pytest.importorskip("distributed")
    with (
        pytest.raises(ConfigError, match="such as tcp://host:8786"),
        dask_cluster(address, tmp_path),
    ):
        pytest.fail("a scheduler answered")


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("oddlog.scale.engines.TIMEOUT_S", 1)
    with (
        pytest.raises(ConfigError, match="no scheduler answers"),
        dask_cluster("tcp://127.0.0.1:1", tmp_path),
    ):
        pytest.fail("a scheduler answered")
