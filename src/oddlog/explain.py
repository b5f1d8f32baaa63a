"""Culprits as records that a person or a program can read: which line, how odd, what was expected.

An ``Explanation`` speaks of rows and template ids; here they become lines of a source and texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oddlog.events import Sequences, column
from oddlog.findings import END, Explanation

END_TEXT = "(end of the session)"
TextOf = Callable[[int], str]
"""Template id to template text."""


def culprit_records(
    explanation: Explanation, sequences: Sequences, text_of: TextOf
) -> list[dict[str, Any]]:
    """Return one mapping per culprit, worst first, ready for JSON.

    Keys: ``source``, ``line``, ``text`` (the raw line, or the template where no raw line is kept),
    ``template``, ``template_id``, ``score``, ``position`` (0-based place in the sequence),
    ``stopped`` (the culprit is that nothing followed this line), ``expected``: a list of
    ``template`` and ``probability``, likeliest first; the text of an expected end is ``END_TEXT``.
    """
    events = sequences.events
    raw, ids = column(events, "raw"), events["template_id"]
    n_events = dict(zip(sequences.keys, sequences.lengths.tolist(), strict=True))
    records = []
    for culprit in explanation.culprits:
        template_id = ids[culprit.row]
        template = text_of(template_id)
        records.append(
            {
                "source": events["source"][culprit.row],
                "line": events["line"][culprit.row],
                "text": template if raw[culprit.row] is None else raw[culprit.row],
                "template": template,
                "template_id": template_id,
                "score": culprit.score,
                "position": culprit.position,
                "stopped": culprit.position >= n_events[explanation.key],
                "expected": [
                    {
                        "template": END_TEXT if expected == END else text_of(expected),
                        "probability": probability,
                    }
                    for expected, probability in culprit.expected
                ],
            }
        )
    return records
