"""What one worker does: sort files into buckets, judge a bucket, or judge files by themselves.

A step takes and returns plain values and tables. The model, the logs and the scratch folder are
files that every worker sees under the same path.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import polars as pl

from oddlog.drain import Novelties
from oddlog.drift import Unknown
from oddlog.errors import ConfigError
from oddlog.formats import ReadReport
from oddlog.group import GroupReport, group
from oddlog.pipeline.judging import judge_log, reading_of
from oddlog.pipeline.model import Pipeline
from oddlog.pipeline.parts import LogParts
from oddlog.pipeline.reading import Reading, in_time
from oddlog.pipeline.result import Result
from oddlog.pipeline.verdicts import Told, Wanted
from oddlog.run import silent

PROBE = "a session whose bucket tells ways of hashing apart"
Renumbered = Mapping[int, int]


@dataclass(frozen=True)
class Job:
    """What every step has to know.

    Attributes:
        model: Folder of the fitted model.
        fingerprint: Of that model.
        sources: All files of the log.
        format: Another format than the fitted log had.
        wanted: What is to be told.
        scratch: A folder for buckets.
    """

    model: str
    fingerprint: str
    sources: tuple[str, ...]
    format: str | None
    wanted: Wanted
    scratch: str

    def pipeline(self) -> Pipeline:
        """Return the fitted one, loaded once by each process.

        Raises:
            ConfigError: This worker sees another model there.
        """
        found = _loaded(self.model, self.fingerprint)
        if found.fingerprint != self.fingerprint:
            raise ConfigError(
                f"{self.model}: a worker sees another model there; it has to be the same folder "
                "for all of them"
            )
        return found

    def reading(self, sources: Sequence[str]) -> Reading:
        """Return how some of the files are read."""
        reading = reading_of(self.pipeline(), sources, self.format, texts=self.wanted.explain)
        return replace(reading, merged=len(self.sources) > 1)


@lru_cache(maxsize=1)
def _loaded(model: str, fingerprint: str) -> Pipeline:
    return Pipeline.load(model)  # another fit has another fingerprint, and is loaded anew


@dataclass(frozen=True)
class Novel:
    """Templates that were not known at fit time, those of several readings numbered together.

    Attributes:
        texts: That of -1, -2, and so on.
    """

    texts: tuple[str, ...]

    @property
    def n_templates(self) -> int:
        """How many there are."""
        return len(self.texts)

    def text(self, template_id: int) -> str:
        """Return one of them."""
        return self.texts[-1 - template_id]


@dataclass(frozen=True)
class Sorted:
    """Some files, sorted into buckets.

    Attributes:
        reads: What became of their lines.
        ends: When each of them ends.
        files: Of each bucket.
        sizes: Events of each.
        n_events: Events in all.
        n_outside: Events of no session.
        novel: Templates unknown at fit time, by their ids in these files.
        probe: The hash of a text, which has to be the same for all workers.
    """

    reads: tuple[ReadReport, ...]
    ends: pl.DataFrame
    files: dict[int, list[Path]]
    sizes: dict[int, int]
    n_events: int
    n_outside: int
    novel: dict[int, str]
    probe: int


def sort_files(job: Job, sources: Sequence[str]) -> Sorted:
    """Sort the events of some files by session, into buckets below the scratch folder."""
    pipeline = job.pipeline()
    novel = Novelties(pipeline.templates.config)
    folder = Path(tempfile.mkdtemp(dir=job.scratch))  # another one for each try
    log = LogParts(job.reading(sources), pipeline.templates, novel, folder)
    buckets = log.sort(silent)
    return Sorted(
        reads=(*log.reads,),
        ends=log.ends,
        files=buckets.files,
        sizes=buckets.sizes,
        n_events=buckets.n_events,
        n_outside=buckets.n_outside,
        novel={-1 - i: novel.text(-1 - i) for i in range(novel.n_ids)},
        probe=pl.Series([PROBE]).hash()[0],
    )


@dataclass(frozen=True)
class Judged:
    """Some windows, judged.

    Attributes:
        told: What is told of them.
        report: What the windows left out.
        reads: What became of the lines of files that were read for it.
    """

    told: tuple[Told, ...]
    report: GroupReport
    reads: tuple[ReadReport, ...] = ()


def judge_bucket(
    job: Job,
    files: Sequence[tuple[Path, Renumbered]],
    ends: pl.DataFrame,
    novel: Novel,
) -> Judged:
    """Judge the sessions of some buckets.

    Args:
        job: As for all.
        files: Tables of events in the order of the log, and the new ids of their novel templates.
        ends: When each source of the log ends.
        novel: All novel templates.
    """
    pipeline = job.pipeline()
    window = job.reading(job.sources).window
    tables = [renumber(pl.read_parquet(file), ids) for file, ids in files]
    sequences, report = group(in_time(tables), window)
    result = pipeline.judge_part(sequences, novel, ends)
    return Judged((_told(job, result),), report)


def judge_files(job: Job, sources: Sequence[str]) -> Judged:
    """Judge windows that are of one file each."""
    told, report, reads = judge_log(
        job.pipeline(), job.reading(sources), lambda result: _told(job, result)
    )
    return Judged((*told,), report, reads)


def _told(job: Job, result: Result) -> Told:
    rate = job.wanted.calibration(job.pipeline()).false_alarm_rate
    return Told.of(result.at(rate), job.wanted, job.sources)


def renumber(events: pl.DataFrame, ids: Renumbered) -> pl.DataFrame:
    """Return events with other ids of novel templates."""
    return events.with_columns(pl.col("template_id").replace(dict(ids))) if ids else events


def renumber_told(told: Told, ids: Renumbered) -> Told:
    """Return what is told with other ids of novel templates, in its culprits too."""
    if not ids:
        return told
    unknown: Unknown = replace(
        told.unknown,
        templates=tuple(
            replace(template, template_id=ids[template.template_id])
            for template in told.unknown.templates
        ),
    )
    table = told.table
    if "culprits" in table.columns:
        number = pl.element().struct.field("template_id").replace(dict(ids))
        each = pl.element().struct.with_fields(number.alias("template_id"))
        table = table.with_columns(pl.col("culprits").list.eval(each))
    return replace(told, table=table, unknown=unknown)


def number_together(novel: Sequence[Mapping[int, str]]) -> tuple[list[dict[int, int]], Novel]:
    """Number the novel templates of several readings by their texts.

    Args:
        novel: Of each reading, id to text.

    Returns:
        Of each reading, old id to new one, and the texts of the new ones.
    """
    numbers: dict[str, int] = {}
    ids = [
        {
            old: numbers.setdefault(text, -1 - len(numbers))
            for old, text in sorted(each.items(), reverse=True)
        }
        for each in novel
    ]
    return ids, Novel((*numbers,))
