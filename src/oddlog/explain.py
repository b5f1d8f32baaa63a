"""Culprits as records that a person or a program can read: which line, how odd, what was expected.

An ``Explanation`` speaks of rows and template ids; here they become lines of a source and texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from oddlog.events import NORMAL, Sequences, column
from oddlog.findings import END, Explanation

END_TEXT = "(end of the session)"
TextOf = Callable[[int], str]
"""Template id to template text."""
CULPRIT_COLUMNS: dict[str, pl.DataType] = {
    "source": pl.String(),
    "line": pl.Int64(),
    "time": pl.String(),  # ISO 8601, null where the format has none
    "text": pl.String(),  # the raw line, or the template where no raw line is kept
    "message": pl.String(),  # what follows the line's header, or the template
    "template": pl.String(),
    "template_id": pl.Int64(),
    "score": pl.Float64(),
    "position": pl.Int64(),  # 0-based place in the sequence
    "missing": pl.Boolean(),  # not this line is odd: something did not come, by here at the latest
    "expected": pl.List(pl.Struct({"template": pl.String, "probability": pl.Float64})),
    "by": pl.String(),  # the detector that blames it, null where there is but one
}
"""What a culprit's record holds, in its order."""
FAINT = 0.5
"""A culprit with less than this share of the worst one's score explains nothing."""
UNLIKELY = 0.005
"""What was expected with less than this probability was not."""


def culprit_records(
    explanations: Sequence[Explanation], sequences: Sequences, text_of: TextOf
) -> list[list[dict[str, Any]]]:
    """Return one mapping per culprit, worst first, for each sequence, ready for JSON.

    Keys are those of ``CULPRIT_COLUMNS``. ``expected`` lists what would have been normal, likeliest
    first; the text of an expected end is ``END_TEXT``.

    Args:
        explanations: One for each sequence, in their order.
        sequences: What was explained.
        text_of: Template id to text.
    """
    culprits = [culprit for found in explanations for culprit in found.culprits]
    n_culprits = [len(found.culprits) for found in explanations]
    events = sequences.events[np.array([culprit.row for culprit in culprits], dtype=np.int64)]
    templates = pl.Series([text_of(number) for number in events["template_id"]], dtype=pl.String)
    position = np.array([culprit.position for culprit in culprits], dtype=np.int64)
    table = pl.DataFrame(
        {
            "source": events["source"],
            "line": events["line"],
            "time": column(events, "time").dt.to_string("iso:strict"),
            "text": column(events, "raw").fill_null(templates),
            "message": column(events, "message").fill_null(templates),
            "template": templates,
            "template_id": events["template_id"].cast(pl.Int64),
            "score": [culprit.score for culprit in culprits],
            "position": position,
            "missing": position >= np.repeat(sequences.lengths, n_culprits),
            "expected": [_expected(culprit.expected, text_of) for culprit in culprits],
            "by": [culprit.by for culprit in culprits],
        },
        schema=CULPRIT_COLUMNS,
    )
    records = iter(table.to_dicts())
    return [list(islice(records, n)) for n in n_culprits]


def telling(culprits: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """Return the records to show: the worst, and those nearly as odd, each with what was likely.

    The worst is shown whatever its score, which may be negative; then it is shown alone.

    Args:
        culprits: Of one sequence, worst first, as ``culprit_records`` gives them.
        most: How many to return.
    """
    chosen = [
        culprit
        for rank, culprit in enumerate(culprits[:most])
        if rank == 0 or culprit["score"] >= FAINT * culprits[0]["score"]
    ]
    return [
        {**culprit, "expected": [e for e in culprit["expected"] if e["probability"] >= UNLIKELY]}
        for culprit in chosen
    ]


def likely_kind(record: Mapping[str, Any]) -> tuple[str, float] | None:
    """Return the likeliest kind of anomaly of a row of ``Result.table``, and its probability.

    None where the detector tells no kinds apart.
    """
    for found in record.get("classes") or ():
        if found["class"] != NORMAL:
            return found["class"], found["probability"]
    return None


def _expected(
    expected: Sequence[tuple[int, float]], text_of: TextOf
) -> list[dict[str, str | float]]:
    return [
        {"template": END_TEXT if template == END else text_of(template), "probability": share}
        for template, share in expected
    ]
