"""Charts as numbers: every sequence is in a bar, and what is flagged is told from what is not."""

import itertools
import math
import re
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from oddlog.drift import FlagRate
from oddlog.report.axes import ScoreAxis, count_axis, rate_axis, share_ticks, time_ticks
from oddlog.report.charts import N_TIME_BINS, histogram, rates, timeline

DAY_US = 86_400_000_000
MARCH = int(np.datetime64("2026-03-02T08:00:00", "us").astype(np.int64))
finite = st.floats(-1e6, 1e6, width=32)
some_scores = arrays(np.float64, st.integers(1, 40), elements=finite)


def n_here(bar):
    return int(re.search(r": ([\d,]+) sequences", bar.told)[1].replace(",", ""))


def n_told(bar):
    flagged, every = re.search(r": ([\d,]+) of ([\d,]+) flagged", bar.told).groups()
    return int(flagged.replace(",", "")), int(every.replace(",", ""))


@given(some_scores, some_scores, finite)
def test_each_score_is_in_one_bar(scores, calibration, threshold):
    chart = histogram(scores, np.sort(calibration), threshold)
    assert sum(n_here(bar) for bar in chart.bars) == len(scores)


@given(some_scores, some_scores)
def test_bars_lie_inside_the_plot_and_beside_each_other(scores, calibration):
    bars = histogram(scores, np.sort(calibration), math.inf).bars
    edges = [edge for bar in bars for edge in (bar.x, bar.x + bar.width)]
    assert all(0 <= edge <= 100 + 1e-9 for edge in edges)
    assert all(a <= b + 1e-9 for a, b in itertools.pairwise(edges))


def test_bars_right_of_the_threshold_hold_what_is_flagged():
    scores = np.array([0.0, 1, 2, 3, 3.5, 4, 9])
    chart = histogram(scores, np.arange(4.0), 3.0)
    assert sum(n_here(bar) for bar in chart.bars if bar.odd) == 3


def test_a_score_at_the_threshold_is_not_drawn_as_flagged():
    chart = histogram(np.array([0.0, 3.0, 6.0]), np.zeros(3), 3.0)
    assert sum(n_here(bar) for bar in chart.bars if bar.odd) == 1


def test_without_a_threshold_nothing_is_drawn_as_flagged():
    chart = histogram(np.arange(9.0), np.arange(9.0), math.inf)
    assert chart.threshold is None
    assert not any(bar.odd for bar in chart.bars)


def test_infinite_scores_stand_at_the_edge():
    chart = histogram(np.array([0.0, 1.0, np.inf]), np.arange(2.0), 0.5)
    assert sum(n_here(bar) for bar in chart.bars if bar.odd) == 2


def test_scores_that_are_all_alike_can_be_drawn():
    chart = histogram(np.zeros(5), np.zeros(7), 1e-5)
    assert [n_here(bar) for bar in chart.bars] == [5]
    assert chart.bars[0].width > 0.5


def test_an_axis_is_bent_where_a_few_scores_are_far_out():
    usual = np.linspace(0, 1, 400)
    assert ScoreAxis.of(usual).bend == 0
    bent = ScoreAxis.of(np.append(usual, 1000.0))
    assert bent.bend > 0
    assert bent.place(1.0) > 5


@given(some_scores, st.floats(0, 100))
def test_a_place_on_the_axis_gives_its_score_back(scores, at):
    axis = ScoreAxis.of(scores)
    assert axis.place(axis.score(at)) == pytest.approx(at, abs=1e-3)


@given(some_scores)
def test_ticks_lie_on_the_axis_with_room_between_them(scores):
    places = [tick.at for tick in ScoreAxis.of(scores).ticks()]
    assert all(0 <= at <= 100 for at in places)
    assert all(b - a >= 7 for a, b in itertools.pairwise(places))


def test_shares_have_a_tick_for_each_power_of_ten():
    assert [tick.text for tick in share_ticks(0.0005)] == ["100 %", "10 %", "1 %", "0.1 %"]


