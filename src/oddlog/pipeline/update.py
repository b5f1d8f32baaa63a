"""Follow a system that has changed: adopt its new templates, learn on, calibrate again.

A new log is cut in three as for ``fit``: from the first part templates are adopted and detectors
learn, the second chooses the epoch, on the third everything is calibrated anew. Only templates in
at least ``adopt_share`` of the sequences are adopted, as what a release adds is written often and
what a fault adds is not; the others stay unknown, and sequences that hold one are not learned from.
Where no template is adopted and the scores have not moved there is nothing to learn: all of the log
calibrates (but with ``assume_anomalies`` only the third part). Known and assumed anomalies are left
out as in ``fit``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import check_replaceable
from oddlog.calibrate import calibrate, n_needed
from oddlog.config import build
from oddlog.detectors import Adaptive, Detector
from oddlog.drain import Novelties, Templates
from oddlog.drift import Drift, UnknownTemplate, find_unknown, measure_drift
from oddlog.endings import Silences
from oddlog.errors import ConfigError
from oddlog.events import Sequences
from oddlog.pipeline.clean import Cleaned, check_share, clean, count
from oddlog.pipeline.config import PipelineConfig
from oddlog.pipeline.model import UNKNOWN_TEXT, Judge, Pipeline, describe_source
from oddlog.pipeline.prepare import CutLog, Preparation, cut_log, with_templates
from oddlog.run import Run

FEWEST = 3  # sequences that a template has to be in, however few there are
CHANGEABLE = (
    "adopt_share",
    "assume_anomalies",
    "calibration_share",
    "cut",
    "false_alarm_rate",
    "format",
    "max_events",
    "train_share",
    "valid_share",
)


@dataclass(frozen=True, eq=False)
class Update:
    """A pipeline that was updated, and what that changed.

    Attributes:
        pipeline: The new one; the old one stays as it was.
        adopted: Templates that are known now, with their counts in the part that was learned from.
        left: Templates of that part that are too rare to adopt.
        learned: Names of the detectors that learned the new sequences; the others were only
            calibrated again.
        before: How the new log compares with the old pipeline's calibration.
        after: How the later half of the new calibration part compares with the earlier half; the
            new pipeline is calibrated on both.
        unknown_share: Share of the new calibration's sequences that hold a template still unknown.
        notes: What was done to the log, one line each.
        written: The new model's folder, where it was written.
        kept: Where the older model is kept, where one was replaced.
    """

    pipeline: Pipeline
    adopted: tuple[UnknownTemplate, ...]
    left: tuple[UnknownTemplate, ...]
    learned: tuple[str, ...]
    before: Drift
    after: Drift
    unknown_share: float
    notes: tuple[str, ...] = ()
    written: Path | None = None
    kept: Path | None = None

    def lines(self) -> list[str]:
        """Say what a person should know of the update, one line each."""
        told = [*self.notes, f"before: {_describe(self.before)}"]
        told += [
            f"adopted template {found.template_id}, in {found.n_sequences:,} sequences: "
            f"{found.text}"
            for found in self.adopted
        ]
        if self.left:
            most = max(found.n_sequences for found in self.left)
            told.append(
                f"{len(self.left):,} templates stay unknown: none is in more than {most:,} "
                f"sequences (setting adopt_share; never fewer than {FEWEST})"
            )
        told.append(self._learning())
        told.append(f"after, the new calibration's later half: {_describe(self.after)}")
        if self.unknown_share > self.pipeline.config.false_alarm_rate:
            told.append(
                f"{self.unknown_share:.1%} of the new log's sequences hold a template that is "
                "still unknown, more than may be flagged, so that an unknown template alone is no "
                "longer odd enough: give a log with less of it, or a lower adopt_share"
            )
        place = self.written or "the model folder"
        told += filter(None, [self.pipeline.trimmed_note(place)])
        told.append(self.pipeline.calibration_note())
        if self.kept is not None:
            told.append(f"the model before this update is kept in {self.kept}")
        return told

    def _learning(self) -> str:
        judges = (self.pipeline.detector.name, *self.pipeline.baselines)
        if not self.learned:
            return "no template to adopt and no shift of the scores: only calibrated again"
        told = f"learned the new sequences: {', '.join(self.learned)}"
        rest = [name for name in judges if name not in self.learned]
        return f"{told}; only calibrated again: {', '.join(rest)}" if rest else told

    def to_dict(self) -> dict[str, Any]:
        """Return what changed as plain values, ready for JSON."""
        return {
            "adopted": [asdict(found) for found in self.adopted],
            "left_unknown": [asdict(found) for found in self.left],
            "learned": [*self.learned],
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "unknown_share": self.unknown_share,
            "kept": None if self.kept is None else str(self.kept),
        }


def update(
    sources: Sequence[str | Path],
    *,
    model: str | Path,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    labels: pl.DataFrame | None = None,
    run: Run | None = None,
) -> Update:
    """Bring a model folder up to date with a newer log; see ``update_pipeline``.

    The new model is written whole or not at all. A model that it replaces is kept beside it, under
    the first free of ``DIR.1``, ``DIR.2`` ..., and can be loaded from there.

    Args:
        sources: Paths of one log; "-" is standard input.
        model: The folder of the model to update.
        out: Where to write the new one; None for ``model``.
        settings: Settings to change; see ``CHANGEABLE``.
        labels: Table of session and label; known anomalies are left out.
        run: Seed, device, progress.

    Raises:
        ArtifactError: No model there, or ``out`` cannot be written; asked before all else.
        ConfigError: Settings that do not fit, or too little log.
        FormatError: A source that cannot be read as a log.
        LabelsError: Labels of another log.
    """
    run = run or Run()
    pipeline = Pipeline.load(model, run.device)
    target = Path(model if out is None else out).absolute()
    check_replaceable(target)
    updated = update_pipeline(pipeline, sources, settings=settings, labels=labels, run=run)
    kept = updated.pipeline.save(target, keep=True)
    return replace(updated, written=target, kept=kept)


def update_pipeline(
    pipeline: Pipeline,
    sources: Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | None = None,
    labels: pl.DataFrame | None = None,
    run: Run | None = None,
) -> Update:
    """Return a pipeline that also holds what a newer log does for normal; see the module.

    Template ids never change, new ones are appended. What was normal before stays so. A detector
    that is not ``Adaptive`` is only calibrated again.

    Args:
        pipeline: The one to update; it stays as it is.
        sources: Paths of one log; "-" is standard input.
        settings: Settings to change; see ``CHANGEABLE``.
        labels: Table of session and label; known anomalies are left out.
        run: Seed, device, progress.

    Raises:
        ConfigError: Settings that do not fit, or too little log for the asked rate.
        FormatError: A source that cannot be read as a log.
        LabelsError: Labels of another log.
    """
    run = run or Run()
    config = _changed(pipeline.config, settings or {})
    check_share(config.assume_anomalies, pipeline.detector.learns_from, config.detector)
    cut = cut_log(
        sources,
        config,
        labels=labels,
        learns_from=pipeline.detector.learns_from,
        seed=run.seed,
        progress=run.progress,
    )
    run.progress("scoring", 0, 0)
    normal = [part.take(~part.anomalous) for part in cut.parts]
    before = pipeline.score_sequences(Sequences.concat(normal)).drift
    templates, adopted, left = _adopt(pipeline.templates, normal[0], config.adopt_share)
    parts, silences = _with_ids(cut, templates, pipeline.silences)
    learns = bool(adopted) or before.warning is not None
    parts = _normal_parts(parts, pipeline, whole=not learns and not config.assume_anomalies)
    _check_enough(parts[2], config)
    cleaned = clean(parts, config.assume_anomalies, config.false_alarm_rate)
    judges, scores, learned = _renew_all(pipeline, cleaned, run if learns else None, config)
    report = replace(cut.report, sizes=tuple(map(len, parts)), n_templates=templates.n_templates)
    trimmed = cleaned.table(scores, config.detector)
    left_out = count(cleaned.sizes, trimmed) if config.assume_anomalies else None
    entry = _describe_update(sources, run, report, adopted, learned)
    updated = Pipeline(
        config=config,
        templates=templates,
        silences=silences,
        judge=judges.pop(pipeline.detector.name),
        baselines=judges,
        manifest=_manifest(pipeline.manifest, entry, left_out),
        report=report,
        trimmed=trimmed,
    )
    compared = _look_after(updated, cleaned, scores)
    return Update(updated, adopted, left, learned, before, *compared, tuple(report.lines()))


def _normal_parts(
    parts: Sequence[Sequences], pipeline: Pipeline, *, whole: bool
) -> tuple[Sequences, Sequences, Sequences]:
    """Return the parts without known anomalies, but for a detector that learns from them.

    Args:
        parts: Training, validation and calibration.
        pipeline: The one to update.
        whole: Calibrate on all of them, as none is learned from.
    """
    normals = [part.take(~part.anomalous).without_labels() for part in parts]
    calibration = Sequences.concat(normals) if whole else normals[2]
    train, valid = normals[:2] if pipeline.detector.learns_from == "normal" else parts[:2]
    return train, valid, calibration


def _describe_update(
    sources: Sequence[str | Path],
    run: Run,
    report: Preparation,
    adopted: Sequence[UnknownTemplate],
    learned: Sequence[str],
) -> dict[str, Any]:
    """Return what the manifest tells of an update."""
    return {
        "sources": [describe_source(source) for source in sources],
        "seed": run.seed,
        "preparation": report.lines(),
        "adopted": [found.template_id for found in adopted],
        "learned": [*learned],
    }


def _manifest(
    old: Mapping[str, Any], update: Mapping[str, Any], n_trimmed: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the manifest with one more update, and with what was left out of it, if anything."""
    manifest = {name: value for name, value in old.items() if name != "trimmed"}
    if n_trimmed is not None:
        manifest["trimmed"] = n_trimmed
    return manifest | {"updates": [*old.get("updates", []), update]}


