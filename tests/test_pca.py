import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition

from oddlog.detectors.pca import PCA, Model, PCAConfig
from oddlog.errors import ArtifactError
from oddlog.events import Sequences
from oddlog.run import Run

TOGETHER = [[1, 2], [1, 1, 2, 2]]
"""Each template weighs 1, the mean is (1.5, 1.5), and all the variance lies along (1, 1)."""
CHI_SQUARE = 16.266  # its .999 quantile with three degrees of freedom


def fitted(train, **chosen):
    detector = PCA(PCAConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def score(detector, *ids):
    return detector.score(Sequences.from_ids(ids)).sequence.tolist()


def test_score_is_the_squared_distance_to_the_principal_components():
    assert score(fitted(TOGETHER), [1, 2, 2, 1, 1, 2], [1]) == pytest.approx([0, 0.5])


def test_an_unknown_template_is_all_residual():
    weight = 1 + np.log(2)
    assert score(fitted(TOGETHER), [1, 2, -1, -2]) == pytest.approx([(2 * weight) ** 2])


def test_with_the_papers_weights_a_ubiquitous_template_weighs_nothing():
    assert score(fitted([[1, 2], [1]], idf="paper"), [1, 1, 1, 1, 2]) == pytest.approx([0])


def test_events_share_the_squared_residual_of_their_template():
    scores = fitted(TOGETHER).score(Sequences.from_ids([[1, 1, 2]]))
    assert scores.event is not None
    assert scores.event.tolist() == pytest.approx([0.125, 0.125, 0])


def test_what_normal_correlations_ask_for_is_expected():
    (explanation,) = fitted(TOGETHER).explain(Sequences.from_ids([[1, 1, 2]]))
    assert [(c.position, c.expected) for c in explanation.culprits] == [
        (3, ((2, 1.0),)),
        (0, ((2, 1.0),)),
        (1, ((2, 1.0),)),
    ]


def test_the_limit_of_equal_residual_variances_is_that_of_a_chi_square():
    model = Model(np.ones(4), np.zeros(4), np.eye(4)[:, :1], np.array([5.0, 1, 1, 1]))
    assert model.limit(0.001) == pytest.approx(CHI_SQUARE, rel=0.02)


def test_where_the_components_explain_all_of_training_any_residual_is_above_the_limit():
    detector = fitted(TOGETHER)
    flags = detector.paper_rule(detector.score(Sequences.from_ids([[1, 2], [1, 1, 2]])))
    assert flags.tolist() == [False, True]


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=8, max_size=30),
    st.sampled_from([0.5, 0.8, 0.99]),
)
@settings(max_examples=25, deadline=None)
def test_scores_equal_scikit_learns_reconstruction_error(train, variance):
    detector = fitted(train, variance=variance, idf="smooth")
    _, model = detector._fitted()
    counts = np.array([np.bincount(ids, minlength=6) for ids in train])
    weighted = counts[:, counts.any(axis=0)] * model.weights[:-1]
    if len(np.unique(weighted, axis=0)) < 2:
        return
    reference = decomposition.PCA(n_components=model.components.shape[1]).fit(weighted)
    rebuilt = reference.inverse_transform(reference.transform(weighted))
    expected = ((weighted - rebuilt) ** 2).sum(axis=1)
    gap = np.diff(model.eigenvalues)[model.components.shape[1] - 1]
    if -gap < 1e-6:  # equal eigenvalues: which of them is the last component is arbitrary
        return
    error = detector.score(Sequences.from_ids(train)).measures["error"]
    assert error.tolist() == pytest.approx(expected, abs=1e-6)


def test_more_variance_takes_more_components():
    train = np.random.default_rng(0).integers(0, 6, (50, 12)).tolist()
    found = [fitted(train, variance=v)._fitted()[1].components.shape[1] for v in (0.3, 0.6, 1.0)]
    assert found == sorted(set(found))


def test_training_without_variance_is_learned_too():
    assert score(fitted([[1, 2]] * 3), [1, 2], [1]) == pytest.approx([0, 1])


def test_a_damaged_model_is_refused(tmp_path):
    fitted(TOGETHER).save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="fit the model again"):
        PCA.load(tmp_path)
