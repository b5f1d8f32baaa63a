"""Sessions in which nothing but the order can be wrong: no count and no set sees a fault.

A session opens, sends k requests in an order of its own, gets their answers, and closes; a few
events that mean nothing lie in between. Answers come in the order of the requests. A fault keeps
every event and changes the order of the answers alone::

    open r2 . r1 r3 . a2 . a1 a3 close     normal
    open r2 . r1 r3 . a2 . a3 a1 close     swapped

All k! orders are as likely, and the k + 1 events before an answer say nothing of it but which
requests are still open: whoever does not remember the whole session is left to guess. The number of
requests grades how hard that is.

With ``branching`` there are two kinds of session, told apart by their first event alone: half of
them open as a stack, whose answers come in reverse. The order that one demands is a fault in the
other, so that a session that has taken the wrong branch consists of pieces that are all normal::

    open  r2 . r1 r3 . a2 . a1 a3 close    normal
    stack r2 . r1 r3 . a3 . a1 a2 close    normal
    open  r2 . r1 r3 . a3 . a1 a2 close    wrong_branch
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ConfigError
from oddlog.events import NORMAL, Sequences

SWAPPED, MOVED, REVERSED = ANSWER_KINDS = ("swapped", "moved", "reversed")
BLOCK_MOVED, WRONG_BRANCH = "block_moved", "wrong_branch"
ORDER_KINDS = (*ANSWER_KINDS, BLOCK_MOVED, WRONG_BRANCH)
SMALLEST_BLOCK = 2
OPEN, CLOSE, FIRST_FILLER = 0, 1, 2
N_FILLERS, N_NOISE = 3, 4
FIRST_REQUEST = FIRST_FILLER + N_FILLERS


def simulate_order(
    n_sessions: int,
    *,
    anomaly_share: float,
    seed: int,
    n_requests: int = 5,
    kinds: Sequence[str] | None = None,
    branching: bool = False,
) -> Sequences:
    """Simulate sessions whose faults are of order alone.

    - ``swapped``: two answers that follow each other are exchanged;
    - ``moved``: one answer comes at least two places away;
    - ``block_moved``: two or more answers in a row come at least two places away, in their order;
    - ``reversed``: all of them come in reverse;
    - ``wrong_branch``: they come in the order of the other kind of session.

    Args:
        n_sessions: Sessions, faulty ones included.
        anomaly_share: Share of faulty sessions, 0 to 1; the number is rounded.
        seed: The same seed gives the same sessions.
        n_requests: k, at least 3.
        kinds: Kinds of fault to plant, in equal numbers: ``block_moved`` needs 4 requests,
            ``wrong_branch`` two kinds of session, ``reversed`` one. By default ``swapped``,
            ``moved``, and of the last two the one that there can be.
        branching: Whether half of the sessions open as a stack.

    Returns:
        Complete sessions of ``2 * n_requests + N_NOISE + 2`` events, labelled; the event column
        ``label`` holds the kind at the first answer that is out of order, else "".

    Raises:
        ConfigError: A number out of range or an unknown kind.
    """
    _check(n_sessions, anomaly_share, n_requests)
    if kinds is None:
        kinds = (SWAPPED, MOVED, WRONG_BRANCH) if branching else ANSWER_KINDS
    _check_kinds(kinds, n_requests, branching=branching)
    dice = np.random.default_rng(seed)
    faulty = dice.permutation(n_sessions)[: round(n_sessions * anomaly_share)]
    labels = np.full(n_sessions, NORMAL, dtype=object)
    labels[faulty] = [kinds[turn % len(kinds)] for turn in range(len(faulty))]
    asked = dice.permuted(np.tile(np.arange(n_requests), (n_sessions, 1)), axis=1)  # (n, k)
    is_stack = dice.random(n_sessions) < 0.5 if branching else np.zeros(n_sessions, dtype=bool)
    due = np.where(is_stack[:, None], asked[:, ::-1], asked)
    answered = due.copy()
    for session in faulty:
        answered[session] = _disturb(due[session], str(labels[session]), dice)
    told = np.concatenate([asked, answered + n_requests], axis=1) + FIRST_REQUEST
    inner, place = _mix_in(told, N_NOISE, dice)
    ids = np.empty((n_sessions, inner.shape[1] + 2), dtype=np.int32)
    ids[:, 0], ids[:, 1:-1], ids[:, -1] = OPEN, inner, CLOSE
    ids[is_stack, 0] = _open_stack(n_requests)
    wrong = np.argmax(answered != due, axis=1) + n_requests
    lines = np.full(ids.shape, NORMAL, dtype=object)
    lines[faulty, 1 + place[faulty, wrong[faulty]]] = labels[faulty]
    offsets = np.arange(n_sessions + 1, dtype=np.int64) * ids.shape[1]
    sequences = Sequences.from_arrays(ids.ravel(), offsets, labels.tolist(), source="ordered")
    label = pl.Series("label", lines.ravel().tolist(), dtype=pl.String)
    return Sequences(
        sequences.events.with_columns(label),
        sequences.rows,
        sequences.offsets,
        sequences.keys,
        sequences.labels,
        sequences.starts,
        sequences.ends,
    )


def order_texts(n_requests: int, *, branching: bool = False) -> dict[int, str]:
    """Return the text of each template id."""
    texts = {OPEN: "session opened", CLOSE: "session closed"}
    texts |= {FIRST_FILLER + i: f"heartbeat of node {'abc'[i]}" for i in range(N_FILLERS)}
    for i in range(n_requests):
        texts[FIRST_REQUEST + i] = f"request of service {i + 1}"
        texts[FIRST_REQUEST + n_requests + i] = f"answer of service {i + 1}"
    if branching:
        texts[_open_stack(n_requests)] = "session opened as a stack"
    return texts


def _open_stack(n_requests: int) -> int:
    """Return the template id behind all others."""
    return FIRST_REQUEST + 2 * n_requests


def _check(n: int, share: float, n_requests: int) -> None:
    if n < 1 or not 0 <= share <= 1 or n_requests < 3:
        raise ConfigError(
            f"simulate_order: {n} sessions, a share of {share} faulty, {n_requests} requests; it "
            "needs 1 session, a share of 0 to 1, 3 requests"
        )


def _check_kinds(kinds: Sequence[str], n_requests: int, *, branching: bool) -> None:
    if unknown := [kind for kind in kinds if kind not in ORDER_KINDS] or (
        [] if kinds else ["none"]
    ):
        raise ConfigError(
            f"simulate_order: no kind {unknown[0]!r}; there are: {', '.join(ORDER_KINDS)}"
        )
    if BLOCK_MOVED in kinds and n_requests < 2 * SMALLEST_BLOCK:
        raise ConfigError(f"simulate_order: {BLOCK_MOVED} needs 4 requests, not {n_requests}")
    impossible = REVERSED if branching else WRONG_BRANCH
    if impossible in kinds:
        raise ConfigError(
            f"simulate_order: no kind {impossible!r} where branching is {branching}; the order of "
            "the other branch is the reverse"
        )


def _disturb(due: NDArray[np.int64], kind: str, dice: np.random.Generator) -> NDArray[np.int64]:
    """Return (k,) answers in another order than the one that is due."""
    k = len(due)
    if kind in (REVERSED, WRONG_BRANCH):
        return due[::-1]
    if kind == SWAPPED:
        first = int(dice.integers(k - 1))
        return np.concatenate([due[:first], due[first : first + 2][::-1], due[first + 2 :]])
    if kind == BLOCK_MOVED:
        return _exchange_blocks(due, dice)
    steps = [(a, b) for a in range(k) for b in range(k) if abs(a - b) > 1]
    begin, end = steps[int(dice.integers(len(steps)))]
    return np.insert(np.delete(due, begin), end, due[begin])


def _exchange_blocks(due: NDArray[np.int64], dice: np.random.Generator) -> NDArray[np.int64]:
    """Return (k,) answers, two neighbouring blocks of at least two each exchanged."""
    k, least = len(due), SMALLEST_BLOCK
    cuts = [
        (a, b, c) for a in range(k) for b in range(a + least, k) for c in range(b + least, k + 1)
    ]
    a, b, c = cuts[int(dice.integers(len(cuts)))]
    return np.concatenate([due[:a], due[b:c], due[a:b], due[c:]])


def _mix_in(
    told: NDArray[np.int64], n_noise: int, dice: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Spread noise between the events; return all, and where each of the events now is."""
    n, n_told = told.shape
    size = n_told + n_noise
    mixed = dice.integers(FIRST_FILLER, FIRST_FILLER + N_FILLERS, size=(n, size))
    slots = dice.permuted(np.tile(np.arange(size), (n, 1)), axis=1)[:, :n_told]
    place = np.sort(slots, axis=1)  # (n, n_told)
    np.put_along_axis(mixed, place, told, axis=1)
    return mixed, place
