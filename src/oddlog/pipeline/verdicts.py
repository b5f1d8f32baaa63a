"""The verdicts on a log of any size: what is told of its sequences, and none of their events.

Once a long log is sorted (``LogParts``), two of its parts are judged at a time, each by a thread of
its own: polars, numpy and torch let go of the interpreter while they compute. What is told is added
up in the order of the parts, so that it does not depend on which is done first.
"""

from __future__ import annotations

import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.calibrate import Calibration
from oddlog.detectors import reads_text
from oddlog.drain import Novelties
from oddlog.drift import Drift, Unknown, begun, drift_of, find_unknown, joined
from oddlog.events import Sequences
from oddlog.pipeline.model import Pipeline, novel_note
from oddlog.pipeline.parts import PART_EVENTS, LogParts
from oddlog.pipeline.reading import Reading
from oddlog.pipeline.result import Result, caveats, iso_times, worst_first
from oddlog.run import Progress, silent

BATCH = 10_000  # rows that are objects of Python at a time
AT_ONCE = 2  # parts that are judged at a time, each of them in memory


@dataclass(frozen=True)
class Wanted:
    """What is to be told.

    Attributes:
        every: All sequences in the order of the log, not only the flagged ones, worst first.
        explain: Name the culprits of those flagged.
        false_alarm_rate: Another rate than the model was fitted for.
        n_highest: Where the calibration has too few sequences for anything to be flagged, tell of
            as many that score highest instead.
    """

    every: bool = False
    explain: bool = False
    false_alarm_rate: float | None = None
    n_highest: int = 0


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What was found in a log.

    Attributes:
        table: Rows of ``Result.verdicts``.
        scores: (n,) float32, of all sequences in the order of the log.
        flags: (n,) which of them are flagged.
        drift: As ``Result.drift``.
        notes: As ``Result.lines`` gives them.
    """

    table: pl.DataFrame
    scores: NDArray[np.float32]
    flags: NDArray[np.bool_]
    drift: Drift
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.scores)

    def flagged(self) -> NDArray[np.int64]:
        """Return the numbers of the flagged sequences, worst first."""
        return worst_first(self.scores, self.flags)

    def lines(self) -> list[str]:
        """Say what a person should know before trusting this, one line each."""
        return list(self.notes)

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as JSON-ready mappings, times as ISO 8601."""
        for rows in self.table.iter_slices(BATCH):
            yield from iso_times(rows).to_dicts()


def score_log(
    pipeline: Pipeline,
    sources: Sequence[str | Path],
    wanted: Wanted | None = None,
    *,
    format: str | None = None,
    progress: Progress = silent,
    part_events: int = PART_EVENTS,
) -> Verdicts:
    """Score a log that may be larger than memory; ``Pipeline.score`` holds all of it.

    The verdicts are the same. In memory are a part of the log (``LogParts``), about 30 bytes for
    each sequence, and the rows that are wanted. What is larger than a part goes through packed
    files where Python's ``tempfile`` puts them (``TMPDIR`` says where).

    Args:
        pipeline: The fitted one.
        sources: Paths; "-" is standard input.
        wanted: What is to be told.
        format: Another format than the fitted log had.
        progress: Called as work goes on.
        part_events: Events of a log that is not taken apart.
    """
    wanted = wanted or Wanted()
    config = pipeline.config
    assert config.window is not None  # noqa: S101 -- fit stores the one it chose
    layout = format or config.format
    texts = wanted.explain or reads_text(pipeline.detector)
    reading = Reading(sources, layout, config.session_by, config.window, texts)
    novel = Novelties(pipeline.templates.config)
    number = {str(source): i for i, source in enumerate(sources)}
    calibration = pipeline.calibration
    if wanted.false_alarm_rate is not None:
        calibration = calibration.at(wanted.false_alarm_rate)

    def judge(sequences: Sequences) -> _Told:
        result = pipeline.judge_part(sequences, novel, log.ends)
        return _Told.of(result.at(calibration.false_alarm_rate), wanted, number)

    found = _Found(wanted, number)
    with tempfile.TemporaryDirectory(prefix="oddlog-") as folder:
        log = LogParts(reading, pipeline.templates, novel, Path(folder), part_events=part_events)
        # What reads messages is large, or asks a server that counts: a part at a time.
        most = 0 if reads_text(pipeline.detector) else part_events // AT_ONCE
        for told in _judged(log, judge, most, progress):
            found.add(told)
    notes = (*(read.summary() for read in log.reads), log.report.summary())
    return found.verdicts(calibration, notes)


