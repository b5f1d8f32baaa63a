"""What becomes of flagged sequences: alerts, stories, a budget, and what people say of them."""

from oddlog.alerts.alerting import AlertingConfig, Outlets
from oddlog.alerts.budget import Pace, Rate, parse_budget
from oddlog.alerts.feedback import (
    VERDICTS,
    Feedback,
    FeedbackStore,
    FileFeedback,
    Learned,
    MemoryFeedback,
    Verdict,
)
from oddlog.alerts.making import MAX_LINES, Judgement, alert_id, make_alerts, signature_of
from oddlog.alerts.stories import Stories, Story

__all__ = [
    "MAX_LINES",
    "VERDICTS",
    "AlertingConfig",
    "Feedback",
    "FeedbackStore",
    "FileFeedback",
    "Judgement",
    "Learned",
    "MemoryFeedback",
    "Outlets",
    "Pace",
    "Rate",
    "Stories",
    "Story",
    "Verdict",
    "alert_id",
    "make_alerts",
    "parse_budget",
    "signature_of",
]
