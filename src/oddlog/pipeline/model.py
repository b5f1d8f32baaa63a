"""The fitted pipeline: templates, window, detector, calibration and baselines in one folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from oddlog.artifact import (
    CONFIG,
    FORMAT_VERSION,
    MANIFEST,
    check_digests,
    file_digest,
    kept_name,
    new_folder,
    read_json,
    read_manifest,
    write_digests,
    write_json,
    write_text,
)
from oddlog.calibrate import Calibration
from oddlog.config import build_stored, read_toml, to_toml
from oddlog.datasets import attach_labels
from oddlog.detectors import BASELINES, Detector, detector_class
from oddlog.drain import Novelties, Templates
from oddlog.endings import Silences
from oddlog.errors import ArtifactError, ConfigError, LabelsError
from oddlog.evaluate import (
    RATES,
    ClassEvaluation,
    Evaluation,
    Resampling,
    evaluate,
    evaluate_classes,
)
from oddlog.events import NORMAL, Sequences
from oddlog.findings import Scores
from oddlog.formats import ReadReport
from oddlog.group import group
from oddlog.pipeline import clean
from oddlog.pipeline.config import PipelineConfig
from oddlog.pipeline.prepare import Preparation, read_sources, with_templates
from oddlog.pipeline.result import Result, describe_calibration
from oddlog.run import Progress, silent

BASELINE_FILES = "baselines/"
UNKNOWN_TEXT = "(template not known at fit time)"


@dataclass(frozen=True, eq=False)
class Judge:
    """A fitted detector with the calibration that turns its scores into p-values."""

    detector: Detector
    calibration: Calibration

    def save(self, folder: Path) -> None:
        """Write calibration.json and the detector's own files into a folder."""
        write_json(folder / "calibration.json", self.calibration.to_json())
        (folder / "detector").mkdir(parents=True, exist_ok=True)
        self.detector.save(folder / "detector")

    @classmethod
    def load(cls, folder: Path, name: str, device: str) -> Judge:
        """Read what ``save`` wrote."""
        where = folder / "calibration.json"
        calibration = Calibration.from_json(read_json(where), str(where))
        return cls(detector_class(name).load(folder / "detector", device), calibration)


class NovelTexts(Protocol):
    """What says which template an id below zero is: ``Novelties``, or what was made of several."""

    @property
    def n_templates(self) -> int:
        """How many there are: -1 to -n."""
        ...

    def text(self, template_id: int) -> str:
        """Return one of them, wildcards as ``<*>``."""
        ...


