import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.detectors import counts
from oddlog.detectors.counts import Counts, CountsConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

id_lists = st.lists(st.lists(st.integers(-3, 6), min_size=1, max_size=12), min_size=1, max_size=20)


def fitted(train, **chosen):
    detector = Counts(CountsConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def brute_force_distances(train, test, idf):
    """Compare every pair by the equations; what training does not know matches nothing."""
    held = Counter(i for ids in train for i in set(ids) if i >= 0)

    def weight(i):
        return np.log10((1 + len(train)) / held.get(i, 1)) if idf else 1.0

    def distance(a, b):
        whole = sum(weight(i) * n for counts in (a, b) for i, n in counts.items())
        apart = sum(weight(i) * abs(a[i] - b[i]) for i in {*a, *b} if i in held)
        apart += sum(weight(i) * n for c in (a, b) for i, n in c.items() if i not in held)
        return apart / whole

    return [min(distance(Counter(a), Counter(b)) for b in train) for a in test]


def test_score_is_the_normalised_distance_to_the_nearest_vector():
    scores = fitted([[1, 1, 2], [3]]).score(Sequences.from_ids([[2, 1, 1], [1, 2], [1, 2, 2], [9]]))
    assert scores.sequence.tolist() == pytest.approx([0.0, 1 / 5, 2 / 6, 1.0])


def test_idf_weighs_rare_templates_more():
    detector = fitted([[1, 2], [1, 3], [1], [1]], idf=True)
    scores = detector.score(Sequences.from_ids([[1, 1], [1, 2, 2]]))
    common, rare = np.log10(5 / 4), np.log10(5 / 1)
    expected = [common / (3 * common), rare / (2 * common + 3 * rare)]
    assert scores.sequence.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("idf", [False, True])
@settings(max_examples=25)
@given(train=id_lists, test=id_lists)
def test_distance_agrees_with_comparing_every_pair(idf, train, test):
    if all(i < 0 for ids in train for i in ids):
        return
    scores = fitted(train, idf=idf).score(Sequences.from_ids(test))
    expected = brute_force_distances(train, test, idf)
    assert scores.measures["distance"].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("idf", [False, True])
def test_distance_is_the_same_when_it_takes_several_blocks(monkeypatch, idf):
    rng = np.random.default_rng(5)
    train, test = ([rng.integers(0, 5, 9).tolist() for _ in range(40)] for _ in range(2))
    monkeypatch.setattr(counts, "BLOCK_ROWS", 7)
    scores = fitted(train, idf=idf).score(Sequences.from_ids(test))
    expected = brute_force_distances(train, test, idf)
    assert scores.measures["distance"].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("rule", ["nearest", "unseen"])
@settings(max_examples=25)
@given(train=id_lists, test=id_lists)
def test_paper_rule_flags_exactly_the_vectors_never_seen(idf, rule, train, test):
    known = {i for ids in train for i in ids if i >= 0}
    if not known:
        return
    detector = fitted(train, idf=idf, rule=rule)
    flags = detector.paper_rule(detector.score(Sequences.from_ids(test)))
    seen = [Counter(ids) for ids in train if known.issuperset(ids)]
    assert flags.tolist() == [Counter(ids) not in seen for ids in test]


@pytest.mark.parametrize("idf", [False, True])
@settings(max_examples=25)
@given(train=id_lists, test=id_lists)
def test_score_is_above_zero_exactly_where_the_vector_is_unseen(idf, train, test):
    if all(i < 0 for ids in train for i in ids):
        return
    scores = fitted(train, idf=idf).score(Sequences.from_ids(test))
    assert ((scores.sequence > 0) == scores.measures["unseen"]).all()


def test_the_unseen_rule_scores_one_or_zero():
    scores = fitted([[1, 2]], rule="unseen").score(Sequences.from_ids([[2, 1], [1, 1, 2]]))
    assert scores.sequence.tolist() == [0.0, 1.0]


def test_event_scores_share_out_the_surplus():
    scores = fitted([[1, 2, 3]]).score(Sequences.from_ids([[1, 1, 2, 9]]))
    assert scores.event is not None
    assert scores.event.tolist() == pytest.approx([1 / 14, 1 / 14, 0.0, 1 / 7])


@settings(max_examples=25)
@given(id_lists, id_lists)
def test_event_scores_never_sum_to_more_than_the_distance(train, test):
    if all(i < 0 for ids in train for i in ids):
        return
    sequences = Sequences.from_ids(test)
    scores = fitted(train).score(sequences)
    sums = np.bincount(sequences.owners, scores.event, minlength=len(sequences))
    assert (sums <= scores.measures["distance"] + 1e-6).all()


def test_culprits_are_worst_first_and_say_what_is_missing():
    detector = fitted([[1, 2, 3], [1, 2, 3], [1, 2]])
    (explanation,) = detector.explain(Sequences.from_ids([[1, 1, 2, 9, 2]]))
    places = [(culprit.position, round(culprit.score * 7, 3)) for culprit in explanation.culprits]
    assert places == [(3, 1.0), (0, 0.5), (1, 0.5), (2, 0.5), (4, 0.5)]


def test_a_missing_template_is_expected_after_the_last_event():
    (explanation,) = fitted([[1, 2, 2, 3, 3]]).explain(Sequences.from_ids([[1, 2, 3, 3]]))
    (culprit,) = explanation.culprits
    assert (culprit.row, culprit.position) == (3, 4)
    assert culprit.expected == ((2, 1.0),)
    assert culprit.score == pytest.approx(1 / 9)


def test_among_equally_near_vectors_the_most_frequent_is_the_nearest():
    detector = fitted([[1, 2]] + [[1, 3]] * 2)
    (explanation,) = detector.explain(Sequences.from_ids([[1]]))
    assert explanation.culprits[0].expected == ((3, 2 / 3),)


def test_a_seen_vector_has_no_culprits():
    (explanation,) = fitted([[1, 2, 2]]).explain(Sequences.from_ids([[2, 1, 2]]))
    assert explanation.culprits == ()


def test_unknown_templates_in_training_are_reported(caplog):
    with caplog.at_level(logging.WARNING):
        fitted([[1, -1], [2, -2]])
    assert "2 training events of unknown template" in caplog.text


@pytest.mark.parametrize("train", [np.array([], dtype=int), [0]])
def test_nothing_to_learn_from_says_what_to_do(train):
    sequences = Sequences.from_ids([[-1, -2]]).take(train)
    with pytest.raises(ConfigError, match="give fit normal log lines"):
        Counts(CountsConfig()).fit(sequences, sequences, Run())


def test_weights_survive_saving(tmp_path):
    detector, sequences = fitted([[1, 2], [1]], idf=True), Sequences.from_ids([[1, 1, 2], [2]])
    detector.save(tmp_path)
    again = Counts.load(tmp_path)
    assert again.config == detector.config
    assert again.score(sequences).sequence.tolist() == detector.score(sequences).sequence.tolist()


def test_a_damaged_model_is_refused(tmp_path):
    fitted([[1]]).save(tmp_path)
    (tmp_path / "config.json").write_text('{"rule": "furthest"}')
    with pytest.raises(ArtifactError, match="rule"):
        Counts.load(tmp_path)
