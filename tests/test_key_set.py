import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.detectors import key_set
from oddlog.detectors.key_set import KeySet, KeySetConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

id_lists = st.lists(st.lists(st.integers(-3, 9), min_size=1, max_size=8), min_size=1, max_size=20)


def fitted(train):
    detector = KeySet(KeySetConfig())
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def brute_force_differences(train, test):
    """Compare every pair of sets; an unknown template of training is in no tested set."""
    known = {i for ids in train for i in ids if i >= 0}
    seen = [{i if i in known else ("train", i) for i in ids} for ids in train]
    return [min(len(set(ids) ^ other) for other in seen) for ids in test]


def test_score_is_the_difference_to_the_nearest_seen_set():
    detector = fitted([[1, 2, 3], [1, 2, 2], [4, 5]])
    scores = detector.score(Sequences.from_ids([[3, 1, 2, 1], [1, 2, 9], [4], [8, 8, 9]]))
    assert scores.sequence.tolist() == [0.0, 1.0, 1.0, 4.0]


@settings(max_examples=25)
@given(id_lists, id_lists)
def test_score_agrees_with_comparing_every_pair_of_sets(train, test):
    if all(i < 0 for ids in train for i in ids):
        return
    scores = fitted(train).score(Sequences.from_ids(test))
    assert scores.sequence.tolist() == brute_force_differences(train, test)


def test_score_is_the_same_when_it_takes_several_blocks(monkeypatch):
    rng = np.random.default_rng(5)
    train, test = ([rng.integers(0, 12, 6).tolist() for _ in range(40)] for _ in range(2))
    monkeypatch.setattr(key_set, "BLOCK_ROWS", 7)
    scores = fitted(train).score(Sequences.from_ids(test))
    assert scores.sequence.tolist() == brute_force_differences(train, test)


def test_paper_rule_flags_every_set_that_training_never_held():
    detector = fitted([[1, 2], [1, 2, 3]])
    scores = detector.score(Sequences.from_ids([[2, 1], [3, 2, 1, 1], [1], [1, 3], [1, 2, -1]]))
    assert detector.paper_rule(scores).tolist() == [False, False, True, True, True]


def test_event_scores_mark_templates_outside_the_nearest_set():
    scores = fitted([[1, 2, 3]]).score(Sequences.from_ids([[1, 7, 2, -1, 3, 7]]))
    assert scores.event is not None
    assert scores.event.tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]


def test_among_equally_near_sets_the_most_frequent_is_the_nearest():
    detector = fitted([[1, 2]] + [[1, 3]] * 2)
    (explanation,) = detector.explain(Sequences.from_ids([[1]]))
    assert explanation.culprits[0].expected == ((3, 2 / 3),)


def test_a_missing_template_is_expected_after_the_last_event():
    (explanation,) = fitted([[1, 2, 3], [1, 2]]).explain(Sequences.from_ids([[3, 1, 1]]))
    (culprit,) = explanation.culprits
    assert (culprit.row, culprit.position, culprit.expected) == (2, 3, ((2, 1.0),))


def test_strange_events_come_before_what_is_missing():
    (explanation,) = fitted([[1, 2, 3, 4]]).explain(Sequences.from_ids([[1, 9, 3, 2]]))
    assert [culprit.position for culprit in explanation.culprits] == [1, 4]


def test_a_seen_set_has_no_culprits():
    (explanation,) = fitted([[1, 2]]).explain(Sequences.from_ids([[2, 1]]))
    assert explanation.culprits == ()


def test_unknown_templates_in_training_are_reported(caplog):
    with caplog.at_level(logging.WARNING):
        fitted([[1, -1], [2, -2]])
    assert "2 training events of unknown template" in caplog.text


@pytest.mark.parametrize("train", [np.array([], dtype=int), [0]])
def test_nothing_to_learn_from_says_what_to_do(train):
    sequences = Sequences.from_ids([[-1, -2]]).take(train)
    with pytest.raises(ConfigError, match="give fit normal log lines"):
        KeySet(KeySetConfig()).fit(sequences, sequences, Run())


def test_a_damaged_model_is_refused(tmp_path):
    fitted([[1]]).save(tmp_path)
    (tmp_path / "config.json").write_text('{"unheard": 1}')
    with pytest.raises(ArtifactError, match="damaged"):
        KeySet.load(tmp_path)
