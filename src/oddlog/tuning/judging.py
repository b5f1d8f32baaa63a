"""The number that settings are chosen by: from training and validation, never from calibration."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from oddlog.config import build
from oddlog.detectors import detector_class
from oddlog.errors import ConfigError, LabelsError
from oddlog.evaluate import average_precision
from oddlog.events import Sequences
from oddlog.pipeline import PipelineConfig, Prepared
from oddlog.pipeline.clean import clean
from oddlog.pipeline.synthetic import synthetic_auprc
from oddlog.run import Run

MOST_JUDGED, FEW_JUDGED = 2000, 300


@dataclass(frozen=True, eq=False)
class Judging:
    """What every trial is fitted on and judged by.

    Attributes:
        detector: Its name.
        train: Training, as the detector is given it.
        valid: Validation, as the detector is given it.
        judged: Windows of the validation that are judged, at most ``MOST_JUDGED`` of them.
    """

    detector: str
    train: Sequences
    valid: Sequences
    judged: Sequences

    @classmethod
    def of(cls, config: PipelineConfig, prepared: Prepared, seed: int) -> Judging:
        """Take the parts as ``fit`` does.

        Raises:
            LabelsError: The detector learns from labels, and validation has no anomaly, or
                training.
        """
        learns_from = detector_class(config.detector).learns_from
        normals = [part.take(~part.anomalous).without_labels() for part in prepared.parts]
        train, valid, _ = clean(normals, config.assume_anomalies, config.false_alarm_rate).parts
        if learns_from == "labelled":
            train, valid = prepared.parts[:2]
            for part, name in ((train, "training"), (valid, "validation")):
                if not part.anomalous.any() or part.anomalous.all():
                    raise LabelsError(
                        f"tune: {config.detector} is judged by labels, but {name} holds one class "
                        "alone: name a label file, a larger part, or mix sessions with "
                        "--set cut=random"
                    )
        kept = np.sort(np.random.default_rng(seed).permutation(len(valid))[:MOST_JUDGED])
        return cls(config.detector, train, valid, valid.take(kept))

    @property
    def measure(self) -> str:
        """What the score is, in words."""
        against = "labelled anomalies" if self.judged.anomalous.any() else "corruptions of them"
        return (
            f"area under precision and recall, {len(self.judged):,} validation windows against "
            f"{against}"
        )

    @property
    def is_thin(self) -> bool:
        """Whether so few windows are judged that the score wavers."""
        return len(self.judged) < FEW_JUDGED

    def score(self, settings: dict[str, Any], run: Run) -> float:
        """Fit with these settings, and return how good the detector is, 0 to 1.

        Raises:
            ConfigError: Settings that do not fit together, training that diverged, or no window
                that could be corrupted.
        """
        cls = detector_class(self.detector)
        detector = cls(build(cls.Config, settings, self.detector))
        detector.fit(self.train, self.valid, run)
        if self.judged.anomalous.any():
            scores = detector.score(self.judged.without_labels()).sequence
            return average_precision(scores, self.judged.anomalous)
        found = synthetic_auprc(detector, self.judged, run.seed)
        if math.isnan(found):
            raise ConfigError("tune: no validation window has room for a change to be found by")
        return found

    def digest(self) -> str:
        """Tell one log, cut in one way, from another."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.judged):
            digest.update(part.template_ids().tobytes() + part.offsets.tobytes())
            digest.update(part.anomalous.tobytes())
        return digest.hexdigest()[:16]
