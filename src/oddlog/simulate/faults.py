"""Faults to plant in a session, each outside what the normal process can write.

A fault is a function from a normal session's steps to a ``Faulty`` one; it tries changes at random
and keeps the first that the process refuses, or returns None where the session has no room for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from oddlog.simulate.cluster import CRASHES, ERRORS, LOOPS, PROCESS, REPLICATED, SCRATCH
from oddlog.simulate.process import Dice

FARTHEST = 6  # steps that an event of a wrong order comes too early, at most
SHORTEST = 3  # events that a truncated session keeps, at least


@dataclass(frozen=True)
class Faulty:
    """A session's steps with a fault, and the positions of the steps that carry it."""

    steps: list[str]
    planted: tuple[int, ...]


def missing_step(steps: list[str], dice: Dice) -> Faulty | None:
    """Leave a step out; it shows where the first event comes that needed it."""
    for gone in dice.shuffled(len(steps)):
        changed = steps[:gone] + steps[gone + 1 :]
        refused = PROCESS.refused(changed)
        if refused is not None and refused < len(changed):
            return Faulty(changed, (refused,))
    return None


def truncated(steps: list[str], dice: Dice) -> Faulty | None:
    """Stop a session where it cannot end."""
    for offset in dice.shuffled(len(steps) - SHORTEST):
        kept = steps[: SHORTEST + offset]
        if PROCESS.refused(kept) == len(kept):
            return Faulty(kept, (len(kept) - 1,))
    return None


def repeated_step(steps: list[str], dice: Dice) -> Faulty | None:
    """Do a step twice; it shows at the first event that is one too many."""
    for twice in dice.shuffled(len(steps)):
        place = min(twice + 1 + dice.below(3), len(steps))
        changed = [*steps[:place], steps[twice], *steps[place:]]
        refused = PROCESS.refused(changed)
        if refused is not None and refused < len(changed):
            return Faulty(changed, (refused,))
    return None


def wrong_order(steps: list[str], dice: Dice) -> Faulty | None:
    """Let an event come a few steps too early: the same events, the same counts."""
    for late in dice.shuffled(len(steps)):
        early = late - 1 - dice.below(FARTHEST)
        if early < 0:
            continue
        changed = [*steps[:early], steps[late], *steps[early:late], *steps[late + 1 :]]
        if PROCESS.refused(changed) == early:
            return Faulty(changed, (early,))
    return None


def rare_branch(steps: list[str], dice: Dice) -> Faulty | None:
    """Take a branch, normal elsewhere, where it makes no sense: counts as if it were in place."""
    first, second, before = LOOPS[dice.below(len(LOOPS))]
    if first in steps or before not in steps:
        return None
    for place in dice.shuffled(len(steps)):
        changed = [*steps[: place + 1], first, second, *steps[place + 1 :]]
        if PROCESS.refused(changed) == place + 1:
            return Faulty(changed, (place + 1, place + 2))
    return None


def foreign_step(steps: list[str], dice: Dice) -> Faulty | None:
    """Let a step of the other workflow happen: each template known, the set of them not."""
    foreign = sorted(REPLICATED if steps[0] in SCRATCH else SCRATCH)
    return _inserted(steps, foreign[dice.below(len(foreign))], dice)


def unseen_error(steps: list[str], dice: Dice) -> Faulty | None:
    """Log an error that no normal session logs."""
    return _inserted(steps, [*ERRORS][dice.below(len(ERRORS))], dice)


def stack_trace(steps: list[str], dice: Dice) -> Faulty | None:
    """Log an exception that no normal session logs, over several lines."""
    return _inserted(steps, [*CRASHES][dice.below(len(CRASHES))], dice)


def _inserted(steps: list[str], step: str, dice: Dice) -> Faulty:
    place = dice.between(1, len(steps))
    return Faulty([*steps[:place], step, *steps[place:]], (place,))


FAULTS: Mapping[str, Callable[[list[str], Dice], Faulty | None]] = {
    fault.__name__: fault
    for fault in (
        missing_step,
        truncated,
        repeated_step,
        wrong_order,
        rare_branch,
        foreign_step,
        unseen_error,
        stack_trace,
    )
}
