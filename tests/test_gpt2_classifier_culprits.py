import numpy as np
import pytest

from known_gpt2_classifier import sessions
from oddlog.detectors.gpt2_classifier.culprits import MOST, Case, blame, explain_cases

ODD = 9


def case(ids, mark_at_end=False, novel=()):
    """Return a case whose tokens are the ids, behind a mark 3."""
    tokens = np.array([3, *ids, *([4] if mark_at_end else [])])
    place = np.array([-1, *range(len(ids)), *([-1] if mark_at_end else [])])
    unknown = np.isin(np.arange(len(ids)), novel)
    return Case(tokens, place, np.array(ids), unknown)


def explain(ids, odds, **how):
    sequences = sessions([ids])
    return explain_cases(sequences, iter([case(ids, **how)]), odds)[0].culprits


def n_of(token, base=0.0):
    """Return odds that are the number of such tokens in a string."""

    def odds(strings, of_variant, novel):
        owner = np.repeat(np.arange(len(strings)), strings.lengths)
        n = np.bincount(owner, strings.tokens == token, minlength=len(strings))
        return n[of_variant] + base

    return odds


def test_the_event_without_which_the_odds_fall_is_to_blame():
    found = explain([1, 2, ODD, 5], n_of(ODD))
    assert [(c.position, c.row, c.score) for c in found] == [(2, 2, 1.0)]


def test_signs_of_which_one_is_enough_share_what_they_are_to_blame_for_together():
    def odds(strings, of_variant, novel):
        return (n_of(ODD)(strings, of_variant, novel) > 0) * 6.0

    found = explain([1, ODD, 2, ODD, ODD], odds)
    assert {c.position: c.score for c in found} == {1: 2.0, 3: 2.0, 4: 2.0}


def test_the_end_is_to_blame_where_the_session_should_have_gone_on():
    found = explain([1, 2, 5], n_of(4), mark_at_end=True)
    assert [(c.position, c.row) for c in found] == [(3, 2)]


def test_where_nothing_lowers_the_odds_something_is_missing():
    found = explain([1, 2, 5], n_of(ODD, base=2.5))
    assert [(c.position, c.row, c.score) for c in found] == [(3, 2, 2.5)]


def test_what_is_normal_and_loses_nothing_has_no_culprits():
    assert explain([1, 2, 5], n_of(ODD, base=-3.0)) == ()


def test_an_unknown_template_without_a_token_can_be_to_blame():
    unknown = Case(np.array([3, 1]), np.array([-1, 0]), np.array([1, 7]), np.array([False, True]))
    found = explain_cases(
        sessions([[1, -1]]), iter([unknown]), lambda strings, of_variant, novel: novel * 1.0
    )
    assert [(c.position, c.score) for c in found[0].culprits] == [(1, 1.0)]


def test_long_strings_are_taken_apart_in_runs():
    ids = [1] * 1000
    ids[500] = ODD
    groups = case(ids).groups()
    assert len(groups) == MOST + 1  # and all that are of one kind
    found = explain(ids, n_of(ODD))
    assert 500 in [c.position for c in found]
    assert len(found) < 20


def test_a_loss_is_divided_among_the_events_of_a_group():
    groups = [np.array([0]), np.array([0, 1]), np.array([3])]
    assert blame(3, groups, 4.0, np.array([3.5, 1.0, 5.0])).tolist() == [1.5, 1.5, 0.0, 0.0]


@pytest.mark.parametrize(("without", "end"), [(-0.5, 0.0), (0.5, 4.0)])
def test_the_end_is_not_to_blame_where_an_event_is_enough(without, end):
    groups = [np.array([0]), np.array([2])]
    assert blame(2, groups, 3.0, np.array([without, -1.0]))[-1] == end


def test_explanations_are_in_order_though_strings_are_scored_together(monkeypatch):
    monkeypatch.setattr("oddlog.detectors.gpt2_classifier.culprits.TOKENS_AT_ONCE", 20)
    ids = [[ODD, 1], [1, ODD], [1, 2, ODD]]
    cases = (case(own) for own in ids)
    found = explain_cases(sessions(ids), cases, n_of(ODD))
    assert [e.culprits[0].position for e in found] == [0, 1, 2]
    assert [e.key for e in found] == ["0", "1", "2"]


@pytest.mark.parametrize("n", [0, 1])
def test_a_string_of_marks_alone_has_no_groups(n):
    only = Case(np.array([3] * n), np.full(n, -1), np.empty(0, np.int64), np.empty(0, bool))
    assert only.groups() == []
