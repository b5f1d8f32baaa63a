"""A chat model asked for its verdict; the prompt, equations and deviations are in ``detector``."""

from oddlog.detectors.llm_prompt.config import LLMPromptConfig
from oddlog.detectors.llm_prompt.detector import LLMPrompt

__all__ = ["LLMPrompt", "LLMPromptConfig"]
