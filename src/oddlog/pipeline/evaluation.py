"""A model judged on a labelled log of any size: of each sequence its label and scores are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.datasets import label_keys
from oddlog.drift import Unknown, find_unknown, joined
from oddlog.evaluate import Evaluation
from oddlog.events import NORMAL
from oddlog.findings import Scores
from oddlog.group.store import own_text
from oddlog.pipeline.judging import in_order, judge_log, notes_on, place_of, reading_of
from oddlog.pipeline.model import Judge, Pipeline, novel_note
from oddlog.pipeline.parts import PART_EVENTS
from oddlog.pipeline.result import Result, caveats
from oddlog.run import Progress, silent


@dataclass(frozen=True, eq=False)
class Evaluated:
    """A labelled log, judged.

    Attributes:
        evaluations: As ``Pipeline.evaluate`` gives them.
        labels: (n,) String, of all sequences in the order of the log.
        flags: (n,) which of them are flagged.
        false_alarm_rate: The rate in force.
        notes: What happened to the log, one line each.
    """

    evaluations: dict[str, Evaluation]
    labels: pl.Series
    flags: NDArray[np.bool_]
    false_alarm_rate: float
    notes: tuple[str, ...]


def evaluate_log(
    pipeline: Pipeline,
    sources: Sequence[str | Path],
    labels: pl.DataFrame | None = None,
    *,
    format: str | None = None,
    progress: Progress = silent,
    part_events: int = PART_EVENTS,
) -> Evaluated:
    """Judge a model on a log that may be larger than memory, the stored baselines beside it.

    The figures are those of ``Pipeline.evaluate`` on the log read whole. In memory are two parts of
    the log (``LogParts``) and about 100 bytes for each sequence.

    Args:
        pipeline: The fitted one.
        sources: Paths; "-" is standard input.
        labels: Table of session and label; None for those inside the log.
        format: Another format than the fitted log had.
        progress: Called as work goes on.
        part_events: Events of a log that is not taken apart.

    Raises:
        ArtifactError: A baseline is damaged.
        LabelsError: No sequence has a label, or the labels are of another log.
    """
    judges = {pipeline.detector.name: pipeline.judge, **pipeline.baselines}  # read by one thread

    def tell(result: Result) -> _Part:
        return _Part.of(result, judges, sources)

    reading = reading_of(pipeline, sources, format, texts=False)
    parts, report, reads = judge_log(
        pipeline, reading, tell, progress=progress, part_events=part_events
    )
    notes = notes_on(reads, report)
    progress("evaluating", 0, 0)
    tables = [part.table for part in parts]
    order = in_order(tables, len(sources))
    table = pl.concat(tables)[order]
    given = table["label"]
    if labels is not None:
        given, found = label_keys(table["key"], given, labels)
        notes = (*notes, found.summary())
    unknown = joined([part.unknown for part in parts])
    if unknown.n_unknown_events:
        notes = (*notes, novel_note(unknown.n_unknown_events, unknown.n_templates))
    scores = {name: _together([part.scores[name] for part in parts], order) for name in judges}
    rate = pipeline.calibration.false_alarm_rate
    return Evaluated(
        evaluations=pipeline.evaluate_scores(given, scores, rate),
        labels=given,
        flags=pipeline.calibration.flags(scores[pipeline.detector.name].sequence),
        false_alarm_rate=rate,
        notes=(*notes, *one_sided(given), *caveats(table.height, pipeline.calibration)),
    )


def one_sided(labels: pl.Series) -> list[str]:
    """Say what labels of one kind alone cannot tell; nothing where there are both."""
    known = labels.drop_nulls()
    n_normal = int((known == NORMAL).sum())
    if not n_normal:
        return [
            f"all {len(known):,} labelled sequences are anomalies: false alarms, precision and F1 "
            f"cannot be told; the {labels.null_count():,} without a label are left out, so give "
            "the normal ones a row with the label normal"
        ]
    if n_normal == len(known):
        return [f"all {n_normal:,} labelled sequences are normal: recall cannot be told"]
    return []


@dataclass(frozen=True, eq=False)
class _Part:
    """What is kept of a part.

    Attributes:
        table: Key, label and place of each sequence.
        scores: Of each detector, by its name.
        unknown: Templates that were not known at fit time.
    """

    table: pl.DataFrame
    scores: dict[str, Scores]
    unknown: Unknown

    @classmethod
    def of(
        cls, result: Result, judges: Mapping[str, Judge], sources: Sequence[str | Path]
    ) -> _Part:
        sequences = result.sequences.without_labels()
        own, *baselines = judges
        scores = {name: judges[name].detector.score(sequences) for name in baselines}
        named = pl.DataFrame({"key": sequences.keys, "label": result.sequences.labels})
        return cls(
            table=own_text(pl.concat([named, place_of(sequences, sources)], how="horizontal")),
            scores={name: _bare(found) for name, found in {own: result.scores, **scores}.items()},
            unknown=find_unknown(sequences, result.text_of, n_shown=None),
        )


def _bare(scores: Scores) -> Scores:
    """Return the scores of sequences and their classes alone."""
    return Scores(scores.sequence, class_names=scores.class_names, class_probs=scores.class_probs)


def _together(parts: Sequence[Scores], order: NDArray[np.integer]) -> Scores:
    """Return the bare scores of all parts, in the order given."""
    probs = [part.class_probs for part in parts if part.class_probs is not None]
    return Scores(
        sequence=np.concatenate([part.sequence for part in parts])[order],
        class_names=parts[0].class_names,
        class_probs=np.concatenate(probs)[order] if probs else None,
    )
