"""The simulated log: its truth is checked by an acceptor that shares no code with the simulator.

The acceptor reads the raw lines, recognises messages by its own patterns, and decides by counts of
what has happened so far whether a step may come; the simulator fires a Petri net instead.
"""

import itertools
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.errors import ConfigError
from oddlog.simulate import KINDS, Simulation, simulate, write
from oddlog.simulate.cluster import LONG, PROCESS
from oddlog.simulate.process import Dice

HEADER = re.compile(
    r"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([\w-]+) (\w+) (\d+) - - (.+)"
)
MESSAGES = {
    "allocate": r"allocated \S+ for \S+, 3 replicas, client \S+",
    "open": r"receiving \S+ src=\S+ dest=\S+",
    "packet_retry": r"packet \d+ of \S+ not acknowledged after \d+ ms, sending it again",
    "disk_slow": r"write of \S+ to \S+ took \d+ ms, choosing another volume",
    "volume_moved": r"moved \d+ bytes of \S+ to \S+, going on",
    "pipeline_broken": r"pipeline of \S+ broken at \S+, \d+ bytes acknowledged",
    "recover": r"recovering \S+ with generation \d+, new target \S+",
    "received": r"received \S+ of size \d+ from \S+ in \d+ ms",
    "close": r"responder \d+ for \S+ closing",
    "register": r"replica of \S+ stored on \S+, size \d+",
    "quota_held": r"commit of \S+ held, quota of \S+ used to \d+ %",
    "quota_raised": r"quota of \S+ raised, commit of \S+ goes on",
    "commit": r"commit of \S+ with generation \d+, \d+ bytes",
    "complete": r"block \S+ complete after \d+ ms, 3 of 3 replicas",
    "read_begin": r"serving \S+ to \S+",
    "read_end": r"served \S+ to \S+, \d+ bytes in \d+ ms",
    "cache_fill": r"cached \S+ in memory, \d+ % of the cache in use",
    "cache_hit": r"cache hit on \S+, \d+ bytes to \S+",
    "cache_drop": r"dropped \S+ from the cache after \d+ ms idle",
    "verify_begin": r"verifying \S+ on \S+",
    "verify_held": r"verification of \S+ held, load \d+ %",
    "verify_resumed": r"verification of \S+ resumed at offset \d+",
    "verify_good": r"verification of \S+ succeeded, checksum [0-9a-f]{8}",
    "verify_bad": r"checksum mismatch in \S+ at offset \d+ on \S+",
    "node_lost": r"\S+ has 2 of 3 replicas, \S+ is gone",
    "repair_ask": r"asking \S+ to copy \S+ to \S+",
    "transfer_end": r"copied \S+ to \S+ in \d+ ms",
    "repair_end": r"repair of \S+ done after \d+ ms",
    "delete_ask": r"deleting \S+ of \S+, asking 3 nodes",
    "deleted": r"deleted \S+ file \S+",
    "forget": r"removed \S+ from the block map",
    "pin": r"pinned \S+ in memory for \S+, ttl \d+ s",
    "mirror": r"mirroring \S+ to \S+",
    "append": r"appended \d+ bytes to \S+",
    "sync": r"synced \S+ to its mirrors, sequence \d+",
    "seal": r"sealed \S+ at \d+ bytes",
    "expire": r"expired \S+ after \d+ s",
}
NAMES = [*MESSAGES]
ANY_MESSAGE = re.compile("|".join(f"(?P<{name}>{text})" for name, text in MESSAGES.items()))


