"""Networks that do not need each other learn side by side, with what each would learn alone.

A step of a small network is a row of small operations, which a second thread hardly shortens; two
networks that have a thread each keep both busy, as torch lets go of the interpreter while it
computes (docs/performance.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from dataclasses import replace
from threading import Event, Lock
from typing import Any, TypeVar

import torch

from oddlog.nn.dropout import own_draws
from oddlog.run import Run
from oddlog.threads import sharing

AWAKE_S = 0.1
T = TypeVar("T")
Lesson = Callable[[Run], T]
"""Trains a network whose weights have been drawn; the stages that it runs are its own."""


def side_by_side(lessons: Sequence[Lesson[T]], run: Run, device: torch.device) -> list[T]:
    """Learn at the same time on a CPU with a thread for each lesson, in turn elsewhere.

    Where one fails, or an interrupt comes, the others end with their next step. What ``run`` calls
    is called by the lessons' threads, one at a time.

    Returns:
        What the lessons return, in their order.

    Raises:
        BaseException: What the first lesson that failed has raised, by their order.
    """
    if device.type != "cpu" or torch.get_num_threads() < len(lessons) or len(lessons) == 1:
        return [lesson(run) for lesson in lessons]
    watched = _Watched(run, len(lessons))
    with sharing(len(lessons), "learn") as pool:
        try:
            learning = [
                pool.submit(watched.learn, number, lesson) for number, lesson in enumerate(lessons)
            ]
            _wait(learning)
        finally:
            watched.ended.set()
    errors = [future.exception() for future in learning]
    for error in errors:
        if error is not None and not isinstance(error, _Ended):
            raise error
    return [future.result() for future in learning]


def _wait(learning: Sequence[Future[Any]]) -> None:
    """Wait until one has failed, or all are done.

    An interrupt may come to a thread that computes, and would not wake this one, which it is for.
    """
    left = set(learning)
    while left:
        done, left = wait(left, AWAKE_S, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            return


class _Ended(Exception):  # noqa: N818 -- no error: another lesson has failed
    """Ends a lesson at its next step."""


class _Watched:
    """Passes on what several lessons tell of themselves.

    Whoever watches epochs takes the stage that is told first for the first: the first epoch of a
    lesson is told when those before it have told one, or have ended.

    Attributes:
        ended: Once set, lessons that go on are ended.
    """

    def __init__(self, run: Run, n: int) -> None:
        self.ended = Event()
        self._run = run
        self._telling = Lock()
        self._told = [Event() for _ in range(n)]

    def learn(self, number: int, lesson: Lesson[T]) -> T:
        """Learn in this thread."""

        def progress(stage: str, done: int, total: int) -> None:
            self._tell(lambda: self._run.progress(stage, done, total))

        def epoch(stage: str, done: int, most: int, loss: float) -> None:
            for earlier in self._told[:number]:
                earlier.wait()
            self._tell(lambda: self._run.epoch(stage, done, most, loss))
            self._told[number].set()

        try:
            with own_draws():
                return lesson(replace(self._run, progress=progress, epoch=epoch))
        finally:
            self._told[number].set()

    def _tell(self, event: Callable[[], None]) -> None:
        with self._telling:
            if self.ended.is_set():
                raise _Ended
            event()
