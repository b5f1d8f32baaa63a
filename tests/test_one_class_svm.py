import sys

import numpy as np
import pytest
from sklearn import svm

from oddlog import vectors
from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.one_class_svm import OneClassSVM, OneClassSVMConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run


def fitted(train, **chosen):
    detector = OneClassSVM(OneClassSVMConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def score(detector, *ids):
    return detector.score(Sequences.from_ids(ids)).measures["outside"]


def drawn(n, seed=0):
    return np.random.default_rng(seed).integers(0, 6, (n, 6)).tolist()


def test_around_a_single_vector_the_score_is_the_squared_distance_in_kernel_widths():
    detector = fitted([[1]], gamma=2.0)
    expected = [0, 2 * np.log(3 / 2) ** 2, 2 * np.log(2) ** 2]
    assert score(detector, [1], [1, 1], [1, -1]) == pytest.approx(expected)


def test_what_is_far_away_still_has_a_rank():
    long, longer = score(fitted([[1]]), [1] * 10**6, [1] * 10**6 + [-1])
    assert longer > long


@pytest.mark.parametrize("nu", [0.05, 0.5])
def test_scores_are_scikit_learns_decision_on_another_scale(nu):
    train, test = drawn(200), drawn(60, seed=1)
    detector = fitted(train, nu=nu, gamma=0.5)
    known = detector._fitted()[0]
    times = known.vectors.frequency.astype(float)
    rows = np.log1p(known.vectors.dense(0, len(times), known.width))
    reference = svm.OneClassSVM(nu=nu, gamma=0.5)
    reference.fit(rows, sample_weight=times * len(times) / times.sum())
    asked = np.log1p([[*np.bincount(ids, minlength=6), 0] for ids in test])
    decision = reference.offset_[0] * (np.exp(-score(detector, *test)) - 1)
    assert decision == pytest.approx(reference.decision_function(asked), abs=1e-6)


def test_the_papers_rule_is_the_sign_of_the_decision():
    detector = fitted([[1]])
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1, 1], [1, 2]])))
    assert flags.tolist() == [True, True]


def test_support_vectors_are_summed_in_any_number_of_blocks(monkeypatch):
    detector, test = fitted(drawn(60)), drawn(20, seed=1)
    whole = score(detector, *test)
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 7)
    assert score(detector, *test) == pytest.approx(whole)


def test_the_culprit_is_what_a_normal_count_would_bring_back():
    (explanation,) = fitted([[1, 2]] * 5).explain(Sequences.from_ids([[1, 2, 2, 2]]))
    assert [culprit.position for culprit in explanation.culprits] == [1, 2, 3]


def test_coefficients_of_other_vectors_are_damage(tmp_path):
    fitted([[1], [2]]).save(tmp_path)
    arrays = load_arrays(tmp_path / "model.safetensors")
    save_arrays(tmp_path / "model.safetensors", arrays | {"weight": np.ones(5)})
    with pytest.raises(ArtifactError, match="damaged"):
        OneClassSVM.load(tmp_path)


def test_without_scikit_learn_a_fit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ConfigError, match=r"'one_class_svm' needs sklearn: .*\[classic\]"):
        fitted([[1]])