def _changed(config: PipelineConfig, settings: Mapping[str, Any]) -> PipelineConfig:
    for name in settings:
        if name not in CHANGEABLE:
            raise ConfigError(
                f"update: {name} cannot be changed without a new fit; what can: "
                f"{', '.join(CHANGEABLE)}"
            )
    return build(PipelineConfig, config.model_dump() | dict(settings), "update")


def _adopt(
    templates: Templates, train: Sequences, share: float
) -> tuple[Templates, tuple[UnknownTemplate, ...], tuple[UnknownTemplate, ...]]:
    """Adopt what enough sequences hold; return the templates, those adopted, those left out."""
    novel = Novelties(templates.config)
    seen = with_templates(train, templates, novel)
    found = find_unknown(seen, novel.text, n_shown=None).templates
    enough = max(FEWEST, share * len(train))
    chosen = sorted((f for f in found if f.n_sequences >= enough), key=lambda f: -f.template_id)
    chosen = [f for f in chosen if -f.template_id <= novel.n_templates]  # not the last, shared one
    grown = templates.adopt(novel, {f.template_id for f in chosen})
    first = templates.next_id
    adopted = tuple(replace(f, template_id=first + i) for i, f in enumerate(chosen))
    return grown, adopted, tuple(f for f in found if f not in chosen)


