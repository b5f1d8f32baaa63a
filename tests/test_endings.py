"""A session counts as ended only once it was silent for longer than training ever saw."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from oddlog.endings import Silences, log_ends
from oddlog.errors import ArtifactError
from oddlog.events import Sequences

START = datetime(2026, 3, 2, 8, tzinfo=UTC)


def sessions(*contents: list[tuple[int, float | None]]) -> Sequences:
    """Build complete sessions of (template, seconds since the start)."""
    flat = [event for content in contents for event in content]
    times = [None if s is None else START + timedelta(seconds=s) for _, s in flat]
    built = Sequences.from_ids([[template for template, _ in content] for content in contents])
    time = pl.Series("time", times, dtype=pl.Datetime("us", "UTC"))
    events = built.events.with_columns(time)
    return Sequences(
        events, built.rows, built.offsets, built.keys, built.labels, built.starts, built.ends
    )


def ending(seconds: float) -> pl.DataFrame:
    end = pl.Series("end", [START + timedelta(seconds=seconds)], dtype=pl.Datetime("us", "UTC"))
    return pl.DataFrame({"source": ["ids"]}).with_columns(end)


def test_the_longest_silence_after_each_template_is_learned():
    silences = Silences.of(sessions([(1, 0), (2, 5), (3, 100)], [(1, 10), (2, 12), (3, 20)]))

    assert silences.to_json() == {"1": 5.0, "2": 95.0, "3": 0.0}


def test_silences_are_measured_inside_sessions_only():
    silences = Silences.of(sessions([(1, 0), (2, 1)], [(1, 900), (2, 901)]))

    assert silences.to_json() == {"1": 1.0, "2": 0.0}


def test_a_session_silent_for_longer_than_ever_before_has_ended():
    silences = Silences.of(sessions([(1, 0), (2, 60)]))

    marked = silences.mark(sessions([(1, 0)], [(1, 50)]), ending(100))

    assert marked.ends.tolist() == [True, False]


def test_the_log_ends_with_its_last_event_unless_told():
    silences = Silences.of(sessions([(1, 0), (2, 60)]))

    marked = silences.mark(sessions([(1, 0)], [(2, 61), (1, 61)]))

    assert marked.ends.tolist() == [True, False]


def test_a_window_that_does_not_hold_its_end_never_gets_one():
    silences = Silences.of(sessions([(1, 0), (2, 1)]))
    live = sessions([(1, 0)], [(2, 500)])
    live = Sequences(
        live.events, live.rows, live.offsets, live.keys, live.labels, live.starts, ~live.ends
    )

    assert not silences.mark(live).ends.any()


def test_an_unknown_template_is_waited_for_as_long_as_any():
    silences = Silences.of(sessions([(1, 0), (2, 60), (3, 61)]))

    assert silences.wait_s(np.array([1, 2, 3, 99, -1])).tolist() == [60.0, 1.0, 0.0, 60.0, 60.0]


def test_events_out_of_order_do_not_make_a_silence_negative():
    assert Silences.of(sessions([(1, 50), (2, 0)])).to_json() == {"1": 0.0, "2": 0.0}


def test_without_times_every_end_is_taken_as_it_is_given():
    untimed = sessions([(1, None), (2, None)])
    silences = Silences.of(untimed)

    assert silences.to_json() == {}
    assert silences.mark(untimed).ends.all()
    assert log_ends(untimed.events).is_empty()


def test_a_session_whose_last_event_has_no_time_keeps_its_end():
    silences = Silences.of(sessions([(1, 0), (2, 60)]))

    assert silences.mark(sessions([(1, None)], [(2, 5)])).ends[0]


def test_json_gives_back_the_same_silences():
    silences = Silences.of(sessions([(1, 0), (7, 60.25), (3, 61)]))

    again = Silences.from_json(silences.to_json())

    assert again.to_json() == silences.to_json()


@pytest.mark.parametrize("damaged", [[1, 2], {"a": 1.0}, {"1": "x"}, None, 3])
def test_damaged_json_is_refused(damaged):
    with pytest.raises(ArtifactError, match=r"endings\.json"):
        Silences.from_json(damaged)


def test_one_broken_clock_does_not_end_every_session():
    silences = Silences.of(sessions([(1, 0), (2, 60)]))

    marked = silences.mark(sessions([(1, 10)], [(2, 9_999_999)], [(2, 11)]))

    assert not marked.ends[0]


def test_each_source_ends_by_itself():
    silences = Silences.of(sessions([(1, 0), (2, 60)]))
    here, there = sessions([(1, 0)]), sessions([(1, 500), (2, 501)])
    there = Sequences(
        there.events.with_columns(source=pl.lit("other")),
        *(there.rows, there.offsets, there.keys, there.labels, there.starts, there.ends),
    )

    assert silences.mark(Sequences.concat([here, there])).ends.tolist() == [False, False]


def test_of_two_the_longer_silence_counts():
    one = Silences(np.array([1, 2], dtype=np.int32), np.array([5.0, 1.0]))
    other = Silences(np.array([2, 7], dtype=np.int32), np.array([3.0, 4.0]))
    assert one.joined(other).to_json() == {"1": 5.0, "2": 3.0, "7": 4.0}
    assert Silences.none().joined(one).to_json() == one.to_json()
