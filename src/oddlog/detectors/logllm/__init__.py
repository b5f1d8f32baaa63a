"""LogLLM (Guan et al. 2024); the paper, equations and deviations are in ``detector``."""

from oddlog.detectors.logllm.config import LogLLMConfig
from oddlog.detectors.logllm.detector import LogLLM

__all__ = ["LogLLM", "LogLLMConfig"]
