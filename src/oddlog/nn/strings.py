"""Windows as the token strings that a network reads: in the order observed, or counted.

Counted, a window is read as how often each template occurs in it, whatever the order:

    [BEGIN or HIDDEN] [END or HIDDEN] k_1 k_1 k_1 k_2 k_3 k_3 ... END

its keys sorted, each as often as it occurs. The two marks say whether the window holds the
beginning and the end of its session. A language model of such strings is a joint distribution of
the counts, one factor for each "one more of these, or on to the next?". Writers that run side by
side interleave anew in every session: an oddity to a reader of the order, none to this one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import (
    BEGIN,
    END,
    ENTRY_OF_MARK,
    HIDDEN,
    Chunks,
    Tokens,
    Vocabulary,
    add_marks,
    cut_into_chunks,
)
from oddlog.events import Sequences

N_COUNT_MARKS = 2
WHOLE = 3
EXACT = 8
"""Counts up to here are told apart; higher ones by a factor of 2 ** (1 / 3)."""
MIN_SHARE = 0.05
"""Least share of training windows with a pair of marks for its windows to be judged."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """n token strings, their chunks, and the distinct ones among those."""

    tokens: Tokens
    chunks: Chunks
    distinct: Distinct

    @classmethod
    def of(cls, tokens: Tokens, context: int) -> Encoded:
        """Cut strings into chunks that overlap by half a context, and find the distinct ones."""
        chunks = cut_into_chunks(tokens.offsets, context, context // 2)
        return cls(tokens, chunks, find_distinct(tokens.tokens, chunks))

    def spread(self, values: NDArray) -> NDArray:
        """Carry a value of each distinct string's token to every token that it stands for.

        Args:
            values: (t',) or (t', k) beside ``distinct.tokens``.

        Returns:
            (t, ...) beside ``tokens.tokens``.
        """
        new = self.chunks.sizes - self.chunks.n_context  # (c,) tokens that this chunk is to score
        owner = np.repeat(np.arange(len(new)), new)
        within = np.arange(new.sum()) - np.repeat(np.cumsum(new) - new, new)
        within += self.chunks.n_context[owner]
        place = self.distinct.offsets[:-1][self.distinct.of_chunk[owner]] + within
        result = np.zeros((len(self.tokens.tokens), *values.shape[1:]), dtype=values.dtype)
        result[self.chunks.begins[owner] + within] = values[place]
        return result


def in_order(sequences: Sequences, vocabulary: Vocabulary, context: int) -> Encoded:
    """Encode windows as they were observed, with their marks."""
    return Encoded.of(add_marks(sequences, vocabulary.encode(sequences.template_ids())), context)


def counted(sequences: Sequences, vocabulary: Vocabulary, context: int) -> Encoded:
    """Encode windows as sorted keys; the module says how.

    A key's tokens stand for its first occurrences in the window. Above ``EXACT`` occurrences only
    some are shown: a count c as ``EXACT + round(3 log2(c / EXACT))`` tokens.
    """
    tokens = vocabulary.encode(sequences.template_ids())
    owner = sequences.owners
    order = np.lexsort((tokens, owner))  # stable: occurrences of a key keep their order
    changes = np.ones(len(order), dtype=bool)
    changes[1:] = (np.diff(tokens[order]) != 0) | (np.diff(owner[order]) != 0)
    first = np.maximum.accumulate(np.where(changes, np.arange(len(order)), 0))
    order = order[_is_shown(np.arange(len(order)) - first + 1)]
    lengths = np.bincount(owner[order], minlength=len(sequences)) + N_COUNT_MARKS + 1
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    marked = np.full(offsets[-1], END, dtype=np.int64)
    marked[offsets[:-1]] = np.where(sequences.starts, BEGIN, HIDDEN)
    marked[offsets[:-1] + 1] = np.where(sequences.ends, END, HIDDEN)
    inner = np.ones(offsets[-1], dtype=bool)
    for mark in (offsets[:-1], offsets[:-1] + 1, offsets[1:] - 1):
        inner[mark] = False
    entries = np.full(offsets[-1], ENTRY_OF_MARK, dtype=np.int64)
    marked[inner], entries[inner] = tokens[order], order
    return Encoded.of(Tokens(marked, offsets, entries), context)


def marks_of(sequences: Sequences) -> NDArray[np.int64]:
    """Return (n,) which of the four pairs of marks each window bears; ``WHOLE`` sessions, both."""
    return 2 * sequences.starts.astype(np.int64) + sequences.ends


def judged_marks(train: Sequences) -> NDArray[np.bool_]:
    """Return (4,) of which pairs of marks the windows are judged; see ``marks_of``.

    Whole sessions, if training has enough of them; what has been counted so far in one that goes on
    is not to be held against them, and where a log stops is not where another one does. Windows of
    lines or of time are no sessions, and are judged by whatever marks they bear.
    """
    enough = np.bincount(marks_of(train), minlength=4) >= MIN_SHARE * len(train)
    return enough & (np.arange(4) == WHOLE) if enough[WHOLE] else enough


def _is_shown(occurrence: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether a key's c-th occurrence, from 1, makes its string longer."""
    steps = np.arange(1, max(int(occurrence.max(initial=1)), EXACT) + 1)
    shown = np.where(steps <= EXACT, steps, EXACT + np.round(3 * np.log2(steps / EXACT)))
    return (np.diff(shown, prepend=0) > 0)[occurrence - 1]
