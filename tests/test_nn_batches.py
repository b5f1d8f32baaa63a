from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oddlog.distinct import find_distinct
from oddlog.encode import PAD, Chunks
from oddlog.nn.batches import pad, pieces_by_length, shuffled_batches

strings = st.lists(st.lists(st.integers(5, 8), min_size=1, max_size=5), min_size=1, max_size=20)
rising = st.lists(st.integers(1, 30), max_size=30).map(lambda lengths: np.array(sorted(lengths)))


def distinct_of(lists):
    sizes = np.array([len(item) for item in lists], dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    tokens = np.array([token for item in lists for token in item], dtype=np.int64)
    return find_distinct(tokens, Chunks(begins, sizes, np.zeros_like(sizes)))


@pytest.mark.parametrize("index", [np.array([2, 0]), slice(0, 3), slice(2, 3)], ids=str)
def test_strings_are_padded_on_the_right_to_the_longest_chosen(index):
    lists = [[5], [6, 7], [8, 8, 8]]
    chosen = np.arange(3)[index]
    longest = max(len(lists[i]) for i in chosen)
    wanted = [lists[i] + [PAD] * (longest - len(lists[i])) for i in chosen]
    assert pad(distinct_of(lists), index).tolist() == wanted


def test_values_beside_the_tokens_are_padded_in_their_places():
    values = np.array([0.5, 1.5, 2.5], dtype=np.float32)
    padded = pad(distinct_of([[5], [6, 7]]), np.array([1, 0]), values)
    assert padded.tolist() == [[1.5, 2.5], [0.5, 0.0]]
    assert padded.numpy().dtype == np.float32


@given(strings, st.integers(1, 7), st.integers(0, 5))
def test_every_string_is_in_one_shuffled_batch(lists, batch_size, seed):
    lengths = distinct_of(lists).lengths
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(len(batch) for batch in batches) <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)


@given(rising.filter(len), st.integers(1, 7), st.integers(0, 5))
def test_a_shuffled_batch_holds_neighbours_in_length(lengths, batch_size, seed):
    batches = shuffled_batches(lengths, batch_size, np.random.default_rng(seed))
    spans = sorted((lengths[b].min(), lengths[b].max()) for b in batches)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


def test_batches_of_an_epoch_are_those_of_its_generator():
    lengths = np.repeat([3, 4, 5], 20)
    drawn = [
        [b.tolist() for b in shuffled_batches(lengths, 8, np.random.default_rng(seed))]
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    assert sorted(map(sorted, drawn[0])) != sorted(map(sorted, drawn[2]))


def test_a_batch_that_is_one_piece_keeps_its_order():
    (rows,) = pieces_by_length(torch.tensor([3, 1, 2]), 100)
    assert rows.tolist() == [0, 1, 2]


def test_pieces_hold_rows_of_nearly_one_length_shortest_first():
    pieces = pieces_by_length(torch.tensor([40, 10, 40, 10, 10]), 1000)
    assert [rows.tolist() for rows in pieces] == [[1, 3, 4], [0, 2]]


@given(rising.filter(len), st.integers(1, 60), st.integers(0, 5))
def test_every_row_is_in_one_piece_within_the_size(lengths, most, seed):
    mixed = torch.from_numpy(np.random.default_rng(seed).permutation(lengths))
    pieces = pieces_by_length(mixed, most)
    assert sorted(torch.cat(pieces).tolist()) == list(range(len(lengths)))
    for rows in pieces:
        assert len(rows) == 1 or len(rows) * int(mixed[rows].max()) <= most
