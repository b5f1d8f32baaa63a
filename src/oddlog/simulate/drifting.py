"""The cluster over a stated time, released anew again and again, with the same faults all along.

Public logs are nearly solved by asking whether a template is known; in a system that goes on being
developed that question loses its meaning, as most templates that are new come with a release and
not with a fault. A release rewords templates, adds some and retires others, and is rolled out by
and by: for a while sessions of the old and of the new program are written side by side. Each
session runs under the release that it began with. What faults there are, how many and of which
kinds is the same under every release.

The steps of a session are never added to or retired, they are what the process is and what faults
are made of; only their words change. What comes and goes are remarks: lines that a step writes
beside its own, always and directly behind it. A session without its remarks is one of the process,
or has a fault that the process refuses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from oddlog.artifact import write_text
from oddlog.errors import ConfigError
from oddlog.simulate.cluster import LINES, LONG, PROCESS, Line
from oddlog.simulate.faults import Faulty
from oddlog.simulate.log import (
    KINDS,
    START,
    Drawn,
    Simulation,
    assemble,
    check,
    draw_blocks,
    draw_labels,
    draw_session,
    write,
    write_noise,
    write_sessions,
)
from oddlog.simulate.process import Dice
from oddlog.simulate.render import WAYS, Clock, Cluster
from oddlog.simulate.wording import constant_words, draw_edits, reword

ADDED, RETIRED, REWORDED = CHANGES = ("added", "retired", "reworded")
N_REMARKS = 8  # of the first release
N_WALKS, RAREST = 1000, 0.05
MEAN_GAP = 15.75  # mean of Dice.skewed(1, 5): what a gap is on average
DAY_US = 86_400_000_000
_SUBJECTS = (
    *("lease", "audit", "metrics", "tenant", "policy"),
    *("encryption", "tracing", "billing", "placement", "throttle"),
)
_VERBS = ["checked", "renewed", "recorded", "refreshed", "applied", "released"]
_DETAILS = ("epoch {number}", "{percent} % used", "{size} bytes", "{ms} ms since", "key {hex}")
REMARKS = tuple(
    f"{subject} {verb} for {{block}}, {_DETAILS[(i + j) % len(_DETAILS)]}"
    for i, subject in enumerate(_SUBJECTS)
    for j, verb in enumerate(_VERBS)
)
ROLLED_OUT = ("release", "change", "step", "old", "new")


@dataclass(frozen=True)
class Pace:
    """How often a system is released, and how much of it each release changes.

    Attributes:
        n_releases: Releases after the first program, release 0.
        reworded: Share of the templates in use that a release words anew; the number is rounded.
        n_words: Words that are changed in one of them, at most.
        added: Templates that a release adds to normal sessions.
        retired: Templates that it writes no more.
        reach: Largest share of normal sessions that take a step which a release changes; what more
            of them take is left alone. With 1 a few releases have changed every session.
        rollout: Share of a release's time, from its beginning, in which ever more sessions run
            under it and ever fewer under the one before.
        days: How long the whole log takes.
    """

    n_releases: int = 10
    reworded: float = 0.025
    n_words: int = 3
    added: int = 1
    retired: int = 1
    reach: float = 0.5
    rollout: float = 0.5
    days: float = 60.0


@dataclass(frozen=True)
class Release:
    """A version of the program.

    Attributes:
        lines: How each step and each remark in use is logged.
        remarks: The remarks that each step writes behind its line.
        changes: What it changed of the one before: change, step or remark, old and new text.
    """

    lines: Mapping[str, Line]
    remarks: Mapping[str, tuple[str, ...]]
    changes: tuple[tuple[str, str, str | None, str | None], ...]


@dataclass(frozen=True, eq=False)
class Drifting:
    """A log of a system that changes, and the truth about it.

    Attributes:
        simulation: The log, its labels and its planted lines; sessions in the order of time.
        ran: ``session``, ``release``: which release each session ran under.
        changes: One row per template that a release changes: ``release``, ``change`` (one of
            ``CHANGES``), ``step`` (or remark) and its text before and after, ``old`` and ``new``,
            variables in braces. Release 0 adds all that it has. The templates of a release are
            those that are new up to it and not yet old.
    """

    simulation: Simulation
    ran: pl.DataFrame
    changes: pl.DataFrame


def simulate_drifting(
    n_before: int,
    n_each: int,
    *,
    anomaly_share: float,
    seed: int,
    pace: Pace | None = None,
    kinds: Sequence[str] = KINDS,
) -> Drifting:
    """Simulate a cluster that is released anew.

    Releases are drawn apart from sessions: of one seed and pace, a log of another length goes
    through the same ones. In each release's time the share of faulty sessions and of every kind is
    the same, but for rounding. The lines of a fault that no normal session has keep their words.

    Args:
        n_before: Sessions before the first release, all under release 0.
        n_each: Sessions from one release to the next.
        anomaly_share: Share of faulty sessions, 0 to 1.
        seed: The same seed writes the same log.
        pace: Releases, and what they change.
        kinds: Kinds of fault to plant, in equal numbers.

    Raises:
        ConfigError: A number out of range or an unknown kind.
    """
    pace = pace or Pace()
    for n in (n_before, n_each):
        check(n, anomaly_share, kinds, 0.0)
    _check(pace)
    releases = [*draw_releases(pace, np.random.default_rng([seed, 1]))]
    dice = Dice(np.random.default_rng(seed))
    periods = [n_before, *[n_each] * pace.n_releases]
    labels, ran = [], []
    for release, n in enumerate(periods):
        labels += draw_labels(n, round(n * anomaly_share), kinds, dice)
        ran += _roll_out(release, n, pace.rollout, dice)
    blocks = draw_blocks(len(labels), dice)
    ways = [{**WAYS, **release.lines} for release in releases]
    drawn: list[Drawn] = [
        (block, with_remarks(draw_session(label, dice), releases[release].remarks), ways[release])
        for block, label, release in zip(blocks, labels, ran, strict=True)
    ]
    cluster, clock = Cluster(dice), Clock(START)
    gap_us = max(1, int(pace.days * DAY_US / MEAN_GAP / len(drawn)))
    written = write_sessions(drawn, cluster, clock, dice, gap_us=gap_us)
    written += write_noise(written, 0.03, cluster, clock, dice)
    return Drifting(
        assemble(written, blocks, labels),
        pl.DataFrame({"session": blocks, "release": ran}),
        _table(releases),
    )


def write_drifting(drifting: Drifting, folder: Path) -> tuple[Path, Path, Path]:
    """Write what ``write`` does, and ``ran.csv`` and ``releases.csv`` beside it.

    Returns:
        Log, labels and planted lines.
    """
    paths = write(drifting.simulation, folder)
    write_text(folder / "ran.csv", drifting.ran.write_csv())
    write_text(folder / "releases.csv", drifting.changes.write_csv())
    return paths


def draw_releases(pace: Pace, rng: np.random.Generator) -> Iterator[Release]:
    """Draw release 0 and those that follow it; no text ever comes back."""
    names = [f"remark_{number}" for number in rng.permutation(len(REMARKS))]
    said = {_shape(line.text) for line in WAYS.values()}
    first = [names.pop() for _ in range(N_REMARKS)]
    reached = [step for step, share in shares_of_steps().items() if share <= pace.reach]
    lines = dict(LINES)
    remarks: dict[str, tuple[str, ...]] = {}
    changes = [(ADDED, step, None, line.text) for step, line in lines.items()]
    changes += _add(first, reached, lines, remarks, rng)
    yield Release(dict(lines), dict(remarks), tuple(changes))
    for _ in range(pace.n_releases):
        changes = _retire(pace.retired, lines, remarks, rng)
        candidates = [name for step in reached for name in (step, *remarks.get(step, ()))]
        chosen = rng.permutation(candidates)[: round(pace.reworded * len(lines))]
        changes += _reword(chosen.tolist(), pace.n_words, lines, said, rng)
        added = [names.pop() for _ in range(pace.added)]
        changes += _add(added, reached, lines, remarks, rng)
        yield Release(dict(lines), dict(remarks), tuple(changes))


@cache
def shares_of_steps() -> Mapping[str, float]:
    """Return which share of normal sessions takes each step, of a fixed thousand."""
    dice = Dice(np.random.default_rng(0))
    taken = Counter(step for _ in range(N_WALKS) for step in {*PROCESS.walk(dice, LONG)})
    return {step: taken[step] / N_WALKS for step in LINES}


def with_remarks(faulty: Faulty, remarks: Mapping[str, tuple[str, ...]]) -> Faulty:
    """Put each step's remarks behind it; those of a step that carries the fault carry it too."""
    steps, planted = [], []
    for place, step in enumerate(faulty.steps):
        if place in faulty.planted:
            planted += range(len(steps), len(steps) + 1 + len(remarks.get(step, ())))
        steps += [step, *remarks.get(step, ())]
    return Faulty(steps, tuple(planted))