class Past:
    """What a block has been through, from the counts of its steps so far."""

    def __init__(self, counts: Counter[str]) -> None:
        self.n = n = counts
        self.nothing = not sum(n.values())
        self.receiving = n["open"] + n["volume_moved"] - n["disk_slow"]
        self.receiving -= n["pipeline_broken"] + n["received"]
        self.openings = 3 * n["allocate"] + n["recover"] + n["repair_ask"]
        self.committing = n["allocate"] - n["quota_held"] + n["quota_raised"] - n["commit"]
        self.closed = n["close"] - 3 * n["complete"] - n["transfer_end"]
        self.registered = n["register"] - 3 * n["complete"] - n["repair_end"]
        self.alive = n["complete"] - n["delete_ask"]
        self.serving = n["read_begin"] - n["read_end"]
        self.cached = n["cache_fill"] - n["cache_drop"]
        self.scrubs = n["verify_begin"] - n["verify_good"] - n["verify_bad"]
        self.paused = n["verify_held"] - n["verify_resumed"]
        self.losses = n["node_lost"] + n["verify_bad"]
        self.repairs = self.losses - n["repair_end"]
        self.scratch = n["pin"] - n["seal"]

    @property
    def idle(self) -> bool:
        return not (self.serving or self.scrubs or self.repairs)

    @property
    def over(self) -> bool:
        if self.n["pin"]:
            return self.n["expire"] == 1
        deleted = self.n["delete_ask"] == self.n["forget"]
        return self.n["complete"] == 1 and self.idle and deleted


MAY_COME = {
    "allocate": lambda p: p.nothing,
    "open": lambda p: p.openings > p.n["open"],
    "packet_retry": lambda p: p.receiving > 0,
    "disk_slow": lambda p: p.receiving > 0,
    "volume_moved": lambda p: p.n["disk_slow"] > p.n["volume_moved"],
    "pipeline_broken": lambda p: p.receiving > 0,
    "recover": lambda p: p.n["pipeline_broken"] > p.n["recover"],
    "received": lambda p: p.receiving > 0,
    "close": lambda p: p.n["received"] > p.n["close"],
    "register": lambda p: p.n["received"] > p.n["register"],
    "quota_held": lambda p: p.committing > 0,
    "quota_raised": lambda p: p.n["quota_held"] > p.n["quota_raised"],
    "commit": lambda p: p.committing > 0 and p.registered >= 2,
    "complete": lambda p: p.n["commit"] > p.n["complete"] and min(p.registered, p.closed) >= 3,
    "read_begin": lambda p: p.alive > 0 and p.serving < 2,
    "read_end": lambda p: p.serving > 0,
    "cache_fill": lambda p: p.alive > 0 and p.serving > 0 and not p.cached,
    "cache_hit": lambda p: p.alive > 0 and p.cached > 0,
    "cache_drop": lambda p: p.alive > 0 and p.cached > 0,
    "verify_begin": lambda p: p.alive > 0 and not p.scrubs,
    "verify_held": lambda p: p.scrubs > p.paused,
    "verify_resumed": lambda p: p.paused > 0,
    "verify_good": lambda p: p.scrubs > p.paused,
    "verify_bad": lambda p: p.scrubs > p.paused and not p.repairs,
    "node_lost": lambda p: p.alive > 0 and not p.repairs,
    "repair_ask": lambda p: p.losses > p.n["repair_ask"],
    "transfer_end": lambda p: p.n["repair_ask"] > p.n["transfer_end"] and p.closed > 0,
    "repair_end": lambda p: p.n["transfer_end"] > p.n["repair_end"] and p.registered > 0,
    "delete_ask": lambda p: p.alive > 0 and p.idle and not p.cached,
    "deleted": lambda p: 3 * p.n["delete_ask"] > p.n["deleted"],
    "forget": lambda p: p.n["deleted"] == 3 and not p.n["forget"],
    "pin": lambda p: p.nothing,
    "mirror": lambda p: 2 * p.n["pin"] > p.n["mirror"],
    "append": lambda p: p.scratch > 0,
    "sync": lambda p: p.scratch > 0 and p.n["append"] - 2 * p.n["sync"] >= 2,
    "seal": lambda p: p.scratch > 0 and p.n["sync"] >= 2 and p.n["mirror"] == 2,
    "expire": lambda p: p.n["seal"] > p.n["expire"],
}


def refused(steps: list[str]) -> int | None:
    """Return where the steps leave the normal process, their number if only their end does."""
    counts: Counter[str] = Counter()
    for position, step in enumerate(steps):
        if step not in MAY_COME or not MAY_COME[step](Past(counts)):
            return position
        counts[step] += 1
    return None if Past(counts).over else len(steps)


