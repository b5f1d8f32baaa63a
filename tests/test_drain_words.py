"""Words: which messages are alike to a tree, and that learning them together changes nothing."""

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.drain import DrainConfig, Templates
from oddlog.drain import novelties as novelties_module
from oddlog.drain.tree import Tree
from oddlog.drain.words import Words
from oddlog.masks import Masks

HELD = ("a", "b", "x1")
TOKENS = st.sampled_from([*HELD, "p", "q", "<*>", "\u00e4"])
BLANKS = st.sampled_from([" ", "  ", "\t", "\x1f", "\u3000", " \n"])
TEXT = st.lists(st.one_of(TOKENS, BLANKS), max_size=9).map("".join)


def codes(texts, max_tokens=512):
    words = Words(max_tokens)
    words.add([HELD, (None, "a")])
    return words.alike(words.hashed(pl.Series(texts))).codes.tolist()


def as_seen(text, max_tokens):
    return tuple(token if token in HELD else None for token in text.split()[:max_tokens])


@settings(max_examples=80)
@given(st.lists(TEXT, min_size=1, max_size=20), st.integers(1, 4))
def test_messages_are_alike_if_templates_cannot_tell_them_apart(texts, max_tokens):
    seen = [as_seen(text, max_tokens) for text in texts]
    order = list(dict.fromkeys(seen))
    assert codes(texts, max_tokens) == [order.index(each) for each in seen]


@given(st.lists(TEXT, min_size=1, max_size=9), st.integers(0, 9), st.integers(0, 9))
def test_a_part_of_hashed_messages_is_those_messages_hashed(texts, first, length):
    words, texts = Words(4), pl.Series(texts)
    first = min(first, len(texts) - 1)
    found = words.hashed(texts).part(first, first + 1 + length)
    expected = words.hashed(texts[first : first + 1 + length])
    assert all((ours == theirs).all() for ours, theirs in zip(found, expected, strict=True))


def test_words_that_no_template_holds_are_alike():
    assert codes(["a p", "a q", "p a", "a b", "q b", "a"]) == [0, 0, 1, 2, 3, 4]


def test_a_message_without_words_is_like_no_other():
    assert codes(["", "p", " ", "q"]) == [0, 1, 0, 1]


@settings(max_examples=40)
@given(st.lists(TEXT, max_size=40, unique=True), st.integers(1, 3), st.sampled_from([0.3, 0.7]))
def test_learning_alike_messages_together_is_learning_them_one_by_one(texts, few, similarity):
    config = DrainConfig(similarity=similarity, max_children=3, masks=Masks(names=()))
    tree = Tree(config.depth, config.similarity, config.max_children, config.max_templates)
    expected = [tree.learn(tuple(text.split())) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(novelties_module, "FEW", few)
        learned = Templates(config).learn(pl.Series(texts, dtype=pl.String))
    assert learned.to_list() == expected
