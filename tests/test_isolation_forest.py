import sys

import numpy as np
import pytest
from sklearn import ensemble

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.isolation_forest import (
    IsolationForest,
    IsolationForestConfig,
    Model,
    average_length,
)
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run
from oddlog.trees import LEAF, Trees

SPLIT = Trees(
    roots=np.array([0]),
    left=np.array([1, LEAF, LEAF]),
    right=np.array([2, LEAF, LEAF]),
    column=np.array([0, 0, 0]),
    threshold=np.array([1.5, 0, 0]),
)
"""One tree over two templates: what has two or more of the first is set apart at once."""


def fitted(train, **chosen):
    detector = IsolationForest(IsolationForestConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run(seed=3))
    return detector


def drawn(n, seed=0):
    return np.random.default_rng(seed).integers(0, 6, (n, 9)).tolist()


def test_a_short_path_scores_high():
    model = Model(SPLIT, length=np.array([0.0, 3.0, 1.0]), usual=2.0)
    rows = np.array([[1, 5, 0], [2, 5, 0]])
    assert model.score(rows).tolist() == pytest.approx([2**-1.5, 2**-0.5])


def test_an_unknown_event_ends_a_path_as_a_split_on_it_would():
    model = Model(SPLIT, length=np.array([0.0, 3.0, 1.0]), usual=2.0)
    stays = 2 / (2 + 1)  # two templates are known
    expected = 1 + stays + stays**2
    assert model.score(np.array([[1, 5, 1]])).tolist() == pytest.approx([2 ** (-expected / 2)])


def test_the_average_length_is_that_of_the_paper():
    assert [average_length(n) for n in (1, 2)] == [1, 1]
    assert average_length(256) == pytest.approx(10.2448, abs=1e-4)


@pytest.mark.parametrize("samples", [8, 256])
def test_scores_equal_scikit_learns(samples):
    train, test = drawn(120), drawn(60, seed=1)
    detector = fitted(train, samples=samples, trees=20)
    known = detector._fitted()[0]
    rows = known.vectors.dense(0, len(known.vectors), known.width)
    reference = ensemble.IsolationForest(
        n_estimators=20, max_samples=min(samples, len(rows)), random_state=3
    ).fit(rows)
    asked = np.array([[*np.bincount(ids, minlength=6), 0] for ids in test])
    score = detector.score(Sequences.from_ids(test)).measures["score"]
    assert score == pytest.approx(-reference.score_samples(asked), abs=1e-6)


def test_the_papers_rule_is_a_path_shorter_than_average():
    detector = fitted(drawn(60))
    scores = detector.score(Sequences.from_ids(drawn(20, seed=1)))
    assert (detector.paper_rule(scores) == (scores.measures["score"] > 0.5)).all()


def test_a_count_that_is_far_outside_is_the_culprit():
    (explanation,) = fitted(drawn(60)).explain(Sequences.from_ids([[0, 1, 2, 3, 4, *[5] * 40]]))
    assert {culprit.position for culprit in explanation.culprits} >= set(range(5, 45))


def test_a_single_training_vector_is_learned_too():
    scores = fitted([[1, 2]] * 3).score(Sequences.from_ids([[1, 2]]))
    assert np.isfinite(scores.sequence).all()


def test_lengths_of_other_nodes_are_damage(tmp_path):
    fitted(drawn(20), trees=2).save(tmp_path)
    arrays = load_arrays(tmp_path / "model.safetensors")
    save_arrays(tmp_path / "model.safetensors", arrays | {"length": np.ones(1)})
    with pytest.raises(ArtifactError, match="damaged"):
        IsolationForest.load(tmp_path)


def test_without_scikit_learn_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ConfigError, match=r"'isolation_forest' needs sklearn: .*\[classic\]"):
        fitted([[1]])