class Read:
    """A simulation read back from its raw lines."""

    def __init__(self, simulation: Simulation) -> None:
        self.lines = simulation.lines.to_list()
        self.label = dict(simulation.labels.rows())
        self.headers = [HEADER.fullmatch(line) for line in self.lines]
        self.steps: dict[str, list[str]] = defaultdict(list)
        self.numbers: dict[str, list[int]] = defaultdict(list)
        self.planted: dict[str, list[int]] = defaultdict(list)
        for number, header in enumerate(self.headers, start=1):
            block = re.search(r"blk_\d+", header[6]) if header else None
            if block:
                known = ANY_MESSAGE.fullmatch(header[6])
                self.steps[block[0]].append((known and known.lastgroup) or f"? {header[6]}")
                self.numbers[block[0]].append(number)
        for session, line, _ in simulation.planted.rows():
            self.planted[session].append(line)

    def of(self, *kinds: str) -> list[str]:
        return [session for session, label in self.label.items() if label in kinds]

    def places(self, session: str) -> list[int]:
        """Return the positions in the session of its planted lines."""
        return [self.numbers[session].index(line) for line in self.planted[session]]

    def without_planted(self, session: str) -> list[str]:
        places = self.places(session)
        return [step for place, step in enumerate(self.steps[session]) if place not in places]


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(1600, anomaly_share=0.2, seed=4)


@pytest.fixture(scope="module")
def read(simulation: Simulation) -> Read:
    return Read(simulation)


def test_each_normal_session_belongs_to_the_process(read: Read) -> None:
    assert [s for s in read.of("") if refused(read.steps[s]) is not None] == []


def test_each_faulty_session_is_outside_the_process(read: Read) -> None:
    assert [s for s in read.of(*KINDS) if refused(read.steps[s]) is None] == []


def test_the_planted_line_is_where_the_session_leaves_the_process(read: Read) -> None:
    sessions = read.of(*[kind for kind in KINDS if kind != "truncated"])
    assert [s for s in sessions if refused(read.steps[s]) != read.places(s)[0]] == []


def test_a_truncated_session_is_possible_so_far_and_its_last_line_is_planted(read: Read) -> None:
    for session in read.of("truncated"):
        n = len(read.steps[session])
        assert (refused(read.steps[session]), read.places(session)) == (n, [n - 1])


@pytest.mark.parametrize("kind", ["rare_branch", "foreign_step", "unseen_error", "stack_trace"])
def test_a_session_without_its_inserted_lines_is_normal(read: Read, kind: str) -> None:
    assert [s for s in read.of(kind) if refused(read.without_planted(s)) is not None] == []


def test_a_session_in_wrong_order_is_normal_once_the_planted_event_comes_later(read: Read) -> None:
    for session in read.of("wrong_order"):
        (early,) = read.places(session)
        rest, step = read.without_planted(session), read.steps[session][early]
        later = [[*rest[:p], step, *rest[p:]] for p in range(early + 1, len(rest) + 1)]
        assert any(refused(steps) is None for steps in later)


def test_a_session_with_a_missing_step_is_normal_once_one_step_is_put_in(read: Read) -> None:
    for session in read.of("missing_step"):
        steps, (shows,) = read.steps[session], read.places(session)
        filled = [
            [*steps[:place], name, *steps[place:]] for place in range(shows + 1) for name in NAMES
        ]
        assert any(refused(candidate) is None for candidate in filled)


def test_a_session_with_a_repeated_step_is_normal_without_one_of_the_two(read: Read) -> None:
    for session in read.of("repeated_step"):
        steps = read.steps[session]
        shorter = [
            steps[:place] + steps[place + 1 :]
            for place, step in enumerate(steps)
            if steps.count(step) > 1
        ]
        assert any(refused(candidate) is None for candidate in shorter)


def test_a_rare_branch_has_the_counts_of_a_normal_session(read: Read) -> None:
    for session in read.of("rare_branch"):
        rest, pair = (
            read.without_planted(session),
            [read.steps[session][p] for p in read.places(session)],
        )
        in_place = [[*rest[:p], *pair, *rest[p:]] for p in range(len(rest))]
        assert any(refused(steps) is None for steps in in_place)


