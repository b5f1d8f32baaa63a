"""Which open windows are looked at before they end: at once, and never at the cost of a square."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.events import EVENT_COLUMNS, check_events
from oddlog.group import Grouper, Window
from oddlog.watch import Watcher
from oddlog.watch.growth import GROWTH, PER_EVENT, PER_PUSH, SLACK, Growth
from oddlog.watch.scoring import Scorer
from test_watch_equals_score import logs, with_window
from watching import START, fitted

IDS = ("source", "line", "time", "template_id")


def push(grouper, names):
    """Push an event for each name."""
    n = grouper.report.n_events
    numbers = list(range(n, n + len(names)))
    table = {"source": "a", "line": numbers, "sessions": [[x] for x in names]}
    schema = {name: EVENT_COLUMNS[name] for name in (*table, "template_id")}
    grouper.push(check_events(pl.DataFrame(table | {"template_id": numbers}, schema=schema)))


def looked(growth, grouper, names):
    """Let a push be looked at; return the events of each window that were."""
    push(grouper, names)
    tails = grouper.tails(growth.choose(grouper, names, len(names)), growth.memory, IDS)
    if tails is None:
        return {}
    lengths = tails.windows.lengths.tolist()
    return dict(zip(tails.names, zip(lengths, tails.n_before.tolist(), strict=True), strict=True))


def test_a_short_memory_is_shown_the_new_events_and_as_many_before_them():
    growth, grouper = Growth(memory=2), Grouper(Window())
    found = [looked(growth, grouper, ["x"] * n) for n in (1, 1, 3, 1)]
    assert [one["x"] for one in found] == [(1, 0), (2, 1), (5, 2), (3, 2)]


def test_a_window_without_its_beginning_says_so():
    grouper = Grouper(Window())
    push(grouper, ["x"] * 5)
    assert grouper.tails({"x": 2}, 1, IDS).windows.starts.tolist() == [False]
    assert grouper.tails({"x": 2}, 3, IDS).windows.starts.tolist() == [True]


def test_a_whole_window_is_looked_at_for_each_event_of_a_quiet_log():
    growth, grouper = Growth(memory=None), Grouper(Window())
    found = [looked(growth, grouper, ["x"])["x"] for _ in range(200)]
    assert found == [(n, n - 1) for n in range(1, 201)]


def test_in_a_flood_the_longest_windows_wait():
    growth, grouper = Growth(memory=None), Grouper(Window())
    looked(growth, grouper, ["long"] * 3 * PER_PUSH)
    flood = [f"short{i % 300}" for i in range(600)]
    assert set(looked(growth, grouper, ["long", *flood])) == set(flood)
    assert "long" in growth.waiting


def test_what_waits_is_looked_at_once_it_has_grown_by_its_share():
    growth, grouper, n = Growth(memory=None), Grouper(Window()), 2 * PER_PUSH
    looked(growth, grouper, ["x"] * n)
    more = int(n * GROWTH) - n
    assert looked(growth, grouper, ["x"] * (more // 8)) == {}
    assert looked(growth, grouper, ["x"] * (more - more // 8)) == {"x": (n + more, n)}


def test_what_had_no_room_is_looked_at_in_a_push_that_has():
    growth, grouper = Growth(memory=None), Grouper(Window())
    names = [f"s{i}" for i in range(12)]
    looked(growth, grouper, [name for name in names for _ in range(PER_PUSH // 2)])
    first = looked(growth, grouper, names)
    assert 0 < len(first) < len(names)
    found = [set(first)]
    while growth.waiting:
        found.append(set(looked(growth, grouper, [])))
    assert all(found)
    assert set.union(*found) == set(names)


def test_a_window_that_closed_waits_no_longer():
    growth, grouper = Growth(memory=None), Grouper(Window())
    looked(growth, grouper, ["x"] * 2 * PER_PUSH)
    assert looked(growth, grouper, ["x"]) == {}
    grouper.flush()
    assert (looked(growth, grouper, []), growth.waiting) == ({}, {})


def test_what_is_remembered_does_not_grow_with_the_windows_that_closed():
    growth, grouper = Growth(memory=0), Grouper(Window(), max_open=100)
    for turn in range(20):
        looked(growth, grouper, [f"s{turn}-{i}" for i in range(100)])
    assert len(growth.seen) <= 2 * grouper.n_open + SLACK


PUSHES = st.lists(st.lists(st.sampled_from("abcd"), max_size=40), max_size=30)


@settings(max_examples=10)
@given(pushes=PUSHES, memory=st.none() | st.integers(0, 4), per_push=st.integers(0, 30))
def test_looks_cost_no_more_than_is_said_however_lines_come(pushes, memory, per_push):
    growth, grouper = Growth(memory), Grouper(Window())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("oddlog.watch.growth.PER_PUSH", per_push)
        spent = sum(
            length for names in pushes for length, _ in looked(growth, grouper, names).values()
        )
    n_events = sum(map(len, pushes))
    must = n_events * GROWTH / (GROWTH - 1)
    assert spent <= must + PER_EVENT * n_events + per_push * len(pushes)


@settings(max_examples=10)
@given(pushes=PUSHES, cut=st.integers(0, 30), per_push=st.integers(0, 30))
def test_choices_go_on_from_a_saved_state(pushes, cut, per_push):
    growth, grouper, once, again = Growth(None), Grouper(Window()), [], []
    other = Growth(None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("oddlog.watch.growth.PER_PUSH", per_push)
        for turn, names in enumerate(pushes):
            if turn == cut:
                other = Growth(None)
                other.load(json.loads(json.dumps(growth.state())))
            push(grouper, names)
            once.append(growth.choose(grouper, names, len(names)))
            again.append(other.choose(grouper, names, len(names)))
    assert once == again


@pytest.mark.parametrize(
    ("detector", "window"),
    [("ngram", "session,gap=4s"), ("ngram", "time:5s/2s"), ("length", "session,max=3")],
)
@settings(max_examples=5)
@given(told=logs())
def test_looks_find_the_worst_event_of_every_window(detector, window, told):
    pipeline, early, whole = with_window(fitted(detector), Window.parse(window)), {}, {}

    class Noted(Scorer):
        def early(self, tails):
            found = super().early(tails)
            for key, score in zip(tails.windows.keys, found.tolist(), strict=True):
                early[key] = max(score, early.get(key, -np.inf))
            return found

    def judged(windows, scores):
        event = pipeline.detector.score(windows).event
        worst = np.maximum.reduceat(event, windows.offsets[:-1])
        whole.update(zip(windows.keys, worst.tolist(), strict=True))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("oddlog.watch.watcher.Scorer", Noted)
        watcher = Watcher(pipeline, listener=judged)
    for line in told:
        watcher.push([line], START)
    watcher.push([], START + 2)  # the last line waited for more of it till now
    watcher.flush(START + 2)
    assert early == pytest.approx(whole, abs=1e-5)
