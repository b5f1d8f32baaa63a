from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.errors import FormatError
from oddlog.events import EVENT_COLUMNS, Sequences, check_events, column

LABELS = st.sampled_from([None, "", "disk_full"])
id_lists = st.lists(st.lists(st.integers(-3, 12), min_size=1, max_size=6), max_size=8)


@st.composite
def windows(draw, min_size=0):
    """Draw windows that overlap, repeat and skip rows of one table, with the lists they hold."""
    n_events = draw(st.integers(1, 12))
    row_lists = draw(
        st.lists(
            st.lists(st.integers(0, n_events - 1), min_size=1, max_size=6),
            min_size=min_size,
            max_size=6,
        )
    )
    n = len(row_lists)
    booleans = st.lists(st.booleans(), min_size=n, max_size=n)
    return Sequences(
        events=pl.DataFrame(
            {
                "source": [draw(st.sampled_from(["a.log", "b.log"]))] * n_events,
                "line": np.arange(1, n_events + 1),
                "template_id": np.arange(n_events, dtype=np.int32) % 5,
                "label": pl.Series(["", None, "x", ""] * 3, dtype=pl.String)[:n_events],
            }
        ),
        rows=np.array([row for rows in row_lists for row in rows], dtype=np.int64),
        offsets=np.cumsum([0] + [len(rows) for rows in row_lists]),
        keys=pl.Series("key", [f"k{i}" for i in range(n)], dtype=pl.String),
        labels=pl.Series("label", draw(st.lists(LABELS, min_size=n, max_size=n)), dtype=pl.String),
        starts=np.array(draw(booleans), dtype=bool),
        ends=np.array(draw(booleans), dtype=bool),
    )


def content(sequences):
    """Return all that a window says, as plain values, window by window."""
    return [
        (
            sequences.lines(i).rows(),
            sequences.keys[i],
            sequences.labels[i],
            bool(sequences.starts[i]),
            bool(sequences.ends[i]),
        )
        for i in range(len(sequences))
    ]


def events(**columns):
    return pl.DataFrame({"source": ["a.log"], "line": [1]} | columns)


def test_a_table_with_columns_left_out_is_an_event_table():
    assert check_events(events()).columns == ["source", "line"]


def test_columns_are_put_in_order():
    shuffled = pl.DataFrame(
        {name: pl.Series([None], dtype=dtype) for name, dtype in reversed(EVENT_COLUMNS.items())}
    )
    assert check_events(shuffled).columns == [*EVENT_COLUMNS]


@pytest.mark.parametrize("name", ["source", "line"])
def test_a_table_without_its_place_is_refused(name):
    with pytest.raises(FormatError, match=f"no column '{name}'"):
        check_events(events().drop(name))


def test_a_column_of_unknown_name_is_refused():
    with pytest.raises(FormatError, match=r"unknown column 'lnie'; known: .*'line'"):
        check_events(events(lnie=[1]))


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("template_id", [1], "Int64, it has to be Int32"),
        ("label", [0], "Int64, it has to be String"),
        ("time", [datetime(2024, 1, 1)], r"Datetime.* has to be Datetime.*UTC"),
        ("line", ["1"], "String, it has to be Int64"),
    ],
)
def test_a_column_of_another_type_is_refused(name, values, found):
    with pytest.raises(FormatError, match=f"column '{name}' is {found}"):
        check_events(events(**{name: values}))


def test_times_with_a_zone_are_taken():
    table = events(time=[datetime(2024, 1, 1, tzinfo=UTC)])
    assert check_events(table)["time"].dtype == EVENT_COLUMNS["time"]


@pytest.mark.parametrize("name", ["message", "time", "sessions"])
def test_a_column_left_out_is_null_everywhere(name):
    found = column(events(), name)
    assert (found.to_list(), found.dtype, found.name) == ([None], EVENT_COLUMNS[name], name)


def test_a_column_that_is_there_is_returned():
    assert column(events(message=["up"]), "message").to_list() == ["up"]


def test_lengths_and_owners_follow_the_offsets():
    sequences = Sequences.from_ids([[5, 6], [7], [8, 9, 8]])
    assert sequences.lengths.tolist() == [2, 1, 3]
    assert sequences.owners.tolist() == [0, 0, 1, 2, 2, 2]


def test_an_unknown_label_is_neither_known_nor_anomalous():
    sequences = Sequences.from_ids([[1], [2], [3]], [None, "", "disk_full"])
    assert sequences.labelled.tolist() == [False, True, True]
    assert sequences.anomalous.tolist() == [False, False, True]


def test_values_of_entries_are_those_of_their_rows():
    table = pl.DataFrame(
        {
            "source": ["a.log"] * 3,
            "line": [1, 2, 3],
            "message": ["up", "down", None],
            "template_id": pl.Series([4, -1, 6], dtype=pl.Int32),
            "label": ["", "fault", None],
        }
    )
    sequences = replace(Sequences.from_ids([[0, 0], [0]]), events=table, rows=np.array([2, 1, 1]))
    assert sequences.template_ids().tolist() == [6, -1, -1]
    assert sequences.messages().to_list() == [None, "down", "down"]
    assert sequences.event_anomalous().tolist() == [False, True, True]


