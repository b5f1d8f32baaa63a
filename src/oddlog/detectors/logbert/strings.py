"""A window as LogBERT's second reader sees it: how often each template occurs, one token each.

    [BEGIN or HIDDEN] [BEGIN or HIDDEN] c_1 c_2 .. c_V

The first mark says whether the window holds its session's beginning, the second in the same way
whether it holds its end. The j-th token behind them is the number of events of the j-th template of
the vocabulary, as a token of its own: the place says which template, the token how many. Masked
prediction of such a string is p(how many of these | how many of all others), which is what an event
too many, or one missing, changes; writers that run side by side, interleaved anew in every session,
leave it alone.
"""

from __future__ import annotations

import numpy as np

from oddlog.distinct import Distinct
from oddlog.encode import BEGIN, END, HIDDEN, N_MARKS, Vocabulary
from oddlog.events import Sequences
from oddlog.nn.strings import EXACT, N_COUNT_MARKS, counted

STEPS = 3
"""Counts above ``EXACT`` are told apart by a factor of 2 ** (1 / STEPS), as in ``nn.strings``."""
N_COUNTS = EXACT + STEPS * 20 + 1
"""Distinct tokens for counts: from 0 to ``EXACT * 2**20``."""
UNBOUNDED = 2**40


def n_places(vocabulary: Vocabulary, context: int) -> int:
    """Return V', how many templates have a place: the most frequent, if the context is short."""
    return min(vocabulary.n_keys, context - N_COUNT_MARKS)


def count_strings(sequences: Sequences, vocabulary: Vocabulary, context: int) -> Distinct:
    """Return the distinct count strings of n windows; ``of_chunk`` (n,) says whose is whose.

    Events of unknown templates, and of those without a place, are not in them.
    """
    found = counted(sequences, vocabulary, UNBOUNDED).distinct  # (d,) sorted keys, thinned counts
    width = n_places(vocabulary, context)
    owner = np.repeat(np.arange(len(found)), found.lengths)
    within = np.arange(len(owner)) - found.offsets[:-1][owner]
    place = found.tokens - N_MARKS
    counts = (within >= N_COUNT_MARKS) & (place >= 0) & (place < width)
    cells = owner[counts] * width + place[counts]
    table = np.empty((len(found), width + N_COUNT_MARKS), dtype=np.int64)
    first = found.offsets[:-1]
    table[:, 0] = np.where(found.tokens[first] == BEGIN, BEGIN, HIDDEN)
    table[:, 1] = np.where(found.tokens[first + 1] == END, BEGIN, HIDDEN)
    shown = np.bincount(cells, minlength=len(found) * width).reshape(len(found), width)
    table[:, N_COUNT_MARKS:] = N_MARKS + np.minimum(shown, N_COUNTS - 1)
    offsets = np.arange(len(found) + 1) * table.shape[1]
    return Distinct(table.ravel(), offsets, found.counts, found.of_chunk)
