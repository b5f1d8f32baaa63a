"""GPT-2 with a classification head; the paper, equations and deviations are in ``detector``."""

from oddlog.detectors.gpt2_classifier.config import GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.detector import GPT2Classifier

__all__ = ["GPT2Classifier", "GPT2ClassifierConfig"]
