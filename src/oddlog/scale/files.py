"""A log of many files: who does what with them, and what is made of what comes back.

Windows of lines and of time are of one file each, and every worker judges those of the files that
it is given. A session may have lines in all files: so workers sort the lines of their files into
buckets by session first, and each bucket is then judged by one of them.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, as_completed
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from oddlog.errors import ConfigError, FormatError
from oddlog.group import GroupReport
from oddlog.pipeline.model import Pipeline
from oddlog.pipeline.parts import PART_EVENTS, together
from oddlog.pipeline.reading import check_sources
from oddlog.pipeline.verdicts import Found, Verdicts, Wanted
from oddlog.run import Progress, silent
from oddlog.scale.engines import Engine
from oddlog.scale.steps import (
    Job,
    Judged,
    Sorted,
    judge_bucket,
    judge_files,
    number_together,
    renumber_told,
    sort_files,
)

T = TypeVar("T")
ASKS = frozenset({"llm_prompt"})
"""Detectors that ask a server, each distinct window once, as far as one process knows."""
TURNS = 4  # pieces of work for each worker: so that none waits long for the slowest
MOST_BYTES = 256 << 20  # of files in one piece, if it is not one file


def score_files(
    model: str | Path,
    sources: Sequence[str | Path],
    engine: Engine,
    wanted: Wanted | None = None,
    *,
    format: str | None = None,
    progress: Progress = silent,
) -> Verdicts:
    """Score a log of many files by many workers; the verdicts are those of ``score_log``.

    A file is read by one worker. Novel templates are mined by each of them from its own files, so
    that their texts may be less general than those of one reading; no score depends on them.

    Args:
        model: Folder of a fitted model, which all workers see under this path.
        sources: Paths of files, which they see too.
        engine: The workers.
        wanted: What is to be told; no report.
        format: Another format than the fitted log had.
        progress: Called as work goes on.

    Raises:
        ConfigError: Windows that need the clock of all files, standard input, a report, a worker
            that sees other files or hashes otherwise, or one that died.
        FormatError: A file that cannot be read as a log.
    """
    wanted = wanted or Wanted()
    pipeline = Pipeline.load(model)
    _check(pipeline, sources, wanted)
    names = tuple(str(source if engine.is_here else Path(source).absolute()) for source in sources)
    with tempfile.TemporaryDirectory(prefix="oddlog-", dir=engine.scratch) as folder:
        job = Job(
            model=str(Path(model).absolute()),
            fingerprint=pipeline.fingerprint,
            sources=names,
            format=format,
            wanted=wanted,
            scratch=folder,
        )
        window = job.reading(names).window
        work = _by_session if window.by == "session" else _by_file
        found = work(job, _Work(engine, progress), pieces_of(names, engine.n_workers))
    calibration = wanted.calibration(pipeline)
    return Found(found.told, wanted, names).verdicts(calibration, found.report, found.reads)


def _check(pipeline: Pipeline, sources: Sequence[str | Path], wanted: Wanted) -> None:
    check_sources(sources)
    for source in sources:
        if str(source) == "-":
            raise ConfigError("-: standard input is read by one process; name files for workers")
        if not Path(source).is_file():
            raise FormatError(f"{source}: no such file")
    if wanted.report:
        raise ConfigError(
            "a report is made by one process: write .jsonl or .parquet, or score without workers"
        )
    window = pipeline.config.window
    assert window is not None  # noqa: S101 -- fit stores the one it chose
    if (window.by == "session" and window.clocked) or window.per == "host":
        raise ConfigError(
            f"{window} needs the clock of all files at each line: score without workers"
        )
    members = getattr(pipeline.detector.config, "members", ())
    for name in ASKS.intersection((pipeline.detector.name, *members)):
        raise ConfigError(
            f"{name} asks a server for each distinct window once, and workers do not know "
            "what others asked: score without workers"
        )


def pieces_of(sources: Sequence[str], n_workers: int) -> list[tuple[str, ...]]:
    """Return the files in pieces, in their order: several for each worker, of bounded size."""
    sizes = {number: Path(source).stat().st_size for number, source in enumerate(sources)}
    most = min(sum(sizes.values()) // (TURNS * n_workers), MOST_BYTES)
    return [tuple(sources[number] for number in piece) for piece in together(sizes, most)]


class _Work:
    """Steps, done by an engine."""

    def __init__(self, engine: Engine, progress: Progress) -> None:
        self.n_workers = engine.n_workers
        self._executor = engine.executor
        self._progress = progress

    def each(
        self, stage: str, step: Callable[..., T], pieces: Sequence[tuple[Any, ...]]
    ) -> list[T]:
        """Return what a step makes of each piece, in their order.

        Raises:
            ConfigError: A worker died.
        """
        self._progress(stage, 0, len(pieces))
        futures = [self._executor.submit(step, *piece) for piece in pieces]
        try:
            for n_done, future in enumerate(as_completed(futures), start=1):
                future.result()
                self._progress(stage, n_done, len(pieces))
        except BrokenExecutor:
            raise ConfigError(
                "a worker died, most likely for want of memory: take fewer workers"
            ) from None
        finally:
            for future in futures:
                future.cancel()
        return [future.result() for future in futures]


def _by_file(job: Job, work: _Work, pieces: Sequence[tuple[str, ...]]) -> Judged:
    """Judge each file by itself."""
    found = work.each("scoring", judge_files, [(job, piece) for piece in pieces])
    novel = [
        {known.template_id: known.text for told in each.told for known in told.unknown.templates}
        for each in found
    ]
    ids, _ = number_together(novel)
    told = [
        renumber_told(part, new) for each, new in zip(found, ids, strict=True) for part in each.told
    ]
    reads = [read for each in found for read in each.reads]
    return Judged((*told,), _sum([each.report for each in found]), (*reads,))


def _by_session(job: Job, work: _Work, pieces: Sequence[tuple[str, ...]]) -> Judged:
    """Sort the lines of all files by session, then judge the sessions."""
    found = work.each("sorting", sort_files, [(job, piece) for piece in pieces])
    if len({each.probe for each in found}) > 1:
        raise ConfigError(
            "workers sort sessions differently: they need the same polars and kind of processor"
        )
    ids, novel = number_together([each.novel for each in found])
    ends = pl.concat([each.ends for each in found])
    sizes: Counter[int] = Counter()
    for each in found:
        sizes.update(each.sizes)
    most = min(sum(sizes.values()) // (TURNS * work.n_workers), PART_EVENTS // 2)
    parts = [
        (job, [*_files(found, ids, buckets)], ends, novel) for buckets in together(sizes, most)
    ]
    judged = work.each("scoring", judge_bucket, parts)
    report = replace(
        _sum([each.report for each in judged]),
        n_events=sum(each.n_events for each in found),
        n_outside=sum(each.n_outside for each in found),
    )
    told = [part for each in judged for part in each.told]
    reads = [read for each in found for read in each.reads]
    return Judged((*told,), report, (*reads,))


def _files(
    found: Sequence[Sorted], ids: Sequence[Mapping[int, int]], buckets: Sequence[int]
) -> Iterator[tuple[Path, Mapping[int, int]]]:
    """Yield the tables of some buckets, in the order of the log, each with its new ids."""
    for bucket in buckets:
        for each, new in zip(found, ids, strict=True):
            yield from ((file, new) for file in each.files.get(bucket, ()))


def _sum(reports: Sequence[GroupReport]) -> GroupReport:
    return reduce(GroupReport.plus, reports)