def test_entries_without_messages_or_labels_have_none():
    sequences = Sequences.from_ids([[1, 2]])
    assert sequences.messages().to_list() == [None, None]
    assert sequences.event_anomalous().tolist() == [False, False]


@given(windows(min_size=1), st.data())
def test_take_keeps_what_each_window_holds(sequences, data):
    index = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=6))
    everything = content(sequences)
    assert content(sequences.take(index)) == [everything[i] for i in index]


@given(windows(), st.data())
def test_take_by_a_mask_is_take_by_the_numbers_it_marks(sequences, data):
    n = len(sequences)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=bool)
    assert content(sequences.take(mask)) == content(sequences.take(np.flatnonzero(mask)))


@given(windows(min_size=1), st.data())
def test_take_leaves_only_events_that_are_used(sequences, data):
    index = data.draw(st.lists(st.integers(0, len(sequences) - 1), max_size=6))
    taken = sequences.take(index)
    assert np.unique(taken.rows).tolist() == list(range(taken.events.height))


@given(windows(min_size=1), st.data())
def test_numbers_below_zero_count_from_the_last_window(sequences, data):
    n = len(sequences)
    index = data.draw(st.lists(st.integers(-n, -1), min_size=1, max_size=6))
    assert content(sequences.take(index)) == content(sequences.take([i + n for i in index]))
    assert sequences.lines(index[0]).equals(sequences.lines(index[0] + n))


@pytest.mark.parametrize(
    "index", [[3], [-4], np.ones(2, dtype=bool), np.ones(4, dtype=bool)], ids=str
)
def test_a_window_that_is_not_there_cannot_be_taken(index):
    with pytest.raises(IndexError):
        Sequences.from_ids([[1], [2], [3]]).take(index)


@given(st.lists(windows(), min_size=1, max_size=3))
def test_concat_holds_the_windows_of_each_part_in_order(parts):
    joined = Sequences.concat(parts)
    assert content(joined) == [window for part in parts for window in content(part)]
    assert joined.events.height == sum(part.events.height for part in parts)


def test_concat_fills_columns_that_only_some_parts_have():
    with_text = Sequences.from_ids([[1]])
    text = with_text.events.with_columns(message=pl.lit("up"))
    joined = Sequences.concat([Sequences.from_ids([[2]]), replace(with_text, events=text)])
    assert joined.messages().to_list() == [None, "up"]


def test_nothing_cannot_be_joined():
    with pytest.raises(ValueError, match="nothing to join"):
        Sequences.concat([])


@given(id_lists, st.data())
def test_sessions_from_ids_hold_those_ids(ids, data):
    labels = data.draw(st.lists(LABELS, min_size=len(ids), max_size=len(ids)))
    sequences = Sequences.from_ids(ids, labels, source="made")
    split = np.split(sequences.template_ids(), sequences.offsets[1:-1]) if ids else []
    assert [part.tolist() for part in split] == ids
    assert sequences.labels.to_list() == labels
    assert sequences.starts.all()
    assert sequences.ends.all()
    assert check_events(sequences.events)["source"].unique().to_list() == ["made"][: len(ids)]


def test_sessions_from_arrays_bear_the_keys_given():
    sequences = Sequences.from_arrays(
        np.array([1, 2]), np.array([0, 1, 2]), ["", ""], keys=["a", "b"]
    )
    assert sequences.keys.to_list() == ["a", "b"]


@given(windows())
def test_without_labels_only_the_labels_are_gone(sequences):
    blind = sequences.without_labels()
    assert not blind.labelled.any()
    assert not blind.event_anomalous().any()
    unlabelled = replace(sequences, events=sequences.events.drop("label"), labels=blind.labels)
    assert content(blind) == content(unlabelled)


def test_labels_can_be_replaced():
    sequences = Sequences.from_ids([[1], [2]]).with_labels(pl.Series(["fault", ""]))
    assert sequences.anomalous.tolist() == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offsets": np.array([0, 2, 2, 3])}, "a window is empty"),
        ({"offsets": np.array([0, 2, 1, 3])}, "a window is empty"),
        ({"offsets": np.array([1, 2, 2, 3])}, "from 0 to the number of rows"),
        ({"offsets": np.array([0, 1, 2, 4])}, "from 0 to the number of rows"),
        ({"offsets": np.array([0, 3])}, r"1 windows by offsets, but columns of lengths \{3\}"),
        ({"offsets": np.array([], dtype=np.int64)}, "-1 windows"),
        ({"labels": pl.Series([""])}, "3 windows by offsets"),
        ({"keys": pl.Series(["a"])}, "3 windows by offsets"),
        ({"starts": np.ones(2, dtype=bool)}, "3 windows by offsets"),
        ({"ends": np.ones(4, dtype=bool)}, "3 windows by offsets"),
    ],
)
def test_windows_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(Sequences.from_ids([[1], [2], [3]]), **change)


def test_no_windows_at_all_are_allowed():
    nothing = Sequences.from_ids([])
    assert (len(nothing), nothing.owners.tolist(), nothing.template_ids().tolist()) == (0, [], [])
