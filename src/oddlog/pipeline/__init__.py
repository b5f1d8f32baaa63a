"""The main job: fit a pipeline on a log, score other logs with it."""

from oddlog.pipeline.config import PipelineConfig, make_config
from oddlog.pipeline.export import export
from oddlog.pipeline.fit import fit, fit_sequences, prepare_fit
from oddlog.pipeline.model import Judge, Pipeline
from oddlog.pipeline.prepare import Prepared, mine_templates
from oddlog.pipeline.result import Result
from oddlog.pipeline.update import Update, update, update_pipeline

__all__ = [
    "Judge",
    "Pipeline",
    "PipelineConfig",
    "Prepared",
    "Result",
    "Update",
    "export",
    "fit",
    "fit_sequences",
    "make_config",
    "mine_templates",
    "prepare_fit",
    "update",
    "update_pipeline",
]
