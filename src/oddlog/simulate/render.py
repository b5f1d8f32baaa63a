"""From steps to lines: which node logs a step, when, and with what in its variables.

Rendering comes after the faults, so that a faulty session's times and variables are drawn the same
way as a normal one's, and follow its faulty course: a replica that was never opened is the one
that is received without having been opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from itertools import repeat

from oddlog.simulate.cluster import CRASHES, ERRORS, LINES, Line
from oddlog.simulate.process import Dice

N_NODES = 8
DAEMONS = ("blockd", "metad", "scrubd", "scratchd", "CRON", "chronyd")
WAYS: Mapping[str, Line] = {**LINES, **ERRORS, **CRASHES}
CLASSES = ("Volume", "Replica", "Pipeline", "Journal", "Handler", "Channel")
METHODS = ("write", "flush", "accept", "run", "append", "dispatch")
APPS = ("sales", "sensors", "search", "billing", "mail")


class Cluster:
    """The machines: names, addresses, and the process id of each daemon on each of them."""

    def __init__(self, dice: Dice) -> None:
        self.nodes = [f"node-{number:02d}" for number in range(1, N_NODES + 1)]
        self.addresses = {node: f"10.20.0.{10 + n}" for n, node in enumerate(self.nodes)}
        hosts = [*self.nodes, "meta-01"]
        self.pids = {(h, a): dice.between(600, 32000) for h in hosts for a in DAEMONS}

    def header(self, host: str, way: Line) -> tuple[str, str]:
        """Return what stands before and after the time in a line's RFC 5424 header."""
        pid = self.pids[host, way.app]
        return f"<{way.priority}>1 ", f" {host} {way.app} {pid} - - "


class Session:
    """One block on its way: which replica is at what stage, and the variables of its lines.

    Maps a variable's name to its text, so that ``str.format_map`` draws only what a line shows.
    Size, path and client stay the same through a session; ``node`` is where its last step was.
    """

    def __init__(self, block: str, cluster: Cluster, dice: Dice) -> None:
        self.block, self._cluster, self._dice = block, cluster, dice
        order = dice.shuffled(N_NODES)
        self._replicas = [cluster.nodes[number] for number in order[:3]]
        self._stages: dict[str, list[str]] = {"to_open": [*self._replicas]}
        self.node = self._replicas[0]
        self.size = str(dice.between(1, 1024) * 65536 + dice.below(65536))
        self.path = f"/data/{APPS[dice.below(len(APPS))]}/part-{dice.below(100000):05d}"
        self.client = f"10.30.{dice.below(16)}.{dice.between(1, 254)}"

    def move(self, way: Line) -> str:
        """Take the step's replica along its way and return the host that logs it.

        A faulty session may lack a replica at the stage; then one of the session's others goes.
        """
        source, targets = way.replica or (None, "")
        waiting = self._stages.get(source or "", [])
        if source == "":
            self.node = self._new_node()
        elif waiting:
            self.node = waiting.pop(self._dice.below(len(waiting)))
        else:
            self.node = self._replicas[self._dice.below(len(self._replicas))]
        for target in targets.split():
            self._stages.setdefault(target, []).append(self.node)
        return "meta-01" if way.app == "metad" else self.node

    def _new_node(self) -> str:
        free = [node for node in self._cluster.nodes if node not in self._replicas]
        free = free or self._cluster.nodes
        self._replicas.append(free[self._dice.below(len(free))])
        return self._replicas[-1]

    def __getitem__(self, name: str) -> str:
        return _VARIABLES[name](self, self._dice)

    def address(self) -> str:
        """Return the address of the replica that the step is about."""
        return self._cluster.addresses[self.node]

    def peer(self) -> str:
        """Return the address of any node but that one."""
        others = [node for node in self._cluster.nodes if node != self.node]
        return self._cluster.addresses[others[self._dice.below(len(others))]]


_VARIABLES: Mapping[str, Callable[[Session, Dice], str]] = {
    "block": lambda session, dice: session.block,
    "size": lambda session, dice: session.size,
    "path": lambda session, dice: session.path,
    "client": lambda session, dice: session.client,
    "host": lambda session, dice: session.node,
    "ip": lambda session, dice: session.address(),
    "peer": lambda session, dice: session.peer(),
    "port": lambda session, dice: str(dice.between(32768, 60999)),
    "ms": lambda session, dice: str(dice.skewed(3, 10)),
    "number": lambda session, dice: str(dice.skewed(2, 9)),
    "percent": lambda session, dice: str(dice.between(3, 97)),
    "volume": lambda session, dice: f"/mnt/disk{dice.below(6)}",
    "hex": lambda session, dice: f"{dice.below(16**8):08x}",
}


class Clock:
    """Writes times as RFC 3339 text, whole seconds once each."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._seconds: dict[int, str] = {}

    def text(self, microseconds: int) -> str:
        """Return the time so long after the start."""
        second, rest = divmod(microseconds, 1_000_000)
        if second not in self._seconds:
            moment = self._start + timedelta(seconds=second)
            self._seconds[second] = moment.strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._seconds[second]}.{rest:06d}Z"


def wait_us(way: Line, dice: Dice) -> int:
    """Return how long after the session's previous line this one comes, in microseconds."""
    return dice.skewed(way.low_ms * 1000, way.doublings)


def message(way: Line, session: Session, dice: Dice) -> str:
    """Return a line's message; a stack trace follows it on lines of its own."""
    text = way.text.format_map(session)
    return "\n".join([text, *_trace(dice)]) if way.trace else text


def _trace(dice: Dice) -> list[str]:
    lines = [f"storage.{_one(CLASSES, dice)}Exception: offset {dice.skewed(512, 12)}"]
    for _ in repeat(None, dice.between(2, 5)):
        place, method = _one(CLASSES, dice), _one(METHODS, dice)
        lines.append(f"\tat storage.{place}.{method}({place}.java:{dice.between(20, 900)})")
    return lines


def _one(names: tuple[str, ...], dice: Dice) -> str:
    return names[dice.below(len(names))]
