from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from oddlog.errors import ConfigError
from oddlog.events import EVENT_COLUMNS, Sequences, check_events
from oddlog.group import Window, group
from oddlog.split import (
    check_no_leak,
    cut_rows,
    cut_sessions_at_random,
    cut_sessions_by_time,
    cut_windows,
)

START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def log(*lines, source="a.log"):
    """Build a table from (seconds or None, sessions) pairs, line 1 on."""
    values = {
        "source": [source] * len(lines),
        "line": list(range(1, len(lines) + 1)),
        "time": [None if s is None else START + timedelta(seconds=s) for s, _ in lines],
        "sessions": [ids.split() for _, ids in lines],
    }
    return check_events(pl.DataFrame(values, schema={k: EVENT_COLUMNS[k] for k in values}))


def sessions_of(*lines, text="session") -> Sequences:
    return group(log(*lines), Window.parse(text))[0]


def keys(sequences: Sequences, parts) -> list[list[str]]:
    return [sequences.keys.gather(part).to_list() for part in parts]


def cut(by, sequences, shares):
    if by == "time":
        return cut_sessions_by_time(sequences, shares)
    return cut_sessions_at_random(sequences, shares, seed=3)


BY = pytest.mark.parametrize("by", ["time", "random"])
TEN = [(i, f"s{i}") for i in range(10)]
WINDOWS = ["session", "session,max=2", "session,gap=3s", "lines:4/2", "lines:1", "time:9s/3s"]
SHARES = [[0.5, 0.5], [0.3, 0.2, 0.4], [0.6, 0.2], [0.4], [0.25, 0.25, 0.25, 0.25]]


@st.composite
def logs(draw, source):
    """Draw a log whose sessions are short but for a few, with late and missing times."""
    lines = []
    for i in range(draw(st.integers(12, 40))):
        ids = [f"s{(i + shift) // 3}" for shift in draw(st.lists(st.integers(0, 3), max_size=2))]
        ids += draw(st.sampled_from([[]] * 9 + [["long"]]))
        late = draw(st.sampled_from([0, 0, 0, 5, None]))
        lines.append((None if late is None else i - late, " ".join(ids)))
    return log(*lines, source=source)


@st.composite
def splits(draw, by):
    """Draw windows and their split; one that would leave a part empty is refused and not drawn."""
    sources = draw(st.sampled_from([["a.log"], ["a.log", "b.log"]]))
    events = pl.concat([draw(logs(source)) for source in sources])
    sequences = group(events, Window.parse(draw(st.sampled_from(WINDOWS))))[0]
    assume(len(sequences))
    try:
        return sequences, *cut(by, sequences, draw(st.sampled_from(SHARES)))
    except ConfigError as error:
        assume("would be empty" not in str(error))
        raise


# Sessions, by time or at random


@BY
@settings(max_examples=40)
@given(data=st.data())
def test_no_line_and_no_session_is_ever_in_two_parts(by, data):
    sequences, parts, _ = data.draw(splits(by))
    check_no_leak(*(sequences.take(part) for part in parts))


@BY
@settings(max_examples=40)
@given(data=st.data())
def test_every_sequence_is_in_one_part_or_counted(by, data):
    sequences, parts, report = data.draw(splits(by))
    placed = np.concatenate(parts)
    assert len(np.unique(placed)) + report.n_discarded + report.n_unused == len(sequences)
    assert report.sizes == tuple(len(part) for part in parts)


@BY
@settings(max_examples=20)
@given(data=st.data())
def test_sequences_of_a_part_keep_their_order(by, data):
    _, parts, _ = data.draw(splits(by))
    assert all(np.all(np.diff(part) > 0) for part in parts)


@BY
@settings(max_examples=30)
@given(data=st.data(), n=st.integers(10, 60), shares=st.sampled_from(SHARES))
def test_without_anything_to_discard_sizes_are_as_asked(by, data, n, shares):
    sequences = sessions_of(*((i, f"s{i}") for i in range(n)))
    asked = data.draw(st.sampled_from([shares, [int(share * n) for share in shares]]))
    _, report = cut(by, sequences, asked)
    wanted = np.array(asked) * (n if asked is shares else 1)
    assert np.all(np.abs(np.array(report.sizes) - wanted) < 1 + 1e-6)


@BY
def test_the_windows_of_one_session_stay_together(by):
    lines = [(i, f"s{i}") for i in range(5) for _ in range(4)]
    sequences = sessions_of(*lines, text="session,max=1")
    parts, report = cut(by, sequences, [2, 3])
    assert report.sizes == (8, 12)
    assert [len({key.split("~")[0] for key in part}) for part in keys(sequences, parts)] == [2, 3]


