"""Simulated logs with planted faults, for the demo, tests, benchmarks.

Sessions are blocks (``blk_4391``), written by a hidden concurrent process (``process``, a Petri
net; ``cluster``, its steps and their lines), some with a fault that the process provably cannot
write (``faults``), rendered as RFC 5424 syslog (``render``), put together in ``log``. ``drifting``
has the same cluster, released anew ten times over. ``ordered`` has sessions as ids whose faults
are of order alone.
"""

from __future__ import annotations

from oddlog.simulate.drifting import Drifting, Pace, simulate_drifting, write_drifting
from oddlog.simulate.log import KINDS, Simulation, simulate, write
from oddlog.simulate.ordered import ORDER_KINDS, order_texts, simulate_order

__all__ = [
    "KINDS",
    "ORDER_KINDS",
    "Drifting",
    "Pace",
    "Simulation",
    "order_texts",
    "simulate",
    "simulate_drifting",
    "simulate_order",
    "write",
    "write_drifting",
]
