"""Shapes: what they keep, which patterns cannot tell them apart, and that masks do not."""

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oddlog import masks as masks_module
from oddlog import shapes as shapes_module
from oddlog.masks import (
    GENERIC,
    GUARDED,
    PATTERNS,
    SETS,
    SIGNS,
    UNSIGNED,
    Masks,
    mask,
    mask_distinct,
    replacement,
)
from oddlog.shapes import TWO, distinct, is_blind, neutral, renumber, shapes_of, split_lines

CASES = [
    ("took 37 ms", "took 11 ms"),
    ("eth0 up, sda17 down", "eth0 up, sda17 down"),
    ("job123", "job111"),
    ("at 0x35, 207x", "at 0x35, 117x"),
    ("20X4", "10X4"),
    ("std::vec 37", "std::vec 37"),
    ("blk_-37", "blk_-11"),
    ("\u0663 \xb2 37", "\u0663 \xb2 11"),
    ("", ""),
    ("3", "1"),
]


@pytest.mark.parametrize(("text", "shape"), CASES)
def test_a_shape_keeps_what_a_mask_may_tell_apart(text, shape):
    assert shapes_of(pl.Series([text])).to_list() == [shape]


def test_shapes_of_a_column_are_those_of_its_texts():
    texts = [text for text, _ in CASES]
    assert shapes_of(pl.Series(texts)).to_list() == [shape for _, shape in CASES]


def test_a_text_of_several_lines_is_its_own_shape():
    assert shapes_of(pl.Series(["a 37", "b 37\nc", "d 4"])).to_list() == ["a 11", "b 37\nc", "d 1"]


def test_pieces_of_a_block_are_seen_with_what_stands_around_them(monkeypatch):
    block = b"ab12 x37 0x4\neth0 y3 12345 a::b x"
    whole = neutral(block)
    monkeypatch.setattr(shapes_module, "PIECE", 1)
    assert neutral(block) == whole


@pytest.mark.parametrize(
    "pattern",
    [r"[0-9]{3,}", r"\bx{2}(?P<n1>\d+)", r"[\w.-]+@", r"[a-z0-9_]", r"_-?[0-9]", r"[!-~]"],
)
def test_a_pattern_of_whole_classes_is_blind(pattern):
    assert is_blind(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"1[0-9]+", r"[0-8]", r"[5-9a]", r"\x31", r"\u{31}", r"\p{Nd}", r"[0-9&&[^4]]", r"0-9"),
        *(r"[{3}]", r"[/-0-9]", r"\{3}", r"x{2}3"),
    ],
)
def test_a_pattern_that_names_a_digit_is_not_blind(pattern):
    assert not is_blind(pattern)


def test_every_named_mask_is_blind_or_guarded():
    assert {name for name, pattern in PATTERNS.items() if not is_blind(pattern)} == set(GUARDED)


def plainly(messages: list[str], masks: Masks) -> list[str]:
    """Mask as the definition says: every message, one mask after the other."""
    column = pl.Series(messages, dtype=pl.String)
    for pattern, token in masks.steps():
        column = column.str.replace_all(pattern, replacement(pattern, token))
    return column.to_list()


WORDS = st.sampled_from(
    [
        *(
            "0x1f",
            "x",
            "0X",
            "::",
            ":",
            "fe80::1",
            "2001:db8::7",
            "a::3b",
            "12:30:05",
            "eth0",
            "sda12",
        ),
        *("blk_-12345", "10.0.0.7", "10.251.3.77:50010", "v1", "i386", "job-77", "1e9", "3.5ms"),
        *("0123abcd", "deadbeef", "70c1714b-c11b-4c88-b300-239afe1f5ff8", "a1b2c3", "\u0663", "\n"),
        *(
            "2015-10-18",
            "Jun 3 12:30:05",
            "password=a1",
            "/a/b1/2",
            "R02-M1",
            "r12",
            "#7#",
            "<NUM>",
        ),
    ]
)
PARTS = st.one_of(WORDS, st.text("0123456789xXf:.-_ a/", max_size=6), st.text(max_size=4))
MESSAGES = st.lists(st.lists(PARTS, max_size=6).map(" ".join), min_size=1, max_size=6)
OWN = st.sampled_from([{}, {"job": "job-[0-9]+"}, {"seven": "7+"}, {"user": r"(?P<keep>v)\d"}])


