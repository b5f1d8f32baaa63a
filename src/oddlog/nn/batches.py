"""Token strings to padded batches and pieces of them: neighbours in length together."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from oddlog.distinct import Distinct, batch_ranges
from oddlog.encode import PAD


def pad(
    distinct: Distinct, index: NDArray[np.integer] | slice, values: NDArray | None = None
) -> torch.Tensor:
    """Return the chosen strings as a (B, T) tensor, padded with ``PAD`` (0) on the right.

    Args:
        distinct: The strings.
        index: Which of them.
        values: (t,) beside ``distinct.tokens``, to be padded in place of the tokens.
    """
    begins, lengths = distinct.offsets[:-1][index], distinct.lengths[index]
    columns = np.arange(lengths.max())
    place = np.minimum(begins[:, None] + columns, len(distinct.tokens) - 1)
    flat = distinct.tokens if values is None else values
    return torch.from_numpy(np.where(columns < lengths[:, None], flat[place], flat.dtype.type(PAD)))


def shuffled_batches(
    lengths: NDArray[np.int64], batch_size: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return index batches in random order, each of strings of nearly one length.

    Strings are ordered by length with ties at random, cut into batches, and the batches shuffled:
    hardly any padding, and no two epochs alike.
    """
    order = np.lexsort((generator.random(len(lengths)), lengths))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def pieces_by_length(lengths: torch.Tensor, max_tokens: int) -> list[torch.Tensor]:
    """Cut the rows of a padded batch into pieces within the bounds of ``batch_ranges``.

    The gradients of a batch's pieces add up to those of the batch, so that neither memory nor
    padding asks for another batch.

    Args:
        lengths: (B,) of the strings.
        max_tokens: Padded size of a piece, at most, unless it is one row.

    Returns:
        The numbers of the rows of each piece, by rising length; of a batch that is one piece, in
        their order.
    """
    order = torch.argsort(lengths, stable=True)
    found = [order[part] for part in batch_ranges(lengths[order].cpu().numpy(), max_tokens)]
    return found if len(found) != 1 else [torch.arange(len(lengths), device=lengths.device)]
