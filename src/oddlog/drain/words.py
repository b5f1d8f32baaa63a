"""Messages that differ only in words which no template holds: to a tree they are one message.

A tree asks of a token whether it is equal to one that a template holds, and nothing else. So all
other tokens are alike, and of a million messages with a name in each, a few have to go through the
tree. What tells messages apart is a number of 64 bits, made of the hashes of their tokens with
weights drawn anew by each object, so that nobody can write a log in which two of them share one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.drain.tree import Tokens
from oddlog.shapes import Repeats, renumber

PIECE = 8_192  # messages whose tokens are in memory at a time
# A word that no template holds may share the slot of one, and is then told apart for nothing.
SLOT_BITS = 20
_ODD = r"[\t\n\x0b\x0c\r\x1c-\x1f]|  "  # blanks but single ones, as far as they are ASCII


class Hashed(NamedTuple):
    """The words of n messages.

    Attributes:
        hashes: (t,) uint64 of each word.
        weights: (t,) uint64 of its place in its message.
        begin: (n + 1,) int64, where the words of each message begin, and the end.
    """

    hashes: NDArray[np.uint64]
    weights: NDArray[np.uint64]
    begin: NDArray[np.int64]

    def part(self, first: int, end: int) -> Hashed:
        """Return the words of the messages from the first one to before an end."""
        begin = self.begin[first : end + 1]
        words = slice(begin[0], begin[-1])
        return Hashed(self.hashes[words], self.weights[words], begin - begin[0])


class Words:
    """The words that templates hold.

    Args:
        max_tokens: Tokens of a message after this many are not looked at.
    """

    def __init__(self, max_tokens: int) -> None:
        draw = np.random.default_rng()
        self._seed = int(draw.integers(1 << 63))
        self._weights = draw.integers(1 << 64, size=max_tokens + 1, dtype=np.uint64) | np.uint64(1)
        self._weights[max_tokens] = 0  # of what is not looked at
        self._is_held = np.zeros(1 << SLOT_BITS, dtype=bool)
        self.add([("",)])  # of a message without words

    def add(self, templates: Iterable[Tokens]) -> None:
        """Hold the constants of templates, too."""
        words = {token for template in templates for token in template if token is not None}
        self._is_held[_slots(self._hash(pl.Series(list(words), dtype=pl.String)))] = True

    def hashed(self, masked: pl.Series) -> Hashed:
        """Split (n,) masked messages into words, and hash these; no matter which words are held."""
        tokens = _spaced(masked).str.split(" ")
        size = tokens.list.len().to_numpy()
        begin = np.append(0, np.cumsum(size, dtype=np.int64))
        hashes = self._hash(tokens.explode())
        place = np.arange(len(hashes)) - np.repeat(begin[:-1], size)
        weights = self._weights[np.minimum(place, len(self._weights) - 1)]
        return Hashed(hashes, weights, begin)

    def alike(self, messages: Hashed) -> Repeats:
        """Number n > 0 messages by what the templates can tell apart."""
        hashes, weights, begin = messages
        codes = np.where(self._is_held[_slots(hashes)], hashes, np.uint64(1))
        sums = np.add.reduceat(codes * weights, begin[:-1])
        return renumber(np.unique(sums, return_inverse=True)[1])

    def _hash(self, words: pl.Series) -> NDArray[np.uint64]:
        return words.hash(self._seed).to_numpy()


def _slots(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hashes >> np.uint64(64 - SLOT_BITS)


def _spaced(masked: pl.Series) -> pl.Series:
    """Return messages with their words, as ``str.split`` finds them, one blank apart."""
    if _is_spaced(masked):
        return masked
    text = pl.col(masked.name).str
    is_odd = text.contains(_ODD) | text.starts_with(" ") | text.ends_with(" ")
    is_odd |= text.len_bytes() != text.len_chars()
    rows = np.flatnonzero(masked.to_frame().select(is_odd).to_series().to_numpy())
    if not len(rows):
        return masked
    return masked.clone().scatter(rows, [" ".join(text.split()) for text in masked.gather(rows)])


def _is_spaced(masked: pl.Series) -> bool:
    """Return whether all is plain ASCII with single blanks between words; an empty text is not."""
    together = f"\n{masked.str.join(chr(10)).item()}\n"
    if not together.isascii():
        return False
    text = np.frombuffer(together.encode(), dtype=np.uint8)
    is_blank = text <= ord(" ")
    n_controls = int((text < ord(" ")).sum())
    return n_controls == len(masked) + 1 and not (is_blank[1:] & is_blank[:-1]).any()


def pieces(masked: pl.Series) -> list[pl.Series]:
    """Return messages in pieces that bound the memory of their tokens."""
    return [masked[begin : begin + PIECE] for begin in range(0, len(masked), PIECE)]
