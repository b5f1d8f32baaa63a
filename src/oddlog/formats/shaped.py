"""Headers and messages by the shapes of lines: what is found once for all lines of a shape.

A header's pattern that is blind to digits (``oddlog.shapes``) matches every line of a shape in the
same places. So it is matched with one line of each, and what has digits, a time or a process id,
is cut out of every line where it stands in that one.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from oddlog.formats.layouts import HEAD
from oddlog.formats.lines import Block
from oddlog.shapes import (
    Repeats,
    Shaped,
    distinct,
    is_repetitive,
    neutral,
    shapes_of,
    split_lines,
    tagged,
)

FEW_LINES = 1_000  # that are looked at one by one
SHARE = 4  # shapes among lines: of more than one in so many, not much is gained
DIGIT = "[0-9]"


def shapes_of_block(block: Block) -> pl.Series:
    """Return (n,) String, the shape of each line of a block."""
    if block.text is None or len(block.lines) < FEW_LINES:
        return shapes_of(block.lines, names=False)
    text, has_colons = neutral(block.text, names=False)
    shapes = split_lines(text)
    if has_colons:
        shapes = block.lines.zip_with(block.lines.str.contains("::", literal=True), shapes)
    return shapes


def repeated(shapes: pl.Series | None) -> Repeats | None:
    """Return the distinct shapes of lines, None where there are too many to gain from it."""
    if shapes is None or len(shapes) < FEW_LINES or not is_repetitive(shapes, SHARE):
        return None
    found = distinct(shapes)
    return found if SHARE * len(found.first) <= len(shapes) else None


def headers(lines: pl.Series, shapes: pl.Series, found: Repeats, pattern: str) -> pl.DataFrame:
    """Return what ``extract_groups`` gives of lines, by their shapes, and where messages begin.

    Args:
        lines: (n,) String.
        shapes: (n,) their shapes.
        found: The distinct ones.
        pattern: A blind one, its whole match the group ``HEAD``.

    Returns:
        Columns line, message and one for each group, those of ``HEAD`` being of the shape; message
        is what follows the match, null where there is none, unless a group is named so.
    """
    each = shapes.gather(found.first)
    groups = each.str.extract_groups(pattern).struct.unnest()
    places = _places(each, groups, pattern)
    codes = pl.Series(found.codes)
    table = pl.DataFrame({"line": lines}).with_columns(
        groups[name].gather(codes).alias(name) for name in groups.columns
    )
    cut = {name: _cut(name, codes, groups, places) for name in places}
    after = groups[HEAD].str.len_bytes().cast(pl.Int64).gather(codes)
    if "message" not in groups.columns:
        cut["message"] = pl.col("line").cast(pl.Binary).bin.slice(after).cast(pl.String)
    return table.with_columns(**cut) if cut else table


def _places(each: pl.Series, groups: pl.DataFrame, pattern: str) -> dict[str, pl.Series]:
    """Return where each group's value begins that holds digits, in bytes; null where none does."""
    varying = [
        name
        for name in groups.columns
        if name != HEAD and groups[name].str.contains(DIGIT).any(ignore_nulls=True)
    ]
    if not varying:
        return {}
    longest = int(np.max(each.str.len_bytes().to_numpy(), initial=1))
    place = {name: -groups[name].str.find(DIGIT).cast(pl.Int64) for name in varying}
    for power in range(len(str(longest))):
        told = tagged(each, power).str.extract_groups(pattern).struct.unnest()
        for name in varying:
            digit = told[name].str.extract(f"({DIGIT})").cast(pl.Int64)
            place[name] = place[name] + digit * 10**power
    return place


def _cut(
    name: str, codes: pl.Series, groups: pl.DataFrame, places: dict[str, pl.Series]
) -> pl.Expr:
    """Return a group's values: cut out of the lines, or of the shape where it has no digits."""
    begin = places[name].gather(codes)
    length = groups[name].str.len_bytes().gather(codes)
    value = pl.col("line").cast(pl.Binary).bin.slice(begin, length).cast(pl.String)
    if not begin.null_count():
        return value
    return pl.when(begin.is_not_null()).then(value).otherwise(pl.col(name))


def shapes_of_messages(
    lines: pl.Series, messages: pl.Series, shapes: pl.Series, found: Repeats
) -> Shaped | None:
    """Return the shapes of messages that end their lines; None where that is not so of all.

    Args:
        lines: (n,) String.
        messages: (n,) String, null for the whole line.
        shapes: (n,) of the lines.
        found: The distinct ones.
    """
    begin = (lines.str.len_bytes() - messages.str.len_bytes()).fill_null(0).to_numpy()
    begin_of_shape = begin[found.first]
    if not np.array_equal(begin, begin_of_shape[found.codes]):
        return None
    each = shapes.gather(found.first).cast(pl.Binary)
    table = pl.DataFrame({"shape": each, "begin": begin_of_shape.astype(np.int64)})
    ends = table.select(pl.col("shape").bin.slice("begin").cast(pl.String)).to_series()
    same = distinct(ends)
    return Shaped(same.codes[found.codes], ends.gather(same.first))
