"""Sessions in which nothing but the order can be wrong: no count and no set sees a fault.

A session opens, sends k requests in an order of its own, gets their answers, and closes; a few
events that mean nothing lie in between. Answers come in the order of the requests. A fault keeps
every event and changes the order of the answers alone::

    open r2 . r1 r3 . a2 . a1 a3 close     normal
    open r2 . r1 r3 . a2 . a3 a1 close     swapped

All k! orders are as likely, and the k + 1 events before an answer say nothing of it but which
requests are still open: whoever does not remember the whole session is left to guess. The number of
requests grades how hard that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ConfigError
from oddlog.events import NORMAL, Sequences

SWAPPED, MOVED, REVERSED = ORDER_KINDS = ("swapped", "moved", "reversed")
OPEN, CLOSE, FIRST_FILLER = 0, 1, 2
N_FILLERS = 3
FIRST_REQUEST = FIRST_FILLER + N_FILLERS


def simulate_order(
    n_sessions: int,
    *,
    anomaly_share: float,
    seed: int,
    n_requests: int = 5,
    n_noise: int = 4,
    kinds: Sequence[str] = ORDER_KINDS,
) -> Sequences:
    """Simulate sessions whose faults are of order alone.

    ``swapped`` exchanges two answers that follow each other, ``moved`` takes one at least two
    places away, ``reversed`` has all of them in reverse.

    Args:
        n_sessions: Sessions, faulty ones included.
        anomaly_share: Share of faulty sessions, 0 to 1; the number is rounded.
        seed: The same seed gives the same sessions.
        n_requests: k, at least 3.
        n_noise: Events of a session that mean nothing.
        kinds: Kinds of fault to plant, in equal numbers.

    Returns:
        Complete sessions of ``2 * n_requests + n_noise + 2`` events, labelled; the event column
        ``label`` holds the kind at the first answer that is out of order, else "".

    Raises:
        ConfigError: A number out of range or an unknown kind.
    """
    _check(n_sessions, anomaly_share, n_requests, n_noise, kinds)
    dice = np.random.default_rng(seed)
    faulty = dice.permutation(n_sessions)[: round(n_sessions * anomaly_share)]
    labels = np.full(n_sessions, NORMAL, dtype=object)
    labels[faulty] = [kinds[turn % len(kinds)] for turn in range(len(faulty))]
    asked = dice.permuted(np.tile(np.arange(n_requests), (n_sessions, 1)), axis=1)  # (n, k)
    answered = asked.copy()
    for session in faulty:
        answered[session] = _disturb(asked[session], str(labels[session]), dice)
    told = np.concatenate([asked, answered + n_requests], axis=1) + FIRST_REQUEST
    inner, place = _mix_in(told, n_noise, dice)
    ids = np.empty((n_sessions, inner.shape[1] + 2), dtype=np.int32)
    ids[:, 0], ids[:, 1:-1], ids[:, -1] = OPEN, inner, CLOSE
    wrong = np.argmax(answered != asked, axis=1) + n_requests
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


def order_texts(n_requests: int) -> dict[int, str]:
    """Return the text of each template id."""
    texts = {OPEN: "session opened", CLOSE: "session closed"}
    texts |= {FIRST_FILLER + i: f"heartbeat of node {'abc'[i]}" for i in range(N_FILLERS)}
    for i in range(n_requests):
        texts[FIRST_REQUEST + i] = f"request of service {i + 1}"
        texts[FIRST_REQUEST + n_requests + i] = f"answer of service {i + 1}"
    return texts


def _check(n: int, share: float, n_requests: int, n_noise: int, kinds: Sequence[str]) -> None:
    if n < 1 or not 0 <= share <= 1 or n_requests < 3 or n_noise < 0:
        raise ConfigError(
            f"simulate_order: {n} sessions, a share of {share} faulty, {n_requests} requests, "
            f"{n_noise} events of noise; it needs 1 session, a share of 0 to 1, 3 requests, no "
            "negative noise"
        )
    if unknown := [kind for kind in kinds if kind not in ORDER_KINDS] or (
        [] if kinds else ["none"]
    ):
        raise ConfigError(
            f"simulate_order: no kind {unknown[0]!r}; there are: {', '.join(ORDER_KINDS)}"
        )


def _disturb(asked: NDArray[np.int64], kind: str, dice: np.random.Generator) -> NDArray[np.int64]:
    """Return (k,) answers in an order that is not that of the requests."""
    k = len(asked)
    if kind == REVERSED:
        return asked[::-1]
    if kind == SWAPPED:
        first = int(dice.integers(k - 1))
        return np.concatenate([asked[:first], asked[first : first + 2][::-1], asked[first + 2 :]])
    steps = [(a, b) for a in range(k) for b in range(k) if abs(a - b) > 1]
    begin, end = steps[int(dice.integers(len(steps)))]
    return np.insert(np.delete(asked, begin), end, asked[begin])


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
