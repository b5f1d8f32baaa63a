import json
import tomllib
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from oddlog.config import to_toml
from oddlog.errors import ConfigError
from oddlog.events import EVENT_COLUMNS, Sequences, check_events
from oddlog.group import Grouper, GroupReport, Window, group

START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def log(*lines, source="a.log", **columns):
    """Build a table from (seconds, sessions) pairs and further columns, line 1 on."""
    n = len(lines)
    times = [None if s is None else START + timedelta(seconds=s) for s, _ in lines]
    values = {
        "source": [source] * n,
        "line": list(range(1, n + 1)),
        "time": times,
        "sessions": [ids.split() for _, ids in lines],
        **columns,
    }
    return check_events(pl.DataFrame(values, schema={k: EVENT_COLUMNS[k] for k in values}))


def cut(events, text) -> Sequences:
    return group(events, Window.parse(text))[0]


def contents(sequences: Sequences) -> dict[str, list[int]]:
    """Return the line numbers of each window under its key."""
    lines = sequences.events["line"].to_numpy()[sequences.rows]
    return {
        key: part.tolist()
        for key, part in zip(sequences.keys, np.split(lines, sequences.offsets[1:-1]), strict=True)
    }


def seconds(*values):
    return log(*((value, "") for value in values))


# The rule as text


@pytest.mark.parametrize(
    "text",
    [
        "session",
        "session,gap=30m",
        "session,gap=1.5s,age=6h,max=500",
        "lines:100",
        "lines:100/50",
        "lines:20,per=host",
        "time:60s",
        "time:60s/30s",
        "time:5m",
        "time:1h",
        "time:1h/10m,per=host",
        "time:0.25s",
    ],
)
def test_a_window_gives_its_text_back(text):
    assert str(Window.parse(text)) == text


@given(
    st.builds(
        Window,
        by=st.just("session"),
        gap_s=st.none() | st.integers(1, 10**12).map(lambda us: us / 10**6),
        age_s=st.none() | st.integers(1, 10**12).map(lambda us: us / 10**6),
        max_length=st.none() | st.integers(1, 10**6),
    )
)
def test_every_session_window_survives_its_text(window):
    assert Window.parse(str(window)) == window


@given(st.data())
def test_every_time_window_survives_its_text(data):
    step = data.draw(st.integers(1, 10**12))
    size = data.draw(st.integers(step, 2 * 10**12))
    window = Window(by="time", size=size / 10**6, step=step / 10**6)
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a window"),
        ("lines", "not a window"),
        ("minutes:5", "not a window"),
        ("session:5", "not a window"),
        ("lines:", "no number of lines"),
        ("lines:1.5", "no number of lines"),
        ("lines:-3", "no number of lines"),
        ("lines:0", "greater than 0"),
        ("lines:5/10", "larger than size"),
        ("time:60", "unit"),
        ("time:5d", "unit"),
        ("time:0s", "greater than 0"),
        ("time:30s/60s", "larger than size"),
        ("session,gap=30", "unit"),
        ("session,max=many", "no option"),
        ("session,idle=3s", "no option"),
        ("session,per=host", "no size, step or per"),
        ("lines:5,gap=3s", "for sessions"),
        ("lines:5,per=rack", "per"),
    ],
)
def test_a_text_that_is_no_window_is_refused_by_name(text, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        Window.parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"by": "lines"},
        {"by": "lines", "size": 2.5},
        {"by": "time", "size": 1e-7},
        {"by": "time", "size": float("inf")},
        {"by": "session", "size": 5},
    ],
)
def test_a_window_that_cannot_hold_is_not_made(settings):
    with pytest.raises(ValidationError):
        Window(**settings)


def test_a_step_left_out_is_the_size():
    assert Window(by="lines", size=100) == Window(by="lines", size=100, step=100)


def test_a_window_goes_through_toml():
    window = Window.parse("time:60s/30s,per=host")
    assert Window.model_validate(tomllib.loads(to_toml(window.model_dump()))) == window


# Sessions


def test_a_line_with_two_ids_is_in_both_sessions():
    events = log((0, "x"), (1, "x y"), (2, "y"))
    assert contents(cut(events, "session")) == {"x": [1, 2], "y": [2, 3]}


def test_an_id_named_twice_in_a_line_counts_once():
    assert contents(cut(log((0, "x x"), (1, "x")), "session")) == {"x": [1, 2]}


def test_an_id_in_two_sources_is_one_session():
    events = pl.concat([log((0, "x")), log((1, "x"), source="b.log")])
    assert len(cut(events, "session")) == 1


def test_events_stand_in_the_order_of_the_file_not_of_their_times():
    assert contents(cut(log((5, "x"), (1, "x"), (3, "x")), "session")) == {"x": [1, 2, 3]}


