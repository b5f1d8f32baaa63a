"""From lines to distinct masked messages and back: whole columns, so that the tree sees few."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.drain.settings import DrainConfig
from oddlog.masks import mask_distinct
from oddlog.shapes import Shaped, distinct, renumber

EXAMPLE_CHARS = 1_000


class Grouped(NamedTuple):
    """The distinct masked messages of a column, and the way back to its lines."""

    distinct: pl.DataFrame  # masked, example, n, n_cut: in order of first appearance
    of_line: NDArray[np.int64]  # (n,) row of ``distinct``

    @staticmethod
    def of(messages: pl.Series, config: DrainConfig, shaped: Shaped | None = None) -> Grouped:
        """Group a column; n is the number of lines, n_cut of those longer than the limits.

        Args:
            messages: (n,) String.
            config: Masks and limits.
            shaped: Their shapes, where they are known.
        """
        raw = messages.fill_null("").rename("raw")
        head, is_cut = _head(raw, config.max_chars)
        shaped = None if is_cut.any() else shaped
        codes, masked = mask_distinct(head, config.masks, shaped)
        of_line, first = renumber(distinct(masked).codes[codes])
        n = np.bincount(of_line)
        texts = masked.gather(codes[first]).rename("masked")
        too_many = _longer(texts, config.max_tokens).to_numpy()
        n_cut = np.where(too_many, n, np.bincount(of_line[is_cut], minlength=len(first)))
        example = raw.gather(first).rename("example")
        table = pl.DataFrame([texts, example]).with_columns(n=n, n_cut=n_cut)
        return Grouped(table, of_line)

    def spread(self, ids: NDArray[np.int32]) -> pl.Series:
        """Return (n,) Int32, the id of each line, from the ids of ``distinct``."""
        return pl.Series("template_id", ids[self.of_line], dtype=pl.Int32)


def _head(raw: pl.Series, max_chars: int) -> tuple[pl.Series, NDArray[np.bool_]]:
    is_cut = raw.str.len_bytes() > max_chars
    if not is_cut.any():
        return raw, is_cut.to_numpy()
    return raw.str.head(max_chars), (raw.str.len_chars() > max_chars).to_numpy()


def _longer(masked: pl.Series, max_tokens: int) -> pl.Series:
    """Return which messages have more tokens; only those with room for them are counted."""
    roomy = masked.str.len_bytes() > 2 * max_tokens
    if not roomy.any():
        return roomy
    return roomy & (masked.str.count_matches(r"\S+") > max_tokens)


def split(masked: str, max_tokens: int) -> tuple[str, ...]:
    """Return the tokens of a masked message, as far as they are looked at."""
    return tuple(masked.split(maxsplit=max_tokens)[:max_tokens])
