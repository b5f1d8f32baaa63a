"""Alerts on their way out: what the store says a sink lacks is sent until the sink has it.

Each sink has its own thread, so that one that does not answer holds up nobody. What is to be sent
is in the database, so that a crash neither loses nor forgets; an alert may arrive twice, with the
same id.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from oddlog.errors import OddlogError
from oddlog.findings import Alert
from oddlog.serve.store import Store

LOGGER = logging.getLogger(__name__)
AT_ONCE = 50
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 300.0


class Sink(Protocol):
    """Where alerts go."""

    def send(self, alert: Alert) -> None:
        """Deliver an alert.

        Raises:
            OddlogError: It was not delivered. Where the error's ``again`` is False it never will
                be; else it is sent again, after ``wait_s`` seconds if it has any.
        """
        ...


class Deliverer:
    """Sends one sink what it lacks.

    Args:
        store: Where it is noted.
        name: The sink's there.
        sink: The sink.
        changed: Notified when there may be something new.
    """

    def __init__(self, store: Store, name: str, sink: Sink, changed: threading.Condition) -> None:
        self._store = store
        self._name = name
        self._sink = sink
        self._changed = changed
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"oddlog-{name}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being sent just now."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping:
            try:
                n_sent = self._send()
            except OddlogError as error:
                LOGGER.warning("%s: alerts wait to be delivered: %s", self._name, error)
                self._pause(getattr(error, "wait_s", None) or wait_s, alike=False)
                wait_s = min(2 * wait_s, MAX_WAIT_S)
            else:
                wait_s = FIRST_WAIT_S
                if not n_sent:
                    self._pause(MAX_WAIT_S, alike=True)

    def _send(self) -> int:
        due = self._store.due(self._name, limit=AT_ONCE)
        for stored in due:
            if self._stopping:
                break
            try:
                self._sink.send(stored.alert)
            except OddlogError as error:
                if getattr(error, "again", True):
                    raise
                LOGGER.error("%s: alert %s is refused: %s", self._name, stored.id, error)
            self._store.delivered(self._name, [stored.id])
        return len(due)

    def _pause(self, seconds: float, *, alike: bool) -> None:
        """Wait; where ``alike`` also until something changes, else until the service ends."""
        with self._changed:
            if self._stopping:
                return
            if alike:
                self._changed.wait(seconds)
            else:
                self._changed.wait_for(lambda: self._stopping, seconds)
