"""From flagged sequences to alerts: what a story is called, which of its lines a person is shown.

A signature says what is odd, not where: the template of the worst culprit and in which way it is
odd. All sequences of one signature are one story. An alert's id is a hash of the model, the
sequence, its beginning and the signature, so that a replay of the same lines gives the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences, column
from oddlog.findings import Alert
from oddlog.visible import cut

MAX_LINES = 50
"""Lines of a sequence that an alert holds."""
LINE_CHARS = 2_000
SIGNATURE_CHARS = 300
NO_CULPRIT = "the whole sequence"


@dataclass(frozen=True)
class Judgement:
    """What the alerts of one scoring have in common.

    Attributes:
        model: Name of the detector.
        fingerprint: Which fitted model it is.
        threshold: The score above which a sequence is flagged; None where none can be.
        raised: When; None for a file that is scored as a whole.
        early: The sequences had not ended.
    """

    model: str
    fingerprint: str
    threshold: float | None
    raised: datetime | None = None
    early: bool = False


def make_alerts(
    sequences: Sequences,
    scores: NDArray[np.floating],
    p_values: NDArray[np.floating],
    culprits: Sequence[Sequence[Mapping[str, Any]]],
    judgement: Judgement,
    kinds: Sequence[str | None] = (),
) -> list[Alert]:
    """Make an alert of each sequence.

    Args:
        sequences: n flagged sequences.
        scores: (n,).
        p_values: (n,).
        culprits: For each sequence its records, worst first, as ``culprit_records`` gives them.
        judgement: What they have in common.
        kinds: (n,) the likeliest kind of anomaly of each, where the detector tells kinds apart.
    """
    alerts = []
    # One turn per sequence: an alert is an object of its own, made for flagged ones.
    for i, key in enumerate(sequences.keys):
        found = tuple(culprits[i])
        kind = kinds[i] if kinds else None
        signature = signature_of(found[0] if found else None, kind)
        events = sequences.lines(i)
        times = column(events, "time")
        alerts.append(
            Alert(
                key=key,
                score=float(scores[i]),
                p_value=float(p_values[i]),
                threshold=judgement.threshold,
                first_time=_time(times.min()),
                last_time=_time(times.max()),
                sources=tuple(events["source"].unique(maintain_order=True)),
                lines=_lines(events, found),
                culprits=found,
                count=1,
                model=judgement.model,
                id=alert_id(judgement.fingerprint, key, _beginning(events), signature),
                signature=signature,
                kind=kind,
                raised=judgement.raised,
                n_events=events.height,
                early=judgement.early,
            )
        )
    return alerts


def signature_of(culprit: Mapping[str, Any] | None, kind: str | None = None) -> str:
    """Name what is odd: in which way, and the template of the worst culprit.

    Args:
        culprit: The worst one's record, or None where the detector blames none.
        kind: The likeliest kind of anomaly.

    Example:
        >>> signature_of({"missing": False, "template_id": -1, "template": "disk <*> burns"})
        'unknown: disk <*> burns'
    """
    if culprit is None:
        told = NO_CULPRIT
    elif culprit["missing"]:
        lacking = culprit["expected"]
        told = f"missing: {lacking[0]['template']}" if lacking else f"ends: {culprit['template']}"
    else:
        told = f"{'unknown' if culprit['template_id'] < 0 else 'odd'}: {culprit['template']}"
    return cut(f"{kind}, {told}" if kind else told, SIGNATURE_CHARS)[0]


def alert_id(fingerprint: str, key: str, beginning: str, signature: str) -> str:
    """Return 16 hexadecimal digits that name an alert; see the module."""
    named = "\0".join((fingerprint, key, beginning, signature))
    return hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:16]


def _time(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _beginning(events: pl.DataFrame) -> str:
    """Name when a sequence began, or where in a log without times."""
    time = column(events, "time")[0]
    return f"{events['source'][0]}:{events['line'][0]}" if time is None else time.isoformat()


def _lines(
    events: pl.DataFrame, culprits: Sequence[Mapping[str, Any]]
) -> tuple[tuple[str, int, str | None], ...]:
    """Return the events' lines, of a long sequence those about its worst culprit."""
    worst = culprits[0]["position"] if culprits else 0
    first = max(0, min(worst - MAX_LINES // 2, events.height - MAX_LINES))
    shown = events[first : first + MAX_LINES]
    raw = [None if text is None else cut(text, LINE_CHARS)[0] for text in column(shown, "raw")]
    return tuple(zip(shown["source"], shown["line"], raw, strict=True))
