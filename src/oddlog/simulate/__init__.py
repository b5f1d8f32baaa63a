"""A simulated log of a small storage cluster with planted faults, for the demo, tests, benchmarks.

Sessions are blocks (``blk_4391``), written by a hidden concurrent process (``process``, a Petri
net; ``cluster``, its steps and their lines), some with a fault that the process provably cannot
write (``faults``), rendered as RFC 5424 syslog (``render``). Another corpus is another process, or
other faults, behind the same ``Simulation``. ``ordered`` has sessions as ids whose faults are of
order alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import polars as pl

from oddlog.artifact import write_text
from oddlog.errors import ConfigError
from oddlog.events import NORMAL
from oddlog.simulate.cluster import LONG, NOISE, PROCESS
from oddlog.simulate.faults import FAULTS, Faulty
from oddlog.simulate.ordered import ORDER_KINDS, order_texts, simulate_order
from oddlog.simulate.process import Dice
from oddlog.simulate.render import WAYS, Clock, Cluster, Session, message, wait_us

__all__ = [
    "KINDS",
    "ORDER_KINDS",
    "Simulation",
    "order_texts",
    "simulate",
    "simulate_order",
    "write",
]
KINDS: tuple[str, ...] = tuple(FAULTS)
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
LOG, LABELS, PLANTED = "cluster.log", "labels.csv", "planted.csv"


@dataclass(frozen=True, eq=False)
class Simulation:
    """A log and the truth about it.

    Attributes:
        lines: (n,) String, the log's raw lines in order of time; a stack trace has lines of its
            own, without a header.
        labels: ``session``, ``label`` ("" normal, else the kind of fault); one row per session.
        planted: ``session``, ``line``, ``kind``: the 1-based numbers of the lines that carry a
            fault. Of a missing step: the first event that comes too early for it. Of a truncated
            session: its last line. Of a stack trace: the line that it starts on.
    """

    lines: pl.Series
    labels: pl.DataFrame
    planted: pl.DataFrame


@dataclass(frozen=True)
class _Written:
    """One event of the log: when, in whose session, at which place there, and what."""

    time_us: int
    session: int
    place: int
    text: str
    carries_fault: bool


def simulate(
    n_sessions: int,
    *,
    anomaly_share: float,
    seed: int,
    kinds: Sequence[str] = KINDS,
    start: datetime = START,
    noise_share: float = 0.03,
) -> Simulation:
    """Simulate a cluster writing blocks.

    What each kind of fault can be seen by, beside a model of the whole sequence:

    - ``unseen_error``, ``stack_trace``: a template that no normal session has (new event);
    - ``foreign_step``: a known template beside those of the other workflow (key set, counts);
    - ``repeated_step``: known templates, one of them too often (counts, but not key set);
    - ``missing_step``: one too few (counts; key set only if it was the only one of its kind);
    - ``truncated``: the end is missing (counts mostly; key set mostly);
    - ``rare_branch``: templates and counts as in a normal session that took the branch in its
      place; one or two in a hundred do, so counts see it only where training saw none (order);
    - ``wrong_order``: exactly the counts of a normal session (order alone).

    Args:
        n_sessions: Sessions, faulty ones included.
        anomaly_share: Share of faulty sessions, 0 to 1; the number is rounded.
        seed: The same seed writes the same log.
        kinds: Kinds of fault to plant, in equal numbers.
        start: Time of the first session; taken as UTC if it has no zone.
        noise_share: Share of events that belong to no session, 0 up to 1.

    Raises:
        ConfigError: A number out of range or an unknown kind.
    """
    _check(n_sessions, anomaly_share, kinds, noise_share)
    dice = Dice(np.random.default_rng(seed))
    labels = _draw_labels(n_sessions, round(n_sessions * anomaly_share), kinds, dice)
    faulty = [_draw_session(label, dice) for label in labels]
    cluster = Cluster(dice)
    clock = Clock(start if start.tzinfo is None else start.astimezone(UTC))
    blocks = _draw_blocks(n_sessions, dice)
    written = _write_sessions(faulty, blocks, cluster, clock, dice)
    written += _write_noise(written, noise_share, cluster, clock, dice)
    written.sort(key=lambda event: (event.time_us, event.session, event.place))
    return _assemble(written, blocks, labels)


def write(simulation: Simulation, folder: Path) -> tuple[Path, Path, Path]:
    """Write ``cluster.log``, ``labels.csv`` and ``planted.csv``, each whole or not at all.

    Returns:
        The three paths, in that order. Normal sessions are labelled ``normal`` in the file.
    """
    named = pl.col("label").replace({NORMAL: "normal"})
    paths = (folder / LOG, folder / LABELS, folder / PLANTED)
    write_text(paths[0], "\n".join([*simulation.lines, ""]))
    write_text(paths[1], simulation.labels.with_columns(named).write_csv())
    write_text(paths[2], simulation.planted.write_csv())
    return paths


def _check(n_sessions: int, anomaly_share: float, kinds: Sequence[str], noise: float) -> None:
    if n_sessions < 1:
        raise ConfigError(f"simulate: n_sessions is {n_sessions}; it has to be at least 1")
    if not 0 <= anomaly_share <= 1:
        raise ConfigError(f"simulate: anomaly_share is {anomaly_share}; it has to be 0 to 1")
    if not 0 <= noise < 1:
        raise ConfigError(f"simulate: noise_share is {noise}; it has to be 0 or more, below 1")
    if not kinds and anomaly_share:
        raise ConfigError(f"simulate: no kinds of fault; there are: {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in FAULTS:
            near = get_close_matches(kind, KINDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(KINDS)}"
            raise ConfigError(f"simulate: no kind of fault named {kind!r}; {hint}")


def _draw_labels(n: int, n_faulty: int, kinds: Sequence[str], dice: Dice) -> list[str]:
    labels = [NORMAL] * n
    for turn, session in enumerate(dice.shuffled(n)[:n_faulty]):
        labels[session] = kinds[turn % len(kinds)]
    return labels


def _draw_session(label: str, dice: Dice) -> Faulty:
    if label == NORMAL:
        return Faulty(PROCESS.walk(dice, LONG), ())
    while True:
        faulty = FAULTS[label](PROCESS.walk(dice, LONG), dice)
        if faulty is not None:
            return faulty


def _draw_blocks(n: int, dice: Dice) -> list[str]:
    """Name the blocks in the order of their beginning, with gaps, as a counter shared by others."""
    number = 4000
    names = []
    for _ in range(n):
        number += dice.between(1, 9)
        names.append(f"blk_{number}")
    return names


def _write_sessions(
    faulty: list[Faulty], blocks: list[str], cluster: Cluster, clock: Clock, dice: Dice
) -> list[_Written]:
    """Loop over events in Python: each event's variables depend on the ones before it."""
    written = []
    begun = 0
    for number, (drawn, block) in enumerate(zip(faulty, blocks, strict=True)):
        session = Session(block, cluster, dice)
        time = begun
        for place, step in enumerate(drawn.steps):
            way = WAYS[step]
            before, after = cluster.header(session.move(way), way)
            text = f"{before}{clock.text(time)}{after}{message(way, session, dice)}"
            written.append(_Written(time, number, place, text, place in drawn.planted))
            if place + 1 < len(drawn.steps):
                time += wait_us(WAYS[drawn.steps[place + 1]], dice)
        begun += dice.skewed(10_000, 5)
    return written