@given(st.floats(1, 1e7))
def test_an_axis_of_counts_is_round_and_high_enough(most):
    top, ticks = count_axis(most)
    assert top >= most
    assert 2 <= len(ticks) <= 4


@given(st.floats(1e-6, 1))
def test_an_axis_of_rates_is_high_enough(most):
    top, ticks = rate_axis(most)
    assert top >= most * (1 - 1e-9)
    assert 2 <= len(ticks) <= 4


@given(st.integers(0, 4000 * 365 * DAY_US), st.integers(1, 3000 * 365 * DAY_US))
def test_times_have_few_ticks_on_the_axis(low, span):
    ticks = time_ticks(low, low + span)
    assert len(ticks) <= 9
    assert all(0 <= tick.at <= 100 for tick in ticks)


@given(
    arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 10**16)),
    st.data(),
)
def test_each_sequence_is_in_one_bin_of_time(times, data):
    n = len(times)
    timed, flags = (data.draw(arrays(np.bool_, n)) for _ in range(2))
    drawn = timeline(times, timed, flags, 0.01)
    counts = [n_told(bar) for bar in drawn.every.bars]
    known = timed if timed.any() else np.ones(n, dtype=bool)
    assert np.sum(counts, axis=0).tolist() == [int((flags & known).sum()), int(known.sum())]
    assert drawn.n_untimed == int((~known).sum())
    assert len(drawn.every.bars) <= N_TIME_BINS


def test_bins_of_time_begin_at_round_times():
    times = MARCH + np.arange(0, 3600, 7) * 1_000_000
    drawn = timeline(times, np.ones(len(times), bool), np.zeros(len(times), bool), 0.01)
    assert drawn.bin_text == "1 min"
    assert drawn.every.bars[1].told.startswith("2026-03-02 08:01: 0 of ")


def test_the_dashes_are_what_the_asked_rate_allows():
    drawn = timeline(np.full(200, MARCH), np.ones(200, bool), np.arange(200) < 4, 0.01)
    (bar,) = drawn.flagged.bars
    assert bar.mark == pytest.approx(bar.height / 2)  # 2 allowed, 4 flagged


def test_without_times_the_order_takes_their_place():
    drawn = timeline(np.zeros(500, np.int64), np.zeros(500, bool), np.arange(500) > 489, 0.01)
    assert (drawn.by_time, drawn.n_untimed, drawn.bin_text) == (False, 0, "10 sequences")
    assert drawn.bin_of[0] < drawn.bin_of[-1]


def test_midnight_is_named_by_its_day():
    texts = [tick.text for tick in time_ticks(MARCH, MARCH + DAY_US)]
    assert "03-03" in texts
    assert "12:00" in texts


def test_runs_of_one_day_are_named_by_the_clock():
    begin = datetime(2026, 3, 2, 8, tzinfo=UTC)
    times = [begin, begin + timedelta(seconds=30)]
    runs = tuple(FlagRate(50, 1, 0.02, 0.0, 0.1, time, time) for time in times)
    assert [tick.text for tick in rates(runs, 0.01).x_ticks] == ["08:00:00", "08:00:30"]


def test_runs_without_times_are_named_by_their_first_sequence():
    runs = tuple(FlagRate(n, 1, 0.02, 0.0, 0.1) for n in (1000, 500, 500))
    assert [tick.text for tick in rates(runs, 0.01).x_ticks] == ["1", "1,001", "1,501"]


def test_rates_that_are_surely_above_the_asked_one_can_be_told():
    runs = (FlagRate(50, 1, 0.02, 0.004, 0.1), FlagRate(50, 25, 0.5, 0.37, 0.63))
    chart = rates(runs, 0.01)
    assert [span.low > chart.asked for span in chart.spans] == [False, True]
    assert "25 flagged, 50.00% (95 % interval 37.00% to 63.00%)" in chart.spans[1].told