def _with_ids(
    cut: CutLog, templates: Templates, silences: Silences
) -> tuple[list[Sequences], Silences]:
    """Return the parts with template ids and ends, and how ends are known."""
    novel = Novelties(templates.config)
    parts = [with_templates(part, templates, novel) for part in cut.parts]
    silences = silences.joined(Silences.of(parts[0]))
    parts = [silences.mark(part, cut.ends) for part in parts]
    return parts, silences


def _known_only(sequences: Sequences) -> Sequences:
    strange = sequences.owners[sequences.template_ids() < 0]
    return sequences.take(np.bincount(strange, minlength=len(sequences)) == 0)


def _renew_all(
    pipeline: Pipeline, cleaned: Cleaned, run: Run | None, config: PipelineConfig
) -> tuple[dict[str, Judge], NDArray[np.float32], tuple[str, ...]]:
    """Renew the detector and the rules beside it; see ``_renew``.

    Returns:
        All of them by name, the detector's scores, and the names of those that have learned.
    """
    old = {pipeline.detector.name: pipeline.judge, **pipeline.baselines}
    renewed = {name: _renew(judge.detector, cleaned, run, config) for name, judge in old.items()}
    judges = {name: judge for name, (judge, _) in renewed.items()}
    learned = tuple(name for name in old if judges[name].detector is not old[name].detector)
    return judges, renewed[pipeline.detector.name][1], learned