@BY
@pytest.mark.parametrize(
    ("shares", "problem"),
    [
        ([], "none given"),
        ([0.5, 0.6], "sum to 1"),
        ([0.5, -0.1], "above 0"),
        ([float("nan")], "above 0"),
        ([0.5, 3], "not both"),
        ([8, 3], "there are 10 sessions"),
        ([0, 3], "1 or more"),
        ([0.9, 0.05], "part 2 of 2 would be empty: there are 10 sequences"),
    ],
)
def test_shares_that_do_not_fit_are_refused(by, shares, problem):
    with pytest.raises(ConfigError, match=problem):
        cut(by, sessions_of(*TEN), shares)


@BY
def test_no_sequences_are_not_cut(by):
    with pytest.raises(ConfigError, match="nothing to cut"):
        cut(by, sessions_of(), [0.5])


def test_a_session_across_a_cut_is_discarded():
    sequences = sessions_of((0, "x"), (1, "long"), (2, "y"), (3, "long"), (4, "z"))
    parts, report = cut_sessions_by_time(sequences, [0.5, 0.5])
    assert keys(sequences, parts) == [["x"], ["y", "z"]]
    assert (report.n_discarded, report.n_unused) == (1, 0)


def test_a_session_across_the_last_cut_is_discarded_even_if_the_rest_is_unused():
    sequences = sessions_of((0, "x"), (1, "long"), (2, "y"), (3, "long"), (4, "z"))
    parts, report = cut_sessions_by_time(sequences, [0.5])
    assert keys(sequences, parts) == [["x"]]
    assert (report.n_discarded, report.n_unused) == (1, 2)


def test_sessions_are_cut_by_their_times_where_the_rows_say_otherwise():
    later_file_first = pl.concat([log((10, "x"), (11, "x")), log((0, "y"), source="b.log")])
    sequences = group(later_file_first, Window())[0]
    assert keys(sequences, cut_sessions_by_time(sequences, [1, 1])[0]) == [["y"], ["x"]]


def test_sessions_of_a_log_without_times_are_cut_by_their_rows():
    sequences = sessions_of((None, "b"), (None, "a"), (None, "c"))
    assert keys(sequences, cut_sessions_by_time(sequences, [1, 2])[0]) == [["b"], ["a", "c"]]


def test_sessions_of_the_same_second_are_cut_by_their_rows():
    sequences = sessions_of(*[(0, key) for key in "abcd"])
    assert keys(sequences, cut_sessions_by_time(sequences, [0.5, 0.5])[0]) == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_the_same_seed_draws_the_same_parts():
    sequences = sessions_of(*TEN)
    first, again = (cut_sessions_at_random(sequences, [5, 5], seed=7)[0] for _ in range(2))
    assert keys(sequences, first) == keys(sequences, again)


def test_another_seed_draws_other_parts():
    sequences = sessions_of(*((i, f"s{i}") for i in range(100)))
    first, other = (cut_sessions_at_random(sequences, [50], seed=seed)[0] for seed in (0, 1))
    assert keys(sequences, first) != keys(sequences, other)


ONE_APART = sessions_of(*TEN, (11, " ".join(key for _, key in TEN[:9])))  # s9 shares no line


def test_drawn_sessions_that_share_a_line_with_another_part_are_discarded():
    with pytest.raises(ConfigError, match="9 of them discarded as they share a line"):
        cut_sessions_at_random(ONE_APART, [5, 5], seed=0)


def test_drawn_sessions_may_share_lines_with_those_of_their_own_part():
    last = ONE_APART.keys.to_list().index("s9")
    seed = next(s for s in range(1000) if np.random.default_rng(s).permutation(10)[9] == last)
    assert cut_sessions_at_random(ONE_APART, [9, 1], seed=seed)[1].n_discarded == 0


def test_the_summary_names_only_what_occurred():
    sequences = sessions_of((0, "x"), (1, "long"), (2, "y"), (3, "long"), (4, "z"))
    assert cut_sessions_by_time(sequences, [0.5, 0.5])[1].summary() == (
        "4 sequences cut into 1 + 2; 1 discarded (they lie across a cut)"
    )


# Rows


@given(st.integers(20, 60), st.integers(20, 60), st.sampled_from(SHARES))
def test_rows_of_each_source_are_cut_at_the_shares(n, m, shares):
    lines = [(i, "") for i in range(max(n, m))]
    events = pl.concat([log(*lines[:n]), log(*lines[:m], source="b.log")])
    parts = cut_rows(events, shares)
    for source, count in (("a.log", n), ("b.log", m)):
        sizes = np.array([part.filter(pl.col("source") == source).height for part in parts])
        assert np.all(np.abs(sizes - np.array(shares) * count) < 1 + 1e-6)


