"""Fit a pipeline: prepare the log, let the detector and the baselines learn, calibrate, store."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import check_replaceable
from oddlog.calibrate import calibrate
from oddlog.config import Config, build
from oddlog.detectors import BASELINES, Detector, detector_class
from oddlog.drain import Templates
from oddlog.endings import Silences
from oddlog.errors import ConfigError, LabelsError
from oddlog.events import Sequences
from oddlog.group import Window
from oddlog.pipeline.clean import Cleaned, check_share, clean, count
from oddlog.pipeline.config import PipelineConfig
from oddlog.pipeline.model import Judge, Pipeline, make_manifest
from oddlog.pipeline.prepare import Prepared, prepare
from oddlog.run import Run

logger = logging.getLogger(__name__)


def fit(
    sources: Sequence[str | Path],
    config: PipelineConfig | None = None,
    *,
    model: str | Path | None = None,
    labels: pl.DataFrame | None = None,
    run: Run | None = None,
) -> Pipeline:
    """Learn what is ordinary in a log.

    Args:
        sources: Paths of one log; "-" is standard input.
        config: Settings.
        model: Folder to write the pipeline to. Checkpoints stand beside it while it is fitted.
        labels: Table of session and label; known anomalies are kept from a detector that learns
            from normal sequences. Labels inside the log are used the same way.
        run: Seed, device, progress, and whether to resume.

    Returns:
        The fitted pipeline, already saved where ``model`` is given.

    Raises:
        ArtifactError: ``model`` is something that must not be replaced; asked before all else.
        ConfigError: Settings that do not fit the log, or too little of it.
        FormatError: A source that cannot be read as a log.
        LabelsError: Labels of another log, or none where the detector learns from them.
    """
    config, run = config or PipelineConfig(), run or Run()
    if model is not None:
        model = Path(model).absolute()
        check_replaceable(model)
    chosen, prepared = prepare_fit(sources, config, labels=labels, run=run)
    run, checkpoints = _with_checkpoints(run, model)
    _tell_of_nothing_to_resume(run)
    pipeline = fit_sequences(
        prepared.parts,
        templates=prepared.templates,
        silences=prepared.silences,
        config=chosen,
        run=run,
    )
    manifest = make_manifest(
        chosen,
        seed=run.seed,
        sources=sources,
        report=prepared.report,
        history=pipeline.manifest["history"],
    )
    if "trimmed" in pipeline.manifest:
        manifest["trimmed"] = pipeline.manifest["trimmed"]
    pipeline = replace(pipeline, manifest=manifest, report=prepared.report)
    if model is not None:
        pipeline.save(model)
        if checkpoints is not None:
            shutil.rmtree(checkpoints, ignore_errors=True)
    return pipeline


def prepare_fit(
    sources: Sequence[str | Path],
    config: PipelineConfig,
    *,
    labels: pl.DataFrame | None,
    run: Run,
) -> tuple[PipelineConfig, Prepared]:
    """Do what ``fit`` does before anything but templates is learned.

    Returns:
        The settings with the format, window and masks that were chosen, and the log's parts.

    Raises:
        ConfigError: Settings that do not fit the log, or too little of it.
        FormatError: A source that cannot be read as a log.
        LabelsError: Labels of another log.
    """
    cls = detector_class(config.detector)
    own = build(cls.Config, config.settings, config.detector)  # refused before the log is read
    config = _with_inherited_templates(config, own)
    check_share(config.assume_anomalies, cls.learns_from, config.detector)
    prepared = prepare(
        sources,
        config,
        labels=labels,
        learns_from=cls.learns_from,
        seed=run.seed,
        progress=run.progress,
    )
    chosen = {
        "format": prepared.format,
        "window": prepared.window,
        "drain": prepared.templates.config,
    }
    return config.model_copy(update=chosen), prepared


def fit_sequences(
    parts: Sequence[Sequences],
    *,
    templates: Templates,
    config: PipelineConfig,
    silences: Silences | None = None,
    run: Run | None = None,
) -> Pipeline:
    """Fit on parts that are already cut, carry template ids, and end where they are known to.

    Args:
        parts: Training (weights, vocabulary), validation (which epoch) and calibration (p-values;
            only its normal sequences are used).
        templates: What the ids stand for.
        config: Settings; without a window, sessions are assumed. With ``assume_anomalies`` the
            likeliest are left out of every part.
        silences: How later sequences are known to have ended; None to take that as it is given.
        run: Seed, device, progress.
    """
    run = run or Run()
    config = config.model_copy(update={"window": config.window or Window(by="session")})
    cls = detector_class(config.detector)
    detector = cls(build(cls.Config, config.settings, config.detector))
    needs_anomalies = getattr(detector, "needs_anomalies", detector.learns_from == "labelled")
    if needs_anomalies and not parts[0].anomalous.any():
        raise LabelsError(
            f"{config.detector} learns from labels, but training holds no anomaly: name a label "
            "file, or a log that has anomalies early enough; --set cut=random mixes sessions"
        )
    share = config.assume_anomalies
    check_share(share, detector.learns_from, config.detector)
    normals = [part.take(~part.anomalous) for part in parts]
    cleaned = clean(normals, share, config.false_alarm_rate)
    own = cleaned.parts
    if detector.learns_from == "labelled":
        own = (parts[0], parts[1], normals[2])
    judge, scores = _fit_one(detector, own, cleaned, config, run)
    baselines = {}
    for name in BASELINES:
        if name == config.detector:
            continue
        rule = detector_class(name)
        run.progress(name, 0, 0)
        baselines[name], _ = _fit_one(rule(rule.Config()), cleaned.parts, cleaned, config, run)
    history = getattr(detector, "history", [])
    manifest = make_manifest(config, seed=run.seed, sources=[], report=None, history=history)
    trimmed = cleaned.table(scores, config.detector)
    if share:
        manifest["trimmed"] = count(cleaned.sizes, trimmed)
    silences = silences or Silences.none()
    return Pipeline(config, templates, silences, judge, baselines, manifest, trimmed=trimmed)


def _fit_one(
    detector: Detector,
    parts: Sequence[Sequences],
    cleaned: Cleaned,
    config: PipelineConfig,
    run: Run,
) -> tuple[Judge, NDArray[np.float32]]:
    """Return the fitted detector, and all its scores of the calibration part."""
    train, valid, calibration = (part.without_labels() for part in parts)
    if detector.learns_from == "labelled":
        train, valid = parts[0], parts[1]
    detector.fit(train, valid, run)
    scores = detector.score(calibration).sequence
    suspects = cleaned.suspects(scores)
    return Judge(detector, calibrate(scores, config.false_alarm_rate, suspects=suspects)), scores


def _with_inherited_templates(config: PipelineConfig, own: Config) -> PipelineConfig:
    """Take over the templates of the model that a detector starts from, if it does.

    Raises:
        ConfigError: The settings ask for those of another model.
    """
    inherited: Path | None = getattr(own, "templates_from", None)
    if inherited is None:
        return config
    wanted = config.templates_from
    if wanted is not None and Path(wanted).absolute() != inherited.absolute():
        raise ConfigError(
            f"templates_from is {wanted}, but the detector starts from {inherited}, whose network "
            "knows the templates by its own numbers: leave templates_from out"
        )
    return config.model_copy(update={"templates_from": str(inherited)})


def _with_checkpoints(run: Run, model: str | Path | None) -> tuple[Run, Path | None]:
    """Keep checkpoints beside the model folder, unless the caller named a place for them."""
    if model is None or run.checkpoints is not None:
        return run, None
    folder = Path(model).with_name(f".{Path(model).name}.checkpoints")
    if not run.resume:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(run, checkpoints=folder), folder


def _tell_of_nothing_to_resume(run: Run) -> None:
    if not run.resume or (run.checkpoints and any(run.checkpoints.rglob("*.safetensors"))):
        return
    where = f"in {run.checkpoints}" if run.checkpoints else "(no folder is named for them)"
    logger.warning("nothing to resume: no checkpoint %s; fitting from the beginning", where)
