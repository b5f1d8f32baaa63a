"""Culprits as records: the line, what was expected there, and their order."""

from dataclasses import replace
from datetime import UTC, datetime
from json import dumps

import polars as pl
import pytest

from oddlog.events import EVENT_COLUMNS, Sequences
from oddlog.explain import CULPRIT_COLUMNS, END_TEXT, culprit_records, telling
from oddlog.findings import END, Culprit, Explanation


def text_of(template_id):
    return f"template {template_id}"


def culprit(row, position, **changes):
    return Culprit(row=row, position=position, score=changes.pop("score", 1.0), **changes)


@pytest.fixture
def sequences():
    """Return sessions of three and of two events, with header, message and time."""
    plain = Sequences.from_ids([[4, 7, 4], [7, -1]])
    events = plain.events.with_columns(
        pl.Series("raw", [f"08:00 INFO event {i}" for i in range(5)]),
        pl.Series("message", [f"event {i}" for i in range(5)]),
        pl.Series("time", [datetime(2026, 3, 2, 8, 0, i, tzinfo=UTC) for i in range(5)]).cast(
            EVENT_COLUMNS["time"]
        ),
    )
    return replace(plain, events=events)


def test_a_record_names_the_line_and_shows_it(sequences):
    found = Explanation("0", (culprit(1, 1),)), Explanation("1", ())
    record = culprit_records(found, sequences, text_of)[0][0]
    assert [record[name] for name in ("source", "line", "text", "message", "template")] == [
        "ids",
        2,
        "08:00 INFO event 1",
        "event 1",
        "template 7",
    ]


def test_a_record_has_the_columns_that_are_documented(sequences):
    found = Explanation("0", (culprit(1, 1),)), Explanation("1", ())
    assert [*culprit_records(found, sequences, text_of)[0][0]] == [*CULPRIT_COLUMNS]


def test_records_can_be_written_as_json(sequences):
    found = Explanation("0", (culprit(1, 1, expected=((4, 0.5),)),)), Explanation("1", ())
    assert '"2026-03-02T08:00:01' in dumps(culprit_records(found, sequences, text_of))


def test_each_sequence_gets_its_own_culprits_in_their_order(sequences):
    found = (
        Explanation("0", (culprit(2, 2, score=3.0), culprit(0, 0, score=2.0))),
        Explanation("1", (culprit(4, 1),)),
    )
    told = culprit_records(found, sequences, text_of)
    assert [[record["line"] for record in records] for records in told] == [[3, 1], [5]]


def test_a_sequence_without_culprits_has_an_empty_list(sequences):
    found = Explanation("0", ()), Explanation("1", ())
    assert culprit_records(found, sequences, text_of) == [[], []]


def test_a_culprit_behind_the_last_event_says_that_nothing_followed(sequences):
    found = Explanation("0", (culprit(2, 3), culprit(2, 2))), Explanation("1", ())
    told = culprit_records(found, sequences, text_of)[0]
    assert [record["missing"] for record in told] == [True, False]


def test_two_sequences_of_one_name_are_told_apart(sequences):
    same = replace(sequences, keys=pl.Series(["same", "same"]))
    found = Explanation("same", (culprit(2, 2),)), Explanation("same", (culprit(4, 2),))
    told = culprit_records(found, same, text_of)
    assert [records[0]["missing"] for records in told] == [False, True]


def test_what_was_expected_is_told_by_its_text(sequences):
    expected = ((4, 0.5), (END, 0.25))
    found = Explanation("0", (culprit(1, 1, expected=expected),)), Explanation("1", ())
    assert culprit_records(found, sequences, text_of)[0][0]["expected"] == [
        {"template": "template 4", "probability": 0.5},
        {"template": END_TEXT, "probability": 0.25},
    ]


def test_where_no_line_was_kept_the_template_stands_for_it():
    sequences = Sequences.from_ids([[4, 7]])
    record = culprit_records([Explanation("0", (culprit(1, 1),))], sequences, text_of)[0][0]
    assert (record["text"], record["message"], record["time"]) == (
        "template 7",
        "template 7",
        None,
    )


def told(*scores, shares=()):
    expected = [{"template": "other", "probability": share} for share in shares]
    return [{"score": score, "expected": expected} for score in scores]


@pytest.mark.parametrize(
    ("scores", "shown"),
    [
        ([8.0, 4.0, 3.9], [8.0, 4.0]),
        ([8.0, 7.0, 6.0, 5.0], [8.0, 7.0, 6.0]),
        ([-1.0, -1.5], [-1.0]),
        ([0.0, -1.0], [0.0]),
        ([], []),
    ],
)
def test_the_worst_culprit_is_shown_and_those_nearly_as_odd(scores, shown):
    assert [culprit["score"] for culprit in telling(told(*scores), 3)] == shown


def test_what_was_hardly_expected_is_not_shown():
    (culprit,) = telling(told(8.0, shares=[0.9, 0.005, 0.004]), 3)
    assert [found["probability"] for found in culprit["expected"]] == [0.9, 0.005]
