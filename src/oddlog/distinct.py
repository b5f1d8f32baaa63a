"""Token strings reduced to the distinct ones: logs repeat themselves, and each is computed once.

Apart from ``nn``, whose batches are made of them, so that detectors without a network can use them
and import no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.encode import FIRST_CANDIDATE, PAD, Chunks


@dataclass(frozen=True, eq=False)
class Distinct:
    """The distinct token strings among c chunks, by rising length.

    Attributes:
        tokens: (t,) int64, the distinct strings one after the other.
        offsets: (d + 1,) int64.
        counts: (d,) int64, how often each occurs.
        of_chunk: (c,) int64, the distinct string that each chunk is.
    """

    tokens: NDArray[np.int64]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    of_chunk: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(d,) number of tokens in each string, rising."""
        return np.diff(self.offsets)


def find_distinct(tokens: NDArray[np.int64], chunks: Chunks) -> Distinct:
    """Reduce chunks of a flat token array to the distinct strings, comparing whole strings."""
    strings, counts = [], []
    of_chunk = np.empty(len(chunks.sizes), dtype=np.int64)
    n_found = 0
    for size in np.unique(chunks.sizes):
        members = np.flatnonzero(chunks.sizes == size)
        block = tokens[chunks.begins[members, None] + np.arange(size)]  # (members, size)
        narrow = np.ascontiguousarray(block.astype(np.int32))
        rows = narrow.view(np.dtype((np.void, narrow.dtype.itemsize * int(size)))).ravel()
        _, first, inverse, count = np.unique(
            rows, return_index=True, return_inverse=True, return_counts=True
        )
        strings.append(block[first].ravel())
        counts.append(count)
        of_chunk[members] = n_found + inverse
        n_found += len(first)
    all_counts = np.concatenate(counts) if counts else np.empty(0, dtype=np.int64)
    sizes = np.repeat(np.unique(chunks.sizes), [len(count) for count in counts])
    return Distinct(
        tokens=np.concatenate(strings) if strings else np.empty(0, dtype=np.int64),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        counts=all_counts,
        of_chunk=of_chunk,
    )


def share_pasts(strings: Distinct) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count, for each token, how many strings agree with its own up to and including it.

    The strings form a tree of pasts; these are the numbers on its edges. Pasts are compared by a
    64-bit hash: among ten million tokens two would be confused with a chance of 1 in 300,000.

    Returns:
        (t,) the distinct strings, and (t,) the strings with their repeats, beside ``tokens``.
    """
    past = np.zeros(len(strings), dtype=np.uint64)
    hashes = np.empty(len(strings.tokens), dtype=np.uint64)
    longest = int(strings.lengths.max(initial=0))
    for position in range(longest):  # one turn per column, not per string
        first = np.searchsorted(strings.lengths, position, side="right")
        place = strings.offsets[first:-1] + position
        past[first:] = _mix(past[first:] * _ODD + strings.tokens[place].astype(np.uint64) + _ONE)
        hashes[place] = past[first:]
    _, edge, n_strings = np.unique(hashes, return_inverse=True, return_counts=True)
    n_all = np.bincount(edge, weights=np.repeat(strings.counts, strings.lengths))
    return n_strings[edge], n_all[edge].astype(np.int64)


_ONE, _ODD, _SHIFT = np.uint64(1), np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (values ^ (values >> _SHIFT)) * np.uint64(0xBF58476D1CE4E5B9)


MOST_PADDING = 0.1
"""Share of a batch that may be padding."""
SPARED = 64
"""Padding that costs no more than another batch would."""


def batch_ranges(
    lengths: NDArray[np.int64], max_tokens: int, most_padding: float = MOST_PADDING
) -> Iterator[slice]:
    """Yield runs of strings of rising length whose padded size stays within ``max_tokens``.

    A single string longer than that is a batch of its own. A run ends, too, where the next string
    would make more of it padding than ``most_padding``, and more than ``SPARED`` tokens: 900
    distinct sessions of HDFS in one batch were a third padding.

    Args:
        lengths: (n,) rising.
        max_tokens: Padded size of a batch, at most.
        most_padding: Share; 1 where nothing is padded.
    """
    sizes = lengths.tolist()
    begin = 0
    while begin < len(sizes):
        end, filled = begin + 1, sizes[begin]
        while end < len(sizes):
            padded = (end + 1 - begin) * sizes[end]
            padding = padded - filled - sizes[end]
            if padded > max_tokens or padding > max(SPARED, most_padding * padded):
                break
            filled += sizes[end]
            end += 1
        yield slice(begin, end)
        begin = end


@dataclass(frozen=True, eq=False)
class Pasts:
    """The distinct pasts of fixed length among t tokens, each with the token that it ends in.

    Attributes:
        rows: (d, size) int64: a token last, and before it what came before it in its string, with
            ``PAD`` in front where the string has no more.
        of_token: (t,) int64, the row of each token.
    """

    rows: NDArray[np.int64]
    of_token: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


def find_pasts(tokens: NDArray[np.int64], offsets: NDArray[np.int64], size: int) -> Pasts:
    """Look ``size - 1`` tokens back from each token of flat strings, and find what is distinct.

    Args:
        tokens: (t,) the strings one after the other, none of them ``PAD``.
        offsets: (n + 1,) where they begin.
        size: Number of tokens in a row, at least 1.
    """
    within = np.arange(len(tokens)) - np.repeat(offsets[:-1], np.diff(offsets))
    columns = (_shifted(tokens, within, back) for back in reversed(range(size)))
    first, of_token = _number(columns, len(tokens), int(tokens.max(initial=0)) + 1)
    back = np.arange(size)[::-1]  # of each column
    place = np.maximum(first[:, None] - back, 0)
    return Pasts(np.where(within[first, None] >= back, tokens[place], PAD), of_token)


def _shifted(tokens: NDArray[np.int64], within: NDArray[np.int64], back: int) -> NDArray[np.int64]:
    """Return (t,) what stands so many places before each token, ``PAD`` where nothing does."""
    if not back:
        return tokens
    before = np.full(len(tokens), PAD, dtype=np.int64)
    before[back:] = tokens[:-back]
    before[within < back] = PAD
    return before


def number_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the distinct rows of small numbers, none negative, in rising order.

    Returns:
        (d,) where each distinct row stands first, and (n,) which of them each row is.
    """
    return _number(iter(rows.T), len(rows), int(rows.max(initial=0)) + 1)


