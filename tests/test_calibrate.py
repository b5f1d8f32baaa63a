import json
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import beta

from oddlog.calibrate import Calibration, calibrate
from oddlog.errors import ArtifactError, ConfigError

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
tied = st.integers(0, 4).map(float)
score_lists = st.lists(finite, min_size=1, max_size=60) | st.lists(tied, min_size=1, max_size=60)
rates = st.floats(0.001, 0.999) | st.integers(1, 99).map(lambda k: k / 100)


def test_p_value_counts_the_calibration_scores_at_least_as_high():
    calibration = calibrate([3.0, 1.0, 2.0, 2.0], 0.5)
    assert calibration.p_values([0.0, 2.0, 2.5, 9.0]).tolist() == [1.0, 4 / 5, 2 / 5, 1 / 5]


@given(score_lists, st.lists(finite | tied, min_size=1, max_size=60), rates)
@example([1.0] * 99, [1.0, 2.0], 0.29)
@example([float(i) for i in range(99)], [float(i) for i in range(99)], 0.29)
def test_a_score_is_flagged_exactly_when_it_is_above_the_threshold(known, asked, alpha):
    calibration = calibrate(known, alpha)
    asked = np.concatenate([asked, known])
    assert calibration.flags(asked).tolist() == (asked > calibration.threshold()).tolist()


@given(score_lists, rates)
def test_float32_scores_are_flagged_as_the_same_scores_in_float64(known, alpha):
    calibration = calibrate(np.array(known, dtype=np.float32), alpha)
    asked = np.array(known, dtype=np.float32)
    assert (calibration.flags(asked) == (asked > calibration.threshold())).all()


@given(score_lists, rates)
def test_threshold_is_infinite_exactly_when_sequences_are_missing(known, alpha):
    calibration = calibrate(known, alpha)
    assert math.isinf(calibration.threshold()) == (calibration.n_missing() > 0)


@given(rates, st.integers(1, 50))
def test_the_missing_sequences_are_just_enough(alpha, n):
    missing = calibrate(np.zeros(n), alpha).n_missing()
    if missing:
        assert np.isinf(calibrate(np.zeros(n + missing - 1), alpha).threshold())
    assert np.isfinite(calibrate(np.zeros(n + missing), alpha).threshold())


@given(st.integers(1, 20_000))
def test_the_lowest_rate_flags_something_and_is_at_most_a_tenth_too_high(n):
    lowest = calibrate(np.zeros(n)).lowest_rate()
    assert calibrate(np.zeros(n)).n_missing(lowest) == 0
    assert 1 / (n + 1) <= lowest <= 1.1 / (n + 1)


@pytest.mark.parametrize(("alpha", "needed"), [(0.01, 99), (0.005, 199), (0.001, 999), (0.3, 3)])
def test_known_rates_need_known_sizes(alpha, needed):
    assert calibrate([0.0], alpha).n_missing() == needed - 1


def continuous(rng, shape):
    return rng.normal(size=shape)


def heavily_tied(rng, shape):
    return rng.geometric(0.6, size=shape).astype(float)


@pytest.mark.parametrize("draw", [continuous, heavily_tied])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("n", [20, 99, 250])
def test_mean_realised_rate_is_at_most_the_rate_asked(draw, alpha, n):
    rng = np.random.default_rng(7)
    realised = np.array(
        [calibrate(draw(rng, n), alpha).flags(draw(rng, 200)).mean() for _ in range(600)]
    )
    error = realised.std(ddof=1) / np.sqrt(len(realised))
    assert realised.mean() <= alpha + 3 * error


def test_with_continuous_scores_the_mean_realised_rate_is_the_rate_asked():
    rng = np.random.default_rng(11)
    realised = [
        calibrate(rng.normal(size=99), 0.1).flags(rng.normal(size=500)).mean() for _ in range(600)
    ]
    assert np.mean(realised) == pytest.approx(0.1, abs=0.005)


@given(
    st.integers(1, 3000),
    st.floats(0.002, 0.9),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_interval_agrees_with_scipys_beta_quantiles(n, alpha, confidence):
    low, high = Calibration(np.zeros(n), alpha).interval(confidence=confidence)
    k = (np.arange(1, n + 1) / (n + 1) <= alpha).sum()
    tail = (1 - confidence) / 2
    expected = beta.ppf([tail, 1 - tail], k, n + 1 - k) if k else [0, 0]
    assert [low, high] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [10**5, 10**6])
def test_interval_stays_exact_for_large_calibration_sets(n):
    low, high = Calibration(np.zeros(n), 0.01).interval()
    k = np.floor(0.01 * (n + 1))
    assert [low, high] == pytest.approx(beta.ppf([0.025, 0.975], k, n + 1 - k), rel=1e-7)


def test_interval_covers_the_realised_rate_as_often_as_it_says():
    rng = np.random.default_rng(3)
    low, high = calibrate(np.zeros(499), 0.05).interval(confidence=0.9)
    thresholds = [calibrate(rng.uniform(size=499), 0.05).threshold() for _ in range(1500)]
    realised = 1 - np.array(thresholds)  # the share of U(0, 1) above the threshold
    assert ((realised >= low) & (realised <= high)).mean() == pytest.approx(0.9, abs=0.025)


def test_interval_is_empty_when_nothing_can_be_flagged():
    assert calibrate(np.zeros(50), 0.01).interval() == (0.0, 0.0)


@given(score_lists, score_lists, rates)
def test_adding_scores_equals_calibrating_on_both(first, second, alpha):
    added = calibrate(first, alpha).add(np.array(second))
    assert added.scores.tolist() == sorted(first + second)


