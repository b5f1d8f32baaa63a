"""What detection yields: scores, the events that made them, and alerts that carry the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from oddlog.errors import ArtifactError

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
        threshold: The score above which a sequence is flagged; None where none can be.
        first_time: Of the sequence's events the earliest time, None where the format has none.
        last_time: The latest time, of the sequences that were folded into this alert included.
        sources: Of the lines.
        lines: (source, line, raw) of the sequence's events, culprits included; of a long sequence
            those about its worst culprit.
        culprits: One mapping per culprit, as in a record of ``oddlog score --explain``.
        count: How many flags were folded into this alert.
        model: Name of the detector.
        id: The same for the same model, sequence and signature, whenever it is raised.
        signature: What the story is about, the same for every sequence that is odd in this way.
        kind: The likeliest kind of anomaly, "drift" where the log as a whole has changed, or None
            where the detector tells no kinds apart.
        raised: When it was raised; None for a file that was scored as a whole.
        n_events: Events in the sequence.
        early: It was raised before its sequence had ended.
        note: What else there is to say; of a drift alert, all of it.
    """

    key: str
    score: float
    p_value: float
    threshold: float | None
    first_time: datetime | None
    last_time: datetime | None
    sources: tuple[str, ...]
    lines: tuple[tuple[str, int, str | None], ...]
    culprits: tuple[Mapping[str, Any], ...]
    count: int
    model: str
    id: str = ""
    signature: str = ""
    kind: str | None = None
    raised: datetime | None = None
    n_events: int = 0
    early: bool = False
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, times as ISO 8601; ``from_dict`` reads them."""
        times = {name: getattr(self, name) for name in ALERT_TIMES}
        return asdict(self) | {n: None if t is None else t.isoformat() for n, t in times.items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave.

        Raises:
            ArtifactError: It is no such thing.
        """
        try:
            times = {n: value[n] and datetime.fromisoformat(value[n]) for n in ALERT_TIMES}
            lines = tuple((str(s), int(n), raw) for s, n, raw in value["lines"])
            groups = {n: tuple(value[n]) for n in ("sources", "culprits")}
            return cls(**{**value, **times, **groups, "lines": lines})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"alert: damaged: {error}") from None


ALERT_TIMES = ("first_time", "last_time", "raised")
