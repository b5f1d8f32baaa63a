"""The verdicts on a log of any size: what is told of its sequences, and none of their events."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.calibrate import Calibration
from oddlog.drain import Novelties
from oddlog.drift import Drift, Unknown, begun, drift_of, find_unknown, joined
from oddlog.events import Sequences
from oddlog.pipeline.model import Pipeline, novel_note
from oddlog.pipeline.parts import PART_EVENTS, LogParts, Reading
from oddlog.pipeline.result import Result, caveats, iso_times, worst_first
from oddlog.run import Progress, silent

BATCH = 10_000  # rows that are objects of Python at a time


@dataclass(frozen=True)
class Wanted:
    """What is to be told.

    Attributes:
        every: All sequences in the order of the log, not only the flagged ones, worst first.
        explain: Name the culprits of those flagged.
        false_alarm_rate: Another rate than the model was fitted for.
    """

    every: bool = False
    explain: bool = False
    false_alarm_rate: float | None = None


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
    reading = Reading(sources, format or config.format, config.session_by, config.window)
    novel = Novelties(pipeline.templates.config)
    found = _Found(wanted, {str(source): i for i, source in enumerate(sources)})
    with tempfile.TemporaryDirectory(prefix="oddlog-") as folder:
        log = LogParts(reading, pipeline.templates, novel, Path(folder), part_events=part_events)
        calibration = pipeline.calibration
        if wanted.false_alarm_rate is not None:
            calibration = calibration.at(wanted.false_alarm_rate)
        for sequences in log.parts(progress):
            progress("scoring", 0, 0)
            result = pipeline.judge_part(sequences, novel, log.ends)
            found.add(result.at(calibration.false_alarm_rate))
    notes = (*(read.summary() for read in log.reads), log.report.summary())
    return found.verdicts(calibration, notes)


class _Found:
    """What is kept of each part."""

    def __init__(self, wanted: Wanted, sources: dict[str, int]) -> None:
        self._wanted = wanted
        self._sources = sources
        self._tables: list[pl.DataFrame] = []
        self._sequences: list[pl.DataFrame] = []
        self._unknown: Unknown | None = None

    def add(self, result: Result) -> None:
        rows = result.verdicts(every=self._wanted.every, explain=self._wanted.explain)
        number = np.arange(len(result)) if self._wanted.every else result.flagged()
        order = self._order(result.sequences)
        self._tables.append(pl.concat([rows, order[number]], how="horizontal"))
        known = {"score": result.scores.sequence, "flagged": result.flags}
        self._sequences.append(order.with_columns(pl.DataFrame(known)))
        unknown = find_unknown(result.sequences, result.text_of, n_shown=None)
        parts = [unknown] if self._unknown is None else [self._unknown, unknown]
        self._unknown = joined(parts, n_shown=None)

    def _order(self, sequences: Sequences) -> pl.DataFrame:
        """Return what puts sequences of several parts in the order of the log."""
        first = sequences.events.select("source", "line")[sequences.rows[sequences.offsets[:-1]]]
        source = first["source"].replace_strict(self._sources, return_dtype=pl.UInt32)
        begin = begun(sequences)
        return pl.DataFrame({"_begun": begin, "_source": source, "_line": first["line"]})

    def verdicts(self, calibration: Calibration, notes: tuple[str, ...]) -> Verdicts:
        unknown = joined([] if self._unknown is None else [self._unknown])
        if unknown.n_unknown_events:
            notes = (*notes, novel_note(unknown.n_unknown_events, unknown.n_templates))
        sequences = pl.concat(self._sequences)
        sequences = sequences[self._in_order(sequences)]
        scores, flags = sequences["score"].to_numpy(), sequences["flagged"].to_numpy()
        return Verdicts(
            table=self._table(),
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

    def _table(self) -> pl.DataFrame:
        table = pl.concat(self._tables)
        table = table[self._in_order(table)]
        if not self._wanted.every:
            table = table[np.argsort(-table["score"].to_numpy(), kind="stable")]
        return table.drop("_begun", "_source", "_line")

    def _in_order(self, table: pl.DataFrame) -> NDArray[np.integer]:
        """Return the rows by their parts' order, or by time, source and line where there are."""
        if len(self._tables) == 1:
            return np.arange(table.height)
        keys = ["_begun", "_source", "_line"] if len(self._sources) > 1 else ["_line"]
        return table.select(pl.arg_sort_by(keys, maintain_order=True)).to_series().to_numpy()
