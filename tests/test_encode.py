from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oddlog.encode import (
    BEGIN,
    END,
    HIDDEN,
    N_MARKS,
    UNKNOWN,
    Vocabulary,
    add_marks,
    cut_into_chunks,
    training_templates,
)
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import END as END_OF_SESSION

ids = st.lists(st.integers(-4, 20), max_size=40)


def vocabulary_of(*template_ids):
    return Vocabulary.of(np.array(template_ids, dtype=np.int32))


def test_keys_are_in_the_order_of_falling_frequency_then_of_their_ids():
    assert vocabulary_of(7, 3, 9, 9, 3, 9, 1).to_json() == [9, 3, 1, 7]


def test_negative_templates_are_no_keys():
    assert vocabulary_of(-1, 4, -1, -2).to_json() == [4]


@given(st.lists(ids.filter(len), min_size=1, max_size=5))
def test_training_templates_are_the_known_ones_ascending(windows):
    known = sorted({template for window in windows for template in window if template >= 0})
    assume(known)
    found = training_templates(Sequences.from_ids(windows), "rule")
    assert (found.tolist(), found.dtype) == (known, np.int32)


@pytest.mark.parametrize("windows", [[], [[-1, -2]]])
def test_training_without_a_known_template_is_refused_in_the_detector_s_name(windows):
    with pytest.raises(ConfigError, match=r"^rule: nothing to learn from.*give fit normal log"):
        training_templates(Sequences.from_ids(windows), "rule")


@pytest.mark.parametrize("template_ids", [[], [-1, -2]])
def test_a_vocabulary_of_no_known_template_is_refused(template_ids):
    with pytest.raises(NotFittedError, match="nothing to learn from"):
        vocabulary_of(*template_ids)


def test_size_counts_marks_and_keys():
    vocabulary = vocabulary_of(5, 6, 5)
    assert (vocabulary.n_keys, vocabulary.size) == (2, N_MARKS + 2)


def test_tokens_are_the_places_of_keys_behind_the_marks():
    tokens = vocabulary_of(9, 9, 3).encode(np.array([3, 9, -1, 4, 100]))
    assert tokens.tolist() == [N_MARKS + 1, N_MARKS, UNKNOWN, UNKNOWN, UNKNOWN]


@given(ids.filter(lambda values: max(values, default=-1) >= 0), ids)
def test_a_template_is_unknown_exactly_if_training_never_held_it(train, test):
    tokens = vocabulary_of(*train).encode(np.array(test, dtype=np.int32))
    known = {i for i in train if i >= 0}
    assert [token == UNKNOWN for token in tokens.tolist()] == [i not in known for i in test]


@given(ids.filter(lambda values: max(values, default=-1) >= 0))
def test_a_token_leads_back_to_its_template(train):
    vocabulary = vocabulary_of(*train)
    keys = vocabulary.to_json()
    tokens = vocabulary.encode(np.array(keys, dtype=np.int32))
    assert [vocabulary.template_of(token) for token in tokens.tolist()] == keys


def test_the_end_mark_leads_to_the_end_of_the_session():
    assert vocabulary_of(1).template_of(END) == END_OF_SESSION


@given(ids.filter(lambda values: max(values, default=-1) >= 0), ids)
def test_a_vocabulary_survives_json(train, test):
    vocabulary, test = vocabulary_of(*train), np.array(test, dtype=np.int32)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.encode(test).tolist() == vocabulary.encode(test).tolist()


@pytest.mark.parametrize(
    "value", [None, {}, "12", [], ["1"], [1.0], [1, 1], [[1]], [True], [-1], [2**31]], ids=str
)
def test_what_is_no_vocabulary_is_refused(value):
    with pytest.raises(ArtifactError, match=r"vocab\.json: expected distinct template ids"):
        Vocabulary.from_json(value)


