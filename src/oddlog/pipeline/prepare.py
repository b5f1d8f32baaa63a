"""From sources to parts that a detector can learn from: read, window, cut, drop, template."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from oddlog.artifact import read_json, read_manifest
from oddlog.datasets import LabelReport, attach_labels
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.endings import Silences
from oddlog.errors import ConfigError, FormatError
from oddlog.events import Sequences, check_events, column
from oddlog.formats import LAYOUTS, ReadReport, custom, read_events
from oddlog.group import GroupReport, Window, group
from oddlog.masks import masks_for, name_sessions
from oddlog.pipeline.config import PipelineConfig
from oddlog.pipeline.lengths import choose_window, names_sessions
from oddlog.pipeline.reading import GROUP, Reading, check_sources
from oddlog.pipeline.sample import Held, hold
from oddlog.run import Progress, silent
from oddlog.session_ids import session_pattern
from oddlog.split import (
    SplitReport,
    check_no_leak,
    cut_rows,
    cut_sessions_at_random,
    cut_sessions_by_time,
    cut_windows,
)

PARTS = ("training", "validation", "calibration")
FEW = 100  # training sequences below which a person is told that they are few


@dataclass(frozen=True)
class Preparation:
    """What was done to a log before a detector saw it, in words and counts.

    Attributes:
        reads: One report per source.
        drawn: Which of the log's sessions or windows were held; None for all.
        window: The rule, and why it was chosen.
        groups: What the windows left out.
        split: How sessions were cut; None where rows were.
        labels: How many sessions a label file named.
        sizes: Sequences in each part.
        n_dropped: Labelled anomalies left out of each part, where a detector learns from normals.
        n_templates: Templates mined from the training part.
        n_anomalous: Labelled anomalies that stay in each part.
    """

    reads: tuple[ReadReport, ...]
    drawn: str | None
    window: str
    groups: tuple[GroupReport, ...]
    split: SplitReport | None
    labels: LabelReport | None
    sizes: tuple[int, ...]
    n_dropped: tuple[int, ...]
    n_templates: int = 0
    n_anomalous: tuple[int, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return how many sequences each part has, and how many templates were mined."""
        return dict(zip(PARTS, self.sizes, strict=True)) | {"templates": self.n_templates}

    def lines(self) -> list[str]:
        """Say it, one line each."""
        told = [report.summary() for report in self.reads]
        if self.drawn is not None:
            told.append(self.drawn)
        told.append(f"windows: {self.window}")
        told += [report.summary() for report in self.groups]
        if self.split is not None:
            told.append(self.split.summary())
        if self.labels is not None:
            told.append(self.labels.summary())
        if any(self.n_dropped):
            told.append(f"labelled anomalies left out: {_by_part(self.n_dropped)}")
        if any(self.n_anomalous):
            told.append(f"labelled anomalies: {_by_part(self.n_anomalous)}, where none is used")
        sizes = ", ".join(f"{n:,} {part}" for n, part in zip(self.sizes, PARTS, strict=True))
        told.append(f"sequences: {sizes}; {self.n_templates:,} templates in training")
        if self.sizes[0] < FEW:
            told.append(
                f"only {self.sizes[0]:,} sequences to learn from: expect little; give more log, "
                "smaller windows, or --session-by"
            )
        return told


@dataclass(frozen=True, eq=False)
class CutLog:
    """Parts of a log (training, validation, calibration) that have no template ids yet.

    ``ends`` is when each source ends, as ``Silences.mark`` asks.
    """

    parts: tuple[Sequences, ...]
    window: Window
    format: str
    ends: pl.DataFrame
    report: Preparation


@dataclass(frozen=True, eq=False)
class Prepared:
    """Parts of a log with template ids, and what goes into the model folder beside the detector.

    ``parts`` are training, validation and calibration.
    """

    parts: tuple[Sequences, ...]
    templates: Templates
    silences: Silences
    window: Window
    format: str
    report: Preparation


