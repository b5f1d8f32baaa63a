"""Which events made the score of a count vector: from signed amounts per template to culprits.

A detector on counts says for each template how much of a score is its doing: above zero where a
sequence has too many of its events, below where it has too few. A surplus is shared by the events
of the template; a lack is told after the last event, with the templates that were expected. Where a
score has no such terms, ``by_occlusion`` finds them by putting the normal count in place of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation
from oddlog.vectors import Counted, Known, Rows, Vectors, block_rows, find_nearest_rows

Blame = Callable[[Rows], NDArray[np.float64]]
"""From (rows, V + 1) counts to (rows, V + 1) signed amounts."""
LEAST = 0.05
"""A template to which less than this share of the largest amount falls is no culprit."""


@dataclass(frozen=True, eq=False)
class _Shares:
    """Amounts of Q distinct vectors, taken apart.

    Attributes:
        surplus: (cells,) what one event of the cell's template has too much; else 0.
        lacking: (k, 2) vector and column of what is too rare.
        lack: (k,) how much.
    """

    surplus: NDArray[np.float64]
    lacking: NDArray[np.int64]
    lack: NDArray[np.float64]


def event_scores(
    sequences: Sequences, counted: Counted, known: Known, blame: Blame
) -> NDArray[np.float32]:
    """Return (m,) the surplus of each event; all events of a template in a sequence share it."""
    shares = _take_apart(counted.vectors, known.width, blame, 0.0)
    return _spread(sequences, counted, known.width, shares.surplus).astype(np.float32)


def explain(
    sequences: Sequences, counted: Counted, known: Known, blame: Blame
) -> list[Explanation]:
    """Return the culprits of each sequence: events in surplus, and what is missing after the last.

    The latter's score is that of the template that is missing most, and ``expected`` lists the
    templates with the share of training sequences that hold them, likeliest first.
    """
    shares = _take_apart(counted.vectors, known.width, blame, LEAST)
    events = _spread(sequences, counted, known.width, shares.surplus)
    bounds = np.searchsorted(shares.lacking[:, 0], np.arange(len(counted.vectors) + 1))
    explanations = []
    # One turn per sequence: an explanation is an object of its own, asked for flagged ones.
    for i, (key, query) in enumerate(zip(sequences.keys, counted.inverse, strict=True)):
        first, last = int(sequences.offsets[i]), int(sequences.offsets[i + 1])
        own = slice(bounds[query], bounds[query + 1])
        expected = _expected(shares.lacking[own, 1], known)
        culprits = [
            Culprit(int(sequences.rows[first + p]), int(p), float(events[first + p]), expected)
            for p in np.flatnonzero(events[first:last] > 0)
        ]
        if expected:
            row, worst = int(sequences.rows[last - 1]), float(shares.lack[own].max())
            culprits.append(Culprit(row, last - first, worst, expected))
        culprits.sort(key=lambda culprit: -culprit.score)
        explanations.append(Explanation(key, tuple(culprits)))
    return explanations


def _expected(columns: NDArray[np.int64], known: Known) -> tuple[tuple[int, float], ...]:
    share = known.share[columns]
    order = np.argsort(-share, kind="stable")
    templates = known.vocabulary[columns[order]].tolist()
    return tuple(zip(templates, share[order].tolist(), strict=True))


def _take_apart(vectors: Vectors, width: int, blame: Blame, least: float) -> _Shares:
    """Ask for the amounts block by block; leave out those below a share of the row's largest."""
    step = block_rows(width)
    surplus, lack = [np.empty(0)], [np.empty(0)]
    lacking = [np.empty((0, 2), dtype=np.int64)]
    for first in range(0, len(vectors), step):
        last = min(first + step, len(vectors))
        amounts = blame(vectors.dense(first, last, width))
        size = np.abs(amounts)
        amounts = np.where(size >= least * size.max(axis=1, keepdims=True), amounts, 0.0)
        cells = slice(vectors.offsets[first], vectors.offsets[last])
        owners = np.repeat(np.arange(last - first), np.diff(vectors.offsets[first : last + 1]))
        found = amounts[owners, vectors.columns[cells]]
        surplus.append(np.maximum(found, 0) / vectors.counts[cells])
        row, column = np.nonzero(amounts[:, :-1] < 0)  # nobody expects an unknown template
        lacking.append(np.stack([row + first, column], axis=1))
        lack.append(-amounts[row, column])
    return _Shares(np.concatenate(surplus), np.concatenate(lacking), np.concatenate(lack))


def _spread(
    sequences: Sequences, counted: Counted, width: int, of_cells: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (m,) the value of each event's cell."""
    events = np.repeat(counted.inverse, sequences.lengths) * width + counted.columns
    return of_cells[np.searchsorted(counted.vectors.keys(width), events)]


def by_occlusion(score: Callable[[Rows], NDArray[np.float64]], normal: Vectors) -> Blame:
    """Return amounts by which a score falls if a template's count is made normal.

    Normal is what the nearest normal training vector has. Where no single template lowers the
    score, all that differ share equally what they lower it together, or, where they do not, the
    score: the nearest is then as odd, and still the best clue.

    Args:
        score: From (rows, V + 1) counts to (rows,) scores.
        normal: Normal training vectors.
    """

    def blame(rows: Rows) -> NDArray[np.float64]:
        nearest, _ = find_nearest_rows(rows, normal)
        usual = normal.take(nearest).dense(0, len(rows), rows.shape[1])
        row, column = np.nonzero(rows != usual)
        whole = score(rows)
        fall = np.zeros(rows.shape)
        step = block_rows(rows.shape[1])
        for first in range(0, len(row), step):
            own = row[first : first + step]
            at = column[first : first + step]
            changed = rows[own]
            changed[np.arange(len(own)), at] = usual[own, at]
            fall[own, at] = np.maximum(whole[own] - score(changed), 0)
        lower = whole - score(usual)
        together = np.where(lower > 0, lower, np.maximum(whole, 0))
        together = together / np.maximum((rows != usual).sum(axis=1), 1)
        alone = fall.max(axis=1, initial=0) > 0
        fall = np.where(alone[:, None], fall, together[:, None])
        return fall * np.sign(rows - usual)

    return blame
