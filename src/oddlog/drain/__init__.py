"""Templates of log messages: Drain (He et al., ICWS 2017) that learns once and then only matches.

``tree`` is the published algorithm over token tuples, ``index`` finds the learned template that
covers a message exactly, ``grouped`` reduces columns to distinct masked messages and ``words`` to
those that templates can tell apart, so that few reach Python code, and ``templates`` and
``novelties`` join them.
"""

from oddlog.drain.novelties import Novelties
from oddlog.drain.settings import DrainConfig
from oddlog.drain.templates import Templates

__all__ = ["DrainConfig", "Novelties", "Templates"]