def test_another_rate_keeps_the_scores():
    calibration = calibrate(np.arange(200.0), 0.01)
    assert calibration.at(0.1).threshold() == calibration.threshold(0.1)


@given(score_lists, rates)
def test_json_round_trip_is_exact(known, alpha):
    calibration = calibrate(known, alpha)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert again.scores.tobytes() == calibration.scores.tobytes()
    assert again.false_alarm_rate == calibration.false_alarm_rate


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "not a calibration"),
        ({"scores": [1.0]}, "not a calibration"),
        ({"false_alarm_rate": 0.1, "scores": []}, "no normal sequence"),
        ({"false_alarm_rate": 0.1, "scores": [1.0, float("nan")]}, "is nan"),
        ({"false_alarm_rate": 0.1, "scores": [2.0, 1.0]}, "ascending"),
        ({"false_alarm_rate": 1.5, "scores": [1.0]}, "between 0 and 1"),
        ({"false_alarm_rate": None, "scores": [1.0]}, "damaged"),
        ({"false_alarm_rate": 0.1, "scores": ["high"]}, "damaged"),
        ({"false_alarm_rate": 0.1, "scores": [[1.0]]}, "shape"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(value, message):
    with pytest.raises(ArtifactError, match=rf"model/calibration\.json: .*{message}"):
        Calibration.from_json(value, where="model/calibration.json")


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_outside_zero_and_one_is_refused(rate):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        calibrate([1.0], rate)


def test_a_rate_asked_later_is_checked_too():
    with pytest.raises(ConfigError, match="between 0 and 1"):
        calibrate([1.0]).flags([1.0], alpha=2.0)


def test_no_calibration_scores_says_what_to_do():
    with pytest.raises(ConfigError, match="give more normal log"):
        calibrate([])


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_refused(odd):
    with pytest.raises(ValueError, match="finite"):
        calibrate([1.0, odd])


def test_a_nan_score_gets_no_p_value():
    with pytest.raises(ValueError, match="NaN"):
        calibrate([1.0]).p_values([float("nan")])


def test_the_scores_cannot_be_changed_afterwards():
    calibration = calibrate([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        calibration.scores[0] = 5.0


def test_scores_that_differ_by_float_noise_tie_on_either_side():
    calibration = calibrate(np.repeat([1.0, 5.0], 50), 0.25)
    noisy = 5.0 + np.array([-1e-6, 0.0, 1e-6])
    assert len(set(calibration.p_values(noisy))) == 1
    assert not calibration.flags(noisy).any()
    assert not (noisy > calibration.threshold()).any()


def mean_realised(n_normal, n_odd, k, *, odd_at=2.0, alpha=0.05, n_draws=2000):
    """Return the mean false-alarm rate, and one of the calibrations.

    Normal scores are uniform from 0 to 1, so that the rate is what lies above the threshold;
    anomalies score uniformly from ``odd_at``, and the k highest of all scores are left out.
    """
    random = np.random.default_rng(0)
    rates = []
    for _ in range(n_draws):
        drawn = np.concatenate([random.random(n_normal), odd_at + random.random(n_odd)])
        known = calibrate(np.sort(drawn)[::-1], alpha, suspects=np.arange(len(drawn)) < k)
        rates.append(1 - min(known.threshold(), 1.0))
    return float(np.mean(rates)), known


def test_the_rate_holds_where_all_that_is_left_out_is_anomalous():
    realised, known = mean_realised(190, 10, k=10)
    assert realised == pytest.approx(9 / 191, abs=0.002)
    assert realised <= known.false_alarm_rate


def test_the_rate_holds_where_more_anomalies_stand_on_top_than_are_left_out():
    realised, known = mean_realised(190, 10, k=5)
    assert realised == pytest.approx((9 + 5 - 10) / 191, abs=0.002)
    assert realised <= known.false_alarm_rate


def test_each_normal_score_left_out_costs_what_the_module_says():
    realised, known = mean_realised(197, 3, k=10)
    assert realised == pytest.approx((9 + 10 - 3) / 198, abs=0.003)
    assert known.false_alarm_rate < realised <= known.worst_rate()


def test_the_worst_rate_is_reached_where_normal_scores_are_left_out_and_anomalies_score_low():
    realised, known = mean_realised(190, 10, k=10, odd_at=-1.0)
    assert realised == pytest.approx(known.worst_rate(), abs=0.003)


def test_the_rate_of_a_poisoned_calibration_is_kept_by_flagging_nothing_below_the_anomalies():
    realised, _ = mean_realised(190, 10, k=0)
    assert realised == 0.0


@given(score_lists, rates)
def test_without_suspects_the_worst_rate_is_no_more_than_was_asked(known, alpha):
    assert calibrate(known, alpha).worst_rate() <= alpha


@given(score_lists, st.integers(0, 20), rates)
def test_suspects_survive_a_file_and_another_rate(known, n_trimmed, alpha):
    calibration = Calibration(np.sort(np.array(known)), alpha, n_trimmed)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again.at(0.5).n_trimmed == again.add([1.0]).n_trimmed == n_trimmed
    assert again.worst_rate() == calibration.worst_rate()


def test_a_calibration_without_suspects_writes_nothing_of_them():
    assert set(calibrate([1.0, 2.0]).to_json()) == {"false_alarm_rate", "scores"}


def test_a_negative_number_of_suspects_is_refused():
    with pytest.raises(ValueError, match="-1 scores left out"):
        Calibration(np.array([1.0]), 0.5, -1)