def test_windows_are_ordered_by_their_first_event():
    events = log((0, "z"), (1, "y"), (2, "z"), (9, "z"), (9, "a"))
    assert cut(events, "session,max=2").keys.to_list() == ["z", "y", "z~2", "a"]


def test_events_without_an_id_are_counted():
    report = group(log((0, "x"), (1, ""), (2, "")), Window())[1]
    assert report.n_outside == 2


def test_a_table_without_session_ids_has_no_session_window():
    sequences, report = group(log((0, ""), (1, "")).drop("sessions"), Window())
    assert (len(sequences), report.n_outside) == (0, 2)


def test_without_a_gap_a_session_is_complete():
    sequences = cut(log((0, "x"), (1, "x")), "session")
    assert (sequences.starts.tolist(), sequences.ends.tolist()) == ([True], [True])


def test_a_silence_as_long_as_the_gap_does_not_end_a_session():
    assert contents(cut(log((0, "x"), (10, "x")), "session,gap=10s")) == {"x": [1, 2]}


def test_a_silence_longer_than_the_gap_ends_a_session():
    events = log((0, "x"), (10.1, "x"))
    assert contents(cut(events, "session,gap=10s")) == {"x": [1], "x~2": [2]}


def test_with_a_gap_starts_and_ends_near_the_edges_of_the_log_are_not_known():
    events = log((0, "x"), (4, "x"), (20, "y"), (30, "z"))
    sequences = cut(events, "session,gap=5s")
    marks = zip(sequences.keys, sequences.starts.tolist(), sequences.ends.tolist(), strict=True)
    assert list(marks) == [("x", False, True), ("y", True, True), ("z", True, False)]


def test_a_window_closed_by_a_gap_holds_an_end_and_the_next_no_start():
    events = log((0, ""), (10, "x"), (30, "x"), (50, ""))
    sequences = cut(events, "session,gap=5s")
    assert sequences.starts.tolist() == [True, False]
    assert sequences.ends.tolist() == [True, True]


def test_a_window_closed_by_age_or_length_holds_no_end():
    for text in ("session,age=10s", "session,max=2"):
        sequences = cut(log((0, "x"), (1, "x"), (12, "x")), text)
        assert contents(sequences) == {"x": [1, 2], "x~2": [3]}
        assert (sequences.starts.tolist(), sequences.ends.tolist()) == (
            [True, False],
            [False, True],
        )


def test_ages_lie_on_a_grid_from_the_first_event():
    events = log((3, "x"), (12.9, "x"), (13, "x"), (41, "x"), (42.9, "x"), (43, "x"))
    assert [*contents(cut(events, "session,age=10s")).values()] == [[1, 2], [3], [4, 5], [6]]


def test_a_gap_starts_the_grid_of_ages_anew():
    events = log((0, "x"), (1, "x"), (27, "x"), (35, "x"))
    assert [*contents(cut(events, "session,gap=20s,age=10s")).values()] == [[1, 2], [3, 4]]


def test_an_event_out_of_order_takes_the_time_of_those_before_it():
    events = log((0, "x"), (100, ""), (1, "x"))
    sequences, report = group(events, Window.parse("session,gap=50s"))
    assert (contents(sequences), report.n_late) == ({"x": [1], "x~2": [3]}, 1)


def test_an_event_without_a_time_takes_that_of_the_one_before_it():
    events = log((0, "x"), (100, ""), (None, "x"))
    assert contents(cut(events, "session,gap=50s")) == {"x": [1], "x~2": [3]}


def test_files_of_the_same_hours_one_after_the_other_keep_their_own_clocks():
    again = log((0, "y"), (4, "y"), (20, "z"), source="b.log")
    sequences = cut(pl.concat([log((0, "x"), (3600, "w")), again]), "session,gap=5s")
    assert sequences.keys.to_list() == ["x", "w", "y", "z"]


def test_a_session_goes_on_in_the_next_file_of_a_rotated_log():
    events = pl.concat([log((0, ""), (58, "x")), log((61, "x"), (90, ""), source="b.log")])
    sequences = cut(events, "session,gap=5s")
    assert (len(sequences), sequences.ends.tolist()) == (1, [True])


def test_a_session_never_goes_back_in_age_when_it_passes_to_a_source_that_lags():
    lags = [log((t, "x"), source=source) for t, source in ((2, "b.log"), (3, "c.log"))]
    events = pl.concat([log((0, "x"), (15, "x")), *lags])
    window = Window.parse("session,age=10s")
    grouper = Grouper(window)
    stream = [part for part in (grouper.push(events), grouper.flush()) if part is not None]
    assert Sequences.concat(stream).lengths.tolist() == [1, 3]
    assert group(events, window)[0].lengths.tolist() == [1, 3]


# Lines and time