def _write_noise(
    written: list[_Written], share: float, cluster: Cluster, clock: Clock, dice: Dice
) -> list[_Written]:
    last = max(event.time_us for event in written)
    noise = []
    for place in range(round(len(written) * share / (1 - share))):
        way = NOISE[dice.below(len(NOISE))]
        session = Session("", cluster, dice)
        before, after = cluster.header(session.move(way), way)
        time = dice.below(last + 1)
        text = f"{before}{clock.text(time)}{after}{message(way, session, dice)}"
        noise.append(_Written(time, -1, place, text, carries_fault=False))
    return noise


def _assemble(written: list[_Written], blocks: list[str], labels: list[str]) -> Simulation:
    events = pl.DataFrame(
        {
            "text": [event.text for event in written],
            "session": [event.session for event in written],
            "fault": [event.carries_fault for event in written],
        },
        schema={"text": pl.String, "session": pl.Int64, "fault": pl.Boolean},
    )
    n_lines = pl.col("text").str.count_matches("\n", literal=True).cast(pl.Int64) + 1
    truth = pl.DataFrame(
        {"session": blocks, "label": labels}, schema={"session": pl.String, "label": pl.String}
    )
    kinds = truth.with_row_index("number").select(
        pl.col("number").cast(pl.Int64), "session", kind="label"
    )
    planted = (
        events.select("fault", number="session", line=n_lines.cum_sum() - n_lines + 1)
        .filter("fault")
        .join(kinds, on="number", maintain_order="left")
        .select("session", "line", "kind")
    )
    return Simulation(events["text"].str.split("\n").explode().alias("line"), truth, planted)
