import sys

import numpy as np
import pytest
from sklearn import linear_model

from oddlog.artifact import load_arrays, save_arrays
from oddlog.classes import Taught
from oddlog.detectors.logistic_regression import (
    LogisticRegression,
    LogisticRegressionConfig,
    Model,
)
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run


def fitted(ids, labels, **chosen):
    detector = LogisticRegression(LogisticRegressionConfig(**chosen))
    train = Sequences.from_ids(ids, labels)
    detector.fit(train, train, Run())
    return detector


def drawn(n, kinds, seed=0):
    dice = np.random.default_rng(seed)
    ids = dice.integers(0, 6, (n, 9))
    label = [kinds[0] if (one == 1).sum() > 2 else dice.choice(kinds[1:]) for one in ids]
    return ids.tolist(), label


def score(detector, *ids):
    return detector.score(Sequences.from_ids(ids)).sequence.tolist()


def test_score_is_the_logistic_function_of_the_weighted_counts():
    detector = fitted([[1], [2]], ["", "x"])
    weights = np.array([[0, 0, 0], [-1.0, 2.0, 0]])
    taught: Taught = detector._fitted()[0]
    detector._fit = taught, Model(weights, np.array([0, 0.5]), np.array([0.5]))
    evidence = 0.5 - np.log(3) + 2 * np.log(2)
    assert score(detector, [1, 1, 2]) == pytest.approx([1 / (1 + np.exp(-evidence))])


def test_an_unknown_template_is_as_risky_as_in_validation():
    detector = fitted([[1], [2]], ["", "x"])
    known, unknown = score(detector, [1], [1, -1])
    assert 1 - unknown == pytest.approx((1 - known) / 2)


@pytest.mark.parametrize("kinds", [("x", ""), ("x", "", "y")])
def test_probabilities_equal_scikit_learns(kinds):
    (train, labels), (test, _) = drawn(150, kinds), drawn(60, kinds, seed=1)
    detector = fitted(train, labels, strength=0.3)
    rows, label, times = detector._fitted()[0].pairs()
    reference = linear_model.LogisticRegression(C=0.3, max_iter=5000)
    reference.fit(np.log1p(rows), label, sample_weight=times)
    asked = np.log1p([[*np.bincount(ids, minlength=6), 0] for ids in test])
    expected = reference.predict_proba(asked)
    measured = detector.score(Sequences.from_ids(test)).measures["probability"]
    assert measured == pytest.approx(1 - expected[:, 0], abs=1e-6)


def test_a_million_events_are_no_overflow():
    found = score(fitted([[1], [2]], ["", "x"], strength=1e6), [1] * 10**6, [2] * 10**6)
    assert found == pytest.approx([0, 1], abs=1e-3)


def test_the_papers_rule_is_a_majority():
    detector = fitted([[1], [2]], ["", "x"])
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1, 1], [2, 2]])))
    assert flags.tolist() == [False, True]


def test_what_speaks_for_an_anomaly_is_the_culprit():
    detector = fitted([[1, 3], [1, 2, 3]], ["", "x"])
    (explanation,) = detector.explain(Sequences.from_ids([[1, 2, 2, 3]]))
    assert [culprit.position for culprit in explanation.culprits] == [1, 2]


def test_weights_of_other_classes_are_damage(tmp_path):
    fitted([[1], [2]], ["", "x"]).save(tmp_path)
    arrays = load_arrays(tmp_path / "model.safetensors")
    save_arrays(tmp_path / "model.safetensors", arrays | {"intercepts": np.ones(5)})
    with pytest.raises(ArtifactError, match="do not belong together"):
        LogisticRegression.load(tmp_path)


def test_without_scikit_learn_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ConfigError, match=r"'logistic_regression' needs sklearn: .*\[classic\]"):
        fitted([[1], [2]], ["", "x"])
