"""What belongs to one execution and not to a model: seed, device, checkpoints, progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total); total 0 means that it is not known."""

Epochs = Callable[[str, int, int, float], None]
"""Called after each epoch as (stage, epochs done, epochs at most, validation loss); what it raises
ends the fit."""


def silent(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def unwatched(stage: str, done: int, most: int, loss: float) -> None:
    """Watch no epoch."""


@dataclass(frozen=True)
class Run:
    """One execution of ``fit``.

    Attributes:
        seed: Seed of every random choice.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        checkpoints: Folder for checkpoints, or None to keep none.
        resume: Continue from the last checkpoint in ``checkpoints``, if there is one.
        progress: Called as work goes on; where networks learn side by side by the thread of each,
            one at a time.
        epoch: Called after each epoch of a network, in the same way.
    """

    seed: int = 0
    device: str = "auto"
    checkpoints: Path | None = None
    resume: bool = False
    progress: Progress = silent
    epoch: Epochs = unwatched
