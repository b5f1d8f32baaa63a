import sys

import numpy as np
import pytest

from oddlog.detectors import log_cluster
from oddlog.detectors.log_cluster import LogCluster, LogClusterConfig
from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

APART = [[1, 1], [2]]
"""Each template is held by one of two sequences and weighs 2/3; the clusters are the axes."""


def fitted(train, **chosen):
    detector = LogCluster(LogClusterConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def score(detector, *ids):
    return detector.score(Sequences.from_ids(ids)).sequence.tolist()


def drawn(n, seed=0):
    return np.random.default_rng(seed).integers(0, 6, (n, 9)).tolist()


def test_score_is_the_cosine_distance_to_the_nearest_cluster():
    unknown = (2 / 3) / np.hypot(2 / 3, 1)
    found = score(fitted(APART), [1, 1, 1], [1, 2], [1, -1])
    assert found == pytest.approx([0, 1 - np.sqrt(0.5), 1 - unknown], abs=1e-7)


def test_near_vectors_make_one_cluster_around_their_mean():
    detector = fitted([[1, 2], [1, 2, 2]], threshold=0.2)
    centre = detector._fitted()[1].centres[0, :2]
    vectors = np.log([[2, 2], [2, 3]])
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).sum(axis=0)
    assert centre == pytest.approx(mean / np.linalg.norm(mean))


def test_a_template_of_every_sequence_weighs_half():
    assert fitted([[1, 2], [1, 3]])._fitted()[1].weights == pytest.approx([1 / 2, 2 / 3, 2 / 3, 1])


def test_the_parts_of_all_templates_sum_to_the_distance():
    detector = fitted(drawn(40), threshold=0.1)
    rows = np.random.default_rng(1).integers(0, 4, (20, 7))
    _, model = detector._fitted()
    assert np.abs(model.blame(rows)).sum(axis=1) == pytest.approx(model.distance(rows))


def test_surplus_and_lack_are_told_apart():
    detector = fitted([[1, 2]] * 3)
    (explanation,) = detector.explain(Sequences.from_ids([[1, 1, 1, 1]]))
    places = [culprit.position for culprit in explanation.culprits]
    assert places == [4, 0, 1, 2, 3]
    assert explanation.culprits[0].expected == ((2, 1.0),)


def test_the_papers_rule_is_a_cluster_of_its_own():
    detector = fitted(APART, threshold=0.25)
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1, 1, 1, 2], [1, 2]])))
    assert flags.tolist() == [False, True]


@pytest.mark.parametrize("batch", [1, 7])
def test_in_batches_every_training_vector_is_inside_a_cluster(monkeypatch, batch):
    train = drawn(60)
    monkeypatch.setattr(log_cluster, "BATCH", batch)
    detector = fitted(train, threshold=0.1)
    assert not detector.paper_rule(detector.score(Sequences.from_ids(train))).any()


def test_the_nearest_cluster_may_be_in_any_batch(monkeypatch):
    train, test = drawn(40), drawn(20, seed=1)
    detector = fitted(train, threshold=0.1)
    whole = score(detector, *test)
    monkeypatch.setattr(log_cluster, "BATCH", 3)
    assert score(detector, *test) == whole


def test_without_scikit_learn_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ConfigError, match=r"'log_cluster' needs sklearn: .*oddlog\[classic\]"):
        fitted(APART)
