"""The command line: exit codes, what goes where, and what is refused in one line."""

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from importlib import import_module

import polars as pl
import pytest
from rich.console import Console

import oddlog
from oddlog import cli, terminal
from oddlog.pipeline import make_config
from oddlog.run import Run, silent
from oddlog.simulate import simulate, write

ODDLOG = [sys.executable, "-c", "from oddlog.cli import main; main()"]
ESCAPES = "\x1b[2J\x07"
TINY = {
    "layers": 1,
    "heads": 1,
    "width": 16,
    "context": 32,
    "batch_size": 8,
    "epochs": 8,
    "count_steps": 40,
}


def sessions(n, odd=()):
    steps = dict.fromkeys(odd, ("open", "disk burns at", "close"))
    lines = [
        f"2026-03-02 {8 + i // 60:02}:{i % 60:02}:{10 + k} {step} req_{1000 + i}"
        for i in range(n)
        for k, step in enumerate(steps.get(i, ("open", "copy", "close")))
    ]
    return "\n".join([*lines, ""])


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs the command line here: exit code, stdout, stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["oddlog", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


@pytest.fixture
def screen(monkeypatch):
    """Let the command line take itself to be at a terminal of 80 columns; return its screen."""
    console = Console(width=80, file=io.StringIO(), record=True, force_terminal=True)
    monkeypatch.setattr(cli, "_consoles", lambda: (console, console))
    monkeypatch.setattr(terminal, "progress_bars", lambda console: nullcontext(silent))
    return console


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with normal.log, today.log (two odd sessions of ten), labels and a model."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "normal.log").write_text(sessions(500))
    (folder / "today.log").write_text(sessions(10, odd=(3, 7)))
    (folder / "calm.log").write_text(sessions(10))
    rows = [f"req_{1000 + i},{'anomaly' if i in (3, 7) else 'normal'}" for i in range(10)]
    (folder / "labels.csv").write_text("\n".join(["session,label", *rows, ""]))
    config = make_config({"detector": "new_event", "session_by": r"req_\d+"}, "test")
    oddlog.fit([folder / "normal.log"], config, model=folder / "model")
    return folder


def fit_arguments(folder, model, *more):
    return (
        *("fit", folder / "normal.log", "--model", model, "--session-by", r"req_\d+"),
        *("--detector", "new_event", *more),
    )


def records_of(out):
    return [json.loads(line) for line in out.splitlines()]


def test_a_fit_writes_a_model_and_tells_a_pipe_what_it_is(run, folder, tmp_path):
    code, out, err = run(*fit_arguments(folder, tmp_path / "m"))
    assert (code, records_of(out)[0]["detector"]) == (0, "new_event")
    assert "windows: session (the lines name sessions)" in err
    assert (tmp_path / "m" / "manifest.json").exists()


def test_a_report_says_by_which_command_and_model_it_was_made(run, folder, tmp_path):
    out = tmp_path / "r.html"
    code, shown, _ = run("score", folder / "today.log", "--model", folder / "model", "--out", out)
    text = out.read_text(encoding="utf-8")
    assert (code, shown) == (0, "")
    assert f"oddlog score {folder}/today.log --model {folder}/model --out {out}" in text
    assert "new_event, seed 0" in text
    assert f"normal.log, by oddlog {oddlog.__version__}" in text


def test_a_report_of_every_sequence_is_refused_before_the_work(run, folder, tmp_path):
    out = tmp_path / "r.html"
    code, _, err = run(
        "score", folder / "today.log", "--model", folder / "model", "--out", out, "--all"
    )
    assert (code, out.exists()) == (1, False)
    assert "a report holds odd sequences; use .jsonl or .parquet" in err


def test_a_fit_tells_a_person_what_to_do_next(run, folder, tmp_path, screen):
    assert run(*fit_arguments(folder, tmp_path / "m"))[0] == 0
    shown = screen.export_text()
    assert "new_event has learned this log" in shown
    assert f"next: oddlog score FILE --model {tmp_path / 'm'}\n" in shown


def test_a_fit_takes_its_settings_from_a_file(run, folder, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('detector = "counts"\nsession_by = "req_[0-9]+"\n[counts]\nidf = true\n')
    code, out, _ = run(
        "fit", folder / "normal.log", "--model", tmp_path / "m", "--config", config,
        "--set", "counts.rule=unseen",
    )  # fmt: skip
    assert (code, records_of(out)[0]["detector"]) == (0, "counts")
    assert oddlog.load(tmp_path / "m").config.settings == {"idf": True, "rule": "unseen"}


def test_a_fit_with_labels_says_what_was_left_out(run, folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("session,label\nreq_1000,anomaly\n")
    code, _, err = run(*fit_arguments(folder, tmp_path / "m", "--labels", labels))
    assert (code, "labelled anomalies left out: 1 of training" in err) == (0, True)


def test_a_classifier_learns_from_a_label_file_and_finds_the_like(run, folder, tmp_path):
    odd = range(5, 500, 20)
    (tmp_path / "past.log").write_text(sessions(500, odd=odd))
    rows = [f"req_{1000 + i},{'disk' if i in odd else 'normal'}" for i in range(500)]
    (tmp_path / "labels.csv").write_text("\n".join(["session,label", *rows, ""]))
    arguments = ("fit", tmp_path / "past.log", "--labels", tmp_path / "labels.csv")
    more = ("--detector", "decision_tree", "--session-by", r"req_\d+", "--model", tmp_path / "m")
    code, _, err = run(*arguments, *more)
    assert (code, "labelled anomalies: 16 of training, 3 of validation" in err) == (0, True)
    _, out, _ = run("score", folder / "today.log", "--model", tmp_path / "m", "--explain")
    found = {record["key"]: record["culprits"][0]["text"] for record in records_of(out)}
    assert [*found] == ["req_1003", "req_1007"]
    assert "disk burns at req_1003" in found["req_1003"]


def test_a_classifier_without_labels_says_what_it_needs(run, folder, tmp_path):
    arguments = ("fit", folder / "normal.log", "--session-by", r"req_\d+")
    code, _, err = run(*arguments, "--model", tmp_path / "m", "--detector", "lookup")
    assert (code, "lookup learns from labels" in err, "label file" in err) == (1, True, True)


def test_a_fit_that_assumes_anomalies_says_where_to_look_at_them(run, tmp_path):
    (tmp_path / "a.log").write_text(sessions(600, odd=(50, 51, 500, 501)))
    options = ("--detector", "counts", "--session-by", r"req_\d+", "--assume-anomalies", "0.02")
    code, out, err = run("fit", tmp_path / "a.log", "--model", tmp_path / "m", *options)
    listed = pl.read_ndjson(tmp_path / "m" / "trimmed.jsonl")
    assert (code, json.loads(out)["trimmed"]["training"]["left_out"]) == (0, 2)
    assert str(tmp_path / "m" / "trimmed.jsonl") in err
    assert listed["key"].to_list() == ["req_1050", "req_1051", "req_1500", "req_1501"]
    assert "burns" not in err + (tmp_path / "m" / "trimmed.jsonl").read_text()


def test_a_pipe_gets_one_json_line_for_each_odd_sequence(run, folder):
    code, out, _ = run("score", folder / "today.log", "--model", folder / "model")
    assert (code, [record["key"] for record in records_of(out)]) == (0, ["req_1003", "req_1007"])


def test_a_record_holds_what_is_promised(run, folder):
    _, out, _ = run("score", folder / "today.log", "--model", folder / "model", "--explain")
    record = records_of(out)[0]
    promised = "key score p_value threshold flagged n_events first_line last_line source culprits"
    assert set(promised.split()) <= set(record)
    assert {"line", "text", "template", "score", "expected"} <= set(record["culprits"][0])


def test_a_pipe_gets_json_even_where_colours_are_forced(run, folder, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, _ = run("score", folder / "today.log", "--model", folder / "model")
    assert len(records_of(out)) == 2


def test_all_gives_every_sequence_in_the_order_of_the_log(run, folder):
    _, out, _ = run("score", folder / "today.log", "--model", folder / "model", "--all")
    assert [record["key"] for record in records_of(out)] == [f"req_{1000 + i}" for i in range(10)]


def test_standard_input_is_a_log_too(run, folder, monkeypatch):
    log = io.TextIOWrapper(io.BytesIO((folder / "today.log").read_bytes()))
    monkeypatch.setattr(sys, "stdin", log)
    _, out, _ = run("score", "-", "--model", folder / "model")
    assert [record["source"] for record in records_of(out)] == ["-", "-"]


def test_a_terminal_gets_the_odd_sequences_with_their_culprits(run, folder, screen):
    run("score", folder / "today.log", "--model", folder / "model")
    shown = screen.export_text()
    assert "2 of 10 sequences are odd, worst first" in shown
    assert "11 | 08:03:11 disk burns at req_1003\n          | never seen in training" in shown


def test_nothing_at_a_terminal_is_wider_than_it(run, folder, screen):
    run("score", folder / "today.log", "--model", folder / "model")
    run("evaluate", folder / "today.log", "--model", folder / "model",
        "--labels", folder / "labels.csv")  # fmt: skip
    run("templates", folder / "today.log")
    rows = screen.export_text().splitlines()
    assert max(len(row) for row in rows if str(folder) not in row) <= 80


@pytest.mark.parametrize("message", [ESCAPES, "[bold]", "x" * 10_000, "\u202e"])
def test_a_hostile_line_is_shown_and_not_obeyed(run, folder, tmp_path, monkeypatch, message):
    log = tmp_path / "evil.log"
    log.write_text(f"2026-03-02 08:00:00 {message} evil req_1\n")
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    monkeypatch.setattr(cli, "_consoles", lambda: (Console(file=io.StringIO()), console))
    run("score", log, "--model", folder / "model")
    shown = console.file.getvalue()
    assert message[:4] in shown or message.isprintable() is False
    assert shown.replace("\n", "").isprintable()


def test_odd_sequences_are_no_failure_unless_asked_for(run, folder):
    assert run("score", folder / "today.log", "--model", folder / "model")[0] == 0


def test_odd_sequences_leave_with_2_where_asked_for(run, folder):
    asked = ("--model", folder / "model", "--fail-on-anomaly")
    assert run("score", folder / "today.log", *asked)[0] == 2


def test_a_calm_log_leaves_with_0(run, folder):
    asked = ("--model", folder / "model", "--fail-on-anomaly")
    assert run("score", folder / "calm.log", *asked)[:2] == (0, "")


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ("anomaly", "all 1 labelled sequences are anomalies: false alarms, precision and F1"),
        ("normal", "all 1 labelled sequences are normal: recall cannot be told"),
    ],
)
def test_labels_of_one_kind_are_told_with_what_they_cannot_tell(run, folder, tmp_path, label, told):
    (tmp_path / "one.csv").write_text(f"session,label\nreq_1003,{label}\n")
    arguments = ("--model", folder / "model", "--labels", tmp_path / "one.csv")
    code, _, err = run("evaluate", folder / "today.log", *arguments)
    assert code == 0
    assert told in err


OTHER_KIND = {
    "no window": "none of 60 events is in a window, so nothing was judged",
    "no header": "100% of 60 events do not match the model's format",
}


@pytest.fixture(params=OTHER_KIND)
def other_kind(request, tmp_path):
    """Return a log in which nothing can be odd, as it is none of the model's, and what is said."""
    line = "up and running\n" if request.param == "no header" else "2026-03-02 08:00:00 is up\n"
    (tmp_path / "other.log").write_text(60 * line)
    return tmp_path / "other.log", OTHER_KIND[request.param]


def test_a_log_of_another_kind_is_told_and_leaves_with_3(run, folder, other_kind):
    log, told = other_kind
    code, out, err = run("score", log, "--model", folder / "model", "--fail-on-anomaly")
    assert (code, out) == (3, "")
    assert told in err


def test_a_report_on_a_log_of_another_kind_says_so(run, folder, other_kind, tmp_path):
    log, told = other_kind
    run("score", log, "--model", folder / "model", "--out", tmp_path / "r.html")
    assert told.replace("'", "&#39;") in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_log_of_templates_never_seen_is_told(run, folder, tmp_path):
    (tmp_path / "new.log").write_text(sessions(10).replace("req", "new req"))
    _, _, err = run("score", tmp_path / "new.log", "--model", folder / "model")
    assert "100% of 30 events are of templates unknown at fit time" in err


def test_a_watch_of_a_log_of_another_kind_says_so_once_and_leaves_with_3(
    run, folder, other_kind, monkeypatch
):
    log, told = other_kind
    log.write_text(log.read_text() * 3)
    with log.open() as text:
        monkeypatch.setattr(sys, "stdin", text)
        code, out, err = run("watch", "-", "--model", folder / "model")
    assert (code, out) == (3, "")
    assert err.count(told.replace("60", "180")) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
@pytest.mark.parametrize("command", ["score", "watch"])
def test_standard_output_without_room_is_told_in_one_line(folder, command):
    logs = [folder / "today.log"] if command == "score" else ["-"]
    with open("/dev/full", "w") as full, (folder / "today.log").open() as lines:  # noqa: PTH123
        done = subprocess.run(
            [*ODDLOG, command, *logs, "--model", folder / "model"],
            stdin=lines,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "oddlog: standard output: No space left on device; make room there, or name another place"
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".html"])
def test_a_place_without_room_is_named_and_nothing_stays_there(
    run, folder, tmp_path, monkeypatch, suffix
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_for_polars(*_, **__):
        raise pl.exceptions.ComputeError("parquet: No space left on device (os error 28)")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_for_polars)
    monkeypatch.setattr("oddlog.output._json_lines", full)
    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / f"found{suffix}"
    code, _, err = run("score", folder / "today.log", "--model", folder / "model", "--out", out)
    assert (code, list(tmp_path.iterdir())) == (1, [])
    assert f"oddlog: {out}: No space left on device; make room there" in err


def test_a_place_below_a_file_is_refused_with_what_to_do(run, folder, tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "found.jsonl"
    code, _, err = run("score", folder / "today.log", "--model", folder / "model", "--out", out)
    assert code == 1
    assert f"oddlog: {tmp_path / 'file'}: is no folder" in err


def test_no_line_is_wider_than_a_narrow_terminal(run, folder, monkeypatch):
    console = Console(width=40, file=io.StringIO(), record=True, force_terminal=True)
    monkeypatch.setattr(cli, "_consoles", lambda: (console, console))
    monkeypatch.setattr(terminal, "progress_bars", lambda console: nullcontext(silent))
    monkeypatch.chdir(folder)
    run("score", "today.log", "--model", "model")
    assert [line for line in console.export_text().splitlines() if len(line) > 40] == []


def test_another_rate_can_be_asked_for(run, folder):
    asked = ("--model", folder / "model", "--false-alarm-rate", "0.0001")
    code, out, err = run("score", folder / "today.log", *asked)
    assert (code, out) == (0, "")
    assert "nothing can be flagged" in err


def test_where_nothing_can_be_flagged_a_terminal_gets_what_scores_highest(run, folder, screen):
    asked = ("--model", folder / "model", "--false-alarm-rate", "0.0001", "--top", "2")
    run("score", folder / "today.log", *asked)
    shown = screen.export_text()
    assert "no verdict on 10 sequences; those that score highest, odd or not" in shown
    assert shown.count("disk burns at req_1003") == shown.count("disk burns at req_1007") == 1
    assert "nothing odd" not in shown


def test_where_nothing_can_be_flagged_no_log_passes_the_check_for_anomalies(run, folder):
    asked = ("--model", folder / "model", "--fail-on-anomaly", "--false-alarm-rate", "0.0001")
    code, out, err = run("score", folder / "calm.log", *asked)
    assert (code, out) == (1, "")
    assert "nothing can be flagged" in err
    assert "--false-alarm-rate 0.00" in err


def test_a_terminal_is_told_which_templates_are_unknown(run, folder, screen):
    run("score", folder / "today.log", "--model", folder / "model")
    shown = screen.export_text()
    assert shown.endswith(
        "unknown at fit time, by sequences that hold it\n        2 | disk burns at <SESSION>\n"
    )


def test_a_log_that_has_drifted_is_told_of(run, folder, tmp_path):
    (tmp_path / "new.log").write_text(sessions(200, odd=range(0, 200, 4)))
    _, _, err = run("score", tmp_path / "new.log", "--model", folder / "model")
    assert "no longer looks like the calibration's" in err
    _, _, err = run("score", folder / "normal.log", "--model", folder / "model")
    assert "no longer" not in err


def test_an_update_tells_a_pipe_what_it_changed_and_keeps_the_old_model(run, folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "new.log").write_text(sessions(700, odd=range(0, 700, 4)))
    code, out, err = run("update", tmp_path / "new.log", "--model", tmp_path / "model")
    (record,) = records_of(out)
    assert (code, record["kept"]) == (0, str(tmp_path / "model.1"))
    assert [found["text"] for found in record["adopted"]] == ["disk burns at <SESSION>"]
    assert "learned the new sequences: new_event" in err


def test_an_update_tells_a_person_what_to_do_next(run, folder, tmp_path, screen):
    new = tmp_path / "new"
    run("update", folder / "normal.log", "--model", folder / "model", "--out", new)
    shown = screen.export_text()
    assert "only calibrated again" in shown
    assert f"oddlog score FILE --model {new}" in shown


def test_records_go_to_a_file_of_json_lines(run, folder, tmp_path):
    out = tmp_path / "new" / "r.jsonl"
    run("score", folder / "today.log", "--model", folder / "model", "--out", out)
    assert [record["key"] for record in records_of(out.read_text())] == ["req_1003", "req_1007"]


def test_records_go_to_a_parquet_file_with_real_times(run, folder, tmp_path):
    out = tmp_path / "new" / "r.parquet"
    run("score", folder / "today.log", "--model", folder / "model", "--out", out, "--explain")
    table = pl.read_parquet(out)
    assert table["first_time"].dtype == pl.Datetime("us", "UTC")
    assert table["culprits"].list.len().to_list() == [1, 1]


def test_no_records_are_an_empty_table_with_columns(run, folder, tmp_path):
    out = tmp_path / "r.parquet"
    run("score", folder / "calm.log", "--model", folder / "model", "--out", out)
    assert (pl.read_parquet(out).height, "score" in pl.read_parquet(out).columns) == (0, True)


@pytest.mark.parametrize("command", ["score", "templates", "evaluate"])
def test_an_unknown_suffix_is_refused_before_anything_is_read(run, tmp_path, command):
    model = () if command == "templates" else ("--model", tmp_path / "no")
    code, _, err = run(command, tmp_path / "no.log", *model, "--out", "r.xls")
    assert (code, "--out r.xls: unknown suffix; use ." in err) == (1, True)


def test_a_log_without_windows_gives_no_records_and_says_why(run, folder, tmp_path):
    (tmp_path / "idle.log").write_text("2026-03-02 08:00:00 alive\n")
    code, out, err = run("score", tmp_path / "idle.log", "--model", folder / "model")
    assert (code, out) == (0, "")
    assert "no sequences" in err


def test_an_evaluation_puts_the_trivial_rules_beside(run, folder):
    arguments = ("--model", folder / "model", "--labels", folder / "labels.csv")
    code, out, _ = run("evaluate", folder / "today.log", *arguments)
    found = records_of(out)[0]
    assert (code, [*found]) == (0, ["new_event", "key_set", "counts"])
    assert found["new_event"]["decision"]["recall"]["value"] == 1.0


def test_an_evaluation_goes_to_a_file(run, folder, tmp_path):
    arguments = ("--model", folder / "model", "--labels", folder / "labels.csv")
    run("evaluate", folder / "today.log", *arguments, "--out", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["new_event"]["n_anomalous"] == 2


def test_the_table_of_templates_has_a_row_for_each_event(run, folder, tmp_path):
    out = tmp_path / "t.parquet"
    run("templates", folder / "today.log", "--out", out)
    table = pl.read_parquet(out)
    assert table.columns == ["source", "line", "template_id"]
    assert table["line"].to_list() == [*range(1, 31)]


def test_templates_are_told_with_count_and_example(run, folder):
    _, out, _ = run("templates", folder / "today.log")
    first = records_of(out)[0]
    assert (first["count"], first["template"]) == (10, "open <ID>")
    assert first["example"].startswith("open req_")


def test_settings_reach_the_template_miner(run, folder):
    _, out, _ = run("templates", folder / "today.log", "--set", "drain.masks={names=[]}")
    assert len(records_of(out)) >= 4


def test_templates_need_no_network(folder):
    without = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
    command = [sys.executable, "-c", without + ODDLOG[2], "templates", str(folder / "today.log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(records_of(done.stdout)) == 4


def test_every_detector_is_listed_with_its_settings(run):
    _, out, _ = run("detectors")
    found = {record["detector"]: record for record in records_of(out)}
    assert set(found) == {*import_module("oddlog.detectors").DETECTORS}
    assert found["counts"]["settings"] == {"idf": False, "rule": "nearest"}


def test_a_detector_whose_extra_is_missing_says_what_to_install():
    without = "import sys; sys.modules['torch'] = None; "
    command = [sys.executable, "-c", without + ODDLOG[2], "detectors"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {record["detector"]: record for record in records_of(out)}
    assert "pip install 'oddlog[torch]'" in found["loggpt"]["missing"]


def test_the_version_can_be_asked_for(run):
    assert run("--version")[:2] == (0, f"oddlog {oddlog.__version__}\n")


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_do_not_spin_while_they_wait_unless_told_to(run, monkeypatch, before, after):
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    run("--version")
    assert os.environ["OMP_WAIT_POLICY"] == after


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "a.log"),
        ("fit", "--model", "m"),
        ("scor", "a.log"),
        ("fit", "a.log", "--model", "m", "--seed", "x"),
        ("fit", "a.log", "--model", "m", "--unheard-of"),
    ],
)
def test_bad_usage_leaves_with_1(run, arguments):
    assert run(*arguments)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--detector", "lgpt"), "no detector named 'lgpt'; there are: "),
        (("--detector", "counts", "--set", "counts.idff=true"), "did you mean 'idf'?"),
        (("--set", "windw=lines:3"), "unknown setting 'windw'; did you mean 'window'?"),
        (("--set", "window"), "expected NAME=VALUE"),
        (("--set", "window=5"), "window: 5 is no window, such as lines:100"),
        (("--set", "detector.width=3"), "detector: a name, not a group of settings"),
        (("--detector", "counts", "--set", "detector.idf=true"), "bear its name, such as"),
        (("--set", "detector=3"), "detector: 3 is no name"),
        (("--assume-anomalies", "0.9"), "settings: assume_anomalies: 0.9 is no share"),
        (("--window", "lines:none"), "'none' is no number"),
        (("--format", "hdsf"), "no format named 'hdsf'"),
        (("--format", "(?P<message>["), "format pattern"),
        (("--false-alarm-rate", "3"), "false_alarm_rate"),
        (("--config", "no.toml"), "no.toml: cannot read the configuration"),
        (("--labels", "no.csv"), "no.csv: cannot read the labels"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run, folder, tmp_path, arguments, said):
    code, out, err = run(*fit_arguments(folder, tmp_path / "m", *arguments))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("oddlog: ")
    assert said in err


def test_a_missing_log_is_told_in_one_line(run, folder):
    code, out, err = run("score", "gone.log", "--model", folder / "model")
    assert (code, out, err) == (1, "", "oddlog: gone.log: no such file\n")


def test_a_missing_model_is_told_in_one_line(run, folder, tmp_path):
    code, _, err = run("score", folder / "today.log", "--model", tmp_path / "m")
    assert (code, err) == (
        1,
        f"oddlog: {tmp_path / 'm'}: no oddlog model there; `oddlog fit` makes one\n",
    )


def test_a_folder_that_is_no_model_is_left_alone(run, folder, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    code, _, err = run(*fit_arguments(folder, tmp_path))
    assert (code, err.count("\n")) == (1, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_to_is_told_in_one_line(run, folder, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = run(
        "score", folder / "today.log", "--model", folder / "model",
        "--out", tmp_path / "file" / "r.jsonl",
    )  # fmt: skip
    assert (code, err.splitlines()[-1].startswith("oddlog: ")) == (1, True)
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["found.jsonl", "found.parquet", "report.html"])
def test_a_place_that_cannot_be_written_to_is_named_before_the_log_is_read(
    run, folder, monkeypatch, tmp_path, name
):
    def refuse(**place: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "tmpabc"))

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    model = folder / "model"
    code, _, err = run("score", folder / "gone.log", "--model", model, "--out", tmp_path / name)
    assert (code, err) == (1, f"oddlog: {tmp_path / name}: Permission denied\n")


def test_a_folder_is_no_place_for_records(run, folder, tmp_path):
    out = tmp_path / "found.jsonl"
    out.mkdir()
    code, _, err = run("score", folder / "gone.log", "--model", folder / "model", "--out", out)
    assert (code, err) == (1, f"oddlog: --out {out}: is a folder; name a file in it\n")


def test_an_error_shows_no_control_characters(run, folder):
    code, _, err = run("score", f"{ESCAPES}.log", "--model", folder / "model")
    assert (code, err.count("\n")) == (1, 1)
    assert "\x1b" not in err


@pytest.mark.parametrize(
    "command", ["", "demo", "templates", "fit", "update", "score", "evaluate", "data"]
)
def test_help_fits_80_columns_and_is_not_cut_off(command, monkeypatch, run):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run(*([command] if command else []), "--help")
    assert (code, "..." in out.replace("COMMAND [ARGS]...", "").replace("}...", "")) == (0, False)
    assert max(map(len, out.splitlines())) <= 80


def test_a_reader_of_the_pipe_that_leaves_is_no_crash(folder):
    command = [*ODDLOG, "score", str(folder / "normal.log"), "--model", str(folder / "model")]
    with subprocess.Popen(
        [*command, "--all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_a_fit_that_is_interrupted_goes_on_where_it_was(run, tmp_path):
    write(simulate(200, anomaly_share=0.0, seed=1), tmp_path)
    log, model = tmp_path / "cluster.log", tmp_path / "model"
    settings = [f"--set=loggpt.{name}={value}" for name, value in TINY.items()]
    arguments = ["fit", str(log), "--model", str(model), r"--session-by=blk_\d+", *settings]
    with subprocess.Popen([*ODDLOG, *arguments], stderr=subprocess.PIPE, text=True) as process:
        checkpoints = tmp_path / ".model.checkpoints"
        while not list(checkpoints.glob("[!.]*")) and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert (process.returncode != 0, model.exists()) == (True, False)
    assert "--resume" in told
    assert list(checkpoints.glob("[!.]*"))
    assert run(*arguments, "--resume")[0] == 0
    assert not checkpoints.exists()
    config = make_config({"session_by": r"blk_\d+", "loggpt": TINY}, "test")
    unbroken = oddlog.fit([log], config, run=Run(seed=0)).score([log]).scores.sequence
    assert oddlog.load(model).score([log]).scores.sequence == pytest.approx(unbroken, rel=1e-4)
