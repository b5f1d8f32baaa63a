import sys

import numpy as np
import pytest
from sklearn import tree

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.decision_tree import DecisionTree, DecisionTreeConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

BY_ONE_COUNT = ([[1], [1], [1, 2], [1, 2], [1, 2]], ["", "", "", "x", "x"])


def fitted(ids, labels, **chosen):
    detector = DecisionTree(DecisionTreeConfig(**chosen))
    train = Sequences.from_ids(ids, labels)
    detector.fit(train, train, Run(seed=3))
    return detector


def score(detector, *ids):
    return detector.score(Sequences.from_ids(ids)).sequence.tolist()


def drawn(n, seed=0):
    dice = np.random.default_rng(seed)
    ids = dice.integers(0, 6, (n, 9))
    label = ["x" if (one == 1).sum() > 2 else "y" if dice.random() < 0.2 else "" for one in ids]
    return ids.tolist(), label


def test_score_is_the_share_of_anomalies_in_the_leaf():
    detector = fitted(*BY_ONE_COUNT)
    assert score(detector, [1, 1], [1, 2, 2]) == pytest.approx([0, 2 / 3])


def test_the_papers_rule_is_a_majority():
    detector = fitted(*BY_ONE_COUNT)
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1], [1, 2]])))
    assert flags.tolist() == [False, True]


def test_an_unknown_template_is_as_risky_as_in_validation():
    detector = fitted(*BY_ONE_COUNT)  # where none had one: a half
    assert score(detector, [1, -1], [1, 2, 9]) == pytest.approx([1 / 2, 1 - 1 / 6])


@pytest.mark.parametrize("min_leaf", [1, 10])
def test_probabilities_equal_scikit_learns(min_leaf):
    (train, labels), (test, _) = drawn(150), drawn(60, seed=1)
    detector = fitted(train, labels, min_leaf=min_leaf)
    rows, label, times = detector._fitted()[0].pairs()
    reference = tree.DecisionTreeClassifier(min_samples_leaf=min_leaf, random_state=3)
    reference.fit(rows, label, sample_weight=times)
    asked = np.array([[*np.bincount(ids, minlength=6), 0] for ids in test])
    found = detector.score(Sequences.from_ids(test))
    assert found.class_names == ("", "x", "y")
    assert found.class_probs == pytest.approx(reference.predict_proba(asked), abs=1e-6)


def test_the_count_that_decided_is_the_culprit():
    detector = fitted([[1], [1, 1], [1, 1, 2, 2]], ["", "", "x"])
    (explanation,) = detector.explain(Sequences.from_ids([[1, 1, 2, 2]]))
    assert [culprit.position for culprit in explanation.culprits] == [2, 3]


def test_leaves_of_another_tree_are_damage(tmp_path):
    fitted(*BY_ONE_COUNT).save(tmp_path)
    arrays = load_arrays(tmp_path / "model.safetensors")
    save_arrays(tmp_path / "model.safetensors", arrays | {"leaves": np.ones((1, 2))})
    with pytest.raises(ArtifactError, match="another tree"):
        DecisionTree.load(tmp_path)


def test_without_scikit_learn_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    with pytest.raises(ConfigError, match=r"'decision_tree' needs sklearn: .*\[classic\]"):
        fitted(*BY_ONE_COUNT)
