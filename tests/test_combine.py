"""How rare scores are, how several are combined, and that the rate holds once it is calibrated."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.calibrate import calibrate
from oddlog.combine import MOST_NATS, RULES, Rarity, cauchy, fisher, minimum
from oddlog.findings import TOLERANCE

P = np.array([[0.5, 0.1], [0.25, 0.1]])  # of two members, for two windows
FINITE = st.floats(-1e6, 1e6)
few_examples = settings(max_examples=40)


def p_values(reference, scores):
    return np.exp(-Rarity.of(reference).nats(scores)).tolist()


def test_a_reference_score_has_its_mid_p_value():
    # above and tied: 0 and 1, 1 and 1, 2 and 2, of 4
    found = p_values([7.0, 1.0, 1.0, 5.0], [7.0, 5.0, 1.0])
    assert found == pytest.approx([0.2, 0.4, 0.7])


def test_between_two_reference_scores_the_logarithm_is_interpolated():
    assert p_values([0.0, 2.0], [1.0]) == pytest.approx([math.sqrt(2 / 3 * 1 / 3)])


def test_below_the_reference_a_score_is_as_rare_as_the_lowest():
    assert p_values([1.0, 2.0], [-5.0]) == p_values([1.0, 2.0], [1.0])


def test_above_a_reference_without_excess_the_tail_has_scale_one():
    found = p_values([0.0] * 4, [0.0, 1 + TOLERANCE, 3 + TOLERANCE])
    assert found == pytest.approx([0.5, 0.1 / 2, 0.1 / 4])


def test_the_tail_goes_by_the_excesses_over_the_upper_decile():
    reference = [*[0.0] * 18, 2.0, 4.0]  # the decile is 0: two excesses, 6 in all
    assert p_values(reference, [10 + TOLERANCE]) == pytest.approx([0.5 / 21 * (1 + 6 / 6) ** -2])


def test_a_score_as_near_as_a_networks_noise_ties():
    assert p_values([0.0, 3.0], [3 + TOLERANCE / 2]) == p_values([0.0, 3.0], [3.0])


def test_however_far_a_score_lies_its_rarity_is_a_number():
    reference = np.linspace(0, 1e-3, 1000)
    assert Rarity.of(reference).nats([1e30, 3e38]).tolist() == [MOST_NATS, MOST_NATS]


@few_examples
@given(st.lists(FINITE, min_size=1, max_size=30), st.lists(FINITE, min_size=2, max_size=10))
def test_a_higher_score_is_never_less_rare(reference, scores):
    nats = Rarity.of(reference).nats(np.sort(scores))
    assert (np.diff(nats) >= -1e-9).all()
    assert ((nats > 0) & np.isfinite(nats)).all()


@few_examples
@given(st.lists(FINITE, min_size=1, max_size=30))
def test_above_the_reference_scores_do_not_tie(reference):
    first = max(reference) + 1
    nats = Rarity.of(reference).nats([first, first + 1e6, first + 3e6])
    assert (np.diff(nats) > 0).all() or nats[0] == MOST_NATS


@pytest.mark.parametrize("reference", [[], [[1.0]], [np.nan], [np.inf], [2.0, 1.0]])
def test_a_reference_that_is_none_is_refused(reference):
    with pytest.raises(ValueError, match="rarity"):
        Rarity(np.array(reference))


def test_fisher_adds_up_what_members_find():
    assert fisher(-np.log(P)).tolist() == pytest.approx([math.log(8), math.log(100)])


def test_the_minimum_believes_one_member():
    assert minimum(-np.log(P)).tolist() == pytest.approx([math.log(4), math.log(10)])


def test_cauchy_takes_the_mean_of_cauchy_variables():
    # tan(0) = 0 and tan(pi / 4) = 1; p-values that are the same stay what they are
    expected = [-math.log(0.5 - math.atan(0.5) / math.pi), math.log(10)]
    assert cauchy(-np.log(P)).tolist() == pytest.approx(expected)


def test_cauchy_of_the_smallest_p_values_is_a_number():
    nats = np.array([[MOST_NATS, MOST_NATS], [MOST_NATS, 0.01]])
    assert cauchy(nats).tolist() == pytest.approx([MOST_NATS, MOST_NATS - math.log(2)])


NATS = st.floats(1e-3, MOST_NATS)


@pytest.mark.parametrize("rule", RULES)
@few_examples
@given(st.lists(NATS, min_size=2, max_size=5), NATS)
def test_what_a_member_finds_odder_makes_a_window_no_less_odd(rule, nats, more):
    lower = np.array(nats)[:, None]
    higher = lower.copy()
    higher[0] = max(more, nats[0])
    assert RULES[rule](higher)[0] >= RULES[rule](lower)[0] - 1e-9


def draw(rng, n):
    """Draw scores of three dependent members, one with few values and one nearly always 0."""
    shared = rng.normal(size=n)
    smooth = shared + 0.5 * rng.normal(size=n)
    coarse = np.floor(np.maximum(shared + 0.5 * rng.normal(size=n), 0) * 2)
    return np.stack([smooth, coarse, (shared > 2.2).astype(float)])


def statistic(rule, reference, scores):
    pairs = zip(reference, scores, strict=True)
    return RULES[rule](np.stack([Rarity.of(known).nats(new) for known, new in pairs]))


@pytest.mark.parametrize("rule", RULES)
def test_calibrated_on_its_own_the_statistic_holds_its_rate(rule):
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(20):
        valid, calibration, test = (draw(rng, n) for n in (300, 1000, 4000))
        known = calibrate(statistic(rule, valid, calibration), 0.02)
        rates.append(known.flags(statistic(rule, valid, test)).mean())
    assert 0.01 < np.mean(rates) < 0.02 + 3 * np.std(rates) / math.sqrt(20)


def test_fishers_own_distribution_does_not_hold_for_dependent_members():
    rng = np.random.default_rng(0)
    valid, test = draw(rng, 2000), draw(rng, 20_000)
    half = statistic("fisher", valid, test)  # chi-squared with 6 degrees of freedom, halved
    textbook = np.exp(-half) * (1 + half + half**2 / 2)
    assert (textbook <= 0.002).mean() > 3 * 0.002
