"""Where alerts go: a file of JSON lines, webhooks, Alertmanager, e-mail.

Targets come from settings alone, never from a log or from an answer: redirects are not followed.
A sink sends one alert and says what went wrong; trying again is ``outbox``'s part.
"""

from __future__ import annotations

import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from oddlog.alerts.telling import (
    as_alertmanager,
    as_ecs,
    as_json,
    as_slack,
    as_text,
    headline,
)
from oddlog.config import Config
from oddlog.errors import ConfigError, OddlogError
from oddlog.findings import Alert
from oddlog.visible import cut

TIMEOUT_S = 10.0
SUBJECT_CHARS = 150
TOO_MANY = 429


class DeliveryError(OddlogError):
    """An alert that could not be delivered.

    Attributes:
        again: Whether it may succeed later.
        wait_s: Seconds to wait before, where the receiver said so.
    """

    def __init__(self, message: str, *, again: bool, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.wait_s = wait_s


class Sink(Protocol):
    """What takes alerts."""

    @property
    def name(self) -> str:
        """What to call it in a message, without secrets."""
        ...

    def send(self, alert: Alert) -> None:
        """Deliver an alert.

        Raises:
            DeliveryError: It was not delivered.
        """
        ...


class WebhookConfig(Config):
    """A receiver of alerts by HTTP.

    Attributes:
        url: http or https. That of Alertmanager is its base, such as ``http://alerts:9093``.
        style: "generic" posts the alert as ECS names it, "slack" a text, "alertmanager" what its
            API of version 2 takes.
        headers: Further ones, such as a tenant's.
        token_env: Environment variable with a token, sent as ``Authorization: Bearer``.
        timeout_s: Seconds for one try.
        lasts_s: For Alertmanager: seconds until an alert counts as resolved.
    """

    url: str
    style: Literal["generic", "slack", "alertmanager"] = "generic"
    headers: dict[str, str] = Field(default_factory=dict)
    token_env: str | None = None
    timeout_s: Annotated[float, Field(gt=0)] = TIMEOUT_S
    lasts_s: Annotated[float, Field(gt=0)] = 3_600.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no URL that begins with http:// or https://")
        return url


class MailConfig(Config):
    """A mail server and whom to write to.

    Attributes:
        host: The server.
        port: Its port.
        security: "starttls", "tls" from the start, or "none".
        user: For the login; None for none.
        password_env: Environment variable with the password.
        sender: From whom.
        to: To whom.
        timeout_s: Seconds for one try.
    """

    host: str
    port: int = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    sender: str
    to: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0)] = TIMEOUT_S

    @field_validator("to", mode="before")
    @classmethod
    def _list(cls, to: Any) -> Any:
        return tuple(to) if isinstance(to, list) else to


class JsonLines:
    """Appends alerts to a file, one JSON object a line, with the names of ECS."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def send(self, alert: Alert) -> None:
        """Append an alert and flush it; a line is written whole, by one call."""
        line = f"{as_json(as_ecs(alert))}\n".encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise DeliveryError(f"{self.path}: {error.strerror}", again=True) from None


class Webhook:
    """Posts alerts by HTTP.

    Args:
        config: Where to, and how.
        clock: Seconds since 1970.
    """

    def __init__(self, config: WebhookConfig, clock: Callable[[], float]) -> None:
        self.config = config
        self._clock = clock
        self._url = config.url
        if config.style == "alertmanager":
            self._url = config.url.rstrip("/") + "/api/v2/alerts"
        parts = urlsplit(config.url)
        self.name = f"{config.style} webhook at {parts.hostname}"  # a path may be a secret
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._token = _secret(config.token_env)

    def send(self, alert: Alert) -> None:
        """Post an alert.

        Raises:
            DeliveryError: No connection, or another answer than 2xx.
        """
        headers = {"Content-Type": "application/json", **self.config.headers}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        body = as_json(self._body(alert)).encode()
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 -- http alone, see WebhookConfig
        try:
            self._opener.open(request, timeout=self.config.timeout_s).close()
        except urllib.error.HTTPError as error:
            with error:
                again = error.code == TOO_MANY or error.code >= 500
                wait_s = _seconds(error.headers.get("Retry-After"))
            told = f"{self.name} answers {error.code}"
            raise DeliveryError(told, again=again, wait_s=wait_s) from None
        except OSError as error:  # URLError and timeouts are among them
            raise DeliveryError(f"{self.name}: {error}", again=True) from None

    def _body(self, alert: Alert) -> Mapping[str, Any] | list[Any]:
        if self.config.style == "slack":
            return as_slack(alert)
        if self.config.style == "alertmanager":
            now = datetime.fromtimestamp(self._clock(), UTC)
            return as_alertmanager(alert, now, self.config.lasts_s)
        return as_ecs(alert)


class Mail:
    """Sends alerts by SMTP."""

    def __init__(self, config: MailConfig) -> None:
        self.config = config
        self.name = f"mail by {config.host}"
        self._password = _secret(config.password_env)

    def send(self, alert: Alert) -> None:
        """Send a mail.

        Raises:
            DeliveryError: The server cannot be reached, or refuses.
        """
        message = EmailMessage()
        message["Subject"] = cut(f"oddlog: {headline(alert)}", SUBJECT_CHARS)[0]
        message["From"] = self.config.sender
        message["To"] = ", ".join(self.config.to)
        message["X-Oddlog-Alert"] = alert.id
        message.set_content(as_text(alert))
        try:
            with self._connected() as server:
                server.send_message(message)
        except smtplib.SMTPResponseException as error:
            again = error.smtp_code < 500
            raise DeliveryError(f"{self.name}: refuses: {error.smtp_code}", again=again) from None
        except smtplib.SMTPRecipientsRefused as error:
            again = all(code < 500 for code, _ in error.recipients.values())
            raise DeliveryError(f"{self.name}: refuses every recipient", again=again) from None
        except OSError as error:  # smtplib's other errors are among them
            raise DeliveryError(f"{self.name}: {error}", again=True) from None

    def _connected(self) -> smtplib.SMTP:
        config, context = self.config, ssl.create_default_context()
        place = {"host": config.host, "port": config.port, "timeout": config.timeout_s}
        if config.security == "tls":
            server = smtplib.SMTP_SSL(**place, context=context)
        else:
            server = smtplib.SMTP(**place)
        try:
            if config.security == "starttls":
                server.starttls(context=context)
            if config.user is not None:
                server.login(config.user, self._password or "")
        except BaseException:
            server.close()
            raise
        return server


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect as the error that it is for a receiver named in settings."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _secret(name: str | None) -> str | None:
    if name is None:
        return None
    if not os.environ.get(name):
        raise ConfigError(f"environment variable {name}: not set; it has to hold the secret")
    return os.environ[name]


def _seconds(text: str | None) -> float | None:
    """Read a Retry-After in seconds; one that is a date is passed over."""
    return float(text) if text and text.isdecimal() else None
