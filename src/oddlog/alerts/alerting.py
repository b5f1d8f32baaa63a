"""Whom to tell: the settings of every sink, from TOML or from the options of a command."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import field_validator

from oddlog.alerts.outbox import Outbox, Retry
from oddlog.alerts.sinks import JsonLines, Mail, MailConfig, Sink, Webhook, WebhookConfig
from oddlog.config import Config
from oddlog.errors import ArtifactError
from oddlog.findings import Alert


class AlertingConfig(Config):
    """Where alerts go.

    Attributes:
        file: A file of JSON lines.
        webhook: Receivers by HTTP, ``[[webhook]]`` in TOML.
        mail: Mail servers, ``[[mail]]`` in TOML.
        retry: When a delivery is tried again.
    """

    file: Path | None = None
    webhook: tuple[WebhookConfig, ...] = ()
    mail: tuple[MailConfig, ...] = ()
    retry: Retry = Retry()

    @field_validator("webhook", "mail", mode="before")
    @classmethod
    def _list(cls, found: Any) -> Any:
        return tuple(found) if isinstance(found, list) else found


class Outlets:
    """Everything that is told of alerts: the file at once, the others from outboxes.

    Args:
        config: Where alerts go.
        clock: Seconds since 1970.
    """

    def __init__(self, config: AlertingConfig, clock: Callable[[], float]) -> None:
        self._file = None if config.file is None else JsonLines(config.file)
        webhooks = [Webhook(own, clock) for own in config.webhook]
        sinks: list[Sink] = [*webhooks, *(Mail(own) for own in config.mail)]
        self.outboxes = [Outbox(sink, config.retry) for sink in sinks]

    def tell(self, alerts: Iterable[Alert]) -> None:
        """Write alerts to the file, and put them into the outboxes.

        Raises:
            DeliveryError: The file cannot be written.
        """
        told = list(alerts)
        if self._file is not None:
            for alert in told:
                self._file.send(alert)
        for outbox in self.outboxes:
            outbox.put(told)

    @property
    def errors(self) -> list[str]:
        """Why alerts were given up last, by outbox."""
        return [outbox.last_error for outbox in self.outboxes if outbox.last_error]

    def state(self) -> dict[str, list[dict[str, Any]]]:
        """Return what is not delivered yet, by sink, as plain values that JSON can carry."""
        return {
            f"{number} {outbox.sink.name}": [alert.to_dict() for alert in outbox.waiting()]
            for number, outbox in enumerate(self.outboxes)
        }

    def load(self, state: dict[str, list[dict[str, Any]]]) -> None:
        """Deliver what ``state`` held; that of a sink that is no longer there is left out.

        Raises:
            ArtifactError: The state is damaged.
        """
        for number, outbox in enumerate(self.outboxes):
            try:
                waiting = state.get(f"{number} {outbox.sink.name}", [])
            except AttributeError:
                raise ArtifactError("state of deliveries: damaged; begin without it") from None
            outbox.put([Alert.from_dict(value) for value in waiting])

    def close(self, timeout_s: float = 5.0) -> None:
        """Deliver what can be delivered in time, then stop."""
        for outbox in self.outboxes:
            outbox.close(timeout_s)
