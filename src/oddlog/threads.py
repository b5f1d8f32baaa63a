"""Threads that compute side by side, and how they share the cores with torch.

Polars, numpy and torch let go of the interpreter while they work.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


@contextmanager
def sharing(n: int, name: str) -> Iterator[Executor]:
    """Give n threads; torch, where something has loaded it, shares the cores among them.

    Its threads are started for every product of matrices: those of several would wait for each
    other.

    Args:
        n: Threads.
        name: What they do, for whoever lists threads.
    """
    torch = sys.modules.get("torch")
    n_cores = torch.get_num_threads() if torch else 1

    def share() -> None:
        if torch:
            torch.set_num_threads(max(1, n_cores // n))

    try:
        with ThreadPoolExecutor(n, name, initializer=share) as pool:
            yield pool
    finally:
        if torch:
            torch.set_num_threads(n_cores)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items while another thread makes the next one; keep none that was yielded.

    What goes wrong in the thread is raised where the item was to come. Who stops early waits for
    the one that is being made, and no thread is left.
    """

    def make() -> list[T]:
        return list(islice(items, 1))

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(make)
        while made := coming.result():
            coming = pool.submit(make)
            yield made.pop()


def two_at_a_time(work: Callable[[S], T], items: Sequence[S]) -> Iterator[T]:
    """Yield what work makes of each item, in order, two of them at a time."""
    if len(items) < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(max_workers=2) as pool:
        coming: deque[Future[T]] = deque()
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > 2:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