@pytest.mark.parametrize(
    ("starts", "ends", "tokens", "entries"),
    [
        (True, True, [BEGIN, 11, 12, END], [-1, 0, 1, -1]),
        (True, False, [BEGIN, 11, 12], [-1, 0, 1]),
        (False, True, [HIDDEN, 11, 12, END], [-1, 0, 1, -1]),
        (False, False, [HIDDEN, 11, 12], [-1, 0, 1]),
    ],
)
def test_only_a_window_that_holds_its_beginning_or_end_is_marked_so(starts, ends, tokens, entries):
    window = replace(Sequences.from_ids([[1, 2]]), starts=np.array([starts]), ends=np.array([ends]))
    marked = add_marks(window, np.array([11, 12]))
    assert marked.tokens.tolist() == tokens
    assert marked.entries.tolist() == entries


def test_every_window_gets_its_own_marks():
    windows = replace(
        Sequences.from_ids([[1], [2, 3], [4]]),
        starts=np.array([True, False, True]),
        ends=np.array([False, True, True]),
    )
    marked = add_marks(windows, np.array([11, 12, 13, 14]))
    assert marked.tokens.tolist() == [BEGIN, 11, HIDDEN, 12, 13, END, BEGIN, 14, END]
    assert marked.entries.tolist() == [-1, 0, -1, 1, 2, -1, -1, 3, -1]
    assert marked.lengths.tolist() == [2, 4, 3]


def test_no_windows_have_no_marks():
    marked = add_marks(Sequences.from_ids([]), np.empty(0, dtype=np.int64))
    assert (marked.tokens.tolist(), marked.offsets.tolist()) == ([], [0])


cuts = st.tuples(
    st.lists(st.integers(1, 40), max_size=6),
    st.integers(2, 12).flatmap(lambda c: st.tuples(st.just(c), st.integers(0, c - 1))),
)


def cut(lengths, context, overlap):
    return cut_into_chunks(np.cumsum([0, *lengths]), context, overlap)


@given(cuts)
def test_every_token_is_scored_in_exactly_one_chunk(drawn):
    lengths, (context, overlap) = drawn
    chunks = cut(lengths, context, overlap)
    scored = [
        token
        for begin, size, fresh in zip(chunks.begins, chunks.sizes, chunks.n_context, strict=True)
        for token in range(begin + fresh, begin + size)
    ]
    assert scored == list(range(sum(lengths)))


@given(cuts)
def test_no_chunk_is_longer_than_the_context(drawn):
    lengths, (context, overlap) = drawn
    sizes = cut(lengths, context, overlap).sizes
    assert (sizes <= context).all()
    assert (sizes >= 1).all()


@given(cuts)
def test_no_chunk_crosses_from_one_string_into_another(drawn):
    lengths, (context, overlap) = drawn
    chunks = cut(lengths, context, overlap)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    assert owner[chunks.begins].tolist() == owner[chunks.begins + chunks.sizes - 1].tolist()


@given(cuts)
def test_a_chunk_has_the_stated_overlap_of_past_unless_it_begins_a_string(drawn):
    lengths, (context, overlap) = drawn
    chunks = cut(lengths, context, overlap)
    begins_string = np.isin(chunks.begins, np.cumsum([0, *lengths]))
    assert chunks.n_context.tolist() == np.where(begins_string, 0, overlap).tolist()


def test_a_string_that_fits_is_one_chunk():
    chunks = cut([4, 3], context=4, overlap=2)
    assert chunks.begins.tolist() == [0, 4]
    assert chunks.sizes.tolist() == [4, 3]


def test_a_string_too_long_is_cut_at_the_stride():
    chunks = cut([9], context=5, overlap=2)
    assert chunks.begins.tolist() == [0, 3, 6]
    assert chunks.sizes.tolist() == [5, 5, 3]
    assert chunks.n_context.tolist() == [0, 2, 2]


@given(ids, ids)
def test_a_grown_vocabulary_keeps_every_token(first, later):
    assume(any(i >= 0 for i in first))
    old = vocabulary_of(*first)
    grown = old.with_more(np.array(later, dtype=np.int32))
    known = np.array(first, dtype=np.int32)
    assert grown.encode(known).tolist() == old.encode(known).tolist()
    assert set(grown.template_ids.tolist()) == {i for i in [*first, *later] if i >= 0}
