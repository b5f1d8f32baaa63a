from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.ngram import Ngram, NgramConfig, back_off
from oddlog.encode import HIDDEN, N_MARKS
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.findings import END
from oddlog.run import Run

TRAIN = [[1, 2], [1, 2], [1, 3]]
id_lists = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=12)


def fitted(train, **chosen):
    detector = Ngram(NgramConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def live(sequences, *, starts=False, ends=False):
    n = len(sequences)
    return replace(sequences, starts=np.full(n, starts), ends=np.full(n, ends))


def test_the_surprise_of_an_event_is_that_of_the_smoothed_counts():
    # Of 9 tokens 3 are 1, 2 are 2, one is 3, 3 are ends: four kinds. Before any is counted: 1 / 5.
    alone = {key: (count + 4 / 5) / 13 for key, count in {1: 3, 2: 2, 3: 1, END: 3}.items()}
    first = (3 + 1 * alone[1]) / 4  # only 1 follows the beginning, three times
    expected = [first, (2 + 2 * alone[2]) / 5, first, (1 + 2 * alone[3]) / 5]
    scores = fitted(TRAIN, n=2).score(Sequences.from_ids([[1, 2], [1, 3]]))
    assert scores.measures["surprise"] == pytest.approx(-np.log(expected))
    ends = [(count + 1 * alone[END]) / (count + 1) for count in (2, 1)]
    assert scores.measures["end_surprise"] == pytest.approx(-np.log(ends))


def test_a_new_template_has_what_each_step_leaves_over():
    scores = fitted(TRAIN, n=2).score(Sequences.from_ids([[1, -1, 3]]))
    new = 2 / 5 * (4 / 5) / 13
    alone = (1 + 4 / 5) / 13  # nothing is known of what follows a new template
    assert scores.measures["surprise"][1:] == pytest.approx(-np.log([new, alone]))


def test_the_score_is_the_worst_events_surprise_with_the_end_as_one():
    scores = fitted(TRAIN, n=2).score(Sequences.from_ids([[1, 3], [1]]))
    assert scores.sequence[0] == scores.measures["surprise"][1]
    assert scores.sequence[1] == scores.measures["end_surprise"][1]


def test_unseen_ngrams_are_counted_with_the_end_as_an_event():
    detector = fitted(TRAIN, n=2, score="unseen")
    scores = detector.score(Sequences.from_ids([[1, 2], [2, 1], [1], [1, -1, 2]]))
    assert scores.sequence.tolist() == [0, 3, 1, 2]
    assert scores.event is not None
    assert scores.event.tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert detector.paper_rule(scores).tolist() == [False, True, True, True]


def test_the_rank_is_the_number_of_likelier_candidates():
    detector = fitted(TRAIN, n=2, top_g=2)
    scores = detector.score(Sequences.from_ids([[1, 2], [1, 3], [1, 1], [1, -1]]))
    assert scores.measures["rank"].tolist() == [0, 0, 0, 1, 0, 2, 0, 5]
    assert detector.paper_rule(scores).tolist() == [False, False, True, True]


def test_a_window_that_goes_on_is_not_judged_for_its_end():
    detector = fitted(TRAIN, score="unseen")
    stopped = Sequences.from_ids([[1]])
    assert detector.score(stopped).sequence.tolist() == [1]
    assert detector.score(live(stopped, starts=True)).sequence.tolist() == [0]


def test_what_came_before_a_window_is_not_held_against_it():
    detector = fitted([[1, 2, 3, 4]], n=3, score="unseen")
    tail = Sequences.from_ids([[2, 3, 4], [3, 2]])
    assert detector.score(live(tail, ends=True)).sequence.tolist() == [0, 2]
    assert detector.score(tail).sequence.tolist() == [2, 3]


def test_an_explanation_names_what_was_expected_in_an_events_place():
    (found,) = fitted(TRAIN, n=2, score="unseen").explain(Sequences.from_ids([[1, 1, 2]]))
    (culprit,) = found.culprits
    assert (culprit.row, culprit.position, culprit.score) == (1, 1, 1.0)
    assert [template for template, _ in culprit.expected] == [2, 3, END]
    assert culprit.expected[0][1] == pytest.approx((2 + 2 * (2 + 4 / 5) / 13) / 5)


def test_a_session_that_stops_has_its_last_event_as_row_and_its_length_as_position():
    (found,) = fitted(TRAIN, score="unseen").explain(Sequences.from_ids([[1]]))
    assert [(culprit.row, culprit.position) for culprit in found.culprits] == [(0, 1)]


@settings(max_examples=30)
@given(id_lists, st.integers(1, 5))
def test_what_may_follow_sums_to_one(train, n):
    detector = fitted(train, n=n)
    model = detector._fitted()
    odds = back_off(model.tree, model.grams.rows[:, :-1])
    assert odds.probability.sum(axis=1) + odds.novelty == pytest.approx(1.0)


@settings(max_examples=50)
@given(id_lists, id_lists, st.integers(1, 4))
def test_an_ngram_is_unseen_if_training_does_not_hold_it(train, test, n):
    def marked(ids):
        return [None, *ids, END]

    def grams(ids):
        return [tuple(marked(ids)[max(0, i - n + 1) : i + 1]) for i in range(1, len(ids) + 2)]

    known = {gram for ids in train for gram in grams(ids)}
    wanted = [sum(gram not in known for gram in grams(ids)) for ids in test]
    scores = fitted(train, n=n).score(Sequences.from_ids(test))
    assert scores.measures["n_unseen"].tolist() == wanted


@settings(max_examples=25)
@given(id_lists, id_lists, st.integers(1, 4))
def test_learning_in_two_parts_is_learning_the_whole(first, second, n):
    part = Sequences.from_ids(second)
    learned_on = fitted(first, n=n).adapt(part, part, Run())
    test = Sequences.from_ids([*first, *second])
    assert learned_on.score(test).sequence == pytest.approx(
        fitted([*first, *second], n=n).score(test).sequence
    )


@settings(max_examples=30)
@given(id_lists, st.integers(1, 4))
def test_the_tree_counts_what_follows_each_past(train, n):
    detector = fitted(train, n=n)
    model = detector._fitted()
    tree = model.tree
    alone = Counter(i for ids in train for i in ids)
    follows = tree.after(np.array([0]))[0]
    assert follows[0] == len(train)  # an end for each
    found = {model.vocabulary.template_of(N_MARKS + i): c for i, c in enumerate(follows[1:])}
    assert found == alone


def test_a_step_from_nowhere_or_for_nothing_leads_nowhere():
    tree = fitted([[1, 2]], n=3)._fitted().tree
    assert tree.step(np.array([-1, 0, 0]), np.array([5, 0, HIDDEN])).tolist() == [-1, -1, -1]
    shallow = fitted([[1, 2]], n=1)._fitted().tree
    assert shallow.step(np.array([0]), np.array([5])).tolist() == [-1]


def test_training_without_a_known_template_is_refused():
    with pytest.raises(ConfigError, match="ngram: nothing to learn from"):
        fitted([[-1, -2]])


@pytest.mark.parametrize(
    "damage",
    [
        lambda grams: {"rows": grams["rows"]},
        lambda grams: grams | {"rows": grams["rows"][:, 1:].copy()},
        lambda grams: grams | {"rows": grams["rows"] + 100},
        lambda grams: grams | {"rows": np.zeros_like(grams["rows"])},
        lambda grams: grams | {"counts": -grams["counts"]},
    ],
    ids=["an array lost", "another n", "unknown tokens", "ends in nothing", "counts below one"],
)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    fitted(TRAIN).save(tmp_path)
    path = tmp_path / "model.safetensors"
    save_arrays(path, damage(load_arrays(path)))
    with pytest.raises(ArtifactError, match="fit the model again"):
        Ngram.load(tmp_path)