@settings(max_examples=120, deadline=None)
@given(MESSAGES, st.sampled_from([*SETS.values(), *((name,) for name in GENERIC)]), OWN)
@example(["eth0 7", "eth0 8", "a123b 4", "a124b 5"], ("number",), {})
@example(["0x1 12::3", "0x2 22::3", "1x1 32::3"], ("hex", "ip"), {})
def test_masks_of_shapes_are_the_masks_of_the_messages(messages, names, own):
    masks = Masks(names=names, own=own)
    many = [text for text in messages for _ in range(8)]
    varied = [text.replace("7", str(i % 10)) for i, text in enumerate(many)]
    assert mask(pl.Series(varied, dtype=pl.String), masks).to_list() == plainly(varied, masks)


@pytest.mark.parametrize("name", sorted({*PATTERNS} - {*UNSIGNED}))
def test_whatever_a_mask_finds_has_a_sign(name):
    @given(st.lists(st.from_regex(PATTERNS[name]), min_size=10, max_size=10))
    @settings(max_examples=3)
    def has_sign(texts):
        found = pl.any_horizontal(pl.col("text").str.contains(sign) for sign in SIGNS)
        assert pl.DataFrame({"text": texts}).select(found.all()).item()

    has_sign()


def test_messages_without_a_sign_are_masked_where_letters_alone_vary():
    texts = [f"lost {letter * 8} near {letter}" for letter in "abcdefgh"] + ["took 37 s"]
    expected = ["lost <NUM> near a", "lost gggggggg near g", "took <NUM> s"]
    masked = mask(pl.Series(texts), Masks()).to_list()
    assert [masked[0], masked[6], masked[8]] == expected


def test_messages_that_differ_in_digits_are_masked_once(monkeypatch):
    seen = []

    def watched(messages, masks):
        seen.extend(messages)
        return pl.Series(messages.name, plainly(messages.to_list(), masks), dtype=pl.String)

    monkeypatch.setattr(masks_module, "_mask_each", watched)
    messages = pl.Series([f"took {i} s" for i in range(1000, 2000)])
    codes, masked = mask_distinct(messages, Masks())
    assert (seen, set(codes), masked.to_list()) == (["took 1111 s"], {0}, ["took <NUM> s"])


def test_digits_that_masks_leave_are_those_of_the_message():
    messages = pl.Series([f"a{i}b-up" for i in range(100, 600)])
    assert mask(messages, Masks(names=("number",))).to_list() == messages.to_list()


@given(st.lists(st.sampled_from("abcdef"), max_size=20))
def test_distinct_texts_are_numbered_in_order_of_appearance(texts):
    found = distinct(pl.Series(texts, dtype=pl.String))
    order = list(dict.fromkeys(texts))
    assert [order[code] for code in found.codes] == texts
    assert [texts[row] for row in found.first] == order


def test_codes_that_stand_for_nothing_are_passed_over():
    found = renumber(np.array([7, 3, 7, 9]))
    assert (found.codes.tolist(), found.first.tolist()) == ([0, 1, 0, 2], [0, 1, 3])


def test_another_digit_may_stand_for_those_that_are_not_kept():
    assert shapes_of(pl.Series(["took 37 ms"]), TWO).item() == "took 22 ms"


LINES = [
    b"x^abc",
    b"x\x01 packed?",
    b"BZh",
    b"",
    b"a\x0b\x0c\x1c\x1e\xc2\x85\xe2\x80\xa8b",
    b"\0",
    b"  ",
]


@pytest.mark.parametrize("first", LINES)
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"])
def test_a_block_has_the_lines_that_its_bytes_have(first, end, monkeypatch):
    text = b"\n".join([first, *LINES, b"last"]) + end
    few = split_lines(text)
    monkeypatch.setattr(shapes_module, "FEW_BYTES", 0)
    assert split_lines(text).to_list() == few.to_list()
    assert len(few) == len(LINES) + 2 + end.count(b"\n") - (end != b"")
