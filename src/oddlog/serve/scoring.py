"""A batch of lines and its verdict, at once and without a trace: ``POST /v1/score``."""

from __future__ import annotations

from typing import Any

import polars as pl

from oddlog.group import group
from oddlog.pipeline import Pipeline
from oddlog.watch.intake import Intake


def score_lines(
    pipeline: Pipeline, lines: pl.DataFrame, now: float, *, every: bool
) -> list[dict[str, Any]]:
    """Score lines as ``oddlog score`` would score a file of them.

    Args:
        pipeline: A fitted one.
        lines: In the columns of ``LINE_COLUMNS``.
        now: Seconds since 1970; times without a year are placed about it.
        every: All sequences, not only the flagged ones.

    Returns:
        Records as of ``oddlog score --explain``: worst first, or with ``every`` in their order.
    """
    config = pipeline.config
    assert config.window is not None  # noqa: S101 -- fit stores the one it chose
    intake = Intake(config.format, config.session_by, quiet_s=0.0)
    parts = [intake.push(lines, now, ""), intake.flush(now)]
    events = [part for part in parts if part is not None]
    if not events:
        return []
    sequences, _ = group(pl.concat(events, how="diagonal"), config.window)
    if not len(sequences):
        return []
    return pipeline.score_sequences(sequences).records(every=every, explain=True)
