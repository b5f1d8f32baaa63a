"""Threads that compute side by side, and how they share the cores with torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager


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
