"""What is shown of text that would act on a screen."""

import hypothesis.strategies as st
from hypothesis import given

from oddlog.visible import cut, escape


@given(st.text(st.characters()))
def test_nothing_that_acts_is_left(text):
    assert escape(text).isprintable()


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_printable_text_stays_as_it_is(text):
    assert escape(text) == text


def test_a_lone_surrogate_is_spelled_out():
    assert escape("a\udcffb") == "a\\udcffb"


@given(st.text(), st.integers(1, 40))
def test_a_cut_text_keeps_its_ends_and_counts_what_is_gone(text, limit):
    kept, n_cut = cut(text, limit)
    assert len(text) == len(kept) - bool(n_cut) + n_cut
    assert n_cut == max(0, len(text) - limit)
    head, tail = kept[: limit * 2 // 3], kept[limit * 2 // 3 + 1 :]
    assert not n_cut or (text.startswith(head) and text.endswith(tail))
