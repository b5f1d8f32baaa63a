"""Which lines of a flagged sequence a report holds, and what it says of the others."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import polars as pl
from hypothesis import given

from oddlog.events import Sequences
from oddlog.report.rows import Limits, _places, make_rows

ROOMY = Limits()


def windows(*lengths, raw=None):
    sequences = Sequences.from_ids([[1] * n for n in lengths])
    n = sequences.events.height
    texts = pl.Series("raw", raw or [f"line {i}" for i in range(n)], dtype=pl.String)
    return replace(sequences, events=sequences.events.with_columns(texts))


def culprit(position, **changes):
    return {
        "source": "ids",
        "line": position + 1,
        "time": None,
        "text": "text",
        "message": f"message {position}",
        "template": "template",
        "template_id": 1,
        "score": 5.0,
        "position": position,
        "missing": False,
        "expected": [{"template": "other", "probability": 0.9}],
    } | changes


def rows_of(sequences, culprits, limits=ROOMY):
    records = [{"key": key} for key in sequences.keys]
    return make_rows(sequences, records, culprits, lambda i: f"template {i}", limits)


def test_a_short_sequence_is_shown_whole():
    (row,) = rows_of(windows(5), [[culprit(2)]])
    assert [line.text for line in row.lines] == [f"line {i}" for i in range(5)]
    assert [line.n_skipped for line in row.lines] == [0] * 5
    assert row.n_after == 0


def test_the_culprit_is_marked_with_what_was_expected():
    (row,) = rows_of(windows(5), [[culprit(2)]])
    marked = [line for line in row.lines if line.culprits]
    assert [line.text for line in marked] == ["line 2"]
    assert marked[0].culprits[0].expected[0].template == "other"
    assert (marked[0].culprits[0].position, row.message) == (3, "message 2")


def test_what_is_missing_is_marked_at_the_last_line():
    (row,) = rows_of(windows(3), [[culprit(3, missing=True)]])
    assert [bool(line.culprits) for line in row.lines] == [False, False, True]
    assert row.worst.missing


def test_an_unknown_template_is_told():
    (row,) = rows_of(windows(3), [[culprit(1, template_id=-1)]])
    assert row.worst.novel


def test_what_explains_little_is_not_marked_and_is_counted():
    (row,) = rows_of(windows(4), [[culprit(1), culprit(2, score=0.1)]])
    assert (row.n_marked, row.n_culprits) == (1, 2)


def test_what_is_hardly_likely_was_not_expected():
    found = culprit(1, expected=[{"template": "a", "probability": 0.001}])
    (row,) = rows_of(windows(4), [[found]])
    assert row.worst.expected == ()


def test_a_sequence_without_culprits_has_no_message():
    (row,) = rows_of(windows(4), [[]])
    assert (row.message, row.worst, len(row.lines)) == ("", None, 4)


@given(st.integers(1, 400), st.lists(st.integers(0, 399), max_size=8), st.integers(0, 40))
def test_every_line_is_shown_or_counted(n, places, most):
    culprits = [culprit(place) for place in sorted({place % n for place in places})]
    (row,) = rows_of(windows(n), [culprits], Limits(lines=most, culprits=8))
    assert len(row.lines) + sum(line.n_skipped for line in row.lines) + row.n_after == n
    assert row.n_marked == len(culprits)


@given(st.integers(1, 400), st.sets(st.integers(0, 399), max_size=8), st.integers(0, 40))
def test_marked_places_are_always_among_few_that_are_shown(n, places, most):
    marked = sorted({place % n for place in places})
    shown = _places(n, marked, most)
    assert set(marked) <= set(shown.tolist())
    assert len(shown) <= max(most, len(marked))
    assert (np.diff(shown) > 0).all()


def test_what_stands_around_a_culprit_is_shown_first():
    shown = _places(1000, [500], 12)
    assert {498, 499, 500, 501, 502, 0, 999} <= set(shown.tolist())


def test_a_long_line_is_cut_and_what_is_gone_is_counted():
    (row,) = rows_of(windows(1, raw=["x" * 100_000]), [[]])
    assert (len(row.lines[0].text), row.lines[0].n_cut) == (1001, 99_000)


def test_once_the_text_is_spent_only_culprits_are_shown():
    first, second = rows_of(windows(6, 6), [[culprit(2)], [culprit(4)]], replace(ROOMY, text=20))
    assert (len(first.lines), len(second.lines)) == (6, 1)
    assert (second.lines[0].n_skipped, second.n_after) == (4, 1)


def test_an_event_without_a_raw_line_shows_its_template():
    sequences = Sequences.from_ids([[7, 8]])
    (row,) = rows_of(sequences, [[]])
    assert [line.text for line in row.lines] == ["template 7", "template 8"]


def test_sources_are_named_where_there_are_several():
    one, two = windows(2), windows(2)
    events = two.events.with_columns(pl.Series("source", ["a.log", "b.log"]))
    assert [line.source for line in rows_of(one, [[]])[0].lines] == ["", ""]
    mixed = rows_of(replace(two, events=events), [[]])[0]
    assert [line.source for line in mixed.lines] == ["a.log", "b.log"]
