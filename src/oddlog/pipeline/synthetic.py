"""How well a detector tells validation normals from corruptions of them: a score to choose by."""

from __future__ import annotations

from oddlog.detectors import Detector
from oddlog.events import Sequences
from oddlog.nn import validation


def synthetic_auprc(detector: Detector, normals: Sequences, seed: int = 0) -> float:
    """Return ``nn.validation.synthetic_auprc`` of a fitted detector's scores."""
    return validation.synthetic_auprc(lambda part: detector.score(part).sequence, normals, seed)
