"""Alerts as text and as the records that other systems read; log content is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oddlog.explain import telling
from oddlog.findings import Alert
from oddlog.visible import cut, escape

ECS_VERSION = "8.17.0"
LABEL_CHARS = 200
LINE_CHARS = 300
N_CULPRITS = 3
N_EXPECTED = 3
GENERATOR = "oddlog"


def headline(alert: Alert) -> str:
    """Say in one line what is odd, where, and how rare that is.

    Example: ``req_1001: unknown: disk burns at <SESSION> (p 0.0099, 3 events)``.
    """
    if alert.note:
        return escape(f"{alert.key}: {alert.note}")
    seen = f", {alert.count:,} times" if alert.count > 1 else ""
    return escape(
        f"{alert.key}: {alert.signature} (p {alert.p_value:.2g}, {alert.n_events:,} events{seen})"
    )


def details(alert: Alert) -> list[str]:
    """Return lines of text: when, where, the culprits' raw lines and what was expected there."""
    when = " to ".join(
        dict.fromkeys(t.isoformat() for t in (alert.first_time, alert.last_time) if t is not None)
    )
    told = [f"{', '.join(alert.sources)} {when}".strip()] if alert.sources else []
    for culprit in telling(alert.culprits, N_CULPRITS):
        told.append(f"{culprit['line']:,} | {cut(culprit['text'], LINE_CHARS)[0]}")
        if culprit["missing"]:
            told.append("  something is missing")
        told += [
            f"  expected {expected['probability']:.0%} {cut(expected['template'], LINE_CHARS)[0]}"
            for expected in culprit["expected"][:N_EXPECTED]
        ]
    return [escape(line) for line in told]


def as_ecs(alert: Alert) -> dict[str, Any]:
    """Return a record with the names of the Elastic Common Schema; what has none is in ``oddlog``.

    ``@timestamp`` is when the alert was raised, or when its sequence ended in a file that was
    scored as a whole.
    """
    value = alert.to_dict()
    worst = alert.culprits[0] if alert.culprits else {}
    own = ("key", "score", "threshold", "p_value", "count", "model", "n_events", "early", "kind")
    return {
        "@timestamp": value["raised"] or value["last_time"],
        "ecs": {"version": ECS_VERSION},
        "event": {
            "kind": "alert",
            "module": GENERATOR,
            "dataset": "oddlog.alert",
            "id": alert.id,
            "start": value["first_time"],
            "end": value["last_time"],
            "risk_score": round(100 * (1 - alert.p_value), 4),
            "reason": headline(alert),
        },
        "rule": {"name": alert.signature},
        "log": {"file": {"path": worst.get("source") or next(iter(alert.sources), None)}},
        "message": worst.get("text") or alert.note,
        "oddlog": {name: value[name] for name in own}
        | {"sources": value["sources"], "lines": value["lines"], "culprits": value["culprits"]},
    }


def as_alertmanager(alert: Alert, now: datetime, lasts_s: float) -> list[dict[str, Any]]:
    """Return the body of ``POST /api/v2/alerts`` of Alertmanager.

    Labels identify an alert there: they are those of its story, so that Alertmanager groups and
    silences by them; the id and everything that differs are annotations.

    Args:
        alert: What to tell.
        now: When it is told.
        lasts_s: Seconds after which Alertmanager takes it for resolved.
    """
    labels = {
        "alertname": "OddlogDrift" if alert.kind == "drift" else "OddlogAnomaly",
        "signature": _label(alert.signature),
        "detector": alert.model,
        "source": _label(", ".join(alert.sources)),
        "kind": _label(alert.kind or ""),
    }
    return [
        {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {
                "summary": headline(alert),
                "description": "\n".join(details(alert)),
                "id": alert.id,
                "session": escape(alert.key),
                "p_value": f"{alert.p_value:.3g}",
                "count": str(alert.count),
            },
            "startsAt": (alert.raised or now).astimezone(UTC).isoformat(),
            "endsAt": (now + timedelta(seconds=lasts_s)).astimezone(UTC).isoformat(),
        }
    ]


def as_slack(alert: Alert) -> dict[str, str]:
    """Return a message that Slack, Mattermost and Rocket.Chat understand; nothing is markup."""
    text = "\n".join(
        [f"*{_plain(headline(alert))}*", *(f"> {_plain(line)}" for line in details(alert))]
    )
    return {"text": text}


def as_text(alert: Alert) -> str:
    """Return what a mail says."""
    return "\n".join([headline(alert), "", *details(alert), "", f"alert {alert.id}", ""])


def as_json(value: Mapping[str, Any] | list[Any]) -> str:
    """Return one line of JSON; what cannot be written as UTF-8 is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode(errors="backslashreplace").decode()


def _label(text: str) -> str:
    return cut(escape(text), LABEL_CHARS)[0]


def _plain(text: str) -> str:
    """Take from a text what Slack would read as a link or as bold, italic, struck or code."""
    for char, shown in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(char, shown)
    return text.translate({ord(char): f"{char}\u200b" for char in "*_~`"})
