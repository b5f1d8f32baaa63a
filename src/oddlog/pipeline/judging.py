"""A log of any size judged part by part, and what is told of the parts put in the log's order.

Once a long log is sorted (``LogParts``), two of its parts are judged at a time, each by a thread of
its own: polars, numpy and torch let go of the interpreter while they compute. What is told is kept
in the order of the parts, so that it does not depend on which is done first.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.detectors import reads_text
from oddlog.drain import Novelties
from oddlog.drift import begun
from oddlog.events import Sequences
from oddlog.formats import ReadReport
from oddlog.group import GroupReport
from oddlog.pipeline.model import Pipeline
from oddlog.pipeline.parts import PART_EVENTS, LogParts
from oddlog.pipeline.reading import Reading
from oddlog.pipeline.result import Result
from oddlog.run import Progress, silent
from oddlog.threads import sharing

T = TypeVar("T")
AT_ONCE = 2  # parts that are judged at a time, each of them in memory
PLACE = ("_begun", "_source", "_line")  # columns beside those that are told


def reading_of(
    pipeline: Pipeline, sources: Sequence[str | Path], format: str | None, *, texts: bool
) -> Reading:
    """Return how a log is read as the fitted one was, ``texts`` where something reads lines."""
    config = pipeline.config
    assert config.window is not None  # noqa: S101 -- fit stores the one it chose
    texts = texts or reads_text(pipeline.detector)
    return Reading(sources, format or config.format, config.session_by, config.window, texts)


def judge_log(
    pipeline: Pipeline,
    reading: Reading,
    tell: Callable[[Result], T],
    *,
    progress: Progress = silent,
    part_events: int = PART_EVENTS,
) -> tuple[list[T], GroupReport, tuple[ReadReport, ...]]:
    """Score a log part by part.

    Args:
        pipeline: The fitted one.
        reading: What is read, and how.
        tell: What is kept of a part; called by two threads at a time.
        progress: Called as work goes on.
        part_events: Events of a log that is not taken apart.

    Returns:
        What was told of each part, in their order, what the windows left out, and what became of
        the lines of each source.
    """
    novel = Novelties(pipeline.templates.config)

    def judge(sequences: Sequences) -> T:
        return tell(pipeline.judge_part(sequences, novel, log.ends))

    with tempfile.TemporaryDirectory(prefix="oddlog-") as folder:
        log = LogParts(reading, pipeline.templates, novel, Path(folder), part_events=part_events)
        # What reads messages is large, or asks a server that counts: a part at a time.
        most = 0 if reads_text(pipeline.detector) else part_events // AT_ONCE
        told = list(_judged(log, judge, most, progress))
    return told, log.report, (*log.reads,)


def notes_on(reads: Sequence[ReadReport], report: GroupReport) -> tuple[str, ...]:
    """Say for a person what became of a log's lines, and of its windows."""
    return (*(read.summary() for read in reads), report.summary())


def _judged(
    log: LogParts, judge: Callable[[Sequences], T], most: int, progress: Progress
) -> Iterator[T]:
    """Yield what is told of each part, in their order; of buckets several are judged at a time.

    Args:
        log: Its parts are taken.
        judge: Judges one.
        most: Events of a part above which it is judged by itself.
        progress: Called as work goes on.
    """
    coming: deque[Future[T]] = deque()
    with sharing(AT_ONCE, "judge") as pool:
        for sequences in log.parts(progress):
            progress("scoring", 0, 0)
            if not log.in_buckets:
                yield judge(sequences)
                continue
            coming.append(pool.submit(judge, sequences))
            while len(coming) >= (AT_ONCE if sequences.events.height <= most else 1):
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def place_of(sequences: Sequences, sources: Sequence[str | Path]) -> pl.DataFrame:
    """Return the columns of ``PLACE``: what puts sequences of several parts in the log's order."""
    number = {str(source): i for i, source in enumerate(sources)}
    first = sequences.events.select("source", "line")[sequences.rows[sequences.offsets[:-1]]]
    source = first["source"].replace_strict(number, return_dtype=pl.UInt32)
    begin = begun(sequences)
    return pl.DataFrame(dict(zip(PLACE, (begin, source, first["line"]), strict=True)))


def places(n_sources: int) -> tuple[str, ...]:
    """Return which of ``PLACE`` put the sequences of so many sources in the log's order."""
    return PLACE if n_sources > 1 else PLACE[-1:]


def in_order(tables: Sequence[pl.DataFrame], n_sources: int) -> NDArray[np.integer]:
    """Return how the rows of the parts' tables are ordered: by line, of several sources by time.

    The one part of a log of several sources is in the order in which they were merged.

    Args:
        tables: One for each part, with the columns of ``PLACE``.
        n_sources: Sources of the log.
    """
    table = pl.concat(tables)
    if n_sources > 1 and len(tables) == 1:
        return np.arange(table.height)
    return (
        table.select(pl.arg_sort_by(places(n_sources), maintain_order=True)).to_series().to_numpy()
    )
