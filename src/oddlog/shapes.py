r"""Texts that differ only in digits which no pattern tells apart, reduced to one: their shape.

Most lines of a log are distinct, and most of what makes them so are digits: times, ids, counts. A
pattern is *blind* to digits if each of its character classes holds all ten or none, as ``[0-9]{3}``
does: it finds its matches in the same places whichever digits stand there. So a million lines are
looked through for variables, or for their header, by looking at a few thousand shapes.

Two kinds of pattern see a little more and are blind to what is changed here, because a shape keeps
a digit in front of an ``x`` (``0[xX]``), and every digit of a text that holds ``::`` (short IPv6
addresses begin with 2, 3 or f). Of numbers of one or two digits right behind a letter masks leave
many in the text, as names: ``eth0``, ``eth1``. A shape keeps these if it is asked to.
"""

from __future__ import annotations

import re
import secrets
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

ONE, TWO = ord("1"), ord("2")
FEW_BYTES = 1 << 18
PIECE = 1 << 16  # bytes whose intermediate results stay in a core's cache

_ESCAPE = re.compile(r"\\[^0-9xuUpP]")
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_ALL_DIGITS = re.compile(r"(?<!-)0-9")
_TIMES = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_NAME = re.compile(r"\(\?P?<\w+>")
_TELLS = re.compile(r"[0-9]|\\[xuUpP]")


class Repeats(NamedTuple):
    """n texts as d distinct ones.

    Attributes:
        codes: (n,) int64, which of the distinct ones each text is; they are numbered in the order
            of their first appearance.
        first: (d,) int64, where each of them appears first.
    """

    codes: NDArray[np.int64]
    first: NDArray[np.int64]


class Shaped(NamedTuple):
    """The shapes of n texts.

    Attributes:
        codes: (n,) int64, the shape of each text.
        shapes: (d,) String; of the d some may be equal, or stand for no text.
    """

    codes: NDArray[np.int64]
    shapes: pl.Series

    def of(self, rows: NDArray[np.integer]) -> Shaped:
        """Return the shapes of the chosen texts."""
        return Shaped(self.codes[rows], self.shapes)


def distinct(texts: pl.Series) -> Repeats:
    """Number the distinct texts among (n,) String without nulls.

    Equal is what has the same hash of 64 bits: of 200,000 texts two share one with probability
    1e-9, and as its seed is drawn anew, nobody can write a log in which two do.
    """
    hashes = texts.hash(secrets.randbits(63)).to_frame("hash").with_row_index("row")
    earliest = hashes.select(pl.col("row").first().over("hash")).to_series().to_numpy()
    is_first = earliest == np.arange(len(earliest))
    return Repeats((np.cumsum(is_first) - 1)[earliest], np.flatnonzero(is_first))


def is_repetitive(texts: pl.Series, share: int = 2) -> bool:
    """Return whether of (n,) texts one in ``share`` at most is distinct; an estimate."""
    n_distinct = texts.to_frame().select(pl.first().approx_n_unique()).item()
    return share * n_distinct <= len(texts)


def renumber(codes: NDArray[np.integer]) -> Repeats:
    """Number what (n,) codes >= 0 stand for in the order of first appearance."""
    n = len(codes)
    if not n:
        none = np.empty(0, dtype=np.int64)
        return Repeats(none, none)
    first = np.full(int(codes.max()) + 1, n, dtype=np.int64)
    first[codes[::-1]] = np.arange(n - 1, -1, -1)  # the earliest is written last
    order = np.argsort(first, kind="stable")[: int((first < n).sum())]
    number = np.empty(len(first), dtype=np.int64)
    number[order] = np.arange(len(order))
    return Repeats(number[codes], first[order])


def is_blind(pattern: str) -> bool:
    r"""Return whether a pattern is certain to find its matches whichever digits stand there.

    Judged by its text, and in doubt False: no digit may be left once escapes, numbers of
    repetitions and names are gone, and ``0-9`` from its classes. A range without a digit at either
    end holds all ten or none, and so does what is made of such classes.

    Example:
        >>> is_blind(r"blk_-?[0-9]+"), is_blind(r"\b1[0-9]{9}"), is_blind(r"[0-8]")
        (True, False, False)
    """
    bare = _NAME.sub("(", _ESCAPE.sub("", pattern))
    bare = _CLASS.sub(lambda found: _ALL_DIGITS.sub("", found[0]).replace("{", ""), bare)
    return _TELLS.search(_TIMES.sub("", bare)) is None


