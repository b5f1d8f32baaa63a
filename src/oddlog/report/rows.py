"""The flagged sequences as rows of the report: which lines are shown, which are left out.

Everything here is bounded by ``Limits``: a report opens at once, however much was flagged and
however long the lines are. What is left out is counted where it would have stood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences, column
from oddlog.explain import telling
from oddlog.visible import cut


@dataclass(frozen=True)
class Limits:
    """How much of what was found a report holds.

    Attributes:
        sequences: Flagged sequences, the worst of them.
        lines: Lines of a sequence: its culprits, what stands around them, beginning and end.
        culprits: Culprits of a sequence.
        characters: Of one line; the rest is cut out of its middle.
        text: Characters of all lines together; once they are spent, sequences that are less odd
            show their culprits only.
    """

    sequences: int = 500
    lines: int = 60
    culprits: int = 3
    characters: int = 1000
    text: int = 1_000_000


@dataclass(frozen=True)
class Expected:
    """What would have been normal in a culprit's place, with a probability from 0 to 1."""

    template: str
    probability: float


@dataclass(frozen=True)
class Culprit:
    """Why a line is marked.

    Attributes:
        rank: 1 for the worst of its sequence.
        score: Its own score.
        position: Its 1-based place in the sequence.
        template: Its template.
        novel: The template was not known at fit time.
        missing: Not the line is odd, but that something did not come, by this line at the latest.
        expected: Likeliest first.
        by: The detector that blames the line, where there are several.
    """

    rank: int
    score: float
    position: int
    template: str
    novel: bool
    missing: bool
    expected: tuple[Expected, ...]
    by: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of a sequence.

    Attributes:
        number: In its source.
        source: Named where a sequence has lines of several; else empty.
        text: As received, cut in the middle where it is too long.
        n_cut: Characters that were left out of it.
        culprits: Why it is marked; empty for an ordinary line.
        n_skipped: Lines of the sequence that are left out before this one.
    """

    number: int
    source: str
    text: str
    n_cut: int
    culprits: tuple[Culprit, ...] = ()
    n_skipped: int = 0


@dataclass(frozen=True)
class Row:
    """A flagged sequence.

    Attributes:
        rank: 1 for the worst.
        record: Its row of ``Result.table``.
        lines: What is shown of it, in order.
        n_after: Lines that are left out after the last one shown.
        n_culprits: Culprits that were found; there may be fewer among the lines.
        message: The worst culprit's message, cut.
        worst: The worst culprit, None where the detector names none.
        also: Names of the simple rules that flag it too.
        bin: Number of its bin of the timeline, -1 for none.
    """

    rank: int
    record: Mapping[str, Any]
    lines: tuple[Line, ...]
    n_after: int
    n_culprits: int
    message: str
    worst: Culprit | None
    also: tuple[str, ...]
    bin: int

    @property
    def n_marked(self) -> int:
        """How many culprits are marked among the lines."""
        return sum(len(line.culprits) for line in self.lines)


def make_rows(
    sequences: Sequences,
    records: Sequence[Mapping[str, Any]],
    culprits: Sequence[Sequence[Mapping[str, Any]]],
    text_of: Callable[[int], str],
    limits: Limits,
) -> list[Row]:
    """Return one row per sequence, in the order given; ``also`` and ``bin`` are left open.

    Args:
        sequences: What was flagged, worst first.
        records: Their rows of ``Result.table``.
        culprits: Their culprits, as ``oddlog.explain.culprit_records`` gives them.
        text_of: Template id to text, for events without a raw line.
        limits: What to leave out.
    """
    left, rows = limits.text, []
    for index, (record, found) in enumerate(zip(records, culprits, strict=True)):
        allowed = limits if left > 0 else replace(limits, lines=0)
        notes = _notes(telling(found, limits.culprits))
        lines, n_after = _lines(sequences, index, notes, text_of, allowed)
        left -= sum(len(line.text) for line in lines)
        rows.append(
            Row(
                rank=index + 1,
                record=record,
                lines=lines,
                n_after=n_after,
                n_culprits=len(found),
                message=cut(str(found[0]["message"]), limits.characters // 4)[0] if found else "",
                worst=notes[0] if notes else None,
                also=(),
                bin=-1,
            )
        )
    return rows


def _notes(culprits: Sequence[Mapping[str, Any]]) -> list[Culprit]:
    return [
        Culprit(
            rank=rank,
            score=culprit["score"],
            position=culprit["position"] + 1,
            template=culprit["template"],
            novel=culprit["template_id"] < 0 and not culprit["missing"],
            missing=culprit["missing"],
            expected=tuple(Expected(e["template"], e["probability"]) for e in culprit["expected"]),
            by=culprit.get("by"),
        )
        for rank, culprit in enumerate(culprits, start=1)
    ]


def _lines(
    sequences: Sequences,
    index: int,
    notes: Sequence[Culprit],
    text_of: Callable[[int], str],
    limits: Limits,
) -> tuple[tuple[Line, ...], int]:
    """Return the lines to show of a sequence, and how many are left out after them."""
    begin, end = sequences.offsets[index : index + 2]
    n = int(end - begin)
    marked: dict[int, list[Culprit]] = {}
    for note in notes:
        marked.setdefault(min(note.position - 1, n - 1), []).append(note)
    shown = _places(n, sorted(marked), limits.lines)
    events = sequences.events[sequences.rows[begin:end][shown]]
    skipped = np.diff(shown, prepend=-1) - 1
    several = events["source"].n_unique() > 1
    texts = _texts(events, text_of)
    lines = []
    for place, event_source, number, text, gap in zip(
        shown.tolist(), events["source"], events["line"], texts, skipped.tolist(), strict=True
    ):
        kept, n_cut = cut(text, limits.characters)
        source = event_source if several else ""
        lines.append(Line(number, source, kept, n_cut, tuple(marked.get(place, ())), gap))
    return tuple(lines), n - 1 - int(shown[-1]) if len(shown) else n


def _places(n: int, marked: Sequence[int], most: int) -> NDArray[np.int64]:
    """Choose the places of a sequence to show: all, or those that are nearest to what matters.

    What matters are the marked places, always shown, then the first and the last.
    """
    if n <= most:
        return np.arange(n)
    anchors = np.array([*marked, 0, n - 1], dtype=np.int64)
    reach = max(most // len(anchors) // 2, 1)
    near = np.unique(anchors[:, None] + np.arange(-reach, reach + 1))
    near = near[(near >= 0) & (near < n)]
    distance = np.abs(near[:, None] - anchors).min(axis=1)
    room = max(most, len(marked))
    distance[np.isin(near, marked)] = -1
    return np.sort(near[np.argsort(distance, kind="stable")[:room]])


def _texts(events: pl.DataFrame, text_of: Callable[[int], str]) -> list[str]:
    raw = column(events, "raw")
    if not raw.null_count():
        return raw.to_list()
    templates = [text_of(number) for number in column(events, "template_id").fill_null(0)]
    return raw.fill_null(pl.Series(templates, dtype=pl.String)).to_list()
