"""What people say of alerts, and what follows from it; all of it can be taken back.

A false alarm does two things: alerts of its signature are not raised again, and its sequences'
scores join the calibration. The p-value is then the larger of two: by the calibration as it was
fitted, and by the calibration with the false alarms' scores in it. The first of them keeps the
promise P(p <= alpha) <= alpha for normal sequences, so the larger one does, whichever alerts a
person marks, rightly or not. (By the second alone a few marked alerts would make the p-values of
still higher scores smaller, for the calibration grew; and it holds no sample of what is normal, but
of what was flagged.) So feedback can silence, and never makes anything louder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddlog.artifact import read_json, write_json
from oddlog.calibrate import Calibration
from oddlog.errors import ArtifactError, ConfigError

Verdict = Literal["real", "false_alarm", "snooze"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Feedback:
    """What a person said of an alert.

    Attributes:
        alert_id: Of which alert.
        verdict: "real", "false_alarm", or "snooze" until a time.
        signature: The alert's; what it is a false alarm of.
        scores: Of the sequences that were folded into it.
        given: When.
        until: End of a snooze; None for the other verdicts.

    Raises:
        ConfigError: No such verdict, or a snooze without an end.
    """

    alert_id: str
    verdict: Verdict
    signature: str
    scores: tuple[float, ...]
    given: datetime
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ConfigError(f"feedback {self.verdict!r}: say one of {', '.join(VERDICTS)}")
        if (self.verdict == "snooze") != (self.until is not None):
            raise ConfigError("feedback: a snooze has to say until when, and nothing else may")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        until = self.until and self.until.isoformat()
        return asdict(self) | {"given": self.given.isoformat(), "until": until}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` gave.

        Raises:
            ArtifactError: It is no such thing.
        """
        try:
            given = datetime.fromisoformat(value["given"])
            until = value["until"] and datetime.fromisoformat(value["until"])
            scores = tuple(float(score) for score in value["scores"])
            return cls(**{**value, "given": given, "until": until, "scores": scores})
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"feedback: damaged: {error}") from None


class FeedbackStore(Protocol):
    """Where feedback is kept: one for each alert, the last."""

    def put(self, feedback: Feedback) -> None:
        """Keep feedback; what was said of the same alert before no longer counts."""
        ...

    def withdraw(self, alert_id: str) -> None:
        """Forget what was said of an alert, if anything was."""
        ...

    def all(self) -> list[Feedback]:
        """Return what is kept, in the order in which it was given."""
        ...


class MemoryFeedback:
    """Feedback for as long as the process lives."""

    def __init__(self) -> None:
        self._kept: dict[str, Feedback] = {}

    def put(self, feedback: Feedback) -> None:
        """Keep feedback; what was said of the same alert before no longer counts."""
        self._kept.pop(feedback.alert_id, None)
        self._kept[feedback.alert_id] = feedback

    def withdraw(self, alert_id: str) -> None:
        """Forget what was said of an alert, if anything was."""
        self._kept.pop(alert_id, None)

    def all(self) -> list[Feedback]:
        """Return what is kept, in the order in which it was given."""
        return list(self._kept.values())


class FileFeedback:
    """Feedback in a JSON file, which is read anew each time and written whole or not at all.

    Another process may write it meanwhile: what it said counts from the next look on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, feedback: Feedback) -> None:
        """Keep feedback; what was said of the same alert before no longer counts."""
        others = [kept for kept in self.all() if kept.alert_id != feedback.alert_id]
        self._write([*others, feedback])

    def withdraw(self, alert_id: str) -> None:
        """Forget what was said of an alert, if anything was."""
        self._write([kept for kept in self.all() if kept.alert_id != alert_id])

    def all(self) -> list[Feedback]:
        """Return what is kept, in the order in which it was given.

        Raises:
            ArtifactError: The file is damaged.
        """
        if not self.path.exists():
            return []
        kept = read_json(self.path)
        if not isinstance(kept, list):
            raise ArtifactError(f"{self.path}: damaged: no list of feedback")
        return [Feedback.from_dict(value) for value in kept]

    def _write(self, kept: list[Feedback]) -> None:
        write_json(self.path, [feedback.to_dict() for feedback in kept])


@dataclass(frozen=True, eq=False)
class Learned:
    """What follows from feedback.

    Attributes:
        fitted: The calibration as it was fitted.
        corrected: With the scores of false alarms.
        silenced: Signatures that are not raised, each until a time, or for good (None).
    """

    fitted: Calibration
    corrected: Calibration
    silenced: Mapping[str, datetime | None]

    @classmethod
    def of(cls, calibration: Calibration, feedback: list[Feedback]) -> Self:
        """Draw the conclusions."""
        false = [kept for kept in feedback if kept.verdict == "false_alarm"]
        scores = [score for kept in false for score in kept.scores if np.isfinite(score)]
        silenced = {kept.signature: kept.until for kept in feedback if kept.verdict == "snooze"}
        silenced |= {kept.signature: None for kept in false}
        return cls(calibration, calibration.add(scores) if scores else calibration, silenced)

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Return (n,) p-values, never smaller than those of the calibration as it was fitted."""
        return np.maximum(self.fitted.p_values(scores), self.corrected.p_values(scores))

    def threshold(self, rate: float) -> float:
        """Return the score strictly above which a sequence is flagged at a rate."""
        return max(self.fitted.threshold(rate), self.corrected.threshold(rate))

    def silences(self, signature: str, now: datetime) -> bool:
        """Tell whether alerts of a signature are not to be raised."""
        if signature not in self.silenced:
            return False
        until = self.silenced[signature]
        return until is None or now < until