def test_only_unseen_errors_and_stack_traces_bring_new_templates(read: Read) -> None:
    new = {read.label[s] for s in read.steps if any(t.startswith("?") for t in read.steps[s])}
    assert new == {"unseen_error", "stack_trace"}


def test_normal_sessions_use_every_template_of_the_process(read: Read) -> None:
    assert {step for s in read.of("") for step in read.steps[s]} == set(NAMES)


def test_each_rare_branch_is_in_half_to_three_of_a_hundred_normal_sessions() -> None:
    dice = Dice(np.random.default_rng(5))
    walks = [set(PROCESS.walk(dice, LONG)) for _ in range(4000)]
    for rare in ("disk_slow", "quota_held", "verify_held", "pipeline_broken", "verify_bad"):
        assert 0.005 <= sum(rare in walk for walk in walks) / len(walks) <= 0.03, rare


def test_normal_sessions_have_8_to_40_events_in_many_orders(read: Read) -> None:
    normal = [tuple(read.steps[s]) for s in read.of("")]
    assert all(8 <= len(steps) <= 40 for steps in normal)
    assert len(set(normal)) > 0.7 * len(normal)


def test_the_net_never_comes_to_a_dead_end_and_stays_under_41_events() -> None:
    dice = Dice(np.random.default_rng(6))
    lengths = [len(PROCESS.walk(dice, LONG)) for _ in range(3000)]
    assert min(lengths) >= 8
    assert max(lengths) <= 40


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(NAMES))))
@settings(max_examples=300)
def test_the_net_and_the_counting_acceptor_refuse_at_the_same_event(
    seed: int, changes: list[tuple[int, str]]
) -> None:
    steps = PROCESS.walk(Dice(np.random.default_rng(seed)), LONG)
    for place, name in changes:
        if place % 2 and place < len(steps):
            steps[place] = name
        else:
            steps.insert(place % (len(steps) + 1), name)
    assert PROCESS.refused(steps) == refused(steps)


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=300)
def test_the_two_acceptors_agree_on_exchanged_events(seed: int, one: int, other: int) -> None:
    steps = PROCESS.walk(Dice(np.random.default_rng(seed)), LONG)
    one, other = one % len(steps), other % len(steps)
    steps[one], steps[other] = steps[other], steps[one]
    assert PROCESS.refused(steps) == refused(steps)


def test_every_line_is_syslog_or_continues_a_stack_trace(read: Read) -> None:
    rest = [line for line, h in zip(read.lines, read.headers, strict=True) if h is None]
    assert [line for line in rest if not re.match(r"storage\.\w+: |\tat storage\.", line)] == []


def test_the_log_is_in_order_of_time(read: Read) -> None:
    times = [header[2] for header in read.headers if header]
    assert times == sorted(times)


def test_sessions_interleave(read: Read) -> None:
    apart = [lines[-1] - lines[0] > len(lines) for s, lines in read.numbers.items()]
    assert sum(apart) > 0.99 * len(apart)


def test_faulty_sessions_have_no_priority_of_their_own(read: Read) -> None:
    def priorities(sessions: list[str]) -> set[str]:
        return {read.headers[n - 1][1] for s in sessions for n in read.numbers[s]}

    assert priorities(read.of(*KINDS)) <= priorities(read.of(""))


def test_normal_sessions_write_stack_traces_too(read: Read) -> None:
    followed = {n - 1 for n, header in enumerate(read.headers, start=1) if header is None}
    assert any(followed & set(read.numbers[s]) for s in read.of(""))


def test_planted_events_wait_no_longer_than_others(read: Read) -> None:
    def waits(session: str) -> list[float]:
        times = [datetime.fromisoformat(read.headers[n - 1][2]) for n in read.numbers[session]]
        return [(b - a).total_seconds() for a, b in itertools.pairwise(times)]

    longest = max(wait for s in read.of("") for wait in waits(s))
    assert max(wait for s in read.of(*KINDS) for wait in waits(s)) <= 2 * longest
    assert min(wait for s in read.of(*KINDS) for wait in waits(s)) > 0


