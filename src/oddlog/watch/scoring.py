"""Scores of windows of a stream: each distinct string of templates is scored once, push after push.

An early score is what can be said of a window before it ends. A causal detector gives an event a
score that no later event changes, and a sequence at least the score of its worst event. So the
worst event so far is a bound from below: where it is above the threshold, the whole window will be,
and an alarm raised now breaks no promise. A score that may fall as events arrive (a mean, a
distance to what is still to come) bounds nothing, and waits for the window to end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors import Detector, reads_text
from oddlog.events import Sequences
from oddlog.group import Tails

Floats = NDArray[np.float64]


class Scorer:
    """A detector that remembers.

    Args:
        detector: A fitted one.
        max_cached: Distinct windows to remember; beyond them the oldest half is forgotten.
    """

    def __init__(self, detector: Detector, max_cached: int) -> None:
        self._detector = detector
        self._max_cached = max_cached
        self._known: dict[Hashable, float] = {}
        self._early: dict[Hashable, float] = {}
        self.reads_ids = not reads_text(detector)

    def sequence(self, sequences: Sequences) -> Floats:
        """Return (n,) the scores of windows."""
        if not self.reads_ids:
            return self._whole(sequences)
        strings = strings_of(sequences)
        return self._look_up(strings, self._known, lambda i: self._whole(sequences.take(i)))

    def early(self, tails: Tails) -> Floats:
        """Return (n,) the score of the worst new event of each window that has grown."""
        windows, n_before = tails.windows, tails.n_before
        strings = list(zip(n_before.tolist(), strings_of(windows), strict=True))
        return self._look_up(
            strings, self._early, lambda i: self._worst(windows.take(i), n_before[i])
        )

    def _whole(self, sequences: Sequences) -> Floats:
        return self._detector.score(sequences.without_labels()).sequence.astype(np.float64)

    def _worst(self, sequences: Sequences, n_before: NDArray[np.int64]) -> Floats:
        events = self._detector.score(sequences.without_labels()).event
        if events is None:
            return np.full(len(sequences), -np.inf)
        first, last = sequences.offsets[:-1] + n_before, sequences.offsets[1:]
        bounds = np.stack([first, last], axis=1).ravel()[:-1]  # new, not new, new ...
        return np.maximum.reduceat(events, bounds)[::2].astype(np.float64)

    def _look_up(
        self,
        strings: Sequence[Hashable],
        known: dict[Hashable, float],
        score: Callable[[list[int]], Floats],
    ) -> Floats:
        new: dict[Hashable, int] = {}
        for index, string in enumerate(strings):
            if string not in known:
                new.setdefault(string, index)
        if new:
            found = score(list(new.values()))
            known.update(zip(new, found.tolist(), strict=True))
        scores = np.fromiter((known[s] for s in strings), np.float64, len(strings))
        if len(known) > self._max_cached:
            for string in list(known)[: len(known) - self._max_cached // 2]:
                del known[string]
        return scores


def memory_of(detector: Detector) -> int | None:
    """Return how many events before an event its score depends on; None for all of them."""
    return getattr(detector, "memory", None)


def strings_of(sequences: Sequences) -> list[Hashable]:
    """Return (n,) values that are equal where windows have the same templates and marks.

    Templates that were not known at fit time count as equal if they stand in the same places.
    """
    ids = sequences.template_ids()
    strange = np.logical_or.reduceat(ids < 0, sequences.offsets[:-1]) if len(sequences) else ()
    bounds = sequences.offsets.tolist()
    marks = zip(sequences.starts.tolist(), sequences.ends.tolist(), strict=True)
    strings: list[Hashable] = []
    for i, mark in enumerate(marks):
        own = ids[bounds[i] : bounds[i + 1]]
        strings.append((mark, (_renumbered(own) if strange[i] else own).tobytes()))
    return strings


def _renumbered(ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number the negative ids -1, -2 ... in the order of their first appearance."""
    places = np.flatnonzero(ids < 0)
    _, first, inverse = np.unique(ids[places], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first))
    renumbered = ids.copy()
    renumbered[places] = -1 - rank[inverse]
    return renumbered