def _number(
    columns: Iterator[NDArray[np.int64]], n_rows: int, n_values: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the distinct rows of columns: as many in one number as it holds, the first weighs most.

    The rows themselves are never made: of ten million tokens with ten before each, only numbers.
    """
    number, span = np.zeros(n_rows, dtype=np.int64), 1
    for column in columns:
        if span > 2**62 // n_values:
            _, number = np.unique(number, return_inverse=True)
            span = int(number.max(initial=0)) + 1
        number = number * n_values + column
        span *= n_values
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    return first, inverse


@dataclass(frozen=True, eq=False)
class Grams:
    """Distinct n-grams, and how often each occurs.

    Attributes:
        rows: (d, n) int64 tokens, what came last, ``PAD`` in front where less came before it.
        counts: (d,) int64, how often each occurs.
    """

    rows: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, strings: Distinct, n: int) -> Grams:
        """Count the n-grams that end in a token that can be predicted."""
        found = find_pasts(strings.tokens, strings.offsets, n)
        often = np.repeat(strings.counts, strings.lengths)
        counts = np.bincount(found.of_token, often, minlength=len(found)).astype(np.int64)
        kept = found.rows[:, -1] >= FIRST_CANDIDATE
        return cls(found.rows[kept], counts[kept])

    def check(self, n: int, n_tokens: int) -> None:
        """Raise ValueError if these cannot be n-grams over so many tokens."""
        fits = self.rows.ndim == 2 and self.rows.shape == (len(self.counts), n) and len(self.rows)
        if not fits or self.rows.min() < 0 or self.rows.max() >= n_tokens:
            raise ValueError(f"rows of shape {self.rows.shape} are no {n}-grams")
        if self.rows[:, -1].min() < FIRST_CANDIDATE or self.counts.min() < 1:
            raise ValueError("n-grams that cannot have been counted")

    def sample(self, most: int, seed: int) -> Grams:
        """Return at most so many of them, drawn at random."""
        if len(self.rows) <= most:
            return self
        drawn = np.sort(np.random.default_rng(seed).permutation(len(self.rows))[:most])
        return Grams(self.rows[drawn], self.counts[drawn])

    def joined(self, other: Grams) -> Grams:
        """Return the n-grams of both, over one vocabulary."""
        rows = np.concatenate([self.rows, other.rows])
        first, place = number_rows(rows)
        counts = np.bincount(place, np.concatenate([self.counts, other.counts]))
        return Grams(rows[first], counts.astype(np.int64))
