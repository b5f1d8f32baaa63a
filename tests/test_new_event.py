import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.artifact import save_arrays
from oddlog.detectors.new_event import NewEvent, NewEventConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

id_lists = st.lists(st.lists(st.integers(-3, 12), min_size=1, max_size=8), min_size=1, max_size=20)


def fitted(train):
    detector = NewEvent(NewEventConfig())
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def test_score_is_the_number_of_unseen_events():
    scores = fitted([[1, 2], [2, 3]]).score(Sequences.from_ids([[1, 3], [4, 1, 4], [-1]]))
    assert scores.sequence.tolist() == [0.0, 2.0, 1.0]


def test_event_scores_mark_the_unseen_events():
    scores = fitted([[1, 2]]).score(Sequences.from_ids([[2, 9], [9, 1, -4]]))
    assert scores.event is not None
    assert scores.event.tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]


@given(id_lists, id_lists)
def test_paper_rule_is_any_template_that_training_never_held(train, test):
    known = {i for ids in train for i in ids if i >= 0}
    if not known:
        return
    detector = fitted(train)
    flags = detector.paper_rule(detector.score(Sequences.from_ids(test)))
    assert flags.tolist() == [not known.issuperset(ids) for ids in test]


def test_a_negative_template_stays_unknown_even_if_training_held_it(caplog):
    with caplog.at_level(logging.WARNING):
        scores = fitted([[1, -1, -1]]).score(Sequences.from_ids([[-1], [1]]))
    assert scores.sequence.tolist() == [1.0, 0.0]
    assert "2 training events of unknown template" in caplog.text


def test_culprits_are_the_unseen_events_with_their_places():
    sequences = Sequences.from_ids([[1, 2], [2, 7, 1, 8]])
    normal, odd = fitted([[1, 2]]).explain(sequences)
    assert normal.culprits == ()
    assert [(c.row, c.position) for c in odd.culprits] == [(3, 1), (5, 3)]


@pytest.mark.parametrize("train", [np.array([], dtype=int), [0]])
def test_nothing_to_learn_from_says_what_to_do(train):
    sequences = Sequences.from_ids([[-1, -2]]).take(train)
    with pytest.raises(ConfigError, match="give fit normal log lines"):
        NewEvent(NewEventConfig()).fit(sequences, sequences, Run())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="cannot read it"):
        NewEvent.load(tmp_path)


def test_a_model_without_its_vocabulary_is_refused(tmp_path):
    fitted([[1]]).save(tmp_path)
    save_arrays(tmp_path / "model.safetensors", {"other": np.zeros(1)})
    with pytest.raises(ArtifactError, match="damaged: 'vocabulary'"):
        NewEvent.load(tmp_path)


def test_a_stored_setting_of_another_version_is_named(tmp_path):
    fitted([[1]]).save(tmp_path)
    (tmp_path / "config.json").write_text('{"unheard": 1}')
    with pytest.raises(
        ArtifactError, match=r"unknown setting 'unheard'.*another version of oddlog"
    ):
        NewEvent.load(tmp_path)
