"""LogBERT (Guo, Yuan, Wu 2021); the paper, equations and deviations are in ``detector``."""

from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.detectors.logbert.detector import LogBERT

__all__ = ["LogBERT", "LogBERTConfig"]