def test_windows_of_lines_are_cut_for_each_source():
    events = pl.concat([seconds(0, 1, 2), seconds(3).with_columns(source=pl.lit("b.log"))])
    assert contents(cut(events, "lines:2")) == {"a.log:1": [1, 2], "a.log:3": [3], "b.log:1": [1]}


def test_windows_of_lines_can_be_cut_for_each_host():
    events = log(*[(0, "")] * 5, host=["n1", "n2", None, "n1", None])
    assert [*contents(cut(events, "lines:2,per=host")).values()] == [[1, 4], [2], [3, 5]]


def test_a_last_window_of_lines_that_would_repeat_is_not_made():
    assert [*contents(cut(seconds(*range(6)), "lines:4/2")).values()] == [
        [1, 2, 3, 4],
        [3, 4, 5, 6],
    ]


def test_a_last_window_of_lines_may_be_shorter():
    windows = contents(cut(seconds(*range(5)), "lines:4/2"))
    assert [*windows.values()] == [[1, 2, 3, 4], [3, 4, 5]]


def test_windows_of_time_are_half_open_and_lie_on_the_clock():
    windows = contents(cut(seconds(-0.1, 0, 59.9, 60), "time:60s"))
    assert windows == {
        "a.log@2026-03-02T07:59:00Z": [1],
        "a.log@2026-03-02T08:00:00Z": [2, 3],
        "a.log@2026-03-02T08:01:00Z": [4],
    }


def test_windows_of_time_overlap_by_their_step():
    windows = contents(cut(seconds(0, 40), "time:60s/30s"))
    assert [*windows.values()] == [[1], [1, 2], [2]]


def test_an_hour_without_events_makes_no_window():
    assert len(cut(seconds(0, 7200), "time:60s")) == 2


def test_keys_of_windows_shorter_than_a_second_tell_them_apart():
    keys = cut(seconds(0, 0.5), "time:500ms").keys.to_list()
    assert keys == ["a.log@2026-03-02T08:00:00.000000Z", "a.log@2026-03-02T08:00:00.500000Z"]


def test_events_before_the_first_time_are_in_no_window_of_time_and_counted():
    sequences, report = group(seconds(None, 0, None), Window.parse("time:60s"))
    assert [*contents(sequences).values()] == [[2, 3]]
    assert (report.n_outside, report.n_untimed) == (1, 1)


def test_cutting_a_file_moves_no_window_of_time():
    events = seconds(0, 10, 70, 80, 130)
    whole = cut(events, "time:60s").keys.to_list()
    assert cut(events[2:], "time:60s").keys.to_list() == whole[1:]


def test_windows_of_lines_and_time_hold_no_start_or_end():
    for text in ("lines:2", "time:60s"):
        sequences = cut(seconds(0, 1, 2), text)
        assert not (sequences.starts.any())
        assert not (sequences.ends.any())


@pytest.mark.parametrize("text", ["session", "session,gap=3s,age=9s,max=2", "lines:2", "time:60s"])
def test_an_empty_table_has_no_windows(text):
    sequences, report = group(log(), Window.parse(text))
    assert (len(sequences), report.n_events) == (0, 0)


# Labels and the report


@pytest.mark.parametrize(
    ("lines", "label"),
    [
        (["", ""], ""),
        (["", None], None),
        ([None, None], None),
        ([None, "disk"], "disk"),
        (["", "disk", "net", "net"], "net"),
        (["net", "disk", "disk", "net"], "net"),
    ],
)
def test_the_label_of_a_window_comes_from_its_lines(lines, label):
    events = log(*[(0, "x")] * len(lines), label=lines)
    assert cut(events, "session").labels.to_list() == [label]


def test_a_table_without_labels_makes_windows_of_unknown_label():
    assert cut(log((0, "x")), "session").labels.to_list() == [None]


def test_the_summary_names_only_what_occurred():
    report = group(log((0, "x"), (9, "x"), (2, ""), (3, "x")), Window.parse("session,gap=5s"))[1]
    assert report.summary() == (
        "4 events in 2 windows by session,gap=5s; 1 events in no window (no session id); "
        "2 events out of order in time; 1 sessions cut into parts"
    )


# The stream


def pushed(window: str, *tables, **limits) -> tuple[Grouper, list[list[str]]]:
    grouper = Grouper(Window.parse(window), **limits)
    given_out = [grouper.push(table) for table in tables]
    return grouper, [[] if part is None else part.keys.to_list() for part in given_out]


def test_a_window_of_lines_is_given_out_when_it_is_full():
    events = seconds(0, 1, 2, 3)
    assert pushed("lines:3", events[:2], events[2:])[1] == [[], ["a.log:1"]]


def test_a_window_of_time_is_given_out_when_the_clock_has_passed_it():
    events = seconds(0, 59, 60)
    assert pushed("time:60s", events[:2], events[2:])[1] == [[], ["a.log@2026-03-02T08:00:00Z"]]