def _judged(
    log: LogParts, judge: Callable[[Sequences], _Told], most: int, progress: Progress
) -> Iterator[_Told]:
    """Yield what is told of each part, in their order; of buckets several are judged at a time.

    Args:
        log: Its parts are taken.
        judge: Judges one.
        most: Events of a part above which it is judged by itself.
        progress: Called as work goes on.
    """
    coming: deque[Future[_Told]] = deque()
    with _judges() as pool:
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


@contextmanager
def _judges() -> Iterator[Executor]:
    """Give threads that judge; torch, where a detector has loaded it, shares the cores among them.

    Its threads are started for every product of matrices: those of two parts would wait for each
    other.
    """
    torch = sys.modules.get("torch")
    n_cores = torch.get_num_threads() if torch else 1

    def share() -> None:
        if torch:
            torch.set_num_threads(max(1, n_cores // AT_ONCE))

    try:
        with ThreadPoolExecutor(AT_ONCE, "judge", initializer=share) as pool:
            yield pool
    finally:
        if torch:
            torch.set_num_threads(n_cores)


@dataclass(frozen=True, eq=False)
class _Told:
    """What is kept of a part.

    Attributes:
        table: The rows that are wanted, with their place in the log.
        sequences: Of each sequence its place, score and flag.
        unknown: Templates that were not known at fit time.
    """

    table: pl.DataFrame
    sequences: pl.DataFrame
    unknown: Unknown

    @classmethod
    def of(cls, result: Result, wanted: Wanted, sources: dict[str, int]) -> _Told:
        chosen = result.flagged()
        if wanted.n_highest and result.calibration.n_missing():
            chosen = result.highest(wanted.n_highest)
        rows = result.verdicts(every=wanted.every, explain=wanted.explain, chosen=chosen)
        number = np.arange(len(result)) if wanted.every else chosen
        order = _order(result.sequences, sources)
        known = {"score": result.scores.sequence, "flagged": result.flags}
        return cls(
            table=pl.concat([rows, order[number]], how="horizontal"),
            sequences=order.with_columns(pl.DataFrame(known)),
            unknown=find_unknown(result.sequences, result.text_of, n_shown=None),
        )


def _order(sequences: Sequences, sources: dict[str, int]) -> pl.DataFrame:
    """Return what puts sequences of several parts in the order of the log."""
    first = sequences.events.select("source", "line")[sequences.rows[sequences.offsets[:-1]]]
    source = first["source"].replace_strict(sources, return_dtype=pl.UInt32)
    begin = begun(sequences)
    return pl.DataFrame({"_begun": begin, "_source": source, "_line": first["line"]})


class _Found:
    """What is kept of all parts."""

    def __init__(self, wanted: Wanted, sources: dict[str, int]) -> None:
        self._wanted = wanted
        self._sources = sources
        self._tables: list[pl.DataFrame] = []
        self._sequences: list[pl.DataFrame] = []
        self._unknown: Unknown | None = None

    def add(self, told: _Told) -> None:
        self._tables.append(told.table)
        self._sequences.append(told.sequences)
        parts = [told.unknown] if self._unknown is None else [self._unknown, told.unknown]
        self._unknown = joined(parts, n_shown=None)

    def verdicts(self, calibration: Calibration, notes: tuple[str, ...]) -> Verdicts:
        unknown = joined([] if self._unknown is None else [self._unknown])
        if unknown.n_unknown_events:
            notes = (*notes, novel_note(unknown.n_unknown_events, unknown.n_templates))
        sequences = pl.concat(self._sequences)
        sequences = sequences[self._in_order(sequences)]
        scores, flags = sequences["score"].to_numpy(), sequences["flagged"].to_numpy()
        return Verdicts(
            table=self._table(calibration),
            scores=scores,
            flags=flags,
            drift=drift_of(
                calibration.scores,
                scores,
                flags,
                sequences["_begun"],
                asked_rate=calibration.false_alarm_rate,
                unknown=unknown,
            ),
            notes=(*notes, *caveats(sequences.height, calibration)),
        )

    def _table(self, calibration: Calibration) -> pl.DataFrame:
        table = pl.concat(self._tables)
        table = table[self._in_order(table)]
        if not self._wanted.every:
            table = table[np.argsort(-table["score"].to_numpy(), kind="stable")]
            if self._wanted.n_highest and calibration.n_missing():
                table = table.head(self._wanted.n_highest)
        return table.drop("_begun", "_source", "_line")

    def _in_order(self, table: pl.DataFrame) -> NDArray[np.integer]:
        """Return the rows by line, or of several sources by time, source and line.

        The one part of a log of several sources is in the order in which they were merged.
        """
        several = len(self._sources) > 1
        if several and len(self._tables) == 1:
            return np.arange(table.height)
        keys = ["_begun", "_source", "_line"] if several else ["_line"]
        return table.select(pl.arg_sort_by(keys, maintain_order=True)).to_series().to_numpy()
