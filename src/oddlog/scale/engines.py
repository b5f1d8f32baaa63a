"""Who runs the steps: processes of this machine, or the workers of a Dask cluster.

Both are a ``concurrent.futures.Executor``, and so is what other engines offer (MPI, Ray): one that
sends functions and plain values to processes which see the same files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from oddlog.errors import ConfigError
from oddlog.extras import import_extra

THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
TRIES = 3  # of a step whose worker is lost
TIMEOUT_S = 10
ADDRESS = re.compile(r"\w+://.+[:/]\d+(?:/\d+)?")


@dataclass(frozen=True)
class Engine:
    """What runs steps.

    Attributes:
        executor: Takes them.
        n_workers: How many it runs at a time.
        scratch: A folder that all workers see, with room for about the packed log; None for that
            of Python's ``tempfile``.
        is_here: They have this process's working folder.
    """

    executor: Executor
    n_workers: int
    scratch: Path | None = None
    is_here: bool = True


@contextmanager
def processes(n: int, scratch: Path | None = None) -> Iterator[Engine]:
    """Give n processes of this machine, a thread each; they end with the block.

    Args:
        n: How many.
        scratch: As of ``Engine``.

    Raises:
        ConfigError: n < 1.
    """
    if n < 1:
        raise ConfigError(f"{n} processes: at least one is needed")
    # Spawned: threads of polars and torch do not survive a fork.
    pool = ProcessPoolExecutor(n, mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        yield Engine(pool, n, scratch)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def engine_of(
    workers: int | None, dask: str | None, scratch: Path | None
) -> Iterator[Engine | None]:
    """Give what was asked for, None if nothing was.

    Raises:
        ConfigError: Both, or what ``processes`` and ``dask_cluster`` refuse.
    """
    if scratch is not None and not scratch.is_dir():
        raise ConfigError(f"--scratch {scratch}: no such folder")
    if workers is not None and dask is not None:
        raise ConfigError("--workers and --dask: processes of this machine, or a cluster, not both")
    if dask is not None and scratch is None:
        raise ConfigError(f"--dask {dask}: give --scratch DIR, a folder that all workers see")
    if dask is not None and scratch is not None:
        with dask_cluster(dask, scratch) as engine:
            yield engine
    elif workers is not None:
        with processes(workers, scratch) as engine:
            yield engine
    elif scratch is not None:
        raise ConfigError(f"--scratch {scratch}: is for --workers and --dask")
    else:
        yield None


def _one_thread() -> None:
    for name in THREADS:
        os.environ.setdefault(name, "1")


@contextmanager
def dask_cluster(address: str, scratch: Path) -> Iterator[Engine]:
    """Give the workers of a Dask cluster that runs already; it is left running.

    Whoever can reach a Dask scheduler can run code on its workers: keep it to a network of its own,
    or give it certificates (``DASK_DISTRIBUTED__COMM__TLS__*``, an address ``tls://``).

    Args:
        address: Of the scheduler, such as ``tcp://10.0.0.1:8786``.
        scratch: As of ``Engine``.

    Raises:
        ConfigError: Dask is not installed, no scheduler answers, or it has no workers.
    """
    distributed = import_extra("distributed", "--dask", kind="option")
    if not ADDRESS.fullmatch(address):
        raise ConfigError(
            f"--dask {address}: give the scheduler's address, such as tcp://host:8786"
        )
    try:
        client = distributed.Client(address, timeout=TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--dask {address}: no scheduler answers: {error}") from None
    try:
        n_workers = sum(client.nthreads().values())
        if not n_workers:
            raise ConfigError(f"--dask {address}: the scheduler has no workers; start some first")
        with client.get_executor(pure=False, retries=TRIES) as executor:
            yield Engine(executor, n_workers, scratch, is_here=False)
    finally:
        client.close()
