"""From lines to distinct masked messages and back: whole columns, so that the tree sees few."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.drain.settings import DrainConfig
from oddlog.masks import mask, mostly_distinct

EXAMPLE_CHARS = 1_000


class Grouped(NamedTuple):
    """The distinct masked messages of a column, and the way back to its lines."""

    lines: pl.DataFrame  # raw, masked: a row for each line, or for each distinct raw message
    distinct: pl.DataFrame  # masked, example, n, n_cut: in order of first appearance
    is_by_line: bool

    @staticmethod
    def of(messages: pl.Series, config: DrainConfig) -> Grouped:
        """Group a column; n is the number of lines, n_cut of those longer than the limits."""
        raw = messages.fill_null("").rename("raw")
        is_by_line = mostly_distinct(raw)
        lines = raw.to_frame().with_columns(n=pl.lit(1, dtype=pl.UInt32))
        if not is_by_line:
            lines = lines.group_by("raw", maintain_order=True).agg(pl.col("n").sum())
        head, is_cut = _head(lines["raw"], config.max_chars)
        lines = lines.with_columns(masked=mask(head, config.masks), is_cut=is_cut)
        distinct = lines.group_by("masked", maintain_order=True).agg(
            example=pl.col("raw").first().str.head(EXAMPLE_CHARS),
            n=pl.col("n").sum(),
            n_cut=pl.col("n").filter("is_cut").sum(),
        )
        too_many = _longer(distinct["masked"], config.max_tokens)
        n_cut = pl.when(too_many).then("n").otherwise("n_cut")
        distinct = distinct.with_columns(n_cut=n_cut)
        return Grouped(lines.select("raw", "masked"), distinct, is_by_line)

    def spread(self, messages: pl.Series, ids: NDArray[np.int32]) -> pl.Series:
        """Return (n,) Int32, the id of each line, from the ids of ``distinct``."""
        table = self.distinct.select("masked", template_id=pl.Series(ids, dtype=pl.Int32))
        rows = self.lines.join(table, on="masked", how="left", maintain_order="left")
        if self.is_by_line:
            return rows["template_id"]
        by_line = messages.fill_null("").replace_strict(rows["raw"], rows["template_id"])
        return by_line.cast(pl.Int32).rename("template_id")  # polars: no rows keep their old type


def _head(raw: pl.Series, max_chars: int) -> tuple[pl.Series, pl.Series]:
    is_cut = raw.str.len_bytes() > max_chars
    if not is_cut.any():
        return raw, is_cut
    return raw.str.head(max_chars), raw.str.len_chars() > max_chars


def _longer(masked: pl.Series, max_tokens: int) -> pl.Series:
    """Return which messages have more tokens; only those with room for them are counted."""
    roomy = masked.str.len_bytes() > 2 * max_tokens
    if not roomy.any():
        return roomy
    return roomy & (masked.str.count_matches(r"\S+") > max_tokens)


def split(masked: str, max_tokens: int) -> tuple[str, ...]:
    """Return the tokens of a masked message, as far as they are looked at."""
    return tuple(masked.split(maxsplit=max_tokens)[:max_tokens])
