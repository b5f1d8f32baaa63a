"""Training windows kept with a model, so that what is learned later does not replace them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences

REPLAYED_EVENTS = 2**18  # 1 MiB in the model folder
COPIES = 16
"""Most equal windows that are kept: rare ones are kept too, and can be told to be rare."""


def sample_windows(sequences: Sequences, seed: int, most: int = REPLAYED_EVENTS) -> Sequences:
    """Return windows drawn at random, of at most ``most`` events, as bare template ids.

    Of equal windows no more than ``COPIES`` are drawn.
    """
    drawn = np.random.default_rng(seed).permutation(len(sequences))
    ids = pl.DataFrame({"owner": sequences.owners, "id": sequences.template_ids()})
    windows = (
        ids.group_by("owner", maintain_order=True)
        .agg(pl.col("id"))
        .with_columns(starts=sequences.starts, ends=sequences.ends)[drawn]
    )
    copy = windows.select(pl.int_range(pl.len()).over("id", "starts", "ends")).to_series()
    drawn = drawn[(copy < COPIES).to_numpy()]
    chosen = drawn[np.cumsum(sequences.lengths[drawn]) <= most]
    return bare(sequences.take(np.sort(chosen)))


def bare(sequences: Sequences) -> Sequences:
    """Return the windows with nothing but their template ids and marks."""
    plain = Sequences.from_arrays(
        sequences.template_ids(), sequences.offsets, [None] * len(sequences)
    )
    return replace(plain, starts=sequences.starts, ends=sequences.ends)


def no_windows() -> Sequences:
    """Return what is replayed where no windows were kept."""
    return Sequences.from_ids([])


def to_arrays(windows: Sequences) -> dict[str, NDArray]:
    """Return windows as arrays to be stored."""
    return {
        "template_ids": windows.template_ids().astype(np.int32),
        "offsets": windows.offsets.astype(np.int32),
        "starts": windows.starts,
        "ends": windows.ends,
    }


def from_arrays(arrays: Mapping[str, NDArray]) -> Sequences:
    """Read what ``to_arrays`` gave.

    Raises:
        KeyError: An array is missing.
        ValueError: The arrays do not fit each other.
    """
    offsets = arrays["offsets"].astype(np.int64)
    windows = Sequences.from_arrays(arrays["template_ids"], offsets, [None] * (len(offsets) - 1))
    marks = {name: arrays[name].astype(bool) for name in ("starts", "ends")}
    return replace(windows, **marks)
