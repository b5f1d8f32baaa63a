"""The verdicts on a log of any size: what is told of its sequences, and none of their events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.calibrate import Calibration
from oddlog.drift import Drift, Unknown, drift_of, find_unknown, joined
from oddlog.formats import ReadReport
from oddlog.group import GroupReport
from oddlog.group.store import own_text
from oddlog.pipeline.foreign import Familiarity
from oddlog.pipeline.judging import (
    PLACE,
    in_order,
    judge_log,
    notes_on,
    place_of,
    places,
    reading_of,
)
from oddlog.pipeline.model import Pipeline, novel_note
from oddlog.pipeline.parts import PART_EVENTS
from oddlog.pipeline.result import SPANS, Result, caveats, iso_times, most_told, worst_first
from oddlog.pipeline.worst import Worst
from oddlog.run import Progress, silent

if TYPE_CHECKING:
    from oddlog.report import Judged

BATCH = 10_000  # rows that are objects of Python at a time


@dataclass(frozen=True)
class Wanted:
    """What is to be told.

    Attributes:
        every: All sequences in the order of the log, not only the flagged ones, worst first.
        explain: Name the culprits of those flagged.
        false_alarm_rate: Another rate than the model was fitted for.
        n_highest: Where the calibration has too few sequences for anything to be flagged, tell of
            as many that score highest instead.
        report: Keep what a report tells, for ``Verdicts.to_html``.
    """

    every: bool = False
    explain: bool = False
    false_alarm_rate: float | None = None
    n_highest: int = 0
    report: bool = False

    def calibration(self, pipeline: Pipeline) -> Calibration:
        """Return a pipeline's calibration at the rate that is wanted."""
        if self.false_alarm_rate is None:
            return pipeline.calibration
        return pipeline.calibration.at(self.false_alarm_rate)


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What was found in a log.

    Attributes:
        table: Rows of ``Result.verdicts``.
        scores: (n,) float32, of all sequences in the order of the log.
        flags: (n,) which of them are flagged.
        drift: As ``Result.drift``.
        familiarity: As ``Result.familiarity``.
        notes: As ``Result.lines`` gives them.
        judged: What a report tells, if that was wanted.
    """

    table: pl.DataFrame
    scores: NDArray[np.float32]
    flags: NDArray[np.bool_]
    drift: Drift
    familiarity: Familiarity
    notes: tuple[str, ...]
    judged: Judged | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def to_html(self, path: str | Path, *, about: Mapping[str, str] | None = None) -> None:
        """Write the report of ``Result.to_html``.

        Raises:
            ValueError: No report was wanted.
        """
        from oddlog.report import write

        if self.judged is None:
            raise ValueError("what a report tells was not kept: ask for Wanted(report=True)")
        write(Path(path), self.judged, about=about)

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
    calibration = wanted.calibration(pipeline)
    keys = places(len(sources))
    worst = Worst(most_told()) if wanted.report else None

    def tell(part: Result) -> Told:
        result = part.at(calibration.false_alarm_rate)
        told = Told.of(result, wanted, sources)
        if worst is not None:
            worst.add(result, told.sequences.select(keys))
        return told

    reading = reading_of(pipeline, sources, format, texts=wanted.explain or wanted.report)
    told, report, reads = judge_log(
        pipeline, reading, tell, progress=progress, part_events=part_events
    )
    found = Found(told, wanted, sources)
    verdicts = found.verdicts(calibration, report, reads)
    return verdicts if worst is None else found.with_report(verdicts, calibration, worst)


@dataclass(frozen=True, eq=False)
class Told:
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
    def of(cls, result: Result, wanted: Wanted, sources: Sequence[str | Path]) -> Told:
        """Return what is kept of a part, judged at the rate that is wanted.

        Args:
            result: The part.
            wanted: What is to be told.
            sources: All of the log.
        """
        chosen = result.flagged()
        if wanted.n_highest and result.calibration.n_missing():
            chosen = result.highest(wanted.n_highest)
        rows = result.verdicts(every=wanted.every, explain=wanted.explain, chosen=chosen)
        number = np.arange(len(result)) if wanted.every else chosen
        order = place_of(result.sequences, sources)
        known = pl.DataFrame({"score": result.scores.sequence, "flagged": result.flags})
        if wanted.report:
            known = result.spans().drop("source").with_columns(n_events=result.sequences.lengths)
        return cls(
            table=own_text(pl.concat([rows, order[number]], how="horizontal")),
            sequences=pl.concat([order, known], how="horizontal"),
            unknown=find_unknown(result.sequences, result.text_of, n_shown=None),
        )


class Found:
    """What is kept of all parts."""

    def __init__(self, told: Sequence[Told], wanted: Wanted, sources: Sequence[str | Path]) -> None:
        self._wanted = wanted
        self._sources = sources
        self._tables = [part.table for part in told]
        self._sequences = [part.sequences for part in told]
        self._unknown = joined([part.unknown for part in told])

    def verdicts(
        self, calibration: Calibration, report: GroupReport, reads: Sequence[ReadReport]
    ) -> Verdicts:
        """Return them, as of the log read whole."""
        notes, unknown = notes_on(reads, report), self._unknown
        if unknown.n_unknown_events:
            notes = (*notes, novel_note(unknown.n_unknown_events, unknown.n_templates))
        sequences = self._joined(self._sequences)
        scores, flags = sequences["score"].to_numpy(), sequences["flagged"].to_numpy()
        return Verdicts(
            table=self._table(calibration),
            scores=scores,
            flags=flags,
            drift=drift_of(
                calibration.scores,
                scores,
                flags,
                sequences[PLACE[0]],
                asked_rate=calibration.false_alarm_rate,
                unknown=unknown,
            ),
            familiarity=Familiarity.of(
                reads, sequences.height, unknown.n_events, unknown.n_unknown_events
            ),
            notes=(*notes, *caveats(sequences.height, calibration)),
        )

    def _table(self, calibration: Calibration) -> pl.DataFrame:
        table = self._joined(self._tables)
        if not self._wanted.every:
            table = table[np.argsort(-table["score"].to_numpy(), kind="stable")]
            if self._wanted.n_highest and calibration.n_missing():
                table = table.head(self._wanted.n_highest)
        return table.drop(PLACE)

    def _joined(self, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(tables)[in_order(tables, len(self._sources))]

    def with_report(self, verdicts: Verdicts, calibration: Calibration, worst: Worst) -> Verdicts:
        """Return the verdicts with what a report tells."""
        from oddlog.report import Judged

        told, place = worst.found()
        sequences = self._joined(self._sequences)
        names = pl.Series("source", [str(source) for source in self._sources], dtype=pl.String)
        spans = sequences.with_columns(names.gather(sequences["_source"]).alias("source"))
        judged = Judged(
            spans=spans.select(SPANS),
            n_events=int(sequences["n_events"].sum()),
            told=told,
            numbers=_numbers(sequences, place.with_columns(score=told.scores.sequence)),
            calibration=calibration,
            drift=verdicts.drift,
            notes=verdicts.notes,
            foreign=verdicts.familiarity.warning,
        )
        return replace(verdicts, judged=judged)


def _numbers(sequences: pl.DataFrame, chosen: pl.DataFrame) -> NDArray[np.int64]:
    """Return the row of each chosen sequence, found by its place and score."""
    known = sequences.select(chosen.columns).with_row_index("number")
    first = known.unique(chosen.columns, keep="first", maintain_order=True)
    found = chosen.join(
        first, on=chosen.columns, how="left", nulls_equal=True, maintain_order="left"
    )
    return found["number"].cast(pl.Int64).to_numpy()