_Changes = list[tuple[str, str, str | None, str | None]]


def _add(
    names: Sequence[str],
    steps: Sequence[str],
    lines: dict[str, Line],
    remarks: dict[str, tuple[str, ...]],
    rng: np.random.Generator,
) -> _Changes:
    """Let one of the steps each write one more line."""
    for name in names:
        step = steps[int(rng.integers(len(steps)))]
        text = REMARKS[int(name.removeprefix("remark_"))]
        lines[name] = Line(LINES[step].app, text, low_ms=1, doublings=3)
        remarks[step] = (*remarks.get(step, ()), name)
    return [(ADDED, name, None, lines[name].text) for name in names]


def _retire(
    n: int,
    lines: dict[str, Line],
    remarks: dict[str, tuple[str, ...]],
    rng: np.random.Generator,
) -> _Changes:
    """Take the lines of so many remarks out of the program."""
    used = [name for name in lines if name not in LINES]
    gone = [used[int(place)] for place in rng.permutation(len(used))[:n]]
    for step, names in remarks.items():
        remarks[step] = tuple(name for name in names if name not in gone)
    return [(RETIRED, name, lines.pop(name).text, None) for name in gone]


def _reword(
    names: Sequence[str],
    n_words: int,
    lines: dict[str, Line],
    said: set[str],
    rng: np.random.Generator,
) -> _Changes:
    """Word templates as none has been worded yet."""
    changes = []
    said |= {_shape(line.text) for line in lines.values()}
    for name in names:
        old = new = lines[name]
        while _shape(new.text) in said:  # ends: an edit that inserts a word is always possible
            n_changed = 1 + int(rng.integers(n_words))
            edits = draw_edits(constant_words(old.text), n_changed, rng)
            new = replace(old, text=reword(old.text, edits))
        said.add(_shape(new.text))
        lines[name] = new
        changes.append((REWORDED, name, old.text, new.text))
    return changes


