"""Count vectors: how often each template occurs in each sequence, every distinct vector once.

What the detectors that look at counts share. Vectors are sparse and over the V templates of
training; column V stands for any template that training never held. Dense rows are made in blocks
of bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.config import Config, build_stored
from oddlog.errors import ArtifactError
from oddlog.events import Sequences

BLOCK_CELLS = 2**22  # float64 cells of one block: 32 MB
BLOCK_ROWS = 2048

Rows = NDArray[np.int64]
"""(rows, V + 1) dense counts."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """D distinct sparse count vectors over V known templates and one column for all others.

    Attributes:
        offsets: (D + 1,) int64; vector i owns the cells ``offsets[i]:offsets[i + 1]``.
        columns: (cells,) int64, ascending within a vector; V stands for any unknown template.
        counts: (cells,) int64, at least 1.
        frequency: (D,) int64 sequences that have the vector.
    """

    offsets: NDArray[np.int64]
    columns: NDArray[np.int64]
    counts: NDArray[np.int64]
    frequency: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.frequency)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(cells,) the vector of each cell."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def keys(self, width: int) -> NDArray[np.int64]:
        """(cells,) vector * width + column, ascending."""
        return self.owners * width + self.columns

    def totals(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(D,) weighted number of events."""
        events = weights[self.columns] * self.counts
        return np.bincount(self.owners, events, minlength=len(self)).astype(np.float64)

    def over(self, old: NDArray[np.int32], new: NDArray[np.int32]) -> Vectors:
        """Return the vectors over a vocabulary that holds the one that they are over."""
        places = np.append(np.searchsorted(new, old), len(new))
        return replace(self, columns=places[self.columns])

    def take(self, index: NDArray[np.integer]) -> Vectors:
        """Return the vectors of these numbers, in this order."""
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        cells = np.repeat(self.offsets[:-1][index], lengths) + within
        return Vectors(offsets, self.columns[cells], self.counts[cells], self.frequency[index])

    def dense(self, first: int, last: int, width: int) -> Rows:
        """(last - first, width) counts of some vectors."""
        cells = slice(self.offsets[first], self.offsets[last])
        rows = np.repeat(np.arange(last - first), np.diff(self.offsets[first : last + 1]))
        table = np.zeros((last - first, width), dtype=np.int64)
        table[rows, self.columns[cells]] = self.counts[cells]
        return table


@dataclass(frozen=True, eq=False)
class Counted:
    """The count vectors of n sequences with m events.

    Attributes:
        vectors: The Q distinct ones, the most frequent first.
        inverse: (n,) the vector of each sequence.
        columns: (m,) the column of each event.
    """

    vectors: Vectors
    inverse: NDArray[np.int64]
    columns: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Known:
    """The templates of training, (V,) int32 ascending, and its distinct count vectors."""

    vocabulary: NDArray[np.int32]
    vectors: Vectors

    def __post_init__(self) -> None:
        vectors, cells = self.vectors, len(self.vectors.columns)
        if not (
            len(vectors.offsets) == len(vectors) + 1
            and vectors.offsets[-1] == cells == len(vectors.counts)
            and (vectors.columns.max(initial=0) <= len(self.vocabulary))
        ):
            raise ValueError("count vectors and vocabulary do not belong together")

    @property
    def width(self) -> int:
        """Number of columns: V known templates, and one for all others."""
        return len(self.vocabulary) + 1

    @cached_property
    def held(self) -> NDArray[np.float64]:
        """(V + 1,) training sequences that hold each template; 0 for an unknown one."""
        times = self.vectors.frequency[self.vectors.owners]
        held = np.bincount(self.vectors.columns, times, minlength=self.width)
        return np.append(held[:-1], 0.0)

    @property
    def n_sequences(self) -> int:
        """Number of training sequences."""
        return int(self.vectors.frequency.sum())

    @property
    def share(self) -> NDArray[np.float64]:
        """(V,) share of training sequences that hold each template."""
        return self.held[:-1] / self.n_sequences

    def count(self, sequences: Sequences) -> Counted:
        """Count templates in sequences; what training does not know is unknown."""
        columns = columns_of(sequences.template_ids(), self.vocabulary)
        return Counted(*distinct(sequences, columns, self.width), columns)


def learn_vectors(train: Sequences, vocabulary: NDArray[np.int32]) -> tuple[Known, Counted]:
    """Return the distinct count vectors of training over its ascending vocabulary (V,).

    The second says which of them each training sequence has.
    """
    columns = columns_of(train.template_ids(), vocabulary)
    vectors, inverse = distinct(train, columns, len(vocabulary) + 1)
    return Known(vocabulary, vectors), Counted(vectors, inverse, columns)


