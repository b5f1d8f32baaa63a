"""Settings of a prompted chat model: where it is, what it is shown, what it may cost."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from oddlog import config as settings
from oddlog.errors import ConfigError
from oddlog.masks import Masks

Price = Annotated[float, Field(ge=0)]


class LLMPromptConfig(settings.Config):
    """Settings of a prompted chat model.

    Attributes:
        url: Base address of an endpoint that speaks OpenAI's chat completions, such as
            "http://localhost:8000/v1". There is no default: nothing is sent anywhere unasked.
        model: The model's name there; no default either.
        key_env: Name of the environment variable that holds the key; "" where none is needed. The
            key itself is never stored, logged or shown.
        answer: "schema" asks for JSON by a schema, with the lines found odd; "word" for one word,
            where the endpoint knows no schemas.
        top_logprobs: How many alternatives of each token to ask for, from which the probability is
            read; 0 where the endpoint gives none, and the score is then the bare verdict.
        kinds: Ask which kind of anomaly it is, where training's labels name several; these names
            then leave the machine too.
        shots: Examples of each class shown; 0 asks without any.
        max_messages: Lines in one request; a longer window is asked for in several.
        max_chars: Characters of one line; of a longer one the middle is left out.
        masks: What is taken out of a message before anything else sees it.
        max_requests: More than these at a time are refused before the first is sent.
        concurrency: Requests under way at a time.
        retries: How often a request is sent again that met a full or failing endpoint.
        timeout_s: Seconds without a sign of the endpoint after which a request has failed.
        price_in: Price of a million tokens sent, in any currency; so is the cost that is told.
        price_out: Price of a million tokens received.
        cache: File that keeps every answer as it comes, so that none is paid for twice; "" for the
            model folder alone.
    """

    url: str = ""
    model: str = ""
    key_env: str = ""
    answer: Literal["schema", "word"] = "schema"
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 20
    kinds: bool = False
    shots: Annotated[int, Field(ge=0)] = 0
    max_messages: Annotated[int, Field(ge=1)] = 200
    max_chars: Annotated[int, Field(ge=10)] = 300
    masks: Masks = Masks()
    max_requests: Annotated[int, Field(ge=1)] = 10_000
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    retries: Annotated[int, Field(ge=0)] = 4
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    price_in: Price = 0.0
    price_out: Price = 0.0
    cache: str = ""

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and not (parts.scheme in ("http", "https") and parts.hostname):
            raise ValueError("no address; it begins with http:// or https:// and names a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "no user, key or query in it, as it is stored with the model; the key comes from "
                "the environment variable that key_env names"
            )
        return url.rstrip("/")

    @model_validator(mode="after")
    def _keeps_the_key(self) -> Self:
        if self.key_env and self.is_plain and not self.is_local:
            raise ValueError(
                f"url: the key of {self.key_env} would cross the network unencrypted to "
                f"{self.host}; use https://, or no key_env"
            )
        return self

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """Name or address of the host that requests go to."""
        return self._parts.hostname or ""

    @property
    def is_plain(self) -> bool:
        """Requests are not encrypted."""
        return self._parts.scheme == "http"

    @property
    def is_local(self) -> bool:
        """Requests stay on this machine."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False

    @property
    def endpoint(self) -> str:
        """Address of the chat completions."""
        path = "/chat/completions"
        return self.url if self.url.endswith(path) else self.url + path


def check_named(config: LLMPromptConfig, detector: str) -> None:
    """Refuse settings that do not say whom to ask.

    Raises:
        ConfigError: No address or no model is set.
    """
    missing = [name for name in ("url", "model") if not getattr(config, name)]
    if missing:
        wanted = " and ".join(f"--set {detector}.{name}=..." for name in missing)
        raise ConfigError(
            f"{detector}: no {' and no '.join(missing)}; it asks whom you name: {wanted}"
        )
