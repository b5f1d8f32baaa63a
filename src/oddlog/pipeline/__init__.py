"""The main job: fit a pipeline on a log, score other logs with it."""

from oddlog.pipeline.config import PipelineConfig, make_config
from oddlog.pipeline.evaluation import Evaluated, evaluate_log
from oddlog.pipeline.export import export
from oddlog.pipeline.fit import fit, fit_sequences, prepare_fit
from oddlog.pipeline.mine import mine_templates, template_ids
from oddlog.pipeline.model import Judge, Pipeline
from oddlog.pipeline.prepare import Prepared
from oddlog.pipeline.result import Result
from oddlog.pipeline.update import Update, update, update_pipeline
from oddlog.pipeline.verdicts import Verdicts, Wanted, score_log

__all__ = [
    "Evaluated",
    "Judge",
    "Pipeline",
    "PipelineConfig",
    "Prepared",
    "Result",
    "Update",
    "Verdicts",
    "Wanted",
    "evaluate_log",
    "export",
    "fit",
    "fit_sequences",
    "make_config",
    "mine_templates",
    "prepare_fit",
    "score_log",
    "template_ids",
    "update",
    "update_pipeline",
]
