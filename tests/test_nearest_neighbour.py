import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from oddlog.detectors.nearest_neighbour import NearestNeighbour, NearestNeighbourConfig
from oddlog.events import Sequences
from oddlog.run import Run


def fitted(ids, labels):
    detector = NearestNeighbour(NearestNeighbourConfig())
    train = Sequences.from_ids(ids, labels)
    detector.fit(train, train, Run())
    return detector


def scored(detector, *ids):
    return detector.score(Sequences.from_ids(ids))


def test_score_is_the_distance_to_the_normal_in_that_to_both():
    scores = scored(fitted([[1], [1, 2, 2, 2]], ["", "x"]), [1, 2], [1], [1, 2, 2, 2], [1, 2, 2])
    assert scores.sequence.tolist() == pytest.approx([1 / 3, 0, 1, 2 / 3])


def test_what_both_have_is_as_anomalous_as_it_was_in_training():
    scores = scored(fitted([[1], [1], [1], [2]], ["", "", "x", "x"]), [1])
    assert scores.sequence.tolist() == pytest.approx([1 / 3])


def test_an_unknown_template_takes_a_normal_sequence_away_from_the_normal():
    scores = scored(fitted([[1], [1, 2, 2, 2, 2]], ["", "x"]), [1, -1, 9, -1])
    assert scores.sequence.tolist() == pytest.approx([3 / (3 + 5)])


def test_kinds_of_anomaly_share_by_their_nearness():
    detector = fitted([[1], [1, 2, 2, 2], [1, 3]], ["", "far", "near"])
    scores = scored(detector, [1, 2], [1, 3])
    normal, far, near = 1, 2, np.sqrt(2)
    odd = normal / (normal + near)
    expected = [1 - odd, odd * near / (far + near), odd * far / (far + near)]
    assert scores.class_names == ("", "far", "near")
    assert scores.class_probs is not None
    assert scores.class_probs[0].tolist() == pytest.approx(expected)
    assert scores.class_probs[1].tolist() == pytest.approx([0, 0, 1])


def test_the_papers_rule_is_scikit_learns_nearest_neighbour():
    dice = np.random.default_rng(0)
    train, test = dice.integers(0, 8, (80, 12)), dice.integers(0, 8, (80, 12))
    labels = np.where(dice.random(80) < 0.4, "x", "")
    counts = [np.array([np.bincount(ids, minlength=8) for ids in part]) for part in (train, test)]
    detector = fitted(train.tolist(), labels.tolist())
    scores = detector.score(Sequences.from_ids(test.tolist()))
    reference = KNeighborsClassifier(1).fit(counts[0], labels)
    clear = np.abs(scores.measures["probability"] - 0.5) > 1e-9  # a tie has no nearest
    assert clear.sum() > 40
    expected = reference.predict(counts[1]) == "x"
    assert (detector.paper_rule(scores) == expected)[clear].all()


def test_the_culprit_is_what_is_unlike_the_normal():
    detector = fitted([[1, 3], [1, 2, 2, 3]], ["", "x"])
    (explanation,) = detector.explain(Sequences.from_ids([[1, 2, 2, 3]]))
    assert [culprit.position for culprit in explanation.culprits] == [1, 2]
