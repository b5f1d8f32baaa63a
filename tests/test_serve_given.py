"""What a collector knows of a line beside its text: when it was written, and its template."""

from datetime import UTC, datetime, timedelta

import polars as pl

from oddlog.watch import WatchConfig, Watcher
from watching import START, USUAL, fitted

BEGIN = datetime.fromtimestamp(START, UTC)


def told(steps, first=1001, template=None):
    """Return lines of one session without a time in their text, a second apart."""
    times = [BEGIN + timedelta(seconds=i) for i in range(len(steps))]
    texts = [f"{step} req_{first}" for step in steps]
    given = {"source": "web", "text": texts, "time": times, "template": template}
    schema = {"time": pl.Datetime("us", "UTC"), "template": pl.String}
    return pl.DataFrame(given, schema_overrides=schema)


def watcher():
    return Watcher(fitted(), WatchConfig(quiet_s=0.0, early=False))


def test_a_collectors_time_holds_where_the_text_has_none():
    watching = watcher()
    watching.push(told(["open", "disk burns at", "close"]), START)
    (alert,) = watching.push([], START + 60)  # long after the session's last line
    assert alert.first_time == BEGIN
    assert alert.last_time == BEGIN + timedelta(seconds=2)


def test_the_time_in_the_text_counts_where_there_is_one():
    watching = watcher()
    lines = told(["disk burns at"]).with_columns(text=pl.lit("2026-03-02 09:30:00 burns req_1001"))
    watching.push(lines, START)
    (alert,) = watching.flush(START)
    assert alert.first_time == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def test_a_programs_template_tells_unknown_lines_apart():
    watching = watcher()
    steps = ["disk sda burns", "disk sdb burns", "disk of x y burns"]
    watching.push(told(steps, template="disk {name} burns"), START)
    watching.flush(START)
    assert watching.unknown_templates() == [("disk {name} burns", 3)]


def test_a_known_line_keeps_its_template_whatever_the_program_calls_it():
    watching = watcher()
    watching.push(told(USUAL, template="{step} {request}"), START)
    assert watching.flush(START) == []
    assert watching.stats.n_unknown == 0


def test_what_was_given_survives_in_the_state():
    first = watcher()
    first.push(told(["disk sda burns"], template="disk {name} burns"), START)
    second = Watcher.restore(fitted(), first.state())
    (alert,) = second.flush(START)
    assert alert.first_time == BEGIN
    assert second.unknown_templates() == [("disk {name} burns", 1)]
