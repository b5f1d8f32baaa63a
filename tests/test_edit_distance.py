from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors import edit_distance
from oddlog.detectors.edit_distance import EditDistance, EditDistanceConfig
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.run import Run

id_lists = st.lists(st.lists(st.integers(-2, 4), min_size=1, max_size=7), min_size=1, max_size=12)
known_lists = id_lists.filter(lambda lists: any(i >= 0 for ids in lists for i in ids))


def fitted(train, **chosen):
    detector = EditDistance(EditDistanceConfig(**chosen))
    sequences = Sequences.from_ids(train)
    detector.fit(sequences, sequences, Run())
    return detector


def levenshtein(a, b):
    """Count edits by the definition; a negative id equals nothing."""

    @cache
    def edits(i, j):
        if not i or not j:
            return i + j
        same = a[i - 1] == b[j - 1] >= 0
        return min(edits(i - 1, j) + 1, edits(i, j - 1) + 1, edits(i - 1, j - 1) + (not same))

    return edits(len(a), len(b))


def test_the_score_is_the_share_of_events_to_edit():
    detector = fitted([[1, 2, 3], [4]])
    tests = {
        (1, 2, 3): 0,
        (1, 3): 1 / 3,
        (1, 4, 3): 1 / 3,
        (1, 2, 2, 3): 1 / 4,
        (3, 2, 1, 1): 3 / 4,
    }
    scores = detector.score(Sequences.from_ids([list(ids) for ids in tests]))
    assert scores.sequence.tolist() == pytest.approx(list(tests.values()))
    assert detector.paper_rule(scores).tolist() == [False, True, True, True, True]


def test_a_template_that_was_unknown_in_training_equals_no_unknown_one():
    scores = fitted([[1, -1, 2]]).score(Sequences.from_ids([[1, -1, 2], [1, 9, 2], [-1]]))
    assert scores.sequence.tolist() == pytest.approx([1 / 3, 1 / 3, 1.0])


@settings(max_examples=30)
@given(known_lists, id_lists)
def test_the_distance_is_the_least_of_all_pairs(train, test):
    scores = fitted(train).score(Sequences.from_ids(test))
    least = [min(levenshtein(a, b) / max(len(a), len(b)) for b in train) for a in test]
    assert scores.sequence.tolist() == pytest.approx(least)
    assert scores.measures["exact"].all()


@settings(max_examples=30)
@given(known_lists, id_lists)
def test_blocks_of_any_size_give_the_same(train, test):
    sequences = Sequences.from_ids(test)
    wanted = fitted(train).score(sequences).sequence.tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_distance, "BLOCK_CELLS", 1)
        patch.setattr(edit_distance, "ROUND", 1)
        assert fitted(train).score(sequences).sequence.tolist() == wanted


@settings(max_examples=30)
@given(known_lists, id_lists)
def test_a_search_that_is_cut_short_never_finds_less_and_says_so(train, test):
    sequences = Sequences.from_ids(test)
    whole, cut = (fitted(train, max_steps=n).score(sequences) for n in (2**21, 1))
    exact = cut.measures["exact"]
    assert (cut.sequence >= whole.sequence).all()
    assert cut.sequence[exact].tolist() == whole.sequence[exact].tolist()


def test_what_was_not_compared_is_reported(caplog):
    train = [[1, 2, 3, 4], [4, 3, 2, 1], [2, 1, 4, 3]]
    scores = fitted(train, max_steps=1).score(Sequences.from_ids([[1, 2, 4, 3]]))
    assert scores.measures["exact"].tolist() == [False]
    assert "1 of 1 sequences were not compared with all" in caplog.text


def test_the_events_to_remove_or_replace_share_the_distance():
    sequences = Sequences.from_ids([[1, 9, 2, 3], [1, 7, 3], [1, 3], [1, 2, 3]])
    scores = fitted([[1, 2, 3]]).score(sequences)
    assert scores.event is not None
    found = [scores.event[a:b].tolist() for a, b in pairwise(sequences.offsets)]
    expected = [[0, 1 / 4, 0, 0], [0, 1 / 3, 0], [0, 0], [0, 0, 0]]
    assert [value for row in found for value in row] == pytest.approx(
        [value for row in expected for value in row]
    )


def culprits_of(train, ids):
    (found,) = fitted(train).explain(Sequences.from_ids([ids]))
    return [(c.row, c.position, c.score, c.expected) for c in found.culprits]


def test_a_replaced_event_is_told_with_what_was_expected_instead():
    found = culprits_of([[1, 2, 3], [1, 2, 3], [1, 4, 4, 3]], [1, 9, 3])
    assert found == [(1, 1, pytest.approx(1 / 3), ((2, pytest.approx(2 / 3)),))]


def test_an_event_too_many_is_told_with_nothing_expected():
    assert culprits_of([[1, 2, 3]], [1, 9, 2, 3]) == [(1, 1, 1 / 4, ())]


def test_what_is_missing_is_told_at_the_event_before_which_it_is():
    assert culprits_of([[1, 2, 3, 4]], [1, 4]) == [(1, 1, 2 / 4, ((2, 1.0), (3, 1.0)))]


def test_what_is_missing_at_the_end_is_told_behind_the_last_event():
    assert culprits_of([[1, 2, 3, 4]], [1, 2, 3]) == [(2, 3, 1 / 4, ((4, 1.0),))]


def test_a_known_sequence_has_no_culprits():
    assert culprits_of([[1, 2]], [1, 2]) == []


def test_only_the_worst_few_culprits_of_a_sequence_are_named():
    assert len(culprits_of([[1] * 30], [2] * 30)) == 5


@settings(max_examples=30)
@given(known_lists, id_lists, id_lists)
def test_learning_in_two_parts_is_learning_the_whole(first, second, test):
    part, sequences = Sequences.from_ids(second), Sequences.from_ids(test)
    learned_on = fitted(first).adapt(part, part, Run())
    whole = fitted([*first, *second])
    assert learned_on.score(sequences).sequence.tolist() == whole.score(sequences).sequence.tolist()
    frequencies = [sorted(d._fitted().known.frequency.tolist()) for d in (learned_on, whole)]
    assert frequencies[0] == frequencies[1] or any(i < 0 for ids in first for i in ids)


def test_thousands_of_templates_are_told_apart():
    train = [list(range(0xD700, 0xE000))]  # tokens that are no characters on their own
    odd = train[0].copy()
    odd[5] = 1
    scores = fitted(train).score(Sequences.from_ids([train[0], odd]))
    assert scores.sequence.tolist() == pytest.approx([0.0, 1 / len(odd)])


def test_training_without_a_known_template_is_refused():
    with pytest.raises(ConfigError, match="edit_distance: nothing to learn from"):
        fitted([[-1, -2]])


@pytest.mark.parametrize(
    "damage",
    [
        lambda arrays: {key: arrays[key] for key in ("tokens", "offsets")},
        lambda arrays: arrays | {"offsets": arrays["offsets"][:-1].copy()},
        lambda arrays: arrays | {"tokens": arrays["tokens"] + 100},
    ],
    ids=["an array lost", "a string lost", "unknown tokens"],
)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    fitted([[1, 2], [3]]).save(tmp_path)
    path = tmp_path / "model.safetensors"
    save_arrays(path, damage(load_arrays(path)))
    with pytest.raises(ArtifactError, match="fit the model again"):
        EditDistance.load(tmp_path)
