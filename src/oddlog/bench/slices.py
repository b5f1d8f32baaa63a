"""Parts of a test that close a shortcut, or that are of one length or kind.

``no_unseen_key``: every template occurs in the normal training sequences. ``known_counts``: the
counts of all templates are those of one of them besides, so that an anomaly can be known by its
order alone; a detector that is to be called sequential has to be ahead here. ``not_a_copy`` and
``unknown_counts``: no training sequence, whatever its label, is the same, or has the same counts.
``length_...``: that many events. ``type_...``: anomalies of one class beside all normal sequences.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from oddlog.bench.protocols import Cut
from oddlog.events import NORMAL, Sequences

LENGTHS = (1, 11, 31, 101, 301)
"""The least number of events in each range of lengths."""
Masks = dict[str, NDArray[np.bool_]]


def slices_of(cut: Cut) -> Masks:
    """Return (n,) which sequences of the test are in each slice, by the slice's name."""
    test, learned, normal = cut.test, cut.parts[0], cut.learned("normal")[0]
    unseen = ~np.isin(test.template_ids(), np.unique(normal.template_ids()))
    no_unseen = np.bincount(test.owners, weights=unseen, minlength=len(test)) == 0
    return {
        "no_unseen_key": no_unseen,
        "known_counts": no_unseen & holds(test, normal, in_order=False),
        "not_a_copy": ~holds(test, learned, in_order=True),
        "unknown_counts": ~holds(test, learned, in_order=False),
        **_by_length(test),
        **_by_type(test),
    }


def holds(sequences: Sequences, train: Sequences, *, in_order: bool) -> NDArray[np.bool_]:
    """Return (n,) whether a training sequence has the same events, in the same order or in any.

    Compared are sums over events, modulo 2^64, of a random number for each template, or of its
    product with one for each place; two that differ agree about once in 10^18 pairs.
    """
    own, known = sequences.template_ids(), train.template_ids()
    ids = np.unique(np.concatenate([own, known]))
    rng = np.random.default_rng(0)
    numbers = rng.integers(2**64 - 1, size=len(ids), dtype=np.uint64)
    longest = max(int(part.lengths.max(initial=0)) for part in (sequences, train))
    factors = rng.integers(2**64 - 1, size=longest, dtype=np.uint64) | np.uint64(1)

    def sums(part: Sequences, events: NDArray[np.int32]) -> NDArray[np.uint64]:
        terms = numbers[np.searchsorted(ids, events)]
        if in_order:
            terms *= factors[np.arange(len(events)) - np.repeat(part.offsets[:-1], part.lengths)]
        return np.add.reduceat(terms, part.offsets[:-1])

    return np.isin(sums(sequences, own), sums(train, known))


def _by_length(test: Sequences) -> Masks:
    """Return the ranges of lengths that there are, none where there is one."""
    found = {}
    for low, high in pairwise([*LENGTHS, sys.maxsize]):
        name = f"length_{low}" + (f"_{high - 1}" if high < sys.maxsize else "")
        found[name] = (test.lengths >= low) & (test.lengths < high)
    found = {name: mask for name, mask in found.items() if mask.any()}
    return found if len(found) > 1 else {}


def _by_type(test: Sequences) -> Masks:
    """Return the classes of anomaly, none where there is one."""
    classes = sorted(test.labels.filter(test.anomalous).unique())
    if len(classes) < 2:
        return {}
    normal = (test.labels == NORMAL).to_numpy()
    return {f"type_{name}": normal | (test.labels == name).to_numpy() for name in classes}
