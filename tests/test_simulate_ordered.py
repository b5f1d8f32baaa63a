"""A corpus of order alone: what its faults keep, and what they change."""

import hashlib

import numpy as np
import pytest

from oddlog.errors import ConfigError
from oddlog.simulate import order_texts, simulate_order
from oddlog.simulate.ordered import FIRST_REQUEST, OPEN

K = 5


@pytest.fixture(scope="module")
def sessions():
    return simulate_order(600, anomaly_share=0.3, seed=1, n_requests=K)


def rows(sequences):
    return sequences.template_ids().reshape(len(sequences), -1)


def asked_and_answered(sequences):
    ids = rows(sequences)
    asked = [row[(row >= FIRST_REQUEST) & (row < FIRST_REQUEST + K)] for row in ids]
    answered = [row[1:][row[1:] >= FIRST_REQUEST + K] - K for row in ids]
    return np.array(asked), np.array(answered)


def test_answers_of_a_normal_session_come_in_the_order_of_its_requests(sessions):
    asked, answered = asked_and_answered(sessions.take(~sessions.anomalous))
    assert (asked == answered).all()


def test_answers_of_a_faulty_session_do_not(sessions):
    asked, answered = asked_and_answered(sessions.take(sessions.anomalous))
    assert (asked != answered).any(axis=1).all()


def test_every_session_has_each_request_and_each_answer_once(sessions):
    for part in asked_and_answered(sessions):
        assert (np.sort(part) == np.arange(K) + FIRST_REQUEST).all()


def test_requests_come_before_answers_and_all_between_open_and_close(sessions):
    ids = rows(sessions)
    is_answer = ids >= FIRST_REQUEST + K
    is_request = (ids >= FIRST_REQUEST) & ~is_answer
    last_request = ids.shape[1] - 1 - is_request[:, ::-1].argmax(axis=1)
    assert (last_request < is_answer.argmax(axis=1)).all()
    assert (ids[:, 0] == 0).all()
    assert (ids[:, -1] == 1).all()


def of_kind(kind, **how):
    made = simulate_order(200, anomaly_share=1.0, seed=2, n_requests=K, kinds=[kind], **how)
    return made, *asked_and_answered(made)


def test_a_swap_puts_two_answers_in_each_others_place():
    _, asked, answered = of_kind("swapped")
    assert ((asked != answered).sum(axis=1) == 2).all()


def test_a_moved_answer_shifts_those_that_it_passes():
    _, asked, answered = of_kind("moved")
    assert ((asked != answered).sum(axis=1) >= 3).all()


def test_reversed_answers_come_in_reverse():
    _, asked, answered = of_kind("reversed")
    assert (answered == asked[:, ::-1]).all()


def test_a_moved_block_keeps_its_own_order_and_passes_at_least_two_answers():
    _, asked, answered = of_kind("block_moved")
    for due, came in zip(asked, answered, strict=True):
        order = np.argsort(due)[came - came.min()]  # 0, 1, 2 ... where nothing is moved
        falls = np.flatnonzero(np.diff(order) < 0)
        moved = np.flatnonzero(order != np.arange(K))
        assert len(falls) == 1  # two runs, each rising: the blocks that were exchanged
        assert falls[0] + 1 - moved[0] >= 2
        assert moved[-1] - falls[0] >= 2


def test_the_first_event_tells_which_order_is_due():
    made = simulate_order(400, anomaly_share=0.0, seed=5, n_requests=K, branching=True)
    asked, answered = asked_and_answered(made)
    is_queue = rows(made)[:, 0] == OPEN
    assert 150 < is_queue.sum() < 250
    assert (answered[is_queue] == asked[is_queue]).all()
    assert (answered[~is_queue] == asked[~is_queue][:, ::-1]).all()


def test_a_wrong_branch_is_the_order_of_the_other_kind_of_session():
    made, asked, answered = of_kind("wrong_branch", branching=True)
    is_queue = rows(made)[:, 0] == OPEN
    assert 0 < is_queue.sum() < len(made)
    assert (answered[is_queue] == asked[is_queue][:, ::-1]).all()
    assert (answered[~is_queue] == asked[~is_queue]).all()


def test_sessions_without_branches_are_those_that_results_were_measured_on():
    made = simulate_order(300, anomaly_share=0.1, seed=9, n_requests=6)
    assert hashlib.sha256(made.template_ids().tobytes()).hexdigest() == (
        "c5d7e0b5c4fc6d8a5127ca1d76d359037b74e9177cda6e62e2fa622172e0a1ef"
    )


def test_the_first_answer_out_of_order_is_marked(sessions):
    odd = sessions.take(sessions.anomalous)
    marked = odd.event_anomalous().reshape(len(odd), -1)
    assert (marked.sum(axis=1) == 1).all()
    asked, answered = asked_and_answered(odd)
    first = np.argmax(asked != answered, axis=1)
    blamed = rows(odd)[marked] - K
    assert (blamed == answered[np.arange(len(odd)), first]).all()
    assert not sessions.take(~sessions.anomalous).event_anomalous().any()


def test_the_noise_before_a_fault_is_like_that_of_normal_sessions(sessions):
    counts = [np.bincount(row, minlength=FIRST_REQUEST)[2:5] for row in rows(sessions)]
    assert {int(c.sum()) for c in counts} == {4}


def test_a_seed_gives_the_same_sessions_and_another_others():
    first, again, other = (
        simulate_order(50, anomaly_share=0.2, seed=seed).template_ids() for seed in (3, 3, 4)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_every_template_has_a_text(sessions):
    assert set(np.unique(sessions.template_ids())) == set(order_texts(K))
    branching = simulate_order(50, anomaly_share=0.0, seed=1, n_requests=K, branching=True)
    known = set(order_texts(K, branching=True))
    assert set(np.unique(branching.template_ids())) == known


def test_kinds_are_planted_in_equal_numbers(sessions):
    counts = sessions.labels.value_counts()
    assert set(counts.filter(counts["label"] != "")["count"]) == {60}


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_requests": 2},
        {"anomaly_share": 1.1},
        {"kinds": ["late"]},
        {"kinds": []},
        {"kinds": ["block_moved"], "n_requests": 3},
        {"kinds": ["wrong_branch"]},
        {"kinds": ["reversed"], "branching": True},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="simulate_order"):
        simulate_order(10, **{"anomaly_share": 0.1, "seed": 0} | wrong)