class StoredJudges(Mapping[str, Judge]):
    """The baselines of a model folder by name, each read when it is first asked for.

    Scoring asks for none of them. A folder that was written anew after the model was loaded is
    refused, so that a detector is never judged beside the rules of another fit.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], device: str) -> None:
        self._folder = folder
        self._manifest = manifest
        self._device = device
        self._names = [name for name in BASELINES if (folder / "baselines" / name).is_dir()]
        self._read: dict[str, Judge] = {}

    def __getitem__(self, name: str) -> Judge:
        """Return a baseline.

        Raises:
            ArtifactError: Its files are damaged or gone, or belong to a later fit.
        """
        if name not in self._names:
            raise KeyError(name)
        if name not in self._read:
            if read_manifest(self._folder) != self._manifest:
                raise ArtifactError(
                    f"{self._folder}: another model was written there after this one was loaded; "
                    "load it again"
                )
            check_digests(self._folder, f"{BASELINE_FILES}{name}/")
            where = self._folder / "baselines" / name
            self._read[name] = Judge.load(where, name, self._device)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Everything that turns lines into a verdict, fitted; ``fit`` makes it.

    Attributes:
        config: Its settings, with the format and window that were chosen.
        templates: Masks and templates, frozen.
        silences: How long a session has to be silent before it counts as ended.
        judge: The detector and its calibration.
        baselines: The trivial rules, fitted on the same data, by name; those of a model folder are
            read when they are first used.
        manifest: What is known of the fit: seed, data, counts, training history.
        report: What was done to the log; None for a pipeline that was loaded.
        trimmed: Sequences left out as suspected anomalies, in the columns of ``clean.COLUMNS``.
    """

    config: PipelineConfig
    templates: Templates
    silences: Silences
    judge: Judge
    baselines: Mapping[str, Judge]
    manifest: dict[str, Any]
    report: Preparation | None = None
    trimmed: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=clean.COLUMNS))

    @property
    def detector(self) -> Detector:
        """The fitted detector."""
        return self.judge.detector

    @property
    def calibration(self) -> Calibration:
        """The detector's calibration."""
        return self.judge.calibration

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this fit: its data, seed, settings and outcome."""
        named = json.dumps([self.manifest, self.config.model_dump(mode="json")], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def about(self) -> dict[str, str]:
        """Say in a few words which model this is, for the end of a report."""
        known = self.manifest
        names = [str(source["name"]) for source in known.get("sources", ())]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return {
            "detector": f"{self.detector.name}, seed {known.get('seed')}",
            "fitted on": f"{', '.join(names[:3])}{more}, by oddlog {known.get('oddlog')}",
        }

    def calibration_note(self) -> str:
        """Say what the asked false-alarm rate amounts to with this many calibration sequences."""
        return describe_calibration(self.calibration)

    def check_can_flag(self, false_alarm_rate: float | None = None) -> None:
        """Refuse a rate at which no log could be flagged, whatever is in it.

        Raises:
            ConfigError: The calibration has too few sequences for it.
        """
        asked = self.calibration
        asked = asked if false_alarm_rate is None else asked.at(false_alarm_rate)
        if asked.n_missing():
            raise ConfigError(describe_calibration(asked))

    def trimmed_note(self, model: str | Path) -> str | None:
        """Say how much was left out as suspected, and where in the model folder to look at it."""
        if "trimmed" not in self.manifest:
            return None
        told = clean.summary(self.config.assume_anomalies, self.manifest["trimmed"])
        return f"{told}; look at them in {Path(model) / clean.FILE}" if len(self.trimmed) else told

    def read(
        self,
        sources: Sequence[str | Path],
        *,
        format: str | None = None,
        labels: pl.DataFrame | None = None,
        progress: Progress = silent,
    ) -> tuple[Sequences, tuple[str, ...]]:
        """Read a log the way the fitted one was read, and cut it by the same window rule.

        Returns:
            The sequences, without template ids, and notes for a person.
        """
        return self._read(sources, format, labels, progress)[:2]

    def _read(
        self,
        sources: Sequence[str | Path],
        format: str | None,
        labels: pl.DataFrame | None,
        progress: Progress,
    ) -> tuple[Sequences, tuple[str, ...], tuple[ReadReport, ...]]:
        wanted = format or self.config.format
        events, reads = read_sources(sources, wanted, self.config.session_by, progress)
        assert self.config.window is not None  # noqa: S101 -- fit stores the one it chose
        sequences, report = group(events, self.config.window)
        notes = [*(read.summary() for read in reads), report.summary()]
        if labels is not None:
            sequences, label_report = attach_labels(sequences, labels)
            notes.append(label_report.summary())
        return sequences, tuple(notes), reads

    def score(
        self,
        sources: Sequence[str | Path],
        *,
        format: str | None = None,
        labels: pl.DataFrame | None = None,
        progress: Progress = silent,
    ) -> Result:
        """Score logs.

        Args:
            sources: Paths; "-" is standard input.
            format: Another format than the fitted log had.
            labels: Table of session and label, shown in the result; scoring never sees them.
            progress: Called as work goes on.
        """
        sequences, notes, reads = self._read(sources, format, labels, progress)
        return replace(self.score_sequences(sequences, notes=notes, progress=progress), reads=reads)

    def score_sequences(
        self,
        sequences: Sequences,
        *,
        notes: tuple[str, ...] = (),
        progress: Progress = silent,
    ) -> Result:
        """Score windows; their events get template ids here unless they have them already."""
        novel = Novelties(self.templates.config)
        if "template_id" not in sequences.events.columns:
            progress("templates", 0, 0)
            sequences = with_templates(sequences, self.templates, novel)
        ids = sequences.template_ids()
        if n_novel := int((ids < 0).sum()):
            notes = (*notes, novel_note(n_novel, pl.Series(ids[ids < 0]).n_unique()))
        progress("scoring", 0, 0)
        return replace(self.judge_part(sequences, novel), notes=notes)

    def judge_part(
        self, sequences: Sequences, novel: NovelTexts, ends: pl.DataFrame | None = None
    ) -> Result:
        """Score windows that have template ids, of a log or a part of one.

        Args:
            sequences: The windows.
            novel: What gave the ids that are negative.
            ends: When each source ends, as ``Silences.mark`` asks; None for what the events say.
        """
        sequences = self.silences.mark(sequences, ends)
        scores = self.detector.score(sequences.without_labels())
        return Result(
            sequences=sequences,
            scores=scores,
            calibration=self.calibration,
            detector=self.detector,
            text_of=lambda i: _text(i, self.templates, novel),
            baselines=self.baselines,
            fingerprint=self.fingerprint,
        )

    def evaluate(
        self, result: Result, *, resampling: Resampling | None = None
    ) -> dict[str, Evaluation]:
        """Judge a result by its labels, the stored baselines on the same sequences beside it.

        All are judged at the false-alarm rate of the result, and at those of ``RATES`` for which
        the calibration has enough sequences. Where a detector tells classes apart, ``classes`` of
        its evaluation says how well.

        Returns:
            Evaluations by detector name, this pipeline's own first.

        Raises:
            LabelsError: No sequence has a label.
        """
        labels, rate = result.sequences.labels, result.calibration.false_alarm_rate
        _check_labelled(labels)
        sequences = result.sequences.without_labels()
        scores = {name: judge.detector.score(sequences) for name, judge in self.baselines.items()}
        scores = {self.detector.name: result.scores, **scores}
        return self.evaluate_scores(labels, scores, rate, resampling=resampling)

    def evaluate_scores(
        self,
        labels: pl.Series,
        scores: Mapping[str, Scores],
        false_alarm_rate: float,
        *,
        resampling: Resampling | None = None,
    ) -> dict[str, Evaluation]:
        """Judge scores by labels, as ``evaluate`` does.

        Args:
            labels: (n,) String, null where unknown.
            scores: Of the detector and of baselines, (n,) by name.
            false_alarm_rate: The rate in force.
            resampling: How intervals are made.

        Raises:
            LabelsError: No sequence has a label.
        """
        _check_labelled(labels)
        known = labels.is_not_null().to_numpy()
        truth = (labels.filter(pl.Series(known)) != NORMAL).to_numpy()
        judged = {}
        for name, found in scores.items():
            judge = self.judge if name == self.detector.name else self.baselines[name]
            calibration = judge.calibration.at(false_alarm_rate)
            own = found.sequence[known]
            evaluation = evaluate(
                own,
                truth,
                calibration.flags(own),
                p_values=calibration.p_values(own),
                rates=[rate for rate in RATES if not calibration.n_missing(rate)],
                resampling=resampling,
            )
            judged[name] = replace(evaluation, classes=_classes(found, labels, resampling))
        return judged

    def save(self, folder: Path, *, keep: bool = False) -> Path | None:
        """Write the model folder, whole or not at all; an older model there is replaced.

        Args:
            folder: Where to write.
            keep: Keep an older model beside the new one, under the first free of ``folder.1``,
                ``folder.2`` ...

        Returns:
            Where the older model is kept, if there was one to keep.
        """
        kept = kept_name(folder) if keep and (folder / MANIFEST).exists() else None
        with new_folder(folder, kept) as staging:
            write_text(staging / "config.toml", to_toml(self.config.model_dump()))
            write_json(staging / "templates.json", self.templates.to_json())
            write_json(staging / "endings.json", self.silences.to_json())
            self.judge.save(staging)
            for name, judge in self.baselines.items():
                judge.save(staging / "baselines" / name)
            if "trimmed" in self.manifest:
                clean.write_table(staging, self.trimmed)
            write_json(staging / MANIFEST, self.manifest)
            write_digests(staging)
        return kept

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Pipeline:
        """Read a model folder; its baselines only once they are used.

        Raises:
            ArtifactError: No model there, a damaged one, or one of another format version.
        """
        folder = Path(folder).absolute()
        manifest = read_manifest(folder)
        check_digests(folder, but=(BASELINE_FILES, CONFIG))
        where = folder / "config.toml"
        config = build_stored(PipelineConfig, read_toml(where), str(where))
        if config.window is None or config.detector != manifest.get("detector"):
            raise ArtifactError(f"{folder}: config.toml and manifest disagree; fit it again")
        check_digests(folder, CONFIG)  # last: a setting of another version is named first
        return cls(
            config=config,
            templates=Templates.from_json(read_json(folder / "templates.json")),
            silences=Silences.from_json(read_json(folder / "endings.json")),
            judge=Judge.load(folder, config.detector, device),
            baselines=StoredJudges(folder, manifest, device),
            manifest=manifest,
            trimmed=clean.read_table(folder),
        )


def novel_note(n_events: int, n_templates: int) -> str:
    """Say how much of a log has a template that was not known at fit time."""
    return f"{n_events:,} events of {n_templates:,} templates unknown at fit time"


def _text(template_id: int, templates: Templates, novel: NovelTexts) -> str:
    if template_id >= 0:
        return templates.text(template_id)
    return novel.text(template_id) if -template_id <= novel.n_templates else UNKNOWN_TEXT


def make_manifest(
    config: PipelineConfig,
    *,
    seed: int,
    sources: Sequence[str | Path],
    report: Preparation | None,
    history: Sequence[dict[str, float]],
) -> dict[str, Any]:
    """Describe a fit: enough to tell models apart and to repeat it."""
    from oddlog import __version__

    return {
        "format_version": FORMAT_VERSION,
        "oddlog": __version__,
        "detector": config.detector,
        "seed": seed,
        "sources": [describe_source(source) for source in sources],
        "preparation": [] if report is None else report.lines(),
        "history": list(history),
    }


def describe_source(source: str | Path) -> dict[str, Any]:
    """Return a source's name and, of a file, its size and hash."""
    path = Path(source)
    if str(source) == "-" or not path.is_file():
        return {"name": str(source)}
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path)}


def _check_labelled(labels: pl.Series) -> None:
    if labels.is_null().all():
        raise LabelsError(
            "no sequence has a label: give --labels CSV, or a log whose lines have them"
        )


def _classes(
    scores: Scores, labels: pl.Series, resampling: Resampling | None
) -> ClassEvaluation | None:
    """Judge the classes of those sequences whose label is known, if the detector has any."""
    if scores.class_probs is None:
        return None
    known = labels.is_not_null()
    probs = scores.class_probs[known.to_numpy()]
    return evaluate_classes(labels.filter(known), scores.class_names, probs, resampling=resampling)