@given(st.integers(20, 60), st.sampled_from(SHARES))
def test_parts_of_rows_follow_each_other(n, shares):
    parts = cut_rows(log(*((i, "") for i in range(n))), shares)
    joined = pl.concat(parts)["line"].to_list()
    assert joined == list(range(1, len(joined) + 1))


def test_shares_that_sum_to_one_use_every_row():
    parts = cut_rows(log(*((i, "") for i in range(10))), [0.1, 0.2, 0.7])
    assert [part.height for part in parts] == [1, 2, 7]


@settings(max_examples=20)
@given(logs("a.log"), st.sampled_from(["lines:4/2", "time:9s/3s", "time:9s/3s,per=host"]))
def test_windows_built_inside_parts_of_rows_do_not_leak(events, text):
    parts = cut_rows(events, [0.5, 0.5])
    check_no_leak(*(group(part, Window.parse(text))[0] for part in parts))


@pytest.mark.parametrize(
    ("shares", "problem"),
    [([5, 5], "not by counts"), ([0.7, 0.7], "sum to 1"), ([0.9, 0.05], "part 2 of 2")],
)
def test_rows_are_not_cut_by_shares_that_do_not_fit(shares, problem):
    with pytest.raises(ConfigError, match=problem):
        cut_rows(log(*TEN), shares)


@pytest.mark.parametrize(("text", "n_discarded"), [("lines:4", 0), ("lines:4/2", 4)])
def test_drawn_windows_are_cut_at_the_shares_of_each_source(text, n_discarded):
    lines = [(i, "") for i in range(80)]
    events = pl.concat([log(*lines[:40]), log(*lines, source="b.log")])
    windows, _ = group(events, Window.parse(text))
    chosen, report = cut_windows(windows, [0.5, 0.3, 0.2])
    parts = [windows.take(part) for part in chosen]
    check_no_leak(*parts)
    assert report.n_discarded == n_discarded  # the one before each cut of each source
    for source, n_lines in (("a.log", 40), ("b.log", 80)):
        own = [part.events.filter(pl.col("source") == source)["line"] for part in parts]
        assert [lines.max() for lines in own][-1] == n_lines
        assert own[0].max() < own[1].min() <= own[1].max() < own[2].min()


# The guard


def test_a_line_in_two_parts_is_a_leak():
    events = log(*TEN)
    parts = [group(part, Window.parse("lines:2"))[0] for part in (events[:6], events[5:])]
    with pytest.raises(ConfigError, match=r"a\.log:6 is in part 1 and in part 2"):
        check_no_leak(*parts)


def test_a_session_in_two_parts_is_a_leak():
    sequences = sessions_of((0, "x"), (1, "y"), (2, "x"), text="session,max=1")
    assert sequences.keys.to_list() == ["x", "y", "x~2"]
    with pytest.raises(ConfigError, match="session 'x' is in part 1 and in part 3"):
        check_no_leak(*(sequences.take([i]) for i in range(3)))


def test_lines_of_the_table_that_no_window_holds_are_no_leak():
    sequences = sessions_of(*TEN)
    shared = [sequences.take([i]) for i in range(2)]
    whole = [
        Sequences(
            log(*TEN), part.rows + i, part.offsets, part.keys, part.labels, part.starts, part.ends
        )
        for i, part in enumerate(shared)
    ]
    check_no_leak(*whole)


def test_a_repeated_window_inside_one_part_is_no_leak():
    sequences = sessions_of(*TEN, text="lines:4/2")
    check_no_leak(sequences, sessions_of().take([]))


@pytest.mark.data
def test_767_sessions_of_the_hdfs_sample_lie_across_its_middle(data_folder):
    raw = pl.read_csv(
        data_folder / "hdfs" / "HDFS_2pct.log.gz",
        has_header=False,
        separator="\x01",
        quote_char=None,
        new_columns=["text"],
    )
    text = pl.col("text")
    time = text.str.slice(0, 13).str.to_datetime("%y%m%d %H%M%S", time_unit="us")
    events = raw.select(
        source=pl.lit("hdfs.log"),
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        time=time.dt.replace_time_zone("UTC"),
        sessions=text.str.extract_all(r"blk_-?\d+"),
    )
    sequences, _ = group(check_events(events), Window())
    _, report = cut_sessions_by_time(sequences, [0.5, 0.5])
    assert (report.n_sequences, report.n_discarded) == (11_501, 767)
