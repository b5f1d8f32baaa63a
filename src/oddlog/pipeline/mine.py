"""The templates of a log of any size: read in chunks, and once more for the ids of its lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import polars as pl

from oddlog.drain import Novelties, Templates
from oddlog.formats import Layout, ReadReport, custom
from oddlog.formats.read import Chunk, iter_shaped, total
from oddlog.pipeline.config import PipelineConfig
from oddlog.pipeline.prepare import common_format, drain_config
from oddlog.pipeline.reading import GROUP, check_sources, let_go
from oddlog.run import Progress, silent

Chunks = Iterator[Chunk]


def mine_templates(
    sources: Sequence[str | Path], config: PipelineConfig, progress: Progress = silent
) -> tuple[Templates, tuple[str, ...]]:
    """Mine the templates of logs.

    Args:
        sources: Paths; "-" is standard input.
        config: Settings; the format, the masks and the tree are used.
        progress: Called as work goes on.

    Returns:
        The templates, frozen, and notes for a person.

    Raises:
        ConfigError: No source, one given twice, an unknown format or a bad regex.
        FormatError: A source that cannot be read as a log.
    """
    check_sources(sources)
    # Which masks suit is only known once every source has shown its format.
    begun = [_begin(source, config.format) for source in sources]
    formats = [first.format for first, _ in begun]
    templates = Templates(drain_config(config, common_format(config.format, formats)))
    notes = []
    for number, (_, chunks) in enumerate(begun):
        progress("templates", number, len(begun))
        reports = []
        for chunk in chunks:
            reports.append(chunk.report)
            templates.learn(chunk.events["message"], chunk.shaped)
        notes.append(total(reports).summary())
    progress("templates", len(begun), len(begun))
    templates.freeze()
    return templates, (*notes, f"{templates.n_templates:,} templates")


def template_ids(
    sources: Sequence[str | Path], config: PipelineConfig, templates: Templates
) -> Iterator[pl.DataFrame]:
    """Yield tables of source, line and template_id, a row for each event, in the order of the logs.

    Args:
        sources: Paths of files, read once more; or anything that can be.
        config: As for ``mine_templates``.
        templates: What it gave.
    """
    novel = Novelties(templates.config)
    for source in sources:
        for events, _, shaped in _chunks(source, config.format):
            ids = templates.match(events["message"], novel, shaped)
            yield events.select("source", "line").with_columns(ids.alias("template_id"))


def _begin(source: str | Path, format: str) -> tuple[ReadReport, Chunks]:
    """Return the report of a source's first chunk, and all chunks, that one included."""
    chunks = _chunks(source, format)
    first = next(chunks)
    return first.report, chain(let_go([first]), chunks)


def _chunks(source: str | Path, format: str) -> Chunks:
    layout: str | Layout = custom(format) if GROUP in format else format
    return iter_shaped(source, layout, columns=())
