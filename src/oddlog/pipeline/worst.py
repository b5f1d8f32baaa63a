"""The worst sequences of a log, whole, kept while its parts go by and are let go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.group.store import own_text
from oddlog.pipeline.result import Result


@dataclass(frozen=True, eq=False)
class _Kept:
    """Some sequences with their scores, and a row for each that says where in the log it is."""

    result: Result
    places: pl.DataFrame

    def best(self, n: int) -> _Kept:
        """Return the n that score highest; of equal scores those that come first in the log."""
        by = pl.DataFrame({"score": self.result.scores.sequence, **self.places.to_dict()})
        by = by.with_columns(key=self.result.sequences.keys)
        down = [True] + [False] * (by.width - 1)
        order = (
            by.select(pl.arg_sort_by(by.columns, descending=down)).to_series().head(n).to_numpy()
        )
        return self.take(order)

    def take(self, index: NDArray[np.integer]) -> _Kept:
        """Return the chosen ones."""
        return _Kept(self.result.take(index), self.places[index])

    def with_own_text(self) -> _Kept:
        """Return them without the rest of the table that their text was gathered from."""
        sequences = self.result.sequences
        own = replace(sequences, events=own_text(sequences.events))
        return _Kept(replace(self.result, sequences=own), self.places)


class Worst:
    """The n worst sequences of all results that were added; several threads may add.

    What is worse than another does not depend on which part comes first.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._lock = Lock()
        self._kept: _Kept | None = None

    def add(self, result: Result, places: pl.DataFrame) -> None:
        """Look at a part.

        Args:
            result: The part, judged.
            places: A row for each sequence, by which they are in the order of the log.
        """
        index = result.worst(self._n)
        chosen = _Kept(result.take(index), places[index])
        with self._lock:
            kept = chosen if self._kept is None else _joined(self._kept, chosen)
            self._kept = kept.best(self._n).with_own_text()

    def found(self) -> tuple[Result, pl.DataFrame]:
        """Return the worst ones, worst first, with their places.

        Raises:
            ValueError: No part was added.
        """
        if self._kept is None:
            raise ValueError("no part of the log was judged")
        return self._kept.result, self._kept.places


def _joined(one: _Kept, other: _Kept) -> _Kept:
    sequences = Sequences.concat([one.result.sequences, other.result.sequences])
    scores = _joined_scores(one.result.scores, other.result.scores)
    result = replace(one.result, sequences=sequences, scores=scores)
    return _Kept(result, pl.concat([one.places, other.places]))


def _joined_scores(one: Scores, other: Scores) -> Scores:
    probs = None
    if one.class_probs is not None and other.class_probs is not None:
        probs = np.concatenate([one.class_probs, other.class_probs])
    return replace(one, sequence=np.concatenate([one.sequence, other.sequence]), class_probs=probs)