def split_lines(text: bytes | memoryview) -> pl.Series:
    """Return (n,) String, the lines of text as UTF-8; a carriage return at an end may be gone.

    Polars calls ``read_lines`` unstable. On a block it takes a quarter of the time of any other
    way, and what is expected of it is tested. The line feed in front keeps it from taking text for
    packed data. A few lines are not worth its threads.
    """
    if len(text) >= FEW_BYTES:
        return pl.read_lines(b"".join([b"\n", text])).to_series()[1:]
    lines = str(text, "utf-8").split("\n")
    if not lines[-1]:
        lines.pop()
    return pl.Series(lines, dtype=pl.String)


def shapes_of(texts: pl.Series, digit: int = ONE, *, names: bool = True) -> pl.Series:
    """Return the shape of each of (n,) String without nulls; shapes are as long as the texts.

    Args:
        texts: The texts.
        digit: The digit, as a byte, that stands for those that are not kept.
        names: Keep numbers of one or two digits right behind a letter.
    """
    if not len(texts):
        return texts
    together = texts.str.join("\n").item().encode() + b"\n"
    if together.count(b"\n") != len(texts) or b"\r" in together:  # a text of several lines
        single = ~texts.str.contains("[\r\n]")
        shapes = shapes_of(texts.filter(single), digit, names=names)
        return texts.clone().scatter(np.flatnonzero(single.to_numpy()), shapes)
    block, has_colons = neutral(together, digit, names=names)
    shapes = split_lines(block).rename(texts.name)
    if has_colons:
        shapes = texts.zip_with(texts.str.contains("::", literal=True), shapes)
    return shapes


def tagged(shapes: pl.Series, power: int) -> pl.Series:
    """Replace every digit of (n,) String by a decimal digit of its own place in the text.

    The place is counted in bytes from 0; digit 0 of a number is its last. A pattern that is blind
    finds in the result what it finds in the shapes, and the digits say where.
    """
    together = shapes.str.join("\n").item().encode() if len(shapes) else b""
    text = np.frombuffer(together, dtype=np.uint8)
    begins = np.append(0, np.flatnonzero(text == ord("\n")) + 1)
    lengths = np.diff(np.append(begins, len(text) + 1))
    place = np.arange(len(text) + 1) - np.repeat(begins, lengths)
    digit = (place[:-1] // 10**power % 10 + ord("0")).astype(np.uint8)
    is_digit = (text - np.uint8(ord("0"))) < 10
    changed = np.where(is_digit, digit, text).tobytes().decode()
    return pl.Series(shapes.name, changed.split("\n")[: len(shapes)], dtype=pl.String)


def neutral(block: bytes, digit: int = ONE, *, names: bool = True) -> tuple[memoryview, bool]:
    """Return the bytes of lines with the digits that are not kept replaced, and if "::" occurs.

    What "::" keeps is left to the caller.

    Args:
        block: UTF-8, or any text in which the bytes of ASCII stand for nothing else.
        digit: As for ``shapes_of``.
        names: As for ``shapes_of``.
    """
    out = np.empty(len(block), dtype=np.uint8)
    has_colons = False
    for begin in range(0, len(block), PIECE):
        end = min(begin + PIECE, len(block))
        seen = block[max(begin - 2, 0) : end + 2]  # two bytes more on either side
        seen = (b"\n" * (2 - begin) + seen).ljust(end - begin + 4, b"\n")
        piece = np.frombuffer(seen, dtype=np.uint8)
        out[begin:end] = _neutral(piece, digit, names)
        has_colons = has_colons or bool(_pairs(piece == ord(":")).any())
    return out.data, has_colons


def _neutral(piece: NDArray[np.uint8], digit: int, names: bool) -> NDArray[np.uint8]:
    is_digit = (piece - np.uint8(ord("0"))) < 10
    small = piece | np.uint8(ord(" "))  # letters in small
    keep = small[3:-1] == ord("x")
    if names:
        is_letter = (small - np.uint8(ord("a"))) < 26
        short = is_digit[1:-2] & is_letter[:-3] & ~_pairs(is_digit)[2:]  # begins one or two digits
        keep = short[1:] | short[:-1] | keep
    changed = (is_digit[2:-2] > keep).view(np.uint8)  # a digit, and not kept
    text = piece[2:-2]
    return text - ((text - np.uint8(digit)) & np.negative(changed))


def _pairs(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (n - 1,) whether this and the next."""
    return found[:-1] & found[1:]
