"""Whom an odd count blames: the last event of a kind that came too often, or what did not come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors.logbert.model import Judged
from oddlog.distinct import Distinct
from oddlog.encode import N_MARKS, Vocabulary
from oddlog.events import Sequences
from oddlog.nn.strings import N_COUNT_MARKS
from oddlog.nn.suspects import Suspects
from oddlog.nn.tail import Tail

N_ODDEST = 5
"""Counts of a window that are asked whom they blame."""


@dataclass(frozen=True, eq=False)
class OddCounts:
    """What the second reader found in the distinct count strings of n windows.

    Attributes:
        strings: The strings.
        judged: Of them, with the likeliest token of each place.
        tail: What puts a surprise into nats.
        is_judged: (n,) whose counts may be held against them.
    """

    strings: Distinct
    judged: Judged
    tail: Tail
    is_judged: NDArray[np.bool_]


def of_counts(
    sequences: Sequences, vocabulary: Vocabulary, odd: OddCounts, n_expected: int
) -> Suspects:
    """Take each odd count for an event too many, the last of its kind, or for one that is missing.

    Args:
        sequences: n windows.
        vocabulary: What the places of a count string stand for.
        odd: What was found in their counts.
        n_expected: Columns of the expected tokens; only the first is filled.
    """
    strings, judged = odd.strings, odd.judged
    shape = (len(strings), -1)
    surprise = judged.surprise.reshape(shape)[:, N_COUNT_MARKS:]
    probability = judged.probability.reshape(shape)[:, N_COUNT_MARKS:]
    observed, usual = (
        tokens.reshape(shape)[:, N_COUNT_MARKS:] for tokens in (strings.tokens, judged.likeliest)
    )
    n_odd = min(N_ODDEST, surprise.shape[1])
    oddest = np.argsort(-surprise, axis=1, kind="stable")[:, :n_odd]  # (d, n_odd) places
    window = np.repeat(np.arange(len(sequences)), n_odd)
    string = strings.of_chunk[window]
    place = oddest[strings.of_chunk].ravel()
    is_missing = observed[string, place] < usual[string, place]
    blamed = odd.is_judged[window] & (observed[string, place] != usual[string, place])
    window, string, place = window[blamed], string[blamed], place[blamed]
    is_missing = is_missing[blamed]
    last = last_of_kind(sequences, vocabulary, window, place)
    likeliest = np.zeros((len(window), n_expected), dtype=np.int64)
    shares = np.zeros((len(window), n_expected), dtype=np.float32)
    likeliest[:, :1] = (place + N_MARKS)[:, None]
    # of one too many nothing is due in its place
    shares[:, :1] = np.where(is_missing, probability[string, place], 0.0)[:, None]
    return Suspects(
        window,
        np.where(is_missing, sequences.lengths[window], last),
        odd.tail.nats(surprise[string, place]),
        likeliest,
        shares,
    )


def last_of_kind(
    sequences: Sequences,
    vocabulary: Vocabulary,
    window: NDArray[np.int64],
    place: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return (s,) the position in its window of the last event of a template, 0 if there is none.

    Args:
        sequences: n windows.
        vocabulary: Whose templates the places are.
        window: (s,) which window.
        place: (s,) which template.
    """
    places = vocabulary.encode(sequences.template_ids()) - N_MARKS
    cells = sequences.owners * vocabulary.n_keys + places
    position = np.arange(len(cells)) - sequences.offsets[:-1][sequences.owners]
    known = places >= 0
    found, index = np.unique(cells[known][::-1], return_index=True)
    wanted = window * vocabulary.n_keys + place
    at = np.searchsorted(found, wanted).clip(max=len(found) - 1)
    return np.where(found[at] == wanted, position[known][::-1][index][at], 0)
