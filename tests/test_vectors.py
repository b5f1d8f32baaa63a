import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog import vectors
from oddlog.config import Config
from oddlog.errors import ArtifactError
from oddlog.events import Sequences
from oddlog.vectors import by_blocks, find_nearest_rows, learn_vectors, load_fitted, save_fitted

id_lists = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=9), min_size=1, max_size=20)


def learn(ids):
    sequences = Sequences.from_ids(ids)
    known = np.unique([i for one in ids for i in one if i >= 0]).astype(np.int32)
    return learn_vectors(sequences, known)


def dense(known):
    return known.vectors.dense(0, len(known.vectors), known.width)


def test_equal_counts_are_one_vector_whatever_their_order():
    known, counted = learn([[7, 3, 7], [3], [7, 7, 3]])
    assert dense(known).tolist() == [[1, 2, 0], [1, 0, 0]]
    assert known.vectors.frequency.tolist() == [2, 1]
    assert counted.inverse.tolist() == [0, 1, 0]


def test_what_training_never_held_is_in_the_last_column():
    known, _ = learn([[3, 7]])
    counted = known.count(Sequences.from_ids([[3, -1, 5, 9]]))
    assert counted.columns.tolist() == [0, 2, 2, 2]
    assert counted.vectors.dense(0, 1, 3).tolist() == [[1, 0, 3]]


def test_a_template_is_held_by_sequences_not_by_events():
    known, _ = learn([[3, 3, 7], [3], [3]])
    assert known.held.tolist() == [3, 1, 0]
    assert known.share.tolist() == [1, 1 / 3]


@given(id_lists, st.randoms())
@settings(max_examples=25, deadline=None)
def test_taken_vectors_are_the_dense_rows_of_those_numbers(ids, dice):
    known, _ = learn(ids)
    index = np.array([dice.randrange(len(known.vectors)) for _ in range(5)])
    taken = known.vectors.take(index)
    assert taken.dense(0, 5, known.width).tolist() == dense(known)[index].tolist()


def test_blocks_are_judged_like_the_whole(monkeypatch):
    known, _ = learn(np.random.default_rng(0).integers(0, 5, (40, 9)).tolist())
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 7)
    found = by_blocks(known.vectors, known.width, lambda rows: rows.sum(axis=1) * 1.0)
    assert found.tolist() == dense(known).sum(axis=1).tolist()


@given(id_lists, id_lists)
@settings(max_examples=25, deadline=None)
def test_the_nearest_row_is_that_of_comparing_every_pair(train, test):
    known, _ = learn(train)
    asked = known.count(Sequences.from_ids(test)).vectors
    rows = asked.dense(0, len(asked), known.width)
    every = ((rows[:, None] - dense(known)[None]) ** 2).sum(axis=2)
    nearest, squared = find_nearest_rows(rows, known.vectors)
    assert nearest.tolist() == every.argmin(axis=1).tolist()
    assert squared.tolist() == every.min(axis=1).tolist()


def test_the_nearest_row_is_found_in_any_block(monkeypatch):
    known, _ = learn(np.random.default_rng(0).integers(0, 5, (40, 9)).tolist())
    monkeypatch.setattr(vectors, "BLOCK_ROWS", 7)
    nearest, squared = find_nearest_rows(dense(known), known.vectors)
    assert nearest.tolist() == list(range(len(known.vectors)))
    assert not squared.any()


def damaged_by(array, value, folder):
    known, _ = learn([[1, 2], [1]])
    save_fitted(folder, Config(), known, {"learned": np.ones(2)})
    arrays = vectors.load_arrays(folder / "model.safetensors")
    vectors.save_arrays(folder / "model.safetensors", arrays | {array: value})


@pytest.mark.parametrize(
    ("array", "value"),
    [
        ("known.columns", np.array([0, 9, 0])),
        ("known.offsets", np.array([0, 2])),
        ("known.extra", np.ones(1)),
        ("unheard_of", np.ones(1)),
    ],
)
def test_arrays_that_do_not_belong_together_are_damage(tmp_path, array, value):
    damaged_by(array, value, tmp_path)
    with pytest.raises(ArtifactError, match="damaged"):
        load_fitted(tmp_path, Config, lambda learned: learned)


def test_what_was_saved_is_loaded(tmp_path):
    known, _ = learn([[1, 2], [1]])
    save_fitted(tmp_path, Config(), known, {"learned": np.ones(2)})
    _, again, learned = load_fitted(tmp_path, Config, lambda learned: learned)
    assert again.vocabulary.tolist() == [1, 2]
    assert dense(again).tolist() == dense(known).tolist()
    assert learned.tolist() == [1, 1]
