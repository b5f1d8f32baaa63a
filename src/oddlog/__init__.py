"""oddlog: find the odd lines in any log.

    pipeline = oddlog.fit(["normal.log"], model="model")
    result = oddlog.load("model").score(["today.log"])

What is public is listed in ``__all__``; it is imported when first used, so that ``import oddlog``
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from oddlog.calibrate import Calibration
    from oddlog.events import Sequences
    from oddlog.findings import Alert, Scores
    from oddlog.pipeline import Pipeline, PipelineConfig, Result, fit, update
    from oddlog.run import Run
    from oddlog.watch import WatchConfig, Watcher

__version__ = "0.1.0"

_HOMES = {
    "Alert": "oddlog.findings",
    "Calibration": "oddlog.calibrate",
    "Pipeline": "oddlog.pipeline",
    "PipelineConfig": "oddlog.pipeline",
    "Result": "oddlog.pipeline",
    "Run": "oddlog.run",
    "Scores": "oddlog.findings",
    "Sequences": "oddlog.events",
    "WatchConfig": "oddlog.watch",
    "Watcher": "oddlog.watch",
    "fit": "oddlog.pipeline",
    "update": "oddlog.pipeline",
}
__all__ = [
    "Alert",
    "Calibration",
    "Pipeline",
    "PipelineConfig",
    "Result",
    "Run",
    "Scores",
    "Sequences",
    "WatchConfig",
    "Watcher",
    "fit",
    "load",
    "update",
]


def load(model: str | Path, device: str = "auto") -> Pipeline:
    """Load a fitted pipeline from its folder.

    Raises:
        ArtifactError: No model there, a damaged one, or one of another format version.
    """
    from oddlog.pipeline import Pipeline

    return Pipeline.load(model, device)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'oddlog' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
