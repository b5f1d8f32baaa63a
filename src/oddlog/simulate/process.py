"""A hidden process that writes sessions: a Petri net whose steps are the log's templates.

Each step takes tokens from places and gives tokens to places; whatever is enabled may come next,
so that concurrent work interleaves as it does in a real log. No two steps share a name and none is
silent, therefore a sequence of names has at most one run: replaying it decides whether the process
could have written it, and where it first could not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

Tokens = tuple[tuple[int, int], ...]
BUFFER = 16384


class Dice:
    """Cheap random integers from one numpy generator, drawn in blocks.

    Integers only: no floating point function whose last bit depends on the platform.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._drawn: list[int] = []

    def below(self, n: int) -> int:
        """Return an integer from 0 to n - 1; n is far below 2**62, so the bias is nothing."""
        if not self._drawn:
            self._drawn = self._rng.integers(0, 2**62, size=BUFFER, dtype=np.int64).tolist()
        return self._drawn.pop() % n

    def between(self, low: int, high: int) -> int:
        """Return an integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def skewed(self, low: int, doublings: int) -> int:
        """Return an integer from low up, with a long right tail: low doubled 0 to n times."""
        least = low << self.below(doublings + 1)
        return least + self.below(least)

    def shuffled(self, n: int) -> list[int]:
        """Return 0 to n - 1 in random order (Fisher-Yates)."""
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


@dataclass(frozen=True)
class Step:
    """One kind of event.

    Attributes:
        name: What it is called; unique in its process.
        takes: Places that it takes a token from, such as ``"receiving"`` or ``"closed*3"``.
        gives: Places that it gives a token to.
        weight: How readily it happens, against everything else that is enabled, in thousandths.
        optional: It opens work that nothing demands; a session that has grown long starts none.
    """

    name: str
    takes: str
    gives: str
    weight: int
    optional: bool = False


@dataclass(frozen=True)
class Process:
    """A Petri net, compiled for walking.

    Attributes:
        names: Name of each step.
        takes: For each step, (place, number) pairs that it needs and removes.
        gives: For each step, (place, number) pairs that it adds.
        weights: For each step, its weight.
        optional: For each step, whether a long session leaves it out.
        first: Marking in which a session starts.
        unfinished: Places that are empty when a session has ended.
        end_weight: Weight of ending, where ending is possible.
    """

    names: tuple[str, ...]
    takes: tuple[Tokens, ...]
    gives: tuple[Tokens, ...]
    weights: tuple[int, ...]
    optional: tuple[bool, ...]
    first: tuple[int, ...]
    unfinished: tuple[int, ...]
    end_weight: int

    def walk(self, dice: Dice, long: int) -> list[str]:
        """Return one session's steps; after ``long`` of them no optional work is begun."""
        marking = list(self.first)
        steps: list[str] = []
        while True:
            enabled = self._enabled(marking, everything=len(steps) < long)
            cumulative = list(accumulate(self.weights[step] for step in enabled))
            total = cumulative[-1] if cumulative else 0
            drawn = dice.below(total + (self.end_weight if self._over(marking) else 0))
            if drawn >= total:
                return steps
            step = enabled[next(i for i, bound in enumerate(cumulative) if drawn < bound)]
            self._fire(marking, step)
            steps.append(self.names[step])

    def refused(self, steps: Sequence[str]) -> int | None:
        """Return where a sequence leaves the process's language, None if it does not.

        The position of the first step that is not enabled where it stands, or the sequence's
        length if each step is possible but the session cannot have ended there.
        """
        marking = list(self.first)
        for position, name in enumerate(steps):
            if name not in self.names:
                return position
            step = self.names.index(name)
            if any(marking[place] < n for place, n in self.takes[step]):
                return position
            self._fire(marking, step)
        return None if self._over(marking) else len(steps)

    def _enabled(self, marking: list[int], *, everything: bool) -> list[int]:
        return [
            step
            for step, takes in enumerate(self.takes)
            if marking[takes[0][0]]
            and all(marking[place] >= n for place, n in takes)
            and (everything or not self.optional[step])
        ]

    def _fire(self, marking: list[int], step: int) -> None:
        for place, n in self.takes[step]:
            marking[place] -= n
        for place, n in self.gives[step]:
            marking[place] += n

    def _over(self, marking: list[int]) -> bool:
        return not any(marking[place] for place in self.unfinished)


def compile_process(steps: Iterable[Step], *, resting: str, end_weight: int) -> Process:
    """Compile steps into a process that starts with one token in the place ``start``.

    Args:
        steps: The steps.
        resting: Places that may hold tokens when a session ends; all others have to be empty.
        end_weight: Weight of ending where that is possible, in thousandths.
    """
    steps = tuple(steps)
    takes = [_tokens(step.takes) for step in steps]
    gives = [_tokens(step.gives) for step in steps]
    places = list(dict.fromkeys(place for tokens in takes + gives for place in tokens))
    number = {place: index for index, place in enumerate(places)}
    return Process(
        names=tuple(step.name for step in steps),
        takes=tuple(tuple((number[p], n) for p, n in tokens.items()) for tokens in takes),
        gives=tuple(tuple((number[p], n) for p, n in tokens.items()) for tokens in gives),
        weights=tuple(step.weight for step in steps),
        optional=tuple(step.optional for step in steps),
        first=tuple(int(place == "start") for place in places),
        unfinished=tuple(number[p] for p in places if p not in resting.split()),
        end_weight=end_weight,
    )


def _tokens(text: str) -> dict[str, int]:
    pairs = (item.partition("*") for item in text.split())
    return {place: int(n or 1) for place, _, n in pairs}
