"""Which messages made an answer: each distinct one of a sequence is left out, and asked again.

Leaving out one of ten equal messages changes nothing; so all that are equal go together, and the
blame is shared among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors.logllm.texts import Ints, Strings
from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import Chunks
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation

N_CULPRITS = 5
MESSAGES_AT_ONCE = 1_000_000
"""Messages of shortened strings that are made at once: bounds memory."""
Judge = Callable[[Distinct], NDArray[np.float64]]
"""From d strings to their (d,) log-odds of being anomalous."""


def explain(sequences: Sequences, strings: Strings, judge: Judge) -> list[Explanation]:
    """Name the events without which a sequence would be found less anomalous, worst first.

    A culprit's score is by how many nats its message raises the log-odds, shared by all events of
    that message. Where nothing lowers them alone, every message shares what is left to blame.
    """
    amounts = blame(strings.distinct, judge)  # beside the distinct strings' messages
    explanations = []
    for i, key in enumerate(sequences.keys):  # one object for each sequence that is asked about
        own = slice(*strings.offsets[i : i + 2])
        string = strings.distinct.of_chunk[i]
        shares = amounts[slice(*strings.distinct.offsets[string : string + 2])]
        worst = np.argsort(-shares, kind="stable")[:N_CULPRITS]
        positions = strings.positions[own][worst]
        rows = sequences.rows[sequences.offsets[i] + positions]
        culprits = [
            Culprit(int(row), int(position), float(shares[place]))
            for row, position, place in zip(rows, positions, worst, strict=True)
            if shares[place] > 0
        ]
        explanations.append(Explanation(str(key), tuple(culprits)))
    return explanations


def blame(distinct: Distinct, judge: Judge) -> NDArray[np.float64]:
    """Return (t,) each message's share of its string's log-odds, above 0 or 0."""
    whole = judge(distinct)
    amounts = np.zeros(len(distinct.tokens))
    for first, last in _blocks(distinct):
        tokens = slice(distinct.offsets[first], distinct.offsets[last])
        amounts[tokens] = _block(distinct, first, last, whole[first:last], judge)
    return amounts


def _blocks(distinct: Distinct) -> Iterator[tuple[int, int]]:
    """Yield ranges of strings; with n messages one has at most n * n in its shortened strings."""
    cost = np.cumsum(distinct.lengths**2)
    first = 0
    while first < len(distinct):
        spent = cost[first - 1] if first else 0
        last = int(np.searchsorted(cost, spent + MESSAGES_AT_ONCE, side="right"))
        last = max(last, first + 1)
        yield first, last
        first = last


def _block(
    distinct: Distinct, first: int, last: int, whole: NDArray[np.float64], judge: Judge
) -> NDArray[np.float64]:
    lengths = distinct.lengths[first:last]
    offsets = distinct.offsets[first : last + 1] - distinct.offsets[first]
    tokens = distinct.tokens[distinct.offsets[first] : distinct.offsets[last]]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    width = int(tokens.max()) + 1
    pairs, pair, times = np.unique(owner * width + tokens, return_inverse=True, return_counts=True)
    string, code = pairs // width, pairs % width
    shortened, kept = _without(tokens, offsets, string, code)
    fall = np.zeros(len(pairs))
    fall[kept] = whole[string[kept]] - judge(shortened)[shortened.of_chunk]
    fall = np.maximum(fall, 0.0)
    helps = np.bincount(string, fall > 0, minlength=len(lengths)) > 0
    alone = np.logaddexp(0.0, whole) / np.bincount(string, minlength=len(lengths))
    fall = np.where(helps[string], fall, alone[string])
    return (fall / times)[pair]


def _without(tokens: Ints, offsets: Ints, string: Ints, code: Ints) -> tuple[Distinct, Ints]:
    """Leave each code out of its string.

    Returns:
        The shortened strings, and (c,) which pairs of string and code they are of: a string of one
        code alone would be empty.
    """
    sizes = np.diff(offsets)[string]
    begins = np.cumsum(sizes) - sizes
    within = np.arange(sizes.sum()) - np.repeat(begins, sizes)
    flat = tokens[np.repeat(offsets[:-1][string], sizes) + within]
    stays = flat != np.repeat(code, sizes)
    left = np.bincount(np.repeat(np.arange(len(sizes)), sizes), stays, minlength=len(sizes))
    left = left.astype(np.int64)
    kept = np.flatnonzero(left)
    begins = (np.cumsum(left) - left)[kept]
    chunks = Chunks(begins, left[kept], np.zeros(len(kept), dtype=np.int64))
    return find_distinct(flat[stays], chunks), kept
