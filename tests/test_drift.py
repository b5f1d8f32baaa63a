"""Whether a log still looks like the calibration: how far apart, how sure, what changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.drift import (
    BINS,
    PERMUTATIONS,
    begun,
    compare_scores,
    find_unknown,
    flag_rates,
    measure_drift,
)
from oddlog.events import Sequences

START = datetime(2026, 3, 2, tzinfo=UTC)
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40)


def sequences_of(ids):
    return Sequences.from_ids(ids)


def drift_of(calibration, scores, ids=None, rate=0.01):
    scores = np.asarray(scores, dtype=np.float64)
    return measure_drift(
        calibration,
        scores,
        scores > 3,
        sequences_of(ids or [[0]] * len(scores)),
        asked_rate=rate,
        text_of=lambda i: f"template {i}",
    )


def timed(sequences, seconds):
    """Return the sequences with the time of each event, seconds after the start."""
    time = pl.Series("time", [START + timedelta(seconds=int(s)) for s in seconds])
    return replace(
        sequences, events=sequences.events.with_columns(time.cast(pl.Datetime("us", "UTC")))
    )


def plain_distance(old, new):
    """Return the Kolmogorov-Smirnov distance by its definition."""
    places = [*old, *new]
    shares = [
        [sum(s <= place for s in part) / len(part) for place in places] for part in (old, new)
    ]
    return max(abs(a - b) for a, b in zip(*shares, strict=True))


@given(SCORES, SCORES)
def test_the_distance_is_that_of_kolmogorov_and_smirnov(old, new):
    assert compare_scores(old, new).distance == pytest.approx(plain_distance(old, new))


@given(SCORES, st.randoms(use_true_random=False))
def test_a_shuffled_sample_is_no_shift(scores, random):
    again = list(scores)
    random.shuffle(again)
    found = compare_scores(scores, again)
    assert (found.distance, found.p_value) == (0.0, 1.0)


def test_scores_without_ties_have_nearly_the_distance_of_every_place():
    rng = np.random.default_rng(3)
    old, new = rng.normal(size=900), rng.normal(0.4, size=700)
    exact = np.abs(
        np.searchsorted(np.sort(old), both := np.concatenate([old, new]), "right") / 900
        - np.searchsorted(np.sort(new), both, "right") / 700
    ).max()
    assert compare_scores(old, new).distance == pytest.approx(exact, abs=0.015)


def test_scores_that_differ_by_what_a_network_differs_by_are_no_shift():
    old = np.repeat([1.0, 2.0, 3.0], 200)
    assert compare_scores(old, old + 9e-6).distance == 0.0


def test_the_p_value_is_uniform_or_above_where_scores_tie():
    rng = np.random.default_rng(5)
    values = np.array([0.0, 1.0, 7.0])
    found = [
        compare_scores(rng.choice(values, 150, p=p), rng.choice(values, 90, p=p)).p_value
        for p in [(0.8, 0.15, 0.05)] * 300
    ]
    assert [np.mean(np.array(found) <= level) <= level + 0.045 for level in (0.01, 0.05, 0.2)] == [
        True
    ] * 3


def test_ties_do_not_blunt_the_test():
    rng = np.random.default_rng(5)
    old, new = rng.random(400) < 0.02, rng.random(400) < 0.12
    assert compare_scores(old, new).p_value == 1 / (1 + PERMUTATIONS)


def test_the_direction_is_that_of_the_log():
    calibration = np.arange(100.0)
    assert compare_scores(calibration, calibration + 30).is_higher
    assert not compare_scores(calibration, calibration - 30).is_higher


def test_the_stability_index_is_that_of_the_shares_in_the_deciles():
    calibration = np.arange(1000.0)
    new = np.concatenate([calibration, np.full(1000, 2000.0)])  # half of it in the last decile
    old_shares = np.full(10, 100.5) / 1005
    new_shares = np.array([100.5] * 9 + [1100.5]) / 2005
    wanted = ((new_shares - old_shares) * np.log(new_shares / old_shares)).sum()
    assert compare_scores(calibration, new).stability_index == pytest.approx(wanted)


def test_a_small_shift_of_many_sequences_is_significant_but_no_warning():
    calibration = np.arange(20_000.0) % 100 / 100
    new = np.concatenate([calibration[:19_000], np.full(1_000, 2.0)])
    drift = drift_of(calibration, new)
    assert (drift.shift.p_value, drift.warning) == (1 / (1 + PERMUTATIONS), None)


def test_a_few_sequences_are_no_drift_however_odd():
    drift = drift_of(np.arange(500.0), [499.0] * 20)
    assert drift.shift.distance > 0.9
    assert drift.warning is None


def test_a_large_shift_that_may_be_chance_is_no_warning():
    drift = drift_of(np.arange(12.0), np.arange(60.0) / 6)
    assert drift.shift.distance > 0.1
    assert drift.warning is None


def test_a_large_and_significant_shift_is_a_warning_that_says_what_to_do():
    rng = np.random.default_rng(1)
    warning = drift_of(
        rng.random(500), rng.random(400) + 0.5, [[0, -1]] * 100 + [[0]] * 300
    ).warning
    assert warning is not None
    for told in ("score higher", "p 0.001", "25% hold one of 1 templates", "oddlog update"):
        assert told in warning
    assert "\n" not in warning


def test_a_log_without_sequences_has_not_drifted():
    drift = drift_of([1.0], [])
    assert (drift.warning, drift.flagged.n_sequences, drift.over_time) == (None, 0, ())


def test_unknown_templates_are_counted_by_event_and_by_sequence():
    found = find_unknown(sequences_of([[0, -1, -1], [-2, 1], [-2, -1], [1]]), str)
    assert (found.n_events, found.n_unknown_events, found.n_unknown_sequences) == (8, 5, 3)
    assert [(t.template_id, t.n_events, t.n_sequences, t.text) for t in found.templates] == [
        (-1, 3, 2, "-1"),
        (-2, 2, 2, "-2"),
    ]


def test_flags_are_counted_over_time():
    seconds = np.arange(400)[::-1]  # the log has its latest session first
    sequences = timed(sequences_of([[0]] * 400), seconds)
    _, bins = flag_rates(seconds >= 350, begun(sequences))
    assert [found.n_flagged for found in bins] == [0] * 7 + [50]
    assert bins[-1].first_time == START + timedelta(seconds=350)
    assert bins[-1].last_time == START + timedelta(seconds=399)


def test_without_times_flags_are_counted_in_the_order_of_the_log():
    flags = np.arange(5000) < 250
    whole, bins = flag_rates(flags, begun(sequences_of([[0]] * 5000)))
    assert (whole.rate, whole.first_time, len(bins)) == (0.05, None, BINS)
    assert [found.rate for found in bins] == [1.0] + [0.0] * (BINS - 1)


def test_the_interval_of_a_rate_is_wilsons():
    whole, _ = flag_rates(np.arange(100) < 10, begun(sequences_of([[0]] * 100)))
    assert (whole.low, whole.high) == (
        pytest.approx(0.0552, abs=1e-4),
        pytest.approx(0.1744, abs=1e-4),
    )


def test_the_record_is_plain_and_holds_the_warning():
    sequences = timed(sequences_of([[0, -1]] * 60), range(120))
    drift = measure_drift(
        [0.0, 1.0], np.ones(60), np.ones(60, dtype=bool), sequences, asked_rate=0.1, text_of=str
    )
    record = json.loads(json.dumps(drift.to_dict()))
    assert record["warning"] == drift.warning
    assert record["over_time"][0]["first_time"] == START.isoformat()
