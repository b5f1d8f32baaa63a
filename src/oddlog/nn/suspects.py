"""From odd tokens to culprits: which event a token stands for, and which few of them are named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from oddlog.encode import END
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation
from oddlog.nn.strings import N_COUNT_MARKS, Encoded
from oddlog.nn.tail import QUANTILE

N_CULPRITS = 5
ODD = -np.log1p(-QUANTILE)
"""Nats from which an event counts as odd: where a tail begins."""
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Suspects:
    """s tokens of n windows that may be to blame.

    Attributes:
        window: (s,) int64, whose token it is.
        position: (s,) int64, place of its event in the window, from 0; the window's length where
            the oddity is that something did not come.
        score: (s,) how odd it is.
        likeliest: (s, k) int64 tokens that were expected in its place, likeliest first.
        probability: (s, k) float32; with 0 nothing is expected.
    """

    window: Ints
    position: Ints
    score: NDArray[np.float64]
    likeliest: Ints
    probability: NDArray[np.float32]

    def and_counts(self, other: Suspects, lengths: Ints) -> Suspects:
        """Return the suspects of the order together with those of the counts.

        That something is missing is no event. Where the order finds an event odd too, it is missing
        there: the oddest event of such a window is as odd as what is missing.

        Args:
            other: Suspects of the counts.
            lengths: (n,) number of events in each window.
        """
        absent = np.full(len(lengths), -np.inf)
        is_absent = other.position == lengths[other.window]
        np.maximum.at(absent, other.window[is_absent], other.score[is_absent])
        order = np.lexsort((-self.score, self.window))
        worst = order[np.unique(self.window[order], return_index=True)[1]]
        worst = worst[self.score[worst] >= ODD]
        score = self.score.copy()
        score[worst] = np.maximum(score[worst], absent[self.window[worst]])
        return replace(self, score=score)._and(other)

    def _and(self, other: Suspects) -> Suspects:
        return Suspects(
            *(
                np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            )
        )

    def explain(self, sequences: Sequences, template_of: Callable[[int], int]) -> list[Explanation]:
        """Name the worst few events of each window, each once."""
        order = np.lexsort((self.position, -self.score, self.window))
        place = self.window[order] * (int(self.position.max(initial=0)) + 1) + self.position[order]
        _, first = np.unique(place, return_index=True)  # the worst token of each event
        order = order[np.sort(first)]
        begin = np.searchsorted(self.window[order], np.arange(len(sequences) + 1))
        explanations = []
        for index, key in enumerate(sequences.keys):
            chosen = order[begin[index] : begin[index + 1]][:N_CULPRITS]
            culprits = [self._culprit(suspect, sequences, template_of) for suspect in chosen]
            explanations.append(Explanation(str(key), tuple(culprits)))
        return explanations

    def _culprit(
        self, suspect: int, sequences: Sequences, template_of: Callable[[int], int]
    ) -> Culprit:
        begin, end = sequences.offsets[self.window[suspect] :][:2]
        likely = self.probability[suspect] > 0
        expected = zip(
            self.likeliest[suspect][likely], self.probability[suspect][likely], strict=True
        )
        return Culprit(
            row=int(sequences.rows[min(begin + self.position[suspect], end - 1)]),
            position=int(self.position[suspect]),
            score=float(self.score[suspect]),
            expected=tuple((template_of(int(token)), float(share)) for token, share in expected),
        )


@dataclass(frozen=True, eq=False)
class Odd:
    """What a reader found at each of t tokens: beside ``Encoded.tokens``.

    Attributes:
        score: (t,) how odd it is.
        likeliest: (t, k) int64 tokens expected in its place.
        probability: (t, k) float32.
    """

    score: NDArray[np.float64]
    likeliest: Ints
    probability: NDArray[np.float32]


def of_order(encoded: Encoded, odd: Odd) -> Suspects:
    """Take each token behind the first mark for the event in its place."""
    window, within = _places(encoded)
    chosen = within >= 1
    return _take(odd, chosen, window[chosen], within[chosen] - 1)


def of_counts(
    sequences: Sequences, encoded: Encoded, odd: Odd, judged: NDArray[np.bool_]
) -> Suspects:
    """Take each token behind the marks for one event too many, or for one that did not come.

    Only windows that are ``judged``, (n,), have suspects.

    Keys are sorted. Where a key was expected that sorts before the one that is there, it is missing
    and no event is to blame; else the event that the token stands for was not expected.
    """
    window, within = _places(encoded)
    chosen = (within >= N_COUNT_MARKS) & judged[window]
    window = window[chosen]
    observed = _sorts_as(encoded.tokens.tokens[chosen])
    missing = _sorts_as(odd.likeliest[chosen, 0]) < observed
    at_end = missing | (observed == _LAST)
    event = encoded.tokens.entries[chosen] - sequences.offsets[window]
    return _take(odd, chosen, window, np.where(at_end, sequences.lengths[window], event))


_LAST = np.iinfo(np.int64).max


def _sorts_as(tokens: Ints) -> Ints:
    """Return the tokens with the end behind every key."""
    return np.where(tokens == END, _LAST, tokens)


def _places(encoded: Encoded) -> tuple[Ints, Ints]:
    lengths = encoded.tokens.lengths
    window = np.repeat(np.arange(len(lengths)), lengths)
    return window, np.arange(len(window)) - encoded.tokens.offsets[:-1][window]


def _take(odd: Odd, chosen: NDArray[np.bool_], window: Ints, position: Ints) -> Suspects:
    return Suspects(
        window, position, odd.score[chosen], odd.likeliest[chosen], odd.probability[chosen]
    )
