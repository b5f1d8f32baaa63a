"""The length of windows of time that nobody asked for."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from oddlog.pipeline.lengths import choose_time, windows_of

DAY = 86_400


def events(seconds, sources=("a.log",)):
    """Return a table of one event at each second, the sources in turn."""
    start = datetime(2026, 3, 2, tzinfo=UTC)
    times = [start + timedelta(seconds=second) for second in seconds]
    names = [sources[i % len(sources)] for i in range(len(times))]
    return pl.DataFrame({"source": names, "time": times}, schema_overrides={"time": TIME})


TIME = pl.Datetime("us", "UTC")


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (range(0, DAY, 5), "time:60s"),  # 12 lines a minute
        (range(0, 7 * DAY, 30), "time:5m"),  # 2 a minute; 5 would take 2.5
        (range(900), "time:5s"),  # too little for 400 windows: those of 5 events
        (sorted([*range(3000)] * 5), "time:5s"),  # 50 minutes: 60s would give 50 windows
        (range(0, 30 * DAY, 3000), "lines:10"),  # too sparse: an hour has 1.2
        ([0] * 5000, "lines:100"),  # too dense: all within a second
        (sorted([*range(20)] * 101), "lines:100"),  # a burst: 20 windows of 101
        (sorted([*range(500)] * 101), "time:1s"),  # as dense, but 500 windows
        (sorted([*range(20)] * 100), "time:1s"),  # 20 windows of 100 are as good
    ],
)
def test_the_length_gives_events_in_a_window_and_windows(seconds, wanted):
    assert str(choose_time(events(seconds))[0]) == wanted


def test_the_reason_tells_what_the_length_gives_and_what_a_minute_would():
    told = choose_time(events(range(0, 7 * DAY, 30)))[1]
    assert told == (
        "time:5m per source (no sessions, but times: 2,016 windows of about 10 events, where 60s "
        "gives 10,080 windows of about 2 events; --session-by tells where lines name a session)"
    )


def test_a_log_of_one_second_is_told_why_it_has_windows_of_lines():
    told = choose_time(events([0] * 5000))[1]
    assert told == (
        "lines:100 per source (no sessions, and too dense for times: 1s gives 1 window of about "
        "5,000 events)"
    )


def test_windows_are_counted_for_each_source():
    found = {each.seconds: each[1:] for each in windows_of(events(range(120), "ab"))}
    assert found[60] == (4, 30.0)


def test_an_event_without_a_time_counts_for_nothing():
    table = events(range(120))
    untimed = table.with_columns(time=pl.lit(None, TIME))
    assert windows_of(pl.concat([table, untimed])) == windows_of(table)