def columns_of(ids: NDArray[np.int32], vocabulary: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return (m,) places of template ids in an ascending vocabulary (V,), V for unknown ones."""
    place = np.minimum(np.searchsorted(vocabulary, ids), len(vocabulary) - 1)
    return np.where(vocabulary[place] == ids, place, len(vocabulary))


def distinct(
    sequences: Sequences, columns: NDArray[np.int64], width: int
) -> tuple[Vectors, NDArray[np.int64]]:
    """Return the distinct count vectors, the most frequent first, and each sequence's (n,)."""
    cells, counts = np.unique(sequences.owners * width + columns, return_counts=True)
    cell = pl.DataFrame({"owner": cells // width, "column": cells % width, "count": counts})
    groups = (
        cell.group_by("owner", maintain_order=True)
        .agg("column", "count")
        .group_by("column", "count", maintain_order=True)
        .agg("owner", pl.len().alias("frequency"))
        .sort("frequency", "column", "count", descending=[True, False, False])
    )
    frequency = groups["frequency"].to_numpy().astype(np.int64)
    inverse = np.empty(len(sequences), dtype=np.int64)
    inverse[groups["owner"].explode().to_numpy()] = np.repeat(np.arange(len(groups)), frequency)
    return _vectors_of(groups), inverse


def join(*parts: Vectors) -> Vectors:
    """Return the distinct vectors of all parts, over one vocabulary, the most frequent first."""
    tables = [
        pl.DataFrame({"vector": part.owners, "column": part.columns, "count": part.counts})
        .group_by("vector", maintain_order=True)
        .agg("column", "count")
        .with_columns(frequency=part.frequency)
        for part in parts
    ]
    groups = (
        pl.concat(tables)
        .group_by("column", "count", maintain_order=True)
        .agg(pl.col("frequency").sum())
        .sort("frequency", "column", "count", descending=[True, False, False])
    )
    return _vectors_of(groups)


def _vectors_of(groups: pl.DataFrame) -> Vectors:
    """Return the vectors of a table with lists in ``column`` and ``count``, and ``frequency``."""
    return Vectors(
        offsets=np.concatenate([[0], np.cumsum(groups["column"].list.len())]).astype(np.int64),
        columns=groups["column"].explode().to_numpy().astype(np.int64),
        counts=groups["count"].explode().to_numpy().astype(np.int64),
        frequency=groups["frequency"].to_numpy().astype(np.int64),
    )


def look_up(vectors: Vectors, keys: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the counts at vector * width + column; 0 where a vector has no such cell."""
    known = vectors.keys(width)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, vectors.counts[place], 0)


def by_blocks(
    vectors: Vectors, width: int, judge: Callable[[Rows], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what ``judge`` says of every vector, given as dense rows in blocks.

    Args:
        vectors: D vectors.
        width: Of the dense rows: V + 1.
        judge: From (rows, width) counts to (rows, ...) numbers, each row by itself.
    """
    rows = block_rows(width)
    starts = range(0, max(1, len(vectors)), rows)
    parts = [judge(vectors.dense(a, min(a + rows, len(vectors)), width)) for a in starts]
    return np.concatenate(parts)


def block_rows(width: int) -> int:
    """Return how many dense rows of this width are held at a time."""
    return max(1, min(BLOCK_ROWS, BLOCK_CELLS // width))


def find_nearest_rows(rows: Rows, known: Vectors) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (rows,) the nearest known vector by Euclidean distance, and the squared distance.

    Among equally near ones it is the first. |a - b|^2 = |a|^2 + |b|^2 - 2 a b: sums of integers,
    exact in float64.
    """
    width, step = rows.shape[1], block_rows(rows.shape[1])
    asked = rows.astype(np.float64)
    squares = (asked * asked).sum(axis=1)
    nearest = np.zeros(len(rows), dtype=np.int64)
    best = np.full(len(rows), np.inf)
    for first in range(0, len(known), step):
        held = known.dense(first, min(first + step, len(known)), width).astype(np.float64)
        squared = squares[:, None] + (held * held).sum(axis=1) - 2 * (asked @ held.T)
        near = squared.argmin(axis=1)
        value = squared[np.arange(len(rows)), near]
        nearest = np.where(value < best, first + near, nearest)
        best = np.minimum(best, value)
    return nearest, best


def save_fitted(folder: Path, config: Config, known: Known, arrays: Mapping[str, NDArray]) -> None:
    """Write ``config.json``, and ``model.safetensors`` with training's vectors and the arrays."""
    write_json(folder / "config.json", config.model_dump())
    learned = {"vocabulary": known.vocabulary, **vars(known.vectors)}
    named = {f"{KNOWN}{name}": array for name, array in learned.items()}
    save_arrays(folder / "model.safetensors", {**named, **arrays})


KNOWN = "known."
C = TypeVar("C", bound=Config)
M = TypeVar("M")


def load_fitted(folder: Path, config: type[C], model: Callable[..., M]) -> tuple[C, Known, M]:
    """Read what ``save_fitted`` wrote; ``model`` is called with the arrays by their names.

    Raises:
        ArtifactError: The folder is missing or damaged.
    """
    where = folder / "config.json"
    settings = build_stored(config, read_json(where), str(where))
    arrays = load_arrays(folder / "model.safetensors")
    try:
        learned = {
            name.removeprefix(KNOWN): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(KNOWN)
        }
        vocabulary = learned.pop("vocabulary")
        return settings, Known(vocabulary, Vectors(**learned)), model(**arrays)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