def test_a_session_is_given_out_once_its_source_was_silent_about_it_for_the_gap():
    events = log((0, "x"), (5, ""), (5.1, ""))
    assert pushed("session,gap=5s", events[:2], events[2:])[1] == [[], ["x"]]


def test_a_session_that_was_closed_goes_on_as_a_second_part():
    events = log((0, "x"), (10, ""), (11, "x"), (30, ""))
    assert pushed("session,gap=5s", events[:2], events[2:])[1] == [["x"], ["x~2"]]


def test_time_can_pass_without_events():
    grouper, _ = pushed("session,gap=5s", log((0, ""), (9, "x")))
    closed = grouper.advance(START + timedelta(seconds=14.1))
    assert closed is not None
    assert (closed.keys.to_list(), closed.ends.tolist()) == (["x"], [True])


def test_a_silent_source_keeps_its_last_window_of_time_no_longer_than_told():
    grouper, _ = pushed("time:60s", seconds(0))
    assert grouper.advance(START + timedelta(seconds=59)) is None
    assert len(grouper.advance(START + timedelta(seconds=60)) or ()) == 1


def test_an_advance_needs_a_time_zone():
    with pytest.raises(ValueError, match="time zone"):
        Grouper(Window()).advance(datetime(2026, 3, 2, 8))


def test_beyond_the_limit_the_session_touched_longest_ago_is_closed_without_an_end():
    grouper = Grouper(Window(), max_open=2)
    closed = grouper.push(log((0, "x"), (1, "y"), (2, "x"), (3, "z")))
    assert closed is not None
    assert (closed.keys.to_list(), closed.ends.tolist()) == (["y"], [False])
    assert (grouper.n_open, grouper.n_evicted) == (2, 1)


def test_an_evicted_session_goes_on_as_a_part_without_a_start():
    grouper = Grouper(Window(), max_open=1)
    grouper.push(log((0, "x"), (1, "y")))
    grouper.push(log((2, "x")))
    rest = grouper.flush()
    assert rest is not None
    assert (rest.keys.to_list(), rest.starts.tolist()) == (["x~2"], [False])


def test_a_session_that_never_ends_cannot_fill_the_memory():
    grouper = Grouper(Window(), max_events=100)
    for at in range(20):
        grouper.push(log(*[(at, "forever")] * 30, (at, f"s{at}")))
    assert grouper.n_evicted >= 5
    assert grouper._cutter.n_held <= 100


def test_events_that_no_window_holds_are_dropped():
    grouper = Grouper(Window.parse("session,gap=1s"))
    for at in range(60):
        grouper.push(log(*[(at * 10, f"s{at}")] * 400))
    assert grouper._store.n_held < 10_000


def test_what_is_remembered_of_closed_sessions_is_bounded_and_counted():
    grouper = Grouper(Window.parse("session,gap=1s"), max_remembered=3)
    grouper.push(log(*((at * 10, f"s{at}") for at in range(10))))
    assert grouper.report.n_forgotten == 6


def test_a_window_given_out_carries_only_its_own_events():
    grouper = Grouper(Window.parse("session,gap=5s"))
    closed = grouper.push(log((0, "x"), (1, "y"), (2, "y"), (6, "y")))
    assert closed is not None
    assert closed.events["line"].to_list() == [1]


def test_pushing_nothing_gives_nothing():
    grouper = Grouper(Window())
    assert grouper.push(log()) is None
    assert grouper.flush() is None


def test_the_state_of_a_stream_is_json_and_keeps_its_limits():
    grouper = Grouper(Window.parse("time:60s"), max_open=7)
    grouper.push(seconds(0, 1))
    state = json.loads(json.dumps(grouper.state()))
    assert Grouper.restore(state).state() == state


def test_a_state_with_another_window_rule_is_refused():
    state = {**Grouper(Window()).state(), "window": {"by": "moon"}}
    with pytest.raises(ConfigError, match="by"):
        Grouper.restore(state)


def test_a_stream_reports_what_it_gave_out():
    grouper, _ = pushed("lines:2", seconds(0, 1, 2))
    assert grouper.report == GroupReport(grouper.window, n_events=3, n_windows=1)


@pytest.mark.data
def test_the_sessions_of_the_hdfs_sample_are_found_whole(data_folder):
    raw = pl.read_csv(
        data_folder / "hdfs" / "HDFS_2pct.log.gz",
        has_header=False,
        separator="\x01",
        quote_char=None,
        new_columns=["message"],
    )
    events = raw.select(
        source=pl.lit("hdfs.log"),
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int64),
        sessions=pl.col("message").str.extract_all(r"blk_-?\d+"),
    )
    sequences, report = group(check_events(events), Window())
    assert (len(sequences), report.n_events, report.n_outside) == (11_501, 222_579, 0)
