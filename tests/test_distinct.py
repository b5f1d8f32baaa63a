from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oddlog.distinct import (
    MOST_PADDING,
    SPARED,
    Grams,
    batch_ranges,
    find_distinct,
    find_pasts,
    number_rows,
    share_pasts,
)
from oddlog.encode import END, PAD, Chunks

strings = st.lists(st.lists(st.integers(5, 8), min_size=1, max_size=5), min_size=1, max_size=20)
rising = st.lists(st.integers(1, 30), max_size=30).map(lambda lengths: np.array(sorted(lengths)))


def distinct_of(lists):
    sizes = np.array([len(item) for item in lists], dtype=np.int64)
    begins = np.cumsum(sizes) - sizes
    tokens = np.array([token for item in lists for token in item], dtype=np.int64)
    return find_distinct(tokens, Chunks(begins, sizes, np.zeros_like(sizes)))


def lists_of(distinct):
    bounds = pairwise(distinct.offsets.tolist())
    return [tuple(distinct.tokens[begin:end].tolist()) for begin, end in bounds]


@given(strings)
def test_each_string_is_found_once(lists):
    found = lists_of(distinct_of(lists))
    assert sorted(found) == sorted({tuple(item) for item in lists})


@given(strings)
def test_each_chunk_leads_to_its_string(lists):
    distinct = distinct_of(lists)
    found = lists_of(distinct)
    assert [list(found[i]) for i in distinct.of_chunk] == lists


@given(strings)
def test_counts_say_how_often_each_string_occurs(lists):
    distinct = distinct_of(lists)
    wanted = [sum(tuple(item) == string for item in lists) for string in lists_of(distinct)]
    assert distinct.counts.tolist() == wanted


@given(strings)
def test_strings_come_by_rising_length(lists):
    distinct = distinct_of(lists)
    assert (np.diff(distinct.lengths) >= 0).all()
    assert len(distinct) == len(distinct.lengths)


def test_chunks_may_overlap():
    tokens = np.array([5, 6, 5, 6, 5])
    chunks = Chunks(np.array([0, 1, 2]), np.array([3, 3, 3]), np.zeros(3, dtype=np.int64))
    distinct = find_distinct(tokens, chunks)
    assert lists_of(distinct) == [(5, 6, 5), (6, 5, 6)]
    assert distinct.of_chunk.tolist() == [0, 1, 0]


def test_of_nothing_nothing_is_distinct():
    distinct = distinct_of([])
    assert (len(distinct), distinct.offsets.tolist(), distinct.of_chunk.tolist()) == (0, [0], [])


@given(strings)
def test_a_token_knows_how_many_strings_share_it_and_its_past(lists):
    distinct = distinct_of(lists)
    found = lists_of(distinct)
    pasts = [string[: i + 1] for string in found for i in range(len(string))]
    n_strings, n_all = share_pasts(distinct)
    assert n_strings.tolist() == [sum(s[: len(past)] == past for s in found) for past in pasts]
    assert n_all.tolist() == [
        sum(tuple(item[: len(past)]) == past for item in lists) for past in pasts
    ]


def test_of_nothing_nothing_is_shared():
    n_strings, n_all = share_pasts(distinct_of([]))
    assert (n_strings.tolist(), n_all.tolist()) == ([], [])


@given(rising, st.integers(1, 100))
def test_batches_cover_every_string_in_order(lengths, max_tokens):
    batches = list(batch_ranges(lengths, max_tokens))
    covered = [i for batch in batches for i in range(batch.start, batch.stop)]
    assert covered == list(range(len(lengths)))


@given(rising, st.integers(1, 100))
def test_a_padded_batch_stays_within_the_limit_unless_it_is_one_string(lengths, max_tokens):
    for batch in batch_ranges(lengths, max_tokens):
        n = batch.stop - batch.start
        assert n == 1 or n * lengths[batch].max() <= max_tokens


@given(rising, st.integers(1, 100))
def test_no_batch_had_room_for_the_next_string(lengths, max_tokens):
    for batch in batch_ranges(lengths, max_tokens):
        if batch.stop < len(lengths):
            assert (batch.stop + 1 - batch.start) * lengths[batch.stop] > max_tokens


def test_a_batch_ends_where_a_longer_string_would_pad_more_than_a_tenth_of_it():
    lengths = np.array([10] * 20 + [40] * 20)
    assert list(batch_ranges(lengths, 10_000)) == [slice(0, 20), slice(20, 40)]


def test_a_batch_goes_on_where_padding_costs_less_than_another_batch():
    assert list(batch_ranges(np.array([2, 2, 34]), 10_000)) == [slice(0, 3)]
    assert list(batch_ranges(np.array([2, 2, 35]), 10_000)) == [slice(0, 2), slice(2, 3)]


def test_where_nothing_is_padded_only_the_size_counts():
    lengths = np.array([10] * 20 + [40] * 20)
    assert list(batch_ranges(lengths, 10_000, most_padding=1.0)) == [slice(0, 40)]


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=80).map(sorted).map(np.array),
    st.integers(1, 5000),
)
def test_no_batch_is_padded_by_more_than_a_tenth_and_what_another_batch_costs(lengths, most):
    for batch in batch_ranges(lengths, most):
        part = lengths[batch]
        padded = len(part) * part.max()
        assert padded - part.sum() <= max(SPARED, MOST_PADDING * padded)


@given(strings, st.integers(1, 6))
def test_a_token_leads_to_itself_and_what_came_before_it(lists, size):
    distinct = distinct_of(lists)
    pasts = find_pasts(distinct.tokens, distinct.offsets, size)
    wanted = [
        [PAD] * (size - i - 1) + list(string[max(0, i + 1 - size) : i + 1])
        for string in lists_of(distinct)
        for i in range(len(string))
    ]
    assert pasts.rows[pasts.of_token].tolist() == wanted


@given(strings, st.integers(1, 6))
def test_pasts_are_distinct_and_rise(lists, size):
    distinct = distinct_of(lists)
    rows = find_pasts(distinct.tokens, distinct.offsets, size).rows.tolist()
    assert rows == sorted(map(list, {tuple(row) for row in rows}))


@given(strings, st.integers(1, 4), st.integers(1, 10))
def test_a_sample_of_ngrams_is_some_of_them_with_their_counts(lists, n, most):
    grams = Grams.of(distinct_of([[END, *item] for item in lists]), n)
    sample = grams.sample(most, seed=0)
    counts = dict(zip(map(tuple, grams.rows.tolist()), grams.counts.tolist(), strict=True))
    drawn = dict(zip(map(tuple, sample.rows.tolist()), sample.counts.tolist(), strict=True))
    assert len(sample.rows) == len(drawn) == min(most, len(grams.rows))
    assert drawn.items() <= counts.items()


def test_long_rows_of_large_numbers_are_told_apart():
    rows = np.random.default_rng(0).integers(0, 3, (200, 12)) * 10**6
    first, inverse = number_rows(rows)
    assert (rows[first][inverse] == rows).all()
    assert len(first) == len({tuple(row) for row in rows.tolist()})


def test_of_no_tokens_there_are_no_pasts():
    empty = np.empty(0, dtype=np.int64)
    pasts = find_pasts(empty, np.zeros(1, dtype=np.int64), 3)
    assert (len(pasts), pasts.of_token.tolist()) == (0, [])
