"""Whom the classifier blames: what its odds of an anomaly lose without an event.

Without an event, without all events of one kind, and without the end of the session; in strings of
more than ``MOST`` events without runs of adjacent ones. An event is blamed for the largest share of
a loss that it has: what is lost without a group is divided among its events, as of three equal
signs none is missed alone. The end is to blame only where no group of events is enough to make the
sequence normal: a string without its end is an unusual one anyway. Where nothing that is taken out
lowers the odds, something is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import Chunks
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation

MOST = 64
"""Runs of events, and kinds of events, that are taken out of one string, at most."""
LEAST = 0.05
"""An event with less than this share of the largest blame is no culprit."""
TOKENS_AT_ONCE = 2**20

Odds = Callable[[Distinct, NDArray[np.int64], NDArray[np.bool_]], NDArray[np.float64]]
"""From distinct strings, which of them each variant is (v,), and whether an unknown template is
left in it (v,), to log odds of an anomaly (v,)."""


@dataclass(frozen=True, eq=False)
class Case:
    """One sequence of L events to be explained.

    Attributes:
        tokens: (t,) int64, its deciding string, a mark first.
        place: (t,) int64, the event of each token as its place in the sequence, -1 for a mark.
        kinds: (L,) int64, the same for events that read the same.
        novel: (L,) bool, whether an event's template is unknown.
    """

    tokens: NDArray[np.int64]
    place: NDArray[np.int64]
    kinds: NDArray[np.int64]
    novel: NDArray[np.bool_]

    def groups(self) -> list[NDArray[np.int64]]:
        """Return what is taken out: places of events; the length stands for the end mark."""
        seen = np.unique(np.concatenate([self.place[self.place >= 0], np.flatnonzero(self.novel)]))
        if not len(seen):
            return []
        groups = np.array_split(seen, min(len(seen), MOST))
        kinds, n = np.unique(self.kinds[seen], return_counts=True)
        kinds = kinds[n > 1][np.argsort(-n[n > 1], kind="stable")][:MOST]
        groups += [seen[self.kinds[seen] == kind] for kind in kinds]
        if len(self.tokens) > 1 and self.place[-1] < 0:
            groups.append(np.array([len(self.kinds)]))
        return groups

    def without(self, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
        """Return the string without a group, and whether an unknown template is left."""
        place = self.place.copy()
        if len(place) > 1 and place[-1] < 0:
            place[-1] = len(self.kinds)
        left = np.ones(len(self.kinds) + 1, dtype=bool)
        left[group] = False
        return self.tokens[~np.isin(place, group)], bool((self.novel & left[:-1]).any())


def explain_cases(sequences: Sequences, cases: Iterator[Case], odds: Odds) -> list[Explanation]:
    """Explain each sequence by its case; strings of many are scored together."""
    explanations: list[Explanation] = []
    held: list[tuple[Case, list[NDArray[np.int64]]]] = []
    n_tokens = 0
    for case in cases:
        groups = case.groups()
        held.append((case, groups))
        n_tokens += (len(groups) + 1) * len(case.tokens)
        if n_tokens > TOKENS_AT_ONCE:
            explanations += _explain(sequences, len(explanations), held, odds)
            held, n_tokens = [], 0
    return explanations + _explain(sequences, len(explanations), held, odds)


def _explain(
    sequences: Sequences,
    first: int,
    held: list[tuple[Case, list[NDArray[np.int64]]]],
    odds: Odds,
) -> list[Explanation]:
    """Explain the sequences from the first on."""
    nothing = np.empty(0, dtype=np.int64)
    variants = [case.without(group) for case, groups in held for group in (nothing, *groups)]
    strings = [tokens for tokens, _ in variants]
    left = np.array([novel for _, novel in variants], dtype=bool)
    found = iter(odds(*_distinct(strings), left))
    explanations = []
    for index, (case, groups) in enumerate(held, start=first):
        whole = next(found)
        left_over = np.array([next(found) for _ in groups])
        own = blame(len(case.kinds), groups, whole, left_over)
        culprits = _culprits(sequences, index, own, whole)
        explanations.append(Explanation(str(sequences.keys[index]), culprits))
    return explanations


def _distinct(strings: list[NDArray[np.int64]]) -> tuple[Distinct, NDArray[np.int64]]:
    sizes = np.array([len(string) for string in strings], dtype=np.int64)
    flat = np.concatenate([np.empty(0, dtype=np.int64), *strings])
    distinct = find_distinct(flat, Chunks(np.cumsum(sizes) - sizes, sizes, np.zeros_like(sizes)))
    return distinct, distinct.of_chunk


def blame(
    length: int, groups: list[NDArray[np.int64]], whole: float, without: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (length + 1,) the blame of each event, and of the end behind them.

    Args:
        length: Number of events.
        groups: Places of what was taken out together.
        whole: Log odds of the sequence.
        without: Log odds without each group.
    """
    found = np.zeros(length + 1)
    for group, odds in zip(groups, without, strict=True):
        found[group] = np.maximum(found[group], (whole - odds) / len(group))
    of_events = [odds for group, odds in zip(groups, without, strict=True) if group[0] < length]
    if min(of_events, default=whole) < 0 < whole:
        found[-1] = 0.0
    return found


def _culprits(
    sequences: Sequences, index: int, found: NDArray[np.float64], whole: float
) -> tuple[Culprit, ...]:
    first, last = int(sequences.offsets[index]), int(sequences.offsets[index + 1])
    if not found.any():
        found = found.copy()
        found[-1] = max(whole, 0.0)
    order = np.argsort(-found, kind="stable")
    chosen = order[(found[order] > 0) & (found[order] >= LEAST * found.max())]
    return tuple(
        Culprit(int(sequences.rows[min(first + p, last - 1)]), int(p), float(found[p]))
        for p in chosen
    )
