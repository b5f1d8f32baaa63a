"""Scores of windows of a stream: each distinct string of templates is scored once, push after push.

An early score is what can be said of a window before it ends. A causal detector gives an event a
score that no later event changes, and a sequence at least the score of its worst event. So the
worst event so far is a bound from below: where it is above the threshold, the whole window will be,
and an alarm raised now breaks no promise. A score that may fall as events arrive (a mean, a
distance to what is still to come) bounds nothing, and waits for the window to end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors import Detector, detector_class
from oddlog.events import Sequences

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
        return self._look_up(sequences, self._known, self._whole)

    def early(self, sequences: Sequences) -> Floats:
        """Return (n,) the score of each window's worst event so far."""
        return self._look_up(sequences, self._early, self._worst)

    def _whole(self, sequences: Sequences) -> Floats:
        return self._detector.score(sequences.without_labels()).sequence.astype(np.float64)

    def _worst(self, sequences: Sequences) -> Floats:
        events = self._detector.score(sequences.without_labels()).event
        if events is None:
            return np.full(len(sequences), -np.inf)
        return np.maximum.reduceat(events, sequences.offsets[:-1]).astype(np.float64)

    def _look_up(
        self, sequences: Sequences, known: dict[Hashable, float], score: Callable[..., Floats]
    ) -> Floats:
        if not self.reads_ids:
            return score(sequences)
        strings = strings_of(sequences)
        new: dict[Hashable, int] = {}
        for index, string in enumerate(strings):
            if string not in known:
                new.setdefault(string, index)
        if new:
            found = score(sequences.take(list(new.values())))
            known.update(zip(new, found.tolist(), strict=True))
        scores = np.fromiter((known[s] for s in strings), np.float64, len(strings))
        if len(known) > self._max_cached:
            for string in list(known)[: len(known) - self._max_cached // 2]:
                del known[string]
        return scores


def reads_text(detector: Detector) -> bool:
    """Tell whether a detector, or a member of an ensemble, may look at more than template ids."""
    members = getattr(detector.config, "members", ())
    kinds = (type(detector), *map(detector_class, members))
    return any(getattr(kind, "reads_messages", False) for kind in kinds)


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
