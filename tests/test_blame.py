import numpy as np
import pytest

from oddlog.blame import by_occlusion, event_scores, explain
from oddlog.events import Sequences
from oddlog.vectors import learn_vectors

TRAIN = [[1, 2, 2], [1, 2, 2], [1, 3]]


def known_templates():
    sequences = Sequences.from_ids(TRAIN)
    return learn_vectors(sequences, np.array([1, 2, 3], dtype=np.int32))[0]


def told(ids, amounts):
    """Explain one sequence of which each template of (1, 2, 3, unknown) is given an amount."""
    sequences, known = Sequences.from_ids([ids]), known_templates()
    counted = known.count(sequences)
    (found,) = explain(sequences, counted, known, lambda rows: np.array([amounts]))
    return [(c.position, c.score, c.expected) for c in found.culprits]


def test_events_of_a_template_share_its_surplus():
    assert told([2, 1, 2], [0, 3, 0, 0]) == [(0, 1.5, ()), (2, 1.5, ())]


def test_what_is_missing_is_told_after_the_last_event_likeliest_first():
    assert told([1], [0, -1, -2, 0]) == [(1, 2.0, ((2, 2 / 3), (3, 1 / 3)))]


def test_the_worst_culprit_comes_first():
    assert [position for position, *_ in told([1, 2, -1], [1, 3, -4, 2])] == [3, 1, 2, 0]


def test_what_is_hardly_to_blame_is_no_culprit():
    assert [position for position, *_ in told([1, 2], [100, 4, -4, 0])] == [0]


def test_nobody_expects_an_unknown_template():
    assert told([1], [0, 0, 0, -1]) == []


def test_a_surplus_of_what_is_not_there_blames_nobody():
    assert told([1], [0, 0, 5, 0]) == []


def test_each_event_has_its_share_and_those_in_order_have_none():
    sequences, known = Sequences.from_ids([[2, 1, 2], [1, 2]]), known_templates()
    surplus = event_scores(
        sequences, known.count(sequences), known, lambda rows: rows * np.array([0, 2, 0, 0.0])
    )
    assert surplus.tolist() == [2, 0, 2, 0, 2]
    assert surplus.dtype == np.float32


def occluded(score, row):
    return by_occlusion(score, known_templates().vectors)(np.array([row])).tolist()


def test_occlusion_measures_what_a_normal_count_would_save():
    assert occluded(lambda rows: rows @ np.array([0, 1, 0, 4.0]), [1, 4, 0, 1]) == [[0, 2, 0, 4]]


def test_occlusion_tells_a_lack_by_its_sign():
    assert occluded(lambda rows: 5.0 - rows.sum(axis=1), [1, 1, 0, 0]) == [[0, -1, 0, 0]]


def test_where_no_change_alone_helps_all_are_to_blame():
    def unseen(rows):
        return 1.0 - (rows == [1, 2, 0, 0]).all(axis=1)

    assert occluded(unseen, [1, 3, 0, 1]) == [[0, 0.5, 0, 0.5]]


def test_where_the_nearest_is_as_odd_all_that_differs_is_to_blame():
    assert occluded(lambda rows: np.full(len(rows), 3.0), [1, 3, 0, 1]) == [[0, 1.5, 0, 1.5]]


@pytest.mark.parametrize("row", [[1, 2, 0, 0], [1, 0, 1, 0]])
def test_a_normal_vector_is_to_blame_for_nothing(row):
    assert occluded(lambda rows: rows.sum(axis=1) * 1.0, row) == [[0, 0, 0, 0]]
