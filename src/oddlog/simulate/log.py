"""The log of the simulated cluster: sessions drawn, faults planted, lines written, truth kept.

Its pieces are those of every corpus made of the cluster: ``simulate`` puts them together for a
system that stays as it is, ``drifting`` for one that is released anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import repeat
from pathlib import Path

import numpy as np
import polars as pl

from oddlog.artifact import write_text
from oddlog.errors import ConfigError
from oddlog.events import NORMAL
from oddlog.simulate.cluster import LONG, NOISE, PROCESS, Line
from oddlog.simulate.faults import FAULTS, Faulty
from oddlog.simulate.process import Dice
from oddlog.simulate.render import WAYS, Clock, Cluster, Session, message, wait_us

Drawn = tuple[str, Faulty, Mapping[str, Line]]
"""A session before it is written: its block, its steps, and how each step is logged."""
GAP_US = 10_000
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
class Written:
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
    check(n_sessions, anomaly_share, kinds, noise_share)
    dice = Dice(np.random.default_rng(seed))
    labels = draw_labels(n_sessions, round(n_sessions * anomaly_share), kinds, dice)
    faulty = [draw_session(label, dice) for label in labels]
    cluster = Cluster(dice)
    clock = Clock(start if start.tzinfo is None else start.astimezone(UTC))
    blocks = draw_blocks(n_sessions, dice)
    drawn = zip(blocks, faulty, repeat(WAYS), strict=False)
    written = write_sessions(drawn, cluster, clock, dice)
    written += write_noise(written, noise_share, cluster, clock, dice)
    return assemble(written, blocks, labels)


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


def check(n_sessions: int, anomaly_share: float, kinds: Sequence[str], noise: float) -> None:
    """Refuse what cannot be simulated.

    Raises:
        ConfigError: A number out of range or an unknown kind.
    """
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


def draw_labels(n: int, n_faulty: int, kinds: Sequence[str], dice: Dice) -> list[str]:
    """Label n sessions, so many of them faulty, each kind as often."""
    labels = [NORMAL] * n
    for turn, session in enumerate(dice.shuffled(n)[:n_faulty]):
        labels[session] = kinds[turn % len(kinds)]
    return labels


def draw_session(label: str, dice: Dice) -> Faulty:
    """Return a session's steps, with a fault if the label names one."""
    if label == NORMAL:
        return Faulty(PROCESS.walk(dice, LONG), ())
    while True:
        faulty = FAULTS[label](PROCESS.walk(dice, LONG), dice)
        if faulty is not None:
            return faulty


def draw_blocks(n: int, dice: Dice) -> list[str]:
    """Name the blocks in the order of their beginning, with gaps, as a counter shared by others."""
    number = 4000
    names = []
    for _ in range(n):
        number += dice.between(1, 9)
        names.append(f"blk_{number}")
    return names


def write_sessions(
    drawn: Iterable[Drawn], cluster: Cluster, clock: Clock, dice: Dice, *, gap_us: int = GAP_US
) -> list[Written]:
    """Write every event of sessions that begin one after the other, in the order of sessions.

    A loop over events in Python: each event's variables depend on the ones before it.

    Args:
        drawn: The sessions, in the order of their beginning.
        cluster: Where they run.
        clock: Writes times.
        dice: Draws variables and waits.
        gap_us: Shortest time between two beginnings; about 16 times as long on average.
    """
    written = []
    begun = 0
    for number, (block, faulty, ways) in enumerate(drawn):
        session = Session(block, cluster, dice)
        time = begun
        for place, step in enumerate(faulty.steps):
            way = ways[step]
            before, after = cluster.header(session.move(way), way)
            text = f"{before}{clock.text(time)}{after}{message(way, session, dice)}"
            written.append(Written(time, number, place, text, place in faulty.planted))
            if place + 1 < len(faulty.steps):
                time += wait_us(ways[faulty.steps[place + 1]], dice)
        begun += dice.skewed(gap_us, 5)
    return written


def write_noise(
    written: list[Written], share: float, cluster: Cluster, clock: Clock, dice: Dice
) -> list[Written]:
    """Write what machines say beside the sessions, this share of all events."""
    last = max(event.time_us for event in written)
    noise = []
    for place in range(round(len(written) * share / (1 - share))):
        way = NOISE[dice.below(len(NOISE))]
        session = Session("", cluster, dice)
        before, after = cluster.header(session.move(way), way)
        time = dice.below(last + 1)
        text = f"{before}{clock.text(time)}{after}{message(way, session, dice)}"
        noise.append(Written(time, -1, place, text, carries_fault=False))
    return noise


def assemble(written: list[Written], blocks: list[str], labels: list[str]) -> Simulation:
    """Put events into the order of time, and the truth beside them."""
    written = sorted(written, key=lambda event: (event.time_us, event.session, event.place))
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
