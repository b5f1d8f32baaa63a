"""LogGPT (Han, Yuan, Trabelsi 2023); the paper, equations and deviations are in ``detector``."""

from oddlog.detectors.loggpt.config import LogGPTConfig
from oddlog.detectors.loggpt.detector import LogGPT

__all__ = ["LogGPT", "LogGPTConfig"]
