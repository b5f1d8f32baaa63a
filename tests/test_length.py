from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.length import Length, LengthConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.findings import END
from oddlog.run import Run

lengths = st.lists(st.integers(1, 12), min_size=1, max_size=20)


def of_lengths(lengths, *, starts=True, ends=True):
    sequences = Sequences.from_ids([[7] * n for n in lengths])
    n = len(sequences)
    return replace(sequences, starts=np.full(n, starts), ends=np.full(n, ends))


def fitted(lengths, **marks):
    detector = Length(LengthConfig())
    train = of_lengths(lengths, **marks)
    detector.fit(train, train, Run())
    return detector


def scores_of(detector, lengths, **marks):
    return detector.score(of_lengths(lengths, **marks)).sequence.tolist()


def test_the_score_is_how_rare_it_is_to_be_so_long_or_so_short():
    expected = [
        -np.log(2 / 5),  # one of four is as short
        -np.log(3 / 5),  # two are as short, three as long: the rarer counts
        -np.log(2 / 5),  # one is as long
    ]
    assert scores_of(fitted([2, 4, 4, 8]), [2, 5, 8]) == pytest.approx(
        [expected[0], -np.log(2 / 5), expected[2]]
    )
    assert scores_of(fitted([2, 3, 4, 8]), [3]) == pytest.approx([expected[1]])


def test_beyond_what_training_held_the_distance_adds_to_it():
    rarest = -np.log(1 / 5)
    found = scores_of(fitted([2, 4, 4, 8]), [1, 9, 16])
    assert found == pytest.approx([rarest + np.log(2), rarest + np.log(9 / 8), rarest + np.log(2)])


def test_a_session_that_goes_on_or_came_before_is_not_short():
    detector = fitted([4, 5, 6])
    for marks in ({"starts": False}, {"ends": False}):
        assert scores_of(detector, [1], **marks) == pytest.approx([0.0])
        assert scores_of(detector, [12], **marks) == scores_of(detector, [12])


def test_windows_of_time_are_short_by_what_windows_of_time_were():
    detector = fitted([4, 5, 6], starts=False, ends=False)
    (found,) = scores_of(detector, [1], starts=False, ends=False)
    assert found == pytest.approx(np.log(4) + np.log(4))


def test_the_rule_is_a_length_that_training_does_not_reach():
    detector = fitted([2, 4, 8])
    scores = detector.score(of_lengths([1, 2, 3, 8, 9]))
    assert detector.paper_rule(scores).tolist() == [True, False, False, False, True]


def test_the_first_event_too_many_is_to_blame():
    (found,) = fitted([2, 4, 4]).explain(of_lengths([7]))
    (culprit,) = found.culprits
    assert (culprit.row, culprit.position, culprit.expected) == (4, 4, ((END, 1.0),))
    assert culprit.score == pytest.approx(np.log(4) + np.log(5 / 4))


def test_a_short_session_is_blamed_behind_its_last_event():
    (found,) = fitted([4, 5]).explain(of_lengths([2]))
    (culprit,) = found.culprits
    assert (culprit.row, culprit.position, culprit.expected) == (1, 2, ())


@given(lengths, lengths)
def test_a_longer_session_that_goes_on_is_no_less_odd(train, test):
    test = sorted(test)
    found = scores_of(fitted(train), test, ends=False)
    assert found == sorted(found)


@given(lengths, lengths, lengths)
def test_learning_in_two_parts_is_learning_the_whole(first, second, test):
    part = of_lengths(second)
    learned_on = fitted(first).adapt(part, part, Run())
    assert scores_of(learned_on, test) == scores_of(fitted([*first, *second]), test)


def test_training_without_a_sequence_is_refused():
    with pytest.raises(ConfigError, match="length: nothing to learn from"):
        fitted([])


@pytest.mark.parametrize("lost", ["longest", "whole", "judged"])
def test_a_damaged_folder_is_refused(tmp_path, lost):
    fitted([1, 2]).save(tmp_path)
    path = tmp_path / "model.safetensors"
    arrays = load_arrays(path)
    del arrays[lost]
    save_arrays(path, arrays)
    with pytest.raises(ArtifactError, match="fit the model again"):
        Length.load(tmp_path)
