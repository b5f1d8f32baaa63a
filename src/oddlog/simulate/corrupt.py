"""Normal windows with one thing wrong each, for choosing settings without a labelled anomaly.

Six changes that need no knowledge of the log: a window stops early, an event is missing, foreign,
replaced or doubled, two neighbours are exchanged. A change that gives a sequence of templates which
is normal elsewhere is no anomaly, and is left out. What is chosen this way is good at finding
*these* faults; how far that carries over to real ones has to be measured.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.events import Sequences

TRUNCATED, REMOVED, INSERTED, REPLACED, DOUBLED, SWAPPED = CORRUPTIONS = (
    "truncated",
    "removed",
    "inserted",
    "replaced",
    "doubled",
    "swapped",
)


def corrupt(normals: Sequences, seed: int, n_draws: int = 1) -> Sequences:
    """Return windows with one thing wrong, labelled by what it is.

    Each draw gives every window a change of a random kind in a random place. An inserted or
    replacing event is one of any window, so that frequent templates are foreign more often. Where
    a window does not hold its session's end, missing last events are no fault: it is not truncated,
    and its last event is not removed. Left out are changes for which a window has no room, and
    those whose result is, in templates and ends, one of the windows given.

    Args:
        normals: n windows; with template ids.
        seed: The same one gives the same windows.
        n_draws: How often to change every window, differently.

    Returns:
        At most n * ``n_draws`` windows over the same events; ``labels`` says what was done.
    """
    if not len(normals):
        return normals
    often = normals.take(np.tile(np.arange(len(normals)), n_draws))
    found = _draw(often, np.random.default_rng(seed))
    return found.take(~_is_among(found, normals))


def _draw(normals: Sequences, dice: np.random.Generator) -> Sequences:
    """Change every window once, and leave those out that have no room for it."""
    lengths, first = normals.lengths, normals.offsets[:-1]
    kind = dice.integers(len(CORRUPTIONS), size=len(normals))
    is_kind = {name: kind == number for number, name in enumerate(CORRUPTIONS)}
    shortens = is_kind[TRUNCATED] | is_kind[REMOVED]
    # An exchange needs a neighbour on the right; a cut leaves at least one event before it.
    n_places = lengths - (is_kind[SWAPPED] | (is_kind[REMOVED] & ~normals.ends))
    low = is_kind[TRUNCATED].astype(np.int64)
    place = low + (dice.random(len(normals)) * np.maximum(n_places - low, 0)).astype(np.int64)
    new_lengths = lengths + (is_kind[INSERTED] | is_kind[DOUBLED]) - is_kind[REMOVED]
    new_lengths = np.where(is_kind[TRUNCATED], place, new_lengths)
    entries, foreign = _entries(first, place, new_lengths, is_kind)
    rows = normals.rows[np.minimum(entries, len(normals.rows) - 1)]
    rows[foreign] = dice.choice(normals.rows, size=int(foreign.sum()))
    has_room = (place < n_places) & (new_lengths > 0) & ~(is_kind[TRUNCATED] & ~normals.ends)
    has_room &= ~(shortens & (lengths < 2))
    return _windows(normals, rows, new_lengths, np.array(CORRUPTIONS)[kind], has_room)


def _entries(
    first: NDArray[np.int64],
    place: NDArray[np.int64],
    lengths: NDArray[np.int64],
    is_kind: dict[str, NDArray[np.bool_]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (m',) which entry each new one is taken from, and whether it is a foreign one."""
    owner = np.repeat(np.arange(len(first)), lengths)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at, after = within == place[owner], within > place[owner]
    after_one = within == place[owner] + 1
    kind = {name: mask[owner] for name, mask in is_kind.items()}
    entries = first[owner] + within
    entries += kind[REMOVED] & (at | after)
    entries -= (kind[INSERTED] | kind[DOUBLED]) & after
    entries += kind[SWAPPED] & at
    entries -= kind[SWAPPED] & after_one
    return entries, (kind[INSERTED] | kind[REPLACED]) & at


def _windows(
    normals: Sequences,
    rows: NDArray[np.int64],
    lengths: NDArray[np.int64],
    labels: NDArray[np.str_],
    keep: NDArray[np.bool_],
) -> Sequences:
    """Return the windows to keep, over all the rows that were made."""
    kept_rows = rows[np.repeat(keep, lengths)]
    return replace(
        normals,
        rows=kept_rows,
        offsets=np.concatenate([[0], np.cumsum(lengths[keep])]).astype(np.int64),
        keys=normals.keys.filter(pl.Series(keep)),
        labels=pl.Series("label", labels[keep].tolist(), dtype=pl.String),
        starts=normals.starts[keep],
        ends=normals.ends[keep],
    )


def _is_among(found: Sequences, normals: Sequences) -> NDArray[np.bool_]:
    """Return (n,) whether a window has the templates, beginning and end of one of the normals."""
    known = set(_contents(normals))
    return np.fromiter((item in known for item in _contents(found)), dtype=bool, count=len(found))


def _contents(sequences: Sequences) -> list[tuple[bytes, bool, bool]]:
    """Return what a window is compared by; whole strings, so one by one."""
    ids, offsets = sequences.template_ids(), sequences.offsets
    return [
        (ids[offsets[i] : offsets[i + 1]].tobytes(), bool(starts), bool(ends))
        for i, (starts, ends) in enumerate(zip(sequences.starts, sequences.ends, strict=True))
    ]
