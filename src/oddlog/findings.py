"""What detection yields: scores, the events that made them, and alerts that carry the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 1e-5  # by which scores of one sequence may differ, and still tie


@dataclass(frozen=True, eq=False)
class Scores:
    """What a detector says of n sequences with m events.

    Attributes:
        sequence: (n,) float32, higher is more anomalous; never NaN.
        event: (m,) float32 beside ``Sequences.rows``, or None where a detector has none.
        measures: Named arrays of length n or m (rank, surprise, distance), from which a paper's
            own rule can be applied whatever the default score is.
        class_names: Names of the classes in ``class_probs``.
        class_probs: (n, n_classes) float32, or None.
        n_unjudged: Sequences that got the detector's declared default score.
    """

    sequence: NDArray[np.float32]
    event: NDArray[np.float32] | None = None
    measures: Mapping[str, NDArray] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    class_probs: NDArray[np.float32] | None = None
    n_unjudged: int = 0


@dataclass(frozen=True)
class Culprit:
    """An event that made a sequence's score.

    Attributes:
        row: Row of the event in ``Sequences.events``.
        position: 0-based place of the event in its sequence; the sequence's length where the
            culprit is that something did not come (``row`` is then its last event).
        score: The event's own score, on the scale of ``Scores.event``.
        expected: (template id, probability) of what would have been normal there, likeliest
            first; ``END`` stands for the end of the session.
        by: Name of the detector that blames it, where several were asked.
    """

    row: int
    position: int
    score: float
    expected: tuple[tuple[int, float], ...] = ()
    by: str | None = None


END = -(2**31)  # in Culprit.expected: the session should have ended here


@dataclass(frozen=True)
class Explanation:
    """The culprits of one sequence, worst first."""

    key: str
    culprits: tuple[Culprit, ...]


@dataclass(frozen=True)
class Alert:
    """One story for a person: the flagged sequence and its evidence.

    Attributes:
        key: The sequence's name.
        score: Its score; ``threshold`` is on the same scale.
        p_value: Share of normal sequences that would score as high or higher, by calibration.
        lines: (source, line, raw) of the sequence's events, culprits included.
        culprits: One mapping per culprit, as in a record of ``oddlog score --explain``.
        count: How many flags were folded into this alert.
        model: Name of the detector.
    """

    key: str
    score: float
    p_value: float
    threshold: float
    first_time: datetime | None
    last_time: datetime | None
    sources: tuple[str, ...]
    lines: tuple[tuple[str, int, str | None], ...]
    culprits: tuple[Mapping[str, object], ...]
    count: int
    model: str
