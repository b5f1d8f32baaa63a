"""What a detector is shown of a test: nothing that its labels can be read from.

Besides the labels themselves these are names (a trace may be called after its attack), raw lines
(Blue Gene/L writes the label into the first column), and the order: sets list their normal
sequences first. So the windows come in an order of their own, over a table that knows neither
source nor line, and their scores are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import DetectorError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores

SHOWN = ("time", "level", "host", "message", "template_id")
"""Columns of a test's events that a detector is shown."""
N_AGAIN = 64
RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""By how much a sequence's scores of two calls may differ: other batches round otherwise."""


@dataclass(frozen=True, eq=False)
class Blinded:
    """A test as a detector is shown it.

    Attributes:
        sequences: The windows, in another order, without names and labels.
        order: (n,) number in the test of each window shown.
        entries: (m,) place in the test's rows of each entry shown.
    """

    sequences: Sequences
    order: NDArray[np.int64]
    entries: NDArray[np.int64]

    def put_back(self, scores: Scores) -> Scores:
        """Return what was said of the windows shown in the order of the test.

        Raises:
            DetectorError: Not one score for each window: a detector leaves none out.
        """
        n, m = len(self.order), len(self.entries)
        if len(scores.sequence) != n:
            raise DetectorError(f"a detector gave {len(scores.sequence)} scores for {n} sequences")

        def restored(values: NDArray) -> NDArray:
            back = np.empty_like(values)
            back[self.order if len(values) == n else self.entries] = values
            return back

        return Scores(
            restored(scores.sequence),
            None if scores.event is None else restored(scores.event),
            {k: restored(v) if len(v) in (n, m) else v for k, v in scores.measures.items()},
            scores.class_names,
            None if scores.class_probs is None else restored(scores.class_probs),
            scores.n_unjudged,
        )

    def put_back_blame(
        self, explanations: Sequence[Explanation], test: Sequences
    ) -> list[Explanation]:
        """Return explanations of the windows shown as ones of the test, in its order."""
        back = dict(zip(self.order.tolist(), explanations, strict=True))
        return [
            Explanation(
                key,
                tuple(
                    replace(culprit, row=int(test.rows[self.entries[culprit.row]]))
                    for culprit in back[place].culprits
                ),
            )
            for place, key in enumerate(test.keys)
        ]


def blind(test: Sequences, seed: int) -> Blinded:
    """Hide from a test what its labels can be read from."""
    order = np.random.default_rng(seed).permutation(len(test))
    lengths = test.lengths[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    entries = np.repeat(test.offsets[:-1][order], lengths) + within
    shown = test.events.select(name for name in SHOWN if name in test.events.columns)
    events = shown[test.rows[entries]].with_columns(
        pl.lit("test").alias("source"), pl.int_range(1, pl.len() + 1).alias("line")
    )
    n = len(test)
    return Blinded(
        Sequences(
            events=events.select("source", "line", *shown.columns),
            rows=np.arange(len(entries)),
            offsets=offsets,
            keys=pl.Series("key", np.arange(n)).cast(pl.String),
            labels=pl.Series("label", [None], dtype=pl.String).new_from_index(0, n),
            starts=test.starts[order],
            ends=test.ends[order],
        ),
        order,
        entries,
    )


def some_again(shown: Sequences, scores: Scores) -> tuple[Sequences, NDArray[np.float32]]:
    """Return a few of the windows shown, at most half, the last one first, and their scores."""
    n = max(1, min(N_AGAIN, len(shown) // 2))
    chosen = np.unique(np.linspace(0, len(shown) - 1, n).astype(np.int64))[::-1]
    return shown.take(chosen), scores.sequence[chosen]


def check_pure(name: str, given: NDArray[np.floating], again: NDArray[np.floating]) -> None:
    """Make sure that windows scored once more, without the others, are scored as before.

    A detector that remembers what it scored, or that ranks a test's windows among each other, has
    learned from the test.

    Raises:
        DetectorError: A score differs.
    """
    differs = ~np.isclose(given, again, rtol=RELATIVE, atol=ABSOLUTE)
    if differs.any():
        worst = int(np.argmax(differs))
        raise DetectorError(
            f"{name}: a sequence scored {given[worst]:.6g} among the whole test and "
            f"{again[worst]:.6g} among a few: its scores depend on what else it is shown; a "
            "detector's score has to be a function of the sequence alone"
        )
