"""A corpus of order alone: what its faults keep, and what they change."""

import numpy as np
import pytest

from oddlog.errors import ConfigError
from oddlog.simulate import ORDER_KINDS, order_texts, simulate_order
from oddlog.simulate.ordered import FIRST_REQUEST

K = 5


@pytest.fixture(scope="module")
def sessions():
    return simulate_order(600, anomaly_share=0.3, seed=1, n_requests=K)


def rows(sequences):
    return sequences.template_ids().reshape(len(sequences), -1)


def asked_and_answered(sequences):
    ids = rows(sequences)
    asked = [row[(row >= FIRST_REQUEST) & (row < FIRST_REQUEST + K)] for row in ids]
    answered = [row[row >= FIRST_REQUEST + K] - K for row in ids]
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


@pytest.mark.parametrize("kind", ORDER_KINDS)
def test_kinds_are_what_they_are_called(kind):
    made = simulate_order(200, anomaly_share=1.0, seed=2, n_requests=K, kinds=[kind])
    asked, answered = asked_and_answered(made)
    n_wrong = (asked != answered).sum(axis=1)
    if kind == "swapped":
        assert (n_wrong == 2).all()
    if kind == "moved":
        assert (n_wrong >= 3).all()
    if kind == "reversed":
        assert (answered == asked[:, ::-1]).all()


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


def test_kinds_are_planted_in_equal_numbers(sessions):
    counts = sessions.labels.value_counts()
    assert set(counts.filter(counts["label"] != "")["count"]) == {60}


@pytest.mark.parametrize(
    "wrong", [{"n_requests": 2}, {"anomaly_share": 1.1}, {"kinds": ["late"]}, {"kinds": []}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="simulate_order"):
        simulate_order(10, **{"anomaly_share": 0.1, "seed": 0} | wrong)