def read_sources(
    sources: Sequence[str | Path],
    format: str,
    session_by: str | None,
    progress: Progress = silent,
    columns: Collection[str] | None = None,
) -> tuple[pl.DataFrame, tuple[ReadReport, ...]]:
    """Read every source into one table, by time where several have it.

    Several sources are merged by time, each keeping its own order, so that a session written by
    two hosts, or rotated files given in the order of their names, come out as they happened.

    Args:
        sources: Paths; "-" is standard input.
        format: Name of a layout, a regex with named groups, or "auto".
        session_by: Regex or field that gives sessions; None for the layout's own rule.
        progress: Called as work goes on.
        columns: As for ``read_events``; without "time" nothing is merged.

    Raises:
        ConfigError: No source, one given twice, an unknown format or a bad regex.
        FormatError: A source that cannot be read as a log.
    """
    check_sources(sources)
    layout = custom(format) if GROUP in format else format
    tables, reports = [], []
    for number, source in enumerate(sources):
        progress("reading", number, len(sources))
        reference = None if source != "-" else datetime.now(tz=UTC)
        events, report = read_events(
            source, layout, session_by=session_by, reference=reference, columns=columns
        )
        tables.append(check_events(events))
        reports.append(report)
    progress("reading", len(sources), len(sources))
    events = pl.concat(tables, how="diagonal")
    if len(tables) > 1 and column(events, "time").is_not_null().any():
        clock = pl.col("time").cum_max().forward_fill().over("source")
        events = events.sort(clock, maintain_order=True, nulls_last=False)
    return events, tuple(reports)


def cut_parts(
    held: Held, window: Window, config: PipelineConfig, seed: int
) -> tuple[list[Sequences], tuple[GroupReport, ...], SplitReport | None]:
    """Cut a log into training, validation and calibration before anything learns from it.

    Raises:
        ConfigError: Too little for three parts, or rows to be cut at random.
    """
    if window.by != "session":
        if config.cut == "random":
            raise ConfigError(f"windows {window} overlap in time: cut them by time, not at random")
        if held.windows is not None:
            parts, split = cut_windows(held.windows.sequences, config.shares)
            drawn = [held.windows.sequences.take(part) for part in parts]
            return drawn, (held.windows.report,), split
        grouped = [group(part, window) for part in cut_rows(held.events, config.shares)]
        for (part, report), name in zip(grouped, PARTS, strict=True):
            if not len(part):
                raise ConfigError(f"the {name} part has no windows: {report.summary()}")
        return [part for part, _ in grouped], tuple(report for _, report in grouped), None
    sequences, report = group(held.events, window, held.clock)
    if config.cut == "time":
        parts, split = cut_sessions_by_time(sequences, config.shares)
    else:
        parts, split = cut_sessions_at_random(sequences, config.shares, seed)
    return [sequences.take(part) for part in parts], (report,), split


def with_templates(sequences: Sequences, templates: Templates, novel: Novelties) -> Sequences:
    """Return the same windows over a table with a ``template_id`` for each event."""
    events = sequences.events.drop("template_id", strict=False)
    ids = templates.match(messages_of(events, templates), novel).alias("template_id")
    return replace(sequences, events=check_events(events.with_columns(ids)))


def messages_of(events: pl.DataFrame, templates: Templates) -> pl.Series:
    """Return what templates are made of: messages, less the session ids that a field names."""
    masks = templates.config.masks
    return name_sessions(events["message"], column(events, "sessions"), masks)


def drop_anomalies(parts: Sequence[Sequences]) -> tuple[list[Sequences], tuple[int, ...]]:
    """Leave known anomalies out of each part, and count them.

    Raises:
        ConfigError: Nothing normal is left of a part.
    """
    kept = []
    for part, name in zip(parts, PARTS, strict=True):
        if len(part) and part.anomalous.all():
            raise ConfigError(f"the {name} part holds nothing but labelled anomalies")
        kept.append(part.take(~part.anomalous) if part.anomalous.any() else part)
    return kept, tuple(int(part.anomalous.sum()) for part in parts)


