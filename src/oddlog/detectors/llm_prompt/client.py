"""Requests to a chat endpoint: sent again where it is full or failing, never where it refuses."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

from oddlog.detectors.llm_prompt.config import LLMPromptConfig
from oddlog.errors import ConfigError, EndpointError
from oddlog.extras import import_extra
from oddlog.visible import escape

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)
AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
FIRST_WAIT_S, LONGEST_WAIT_S, PATIENCE_S = 0.5, 30.0, 120.0
SHOWN_CHARS = 200  # of what an endpoint says of a refusal
HINTS = {
    401: "is the key right?",
    403: "may the key use this model?",
    404: "are url and model right?",
    400: "answer=word and top_logprobs=0 ask for less",
    422: "answer=word and top_logprobs=0 ask for less",
}


class Client:
    """One endpoint and its connections, which threads may share; a context manager.

    Args:
        config: Where, and how patiently.
        detector: Who asks, for the messages.
        sleep: Waits so many seconds.

    Raises:
        ConfigError: The key's variable is not set, or the extra is not installed.
    """

    def __init__(
        self,
        config: LLMPromptConfig,
        detector: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._httpx = import_extra("httpx2", detector)
        self.config = config
        self._sleep = sleep
        self._key = key_in_environment(config, detector)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # A proxy that the environment names is for other hosts: what is local stays so.
        self._http: httpx2.Client = self._httpx.Client(
            headers=headers, timeout=config.timeout_s, trust_env=not config.is_local
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, body: Mapping[str, Any]) -> tuple[Any, int]:
        """Send a request until it is answered or refused.

        Returns:
            The reply's JSON, and how often the request was sent again.

        Raises:
            EndpointError: Refused, not answered in the end, or answered with no JSON.
        """
        turn = 0
        while True:
            response, trouble = self._send(body)
            if response is not None and response.status_code not in AGAIN:
                return self._read(response), turn
            if turn == self.config.retries:
                raise EndpointError(
                    f"{self.config.endpoint}: no answer after {turn + 1} attempts: {trouble}; "
                    f"is it running, and is url right? {self._kept()}"
                )
            asked_s = self._asked_wait_s(response) if response is not None else 0.0
            wait_s = max(min(FIRST_WAIT_S * 2**turn, LONGEST_WAIT_S), asked_s)
            logger.info("%s: %s; again in %.1f s", self.config.host, trouble, wait_s)
            self._sleep(wait_s)
            turn += 1

    def _send(self, body: Mapping[str, Any]) -> tuple[httpx2.Response | None, str]:
        """Return the response if there is one, and in words what is wrong with it or without."""
        try:
            response = self._http.post(self.config.endpoint, json=body)
        except self._httpx.TransportError as error:  # timeouts are among them
            return None, escape(f"{type(error).__name__} {error}".strip())
        return response, self._told(response)

    def _asked_wait_s(self, response: httpx2.Response) -> float:
        """Return the seconds that ``Retry-After`` asks for, 0 if it asks for none.

        Raises:
            EndpointError: It asks for more than a person would wait.
        """
        wait_s = retry_after_s(response.headers.get("Retry-After", ""), datetime.now(tz=UTC))
        if wait_s > PATIENCE_S:
            raise EndpointError(
                f"{self.config.endpoint}: {self._told(response)}; it asks to come back in "
                f"{wait_s:.0f} s: run again then. {self._kept()}"
            )
        return wait_s

    def _read(self, response: httpx2.Response) -> Any:
        code = response.status_code
        if code != self._httpx.codes.OK:
            hint = f"; {HINTS[code]}" if code in HINTS else ""
            raise EndpointError(f"{self.config.endpoint}: {self._told(response)}{hint}")
        try:
            return response.json()
        except ValueError:
            raise EndpointError(
                f"{self.config.endpoint}: answers with something else than JSON; is url the "
                "address of an OpenAI-compatible interface, such as http://localhost:8000/v1?"
            ) from None

    def _kept(self) -> str:
        where = self.config.cache
        return (
            f"What was answered is in {where}"
            if where
            else "A file as cache keeps what was answered"
        )

    def _told(self, response: httpx2.Response) -> str:
        """Return status and message of a refusal, short, escaped, and without the key."""
        try:
            said = message_of(response.json())
        except ValueError:
            said = ""
        if self._key:
            said = said.replace(self._key, "...")
        told = f": {escape(said[:SHOWN_CHARS])}" if said else ""
        return f"HTTP {response.status_code}{told}"


def key_in_environment(config: LLMPromptConfig, detector: str) -> str:
    """Return the key, "" where none is asked for.

    Raises:
        ConfigError: The variable that should hold it is not set.
    """
    key = os.environ.get(config.key_env, "").strip() if config.key_env else ""
    if config.key_env and not key:
        raise ConfigError(f"{detector}.key_env: the environment has no {config.key_env}; export it")
    return key


def message_of(reply: object) -> str:
    """Return what an endpoint says of a refusal, wherever the common ones say it; else ""."""
    if not isinstance(reply, Mapping):
        return ""
    for place in (reply.get("error"), reply):
        if isinstance(place, str):
            return place
        if isinstance(place, Mapping):
            found = place.get("message") or place.get("detail")
            if isinstance(found, str):
                return found
    return ""


def retry_after_s(value: str, now: datetime) -> float:
    """Return the seconds that a ``Retry-After`` header asks for: a number, or a date.

    Example:
        >>> retry_after_s("7", datetime(2026, 1, 1, tzinfo=UTC))
        7.0
        >>> retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", datetime(2026, 1, 1, tzinfo=UTC))
        30.0
    """
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except (TypeError, ValueError):  # neither
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - now).total_seconds(), 0.0)
