"""Deliveries that are tried again, beside the watching: a slow receiver holds nothing up.

Each sink has a thread and a bounded queue. A delivery that fails is tried again after a time that
doubles, up to a bound; the alerts behind it wait, so that they arrive in order.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

from oddlog.alerts.sinks import DeliveryError, Sink
from oddlog.config import Config
from oddlog.findings import Alert

logger = logging.getLogger(__name__)


class Retry(Config):
    """When a delivery is tried again.

    Attributes:
        tries: In all, before an alert is given up.
        first_s: Seconds before the second try; they double with each.
        most_s: Most seconds between two tries.
    """

    tries: int = 10
    first_s: float = 1.0
    most_s: float = 300.0

    def wait_s(self, n_failed: int, asked_s: float | None) -> float:
        """Return the seconds to wait after so many failures; a receiver may ask for more."""
        own = self.first_s * 2.0 ** min(n_failed - 1, 60)
        return min(max(own, asked_s or 0.0), self.most_s)


def deliver(sink: Sink, alert: Alert, retry: Retry, wait: Callable[[float], bool]) -> str | None:
    """Send an alert, trying again where that may help.

    Args:
        sink: Where to.
        alert: What.
        retry: When to try again.
        wait: Waits for some seconds; returns True to give up at once.

    Returns:
        None once it is delivered, else why it was given up.
    """
    for n_failed in range(1, retry.tries + 1):
        try:
            sink.send(alert)
        except DeliveryError as error:
            logger.warning("%s (try %d of %d)", error, n_failed, retry.tries)
            if not error.again or n_failed == retry.tries:
                return str(error)
            if wait(retry.wait_s(n_failed, error.wait_s)):
                return str(error)
        else:
            return None
    return None


class Outbox:
    """Delivers alerts to one sink in a thread of its own.

    Args:
        sink: Where to.
        retry: When to try again.
        most: Alerts that may wait; of more the oldest are given up.
    """

    def __init__(self, sink: Sink, retry: Retry | None = None, *, most: int = 10_000) -> None:
        self.sink = sink
        self.n_sent = 0
        self.n_given_up = 0
        self.last_error: str | None = None
        self._retry = retry or Retry()
        self._most = most
        self._queue: deque[Alert] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._busy: Alert | None = None
        self._thread = threading.Thread(target=self._run, name=f"to {sink.name}", daemon=True)
        self._thread.start()

    def put(self, alerts: Iterable[Alert]) -> None:
        """Deliver alerts soon."""
        with self._changed:
            self._queue.extend(alerts)
            while len(self._queue) > self._most:
                self._queue.popleft()
                self.n_given_up += 1
            self._changed.notify_all()

    @property
    def n_waiting(self) -> int:
        """Alerts that are not delivered yet."""
        return len(self._queue) + (self._busy is not None)

    def waiting(self) -> list[Alert]:
        """Return the alerts that are not delivered yet, the one under way first."""
        with self._changed:
            return [*([] if self._busy is None else [self._busy]), *self._queue]

    def drain(self, timeout_s: float) -> bool:
        """Wait until everything was delivered or given up; return whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.n_waiting, timeout_s)

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what can be delivered in time, then stop."""
        self.drain(timeout_s)
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def __enter__(self) -> Self:
        """Return the outbox; it is closed with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _run(self) -> None:
        while (alert := self._next()) is not None:
            failed = deliver(self.sink, alert, self._retry, self._stop.wait)
            with self._changed:
                self._busy = None
                self.n_sent += failed is None
                self.n_given_up += failed is not None
                self.last_error = failed or self.last_error
                self._changed.notify_all()

    def _next(self) -> Alert | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stop.is_set())
            if self._stop.is_set():
                self.n_given_up += len(self._queue)
                self._queue.clear()
                return None
            self._busy = self._queue.popleft()
            return self._busy