def cut_log(
    sources: Sequence[str | Path],
    config: PipelineConfig,
    *,
    labels: pl.DataFrame | None,
    learns_from: str,
    seed: int,
    progress: Progress = silent,
) -> CutLog:
    """Read, window and cut a log, and leave known anomalies out; nothing learns from it yet."""
    reading = Reading(sources, config.format, config.session_by, config.window or Window())
    may_choose = config.window is None
    held = hold(reading, config.max_events, seed, progress, may_choose=may_choose)
    reads = held.reads
    _check_events(held.events, reads, config.session_by)
    window, why = held.chosen or choose_window(held.events, config.window)
    progress("windows", 0, 0)
    parts, groups, split = cut_parts(held, window, config, seed)
    check_no_leak(*parts)
    label_report = None
    if labels is not None:
        together, label_report = attach_labels(Sequences.concat(parts), labels)
        owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        parts = [together.take(owner == number) for number in range(len(parts))]
    n_dropped: tuple[int, ...] = (0, 0, 0)
    if learns_from == "normal":
        parts, n_dropped = drop_anomalies(parts)
    report = Preparation(
        reads=reads,
        drawn=held.summary(),
        window=why,
        groups=groups,
        split=split,
        labels=label_report,
        sizes=tuple(len(part) for part in parts),
        n_dropped=n_dropped,
        n_anomalous=tuple(int(part.anomalous.sum()) for part in parts),
    )
    format = common_format(config.format, [read.format for read in reads])
    return CutLog(tuple(parts), window, format, held.ends, report)


def prepare(
    sources: Sequence[str | Path],
    config: PipelineConfig,
    *,
    labels: pl.DataFrame | None,
    learns_from: str,
    seed: int,
    progress: Progress = silent,
) -> Prepared:
    """Read, window, cut and template a log; every step fitted on the training part alone."""
    cut = cut_log(
        sources, config, labels=labels, learns_from=learns_from, seed=seed, progress=progress
    )
    progress("templates", 0, 0)
    templates = _learn_templates(cut, config)
    novel = Novelties(templates.config)
    parts = [with_templates(part, templates, novel) for part in cut.parts]
    silences = Silences.of(parts[0].take(~parts[0].anomalous))  # a fault may be silent for long
    parts = tuple(silences.mark(part, cut.ends) for part in parts)
    report = replace(cut.report, n_templates=templates.n_templates)
    return Prepared(parts, templates, silences, cut.window, cut.format, report)


def _learn_templates(cut: CutLog, config: PipelineConfig) -> Templates:
    """Return the templates of the training part: its own, or a model's and what is new to them."""
    events = cut.parts[0].events
    if config.templates_from is None:
        templates = Templates(drain_config(config, cut.format))
        templates.learn(messages_of(events, templates))
        templates.freeze()
        return templates
    folder = Path(config.templates_from)
    read_manifest(folder)
    templates = Templates.from_json(read_json(folder / "templates.json"))
    novel = Novelties(templates.config)
    templates.match(messages_of(events, templates), novel)
    return templates.adopt(novel)


def _by_part(counts: Sequence[int]) -> str:
    return ", ".join(f"{n:,} of {part}" for n, part in zip(counts, PARTS, strict=True))


def _check_events(
    events: pl.DataFrame, reads: Sequence[ReadReport], session_by: str | None
) -> None:
    if not events.height:
        names = ", ".join(report.source for report in reads)
        raise FormatError(f"{names}: empty; there is nothing to learn from")
    if session_by is not None and not names_sessions(events):
        raise ConfigError(
            f"session_by {session_by!r}: found in no message; what is searched is the text that "
            "follows a line's header"
        )


def common_format(wanted: str, formats: Collection[str]) -> str:
    """Return the layout that every source has, so that later logs are read the same way."""
    found = set(formats)
    return found.pop() if wanted == "auto" and len(found) == 1 else wanted


def drain_config(config: PipelineConfig, format: str) -> DrainConfig:
    """Take the masks of the layout, and the user's own beside them, unless masks are named.

    What names a session is masked where the user says what does; a layout has a mask for its own.
    """
    drain = config.drain
    masks = drain.masks
    if "names" not in masks.model_fields_set:
        layout = LAYOUTS.get(format)
        masks = masks.model_copy(
            update={"names": masks_for(layout.masks if layout else "generic").names}
        )
    by = config.session_by or ("session" if _has_session_group(format) else None)
    if by is not None and masks.session is None:
        masks = masks.model_copy(update={"session": session_pattern(by)})
    return drain.model_copy(update={"masks": masks})


def _has_session_group(format: str) -> bool:
    return GROUP in format and "session" in custom(format).fields