def test_kinds_are_planted_in_equal_numbers(read: Read) -> None:
    assert Counter(read.label.values()) == {"": 1280, **dict.fromkeys(KINDS, 40)}


def test_each_faulty_session_and_no_other_has_planted_lines(read: Read) -> None:
    assert set(read.planted) == set(read.of(*KINDS))


def test_planted_carries_the_kind_of_its_session(simulation: Simulation) -> None:
    joined = simulation.planted.join(simulation.labels, on="session")
    assert joined["kind"].to_list() == joined["label"].to_list()


def test_labels_name_exactly_the_sessions_of_the_log(read: Read) -> None:
    assert set(read.label) == set(read.steps)


def test_noise_has_the_share_that_was_asked_and_no_session(read: Read) -> None:
    events = [header for header in read.headers if header]
    in_sessions = sum(len(lines) for lines in read.numbers.values())
    assert 1 - in_sessions / len(events) == pytest.approx(0.03, abs=0.001)


def test_no_noise_leaves_only_lines_of_sessions() -> None:
    read = Read(simulate(20, anomaly_share=0, seed=1, noise_share=0))
    assert sum(len(n) for n in read.numbers.values()) == sum(h is not None for h in read.headers)


def test_the_same_seed_writes_the_same_log_whatever_the_hash_seed() -> None:
    code = (
        "import hashlib; from oddlog.simulate import simulate;"
        "s = simulate(60, anomaly_share=0.5, seed=9);"
        "print(hashlib.sha256(repr((s.lines.to_list(), s.labels.rows(),"
        " s.planted.rows())).encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_another_seed_writes_another_log() -> None:
    one, other = (simulate(5, anomaly_share=0, seed=seed) for seed in (1, 2))
    assert one.lines.to_list() != other.lines.to_list()


def test_the_log_starts_at_the_start_in_utc() -> None:
    start = datetime(2024, 2, 29, 1, tzinfo=timezone(timedelta(hours=2)))
    lines = simulate(2, anomaly_share=0, seed=1, start=start, noise_share=0).lines
    assert HEADER.fullmatch(lines[0])[2] == "2024-02-28T23:00:00.000000Z"


def test_a_start_without_a_zone_is_utc() -> None:
    aware, naive = (
        simulate(2, anomaly_share=0, seed=1, start=datetime(2024, 2, 29, 1, tzinfo=zone))
        for zone in (UTC, None)
    )
    assert aware.lines.equals(naive.lines)


def test_only_the_kinds_asked_for_are_planted() -> None:
    labels = simulate(30, anomaly_share=1, seed=2, kinds=["wrong_order", "truncated"]).labels
    assert Counter(labels["label"]) == {"wrong_order": 15, "truncated": 15}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_sessions": 0}, "at least 1"),
        ({"anomaly_share": 1.5}, "anomaly_share is 1.5"),
        ({"noise_share": 1.0}, "noise_share is 1.0"),
        ({"kinds": ["wrong_ordr"]}, "did you mean 'wrong_order'"),
        ({"kinds": ["xyz"]}, "there are: missing_step"),
        ({"kinds": []}, "no kinds of fault"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict, said: str) -> None:
    asked = {"n_sessions": 5, "anomaly_share": 0.2, "seed": 1, **settings}
    with pytest.raises(ConfigError, match=said):
        simulate(asked.pop("n_sessions"), **asked)


def test_write_writes_the_lines_as_they_are(tmp_path, simulation: Simulation) -> None:
    log, _, _ = write(simulation, tmp_path / "new")
    assert log.read_text(encoding="utf-8").splitlines() == simulation.lines.to_list()


def test_write_names_normal_sessions_and_kinds(tmp_path, simulation: Simulation) -> None:
    _, labels, planted = write(simulation, tmp_path)
    written = pl.read_csv(labels)
    assert written["label"].to_list() == [k or "normal" for k in simulation.labels["label"]]
    assert pl.read_csv(planted).rows() == simulation.planted.rows()