def _renew(
    detector: Detector, cleaned: Cleaned, run: Run | None, config: PipelineConfig
) -> tuple[Judge, NDArray[np.float32]]:
    """Let a detector learn, unless ``run`` is None, and calibrate it; return its scores too."""
    train, valid, calibration = cleaned.parts
    if detector.learns_from == "normal":
        train, valid = (part.take(~part.anomalous).without_labels() for part in (train, valid))
    train, valid = _known_only(train), _known_only(valid)  # what is left unknown may be a fault's
    if run is not None and len(train) and len(valid) and isinstance(detector, Adaptive):
        run.progress(detector.name, 0, 0)
        detector = detector.adapt(train, valid, run)
    scores = detector.score(calibration).sequence
    suspects = cleaned.suspects(scores)
    return Judge(detector, calibrate(scores, config.false_alarm_rate, suspects=suspects)), scores


def _check_enough(calibration: Sequences, config: PipelineConfig) -> None:
    """Refuse to replace a model that flags by one that cannot.

    Raises:
        ConfigError: Too few normal sequences for the asked rate.
    """
    n, needed = len(calibration), n_needed(config.false_alarm_rate)
    if n < needed:
        raise ConfigError(
            f"update: {n:,} sequences to calibrate on are {needed - n:,} too few for a false-alarm "
            f"rate of {config.false_alarm_rate:.2%}; give more log, a larger calibration_share or "
            "a higher rate; the model stays as it is"
        )


def _look_after(
    pipeline: Pipeline, cleaned: Cleaned, scores: NDArray[np.float32]
) -> tuple[Drift, float]:
    """Compare the later half of the calibration with the earlier; return the share of unknowns."""
    suspects = cleaned.suspects(scores)
    kept = np.ones(len(scores), dtype=bool) if suspects is None else ~suspects
    normal, scores = cleaned.parts[2].take(kept), scores[kept]
    half = len(normal) // 2
    earlier = calibrate(scores[:half], pipeline.config.false_alarm_rate)
    drift = measure_drift(
        earlier.scores,
        scores[half:],
        earlier.flags(scores[half:]),
        normal.take(np.arange(half, len(normal))),
        asked_rate=earlier.false_alarm_rate,
        text_of=lambda i: pipeline.templates.text(i) if i >= 0 else UNKNOWN_TEXT,
    )
    return drift, find_unknown(normal, str).n_unknown_sequences / len(normal)


def _describe(drift: Drift) -> str:
    shift, unknown = drift.shift, drift.unknown
    share = unknown.n_unknown_sequences / max(shift.n_sequences, 1)
    return (
        f"{drift.flagged.rate:.2%} of {shift.n_sequences:,} sequences flagged of "
        f"{drift.asked_rate:.2%} asked, {share:.1%} with an unknown template; scores "
        f"{shift.distance:.2f} apart (p {shift.p_value:.3f})"
    )
