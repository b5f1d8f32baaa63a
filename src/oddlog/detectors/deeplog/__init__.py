"""DeepLog: an LSTM that predicts the next template; see ``detector`` for paper and deviations."""

from oddlog.detectors.deeplog.detector import DeepLog
from oddlog.detectors.deeplog.model import DeepLogConfig

__all__ = ["DeepLog", "DeepLogConfig"]
