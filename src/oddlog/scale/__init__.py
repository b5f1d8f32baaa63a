"""A log of many files scored by many processes, on this machine or on a cluster of Dask.

``score_files`` sends the work through a ``concurrent.futures.Executor`` (``engines``), in ``steps``
that know nothing of who runs them. The verdicts are those of ``pipeline.score_log``.
"""

from oddlog.scale.engines import Engine, dask_cluster, engine_of, processes
from oddlog.scale.files import score_files

__all__ = ["Engine", "dask_cluster", "engine_of", "processes", "score_files"]
