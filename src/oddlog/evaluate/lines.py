"""Lines against labels: do explanations and event scores point at the lines that labels blame?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddlog.errors import LabelsError
from oddlog.evaluate.bootstrap import Estimate, Resampling, check_columns, share
from oddlog.evaluate.ranking import Ranking, rank
from oddlog.events import Sequences, column
from oddlog.findings import Explanation


@dataclass(frozen=True)
class CulpritAccuracy:
    """How often explanations point at a line that the labels blame.

    Attributes:
        n: Anomalous sequences with a labelled line; the shares below are of these.
        n_without_line: Anomalous sequences in which no single line is labelled, left out.
        first: Share where the first culprit is a labelled line.
        first_three: Share where one of the first three is.
        chance_first: What picking one line at random would reach.
        chance_first_three: What picking three different lines at random would reach.
    """

    n: int
    n_without_line: int
    first: Estimate
    first_three: Estimate
    chance_first: float | None
    chance_first_three: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LineEvaluation:
    """Event scores against line labels.

    Attributes:
        n_lines: Labelled lines, each counted once.
        n_anomalous: Those labelled anomalous.
        n_unlabelled: Lines without a label, left out.
        ranking: The scores; intervals by resampling whole sequences.
    """

    n_lines: int
    n_anomalous: int
    n_unlabelled: int
    ranking: Ranking

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def culprit_accuracy(
    sequences: Sequences,
    explanations: Sequence[Explanation],
    resampling: Resampling | None = None,
) -> CulpritAccuracy:
    """Compare culprits with labelled lines, on the anomalous sequences that have any.

    Args:
        sequences: Labelled sequences over a table with line labels.
        explanations: One for each sequence, in order, culprits worst first. A culprit that says
            that something is missing counts by its row, the last event.
        resampling: How intervals are made; ``blocks`` number the sequences given.

    Raises:
        ValueError: Not one explanation for each sequence.
    """
    how = resampling or Resampling()
    check_columns(len(sequences), explanations=explanations, blocks=how.blocks)
    blamed_entry = sequences.event_anomalous()
    blamed_row = np.zeros(sequences.events.height, dtype=bool)
    blamed_row[sequences.rows] = blamed_entry
    n_blamed = np.bincount(sequences.owners[blamed_entry], minlength=len(sequences))
    anomalous = sequences.anomalous | (n_blamed > 0)
    judged = np.flatnonzero(n_blamed)
    # One turn per judged sequence: explanations are objects, not columns.
    chosen = [explanations[i] for i in judged.tolist()]
    first = [_hit(blamed_row, explanation, 1) for explanation in chosen]
    three = [_hit(blamed_row, explanation, 3) for explanation in chosen]
    inner = how if how.blocks is None else replace(how, blocks=how.blocks[judged])
    return CulpritAccuracy(
        n=len(judged),
        n_without_line=int(anomalous.sum()) - len(judged),
        first=share(np.array(first, dtype=bool), inner),
        first_three=share(np.array(three, dtype=bool), inner),
        chance_first=_chance(n_blamed[judged], sequences.lengths[judged], 1),
        chance_first_three=_chance(n_blamed[judged], sequences.lengths[judged], 3),
    )


def evaluate_lines(
    sequences: Sequences, event_scores: ArrayLike, resampling: Resampling | None = None
) -> LineEvaluation:
    """Judge event scores by line labels; a line in several windows counts once, by its worst score.

    Args:
        sequences: Sequences over a table with line labels.
        event_scores: (m,) beside ``sequences.rows``.
        resampling: How intervals are made; 200 resamples by default. The blocks are always the
            sequences (a line in several belongs to the first), as lines of one are not independent.

    Raises:
        LabelsError: No line has a label.
        ValueError: Not one score for each entry, or a score is NaN.
    """
    score = np.asarray(event_scores, dtype=np.float64)
    check_columns(len(sequences.rows), event_scores=score)
    rows, first = np.unique(sequences.rows, return_index=True)
    worst = np.full(sequences.events.height, -np.inf)
    np.maximum.at(worst, sequences.rows, score)
    known = column(sequences.events, "label").is_not_null().to_numpy()[rows]
    if not known.any():
        raise LabelsError("evaluate: no line has a label; give a log with labelled lines")
    truth = sequences.event_anomalous()[first][known]
    blocks = sequences.owners[first][known]
    how = replace(resampling or Resampling(n=200), blocks=blocks)
    return LineEvaluation(
        n_lines=len(truth),
        n_anomalous=int(truth.sum()),
        n_unlabelled=int((~known).sum()),
        ranking=rank(worst[rows][known], truth, how),
    )


def _hit(blamed: NDArray[np.bool_], explanation: Explanation, first: int) -> bool:
    return any(blamed[culprit.row] for culprit in explanation.culprits[:first])


def _chance(n_blamed: NDArray[np.int64], lengths: NDArray[np.int64], n: int) -> float | None:
    """Return the mean chance that n different lines picked at random hold a blamed one."""
    if not len(lengths):
        return None
    miss = np.ones(len(lengths))
    for i in range(n):
        miss *= np.clip(lengths - n_blamed - i, 0, None) / np.maximum(lengths - i, 1)
    return float(1 - miss.mean())