def _roll_out(release: int, n: int, share: float, dice: Dice) -> list[int]:
    """Return which release each of the sessions from one release to the next runs under."""
    n_mixed = round(share * n) if release else 0
    mixed = [release - (dice.below(n_mixed + 1) > place) for place in range(n_mixed)]
    return [*mixed, *[release] * (n - n_mixed)]


def _shape(text: str) -> str:
    """Return a text without its variables' names: what tells one template from another."""
    return re.sub(r"\{\w+\}", "{}", text)


def _table(releases: Sequence[Release]) -> pl.DataFrame:
    rows = [(number, *row) for number, release in enumerate(releases) for row in release.changes]
    schema = dict.fromkeys(ROLLED_OUT, pl.String) | {"release": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _check(pace: Pace) -> None:
    """Refuse a pace that cannot be kept.

    Raises:
        ConfigError: A number out of range, or more remarks than there are.
    """
    if pace.n_releases < 0 or min(pace.added, pace.retired) < 0 or pace.n_words < 1:
        raise ConfigError(f"simulate_drifting: {pace}: numbers cannot be negative, n_words not 0")
    if not (0 <= pace.reworded <= 1 and 0 <= pace.rollout <= 1 and pace.days > 0):
        raise ConfigError(f"simulate_drifting: {pace}: shares are 0 to 1, days more than 0")
    if not RAREST <= pace.reach <= 1:
        raise ConfigError(f"simulate_drifting: {pace}: reach is {RAREST} to 1")
    if N_REMARKS + pace.n_releases * pace.added > len(REMARKS):
        raise ConfigError(
            f"simulate_drifting: {pace.n_releases} releases that add {pace.added} each are more "
            f"than there are remarks for, {len(REMARKS) - N_REMARKS}"
        )
    if N_REMARKS + pace.n_releases * (pace.added - pace.retired) < 0:
        raise ConfigError(
            f"simulate_drifting: {pace.n_releases} releases that add {pace.added} and retire "
            f"{pace.retired} run out of templates to retire; there are {N_REMARKS} at first"
        )
