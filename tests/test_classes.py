import logging

import numpy as np
import pytest

from oddlog.artifact import write_json
from oddlog.classes import (
    add_novelty,
    join_classes,
    learn_classes,
    load_taught,
    novelty_risk,
    save_taught,
    score_classes,
    with_labels,
)
from oddlog.config import Config
from oddlog.errors import ArtifactError, LabelsError
from oddlog.events import Sequences

IDS = [[1, 2], [2, 1], [1, 3], [3, 1], [3]]
LABELS = ["", "", "", "lost", "disk"]


def taught(ids=IDS, labels=LABELS):
    return learn_classes(Sequences.from_ids(ids, labels), np.array([1, 2, 3], dtype=np.int32))


def test_each_vector_knows_how_many_sequences_of_each_class_have_it():
    found = taught()
    assert found.names == ("", "disk", "lost")
    assert found.times.tolist() == [[2, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_the_normal_vectors_are_those_of_normal_sequences_as_often():
    normal = taught().normal
    assert normal.vectors.dense(0, 2, 4).tolist() == [[1, 1, 0, 0], [1, 0, 1, 0]]
    assert normal.vectors.frequency.tolist() == [2, 1]
    assert normal.share.tolist() == [1, 2 / 3, 1 / 3]


def test_pairs_hold_every_class_of_every_vector():
    rows, label, times = taught().pairs()
    assert (rows[:, 1].tolist(), label.tolist(), times.tolist()) == (
        [1, 0, 0, 0],
        [0, 0, 2, 1],
        [2, 1, 1, 1],
    )


def test_a_sequence_without_a_label_teaches_nothing_and_is_counted(caplog):
    with caplog.at_level(logging.WARNING):
        known = with_labels(Sequences.from_ids(IDS, ["", None, "lost", None, ""]), "tree")
    assert known.labels.to_list() == ["", "lost", ""]
    assert "tree: 2 training sequences without a label" in caplog.text


@pytest.mark.parametrize(("labels", "counts"), [(["", None], "0 .* 1 normal"), (["x", None], "1")])
def test_labels_of_one_kind_only_are_refused(labels, counts):
    with pytest.raises(LabelsError, match=f"tree learns from labels: of 2 .* {counts}"):
        with_labels(Sequences.from_ids([[1], [2]], labels), "tree")


@pytest.mark.parametrize(
    ("ids", "labels", "risk"),
    [
        ([[1]], [""], 1 / 2),
        ([[9], [8, 1], [-1], [1]], ["x", "x", "", "x"], 3 / 5),
        ([[9], [9]], [None, "x"], 2 / 3),
    ],
    ids=["none has any", "by the labels of those that have", "the unlabelled do not count"],
)
def test_the_risk_of_a_novelty_is_that_of_validation(ids, labels, risk):
    valid = Sequences.from_ids(ids, labels)
    assert novelty_risk(valid, np.array([1], dtype=np.int32)) == pytest.approx(risk)


def test_a_novelty_takes_from_normal_and_gives_to_the_others_in_proportion():
    found = add_novelty(np.array([[0.5, 0.1, 0.4]] * 2), np.array([False, True]), risk=0.6)
    assert found.tolist() == [pytest.approx([0.5, 0.1, 0.4]), pytest.approx([0.2, 0.16, 0.64])]


def test_kinds_of_which_none_is_known_are_alike():
    assert join_classes(np.array([0.8]), np.zeros((1, 2))).tolist() == [
        pytest.approx([0.2, 0.4, 0.4])
    ]


def test_with_several_kinds_scores_carry_class_probabilities():
    scores = score_classes(
        Sequences.from_ids([[1]]), taught(), lambda rows: np.array([[0.25, 0.5, 0.25]])
    )
    assert scores.sequence.tolist() == [0.75]
    assert scores.class_names == ("", "disk", "lost")
    assert scores.class_probs is not None
    assert scores.class_probs.tolist() == [[0.25, 0.5, 0.25]]


def test_with_one_kind_the_score_says_it_all():
    one = taught([[1], [2]], ["", "x"])
    scores = score_classes(Sequences.from_ids([[1]]), one, lambda rows: np.array([[0.25, 0.75]]))
    assert (scores.class_names, scores.class_probs) == ((), None)


def test_what_was_saved_is_loaded(tmp_path):
    save_taught(tmp_path, Config(), taught(), {"more": np.ones(1)})
    _, found, more = load_taught(tmp_path, Config, lambda more: more)
    assert (found.names, found.times.tolist()) == (taught().names, taught().times.tolist())
    assert more.tolist() == [1]


@pytest.mark.parametrize("names", [["", "disk"], ["disk", "lost", ""], ["", "x", "x"], 7])
def test_other_classes_than_were_counted_are_damage(tmp_path, names):
    save_taught(tmp_path, Config(), taught(), {})
    write_json(tmp_path / "classes.json", names)
    with pytest.raises(ArtifactError, match="classes"):
        load_taught(tmp_path, Config, dict)
