"""Which format is this? Judged on a sample, said aloud, and ``plain`` where not sure."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from oddlog.formats.layouts import LAYOUTS
from oddlog.formats.parse import matches

SAMPLE_LINES = 1_000
ENOUGH = 0.5  # of the lines that do not look like the rest of a record
NEARLY = 0.8  # of the best share: a more specific layout may match that much less
_SPREAD_JSON = r"^\s*(?:\[\s*$|\{\s*$|\[\s*\{)"
# Lines that are no event of their own in any format say nothing about it.
_CONTINUATION = r"^(?:\s|$|Caused by: |Traceback |[\w.$]+(?:Exception|Error)\b|[)}\]]+$)"


@dataclass(frozen=True)
class Detection:
    """What a sample of lines looks like.

    Attributes:
        layout: Name in ``LAYOUTS``.
        share: Share of the lines judged that match it.
        sure: Whether that is enough; if not, ``layout`` is "plain".
        note: Why, for a person.
    """

    layout: str
    share: float
    sure: bool
    note: str


def detect(lines: pl.Series) -> Detection:
    """Choose the most specific layout that matches about as many lines as any does.

    Args:
        lines: (n,) String; the first ``SAMPLE_LINES`` are looked at.
    """
    sample = lines.head(SAMPLE_LINES).fill_null("")
    judged = sample.filter(~sample.str.contains(_CONTINUATION))
    if not len(judged):
        return Detection("plain", 0.0, sure=False, note="no line to judge the format by: plain")
    n = len(judged)
    shares = {
        name: int(matches(judged, layout).sum()) / n
        for name, layout in LAYOUTS.items()
        if layout.reads != "plain"
    }
    best = max(shares.values())
    name = next(name for name, share in shares.items() if share >= NEARLY * best)
    share = shares[name]
    if share >= ENOUGH:
        note = f"picked {name}: {share:.0%} of {n} lines of the sample match"
        return Detection(name, share, sure=True, note=note)
    if sample.filter(sample.str.contains(r"\S")).head(1).str.contains(_SPREAD_JSON).any():
        note = (
            "fell back to plain: it looks like JSON that is a list or spread over lines; make one "
            "object a line of it, by jq -c '.[]' of a list, by jq -c . else"
        )
    elif best == 0:
        note = f"fell back to plain: none of {n} lines of the sample matches a known format"
    else:
        note = f"fell back to plain: {name} fits best, but only {share:.0%} of {n} lines match it"
    return Detection("plain", share, sure=False, note=note)
