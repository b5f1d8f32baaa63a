"""Packages that only some detectors need: what to install where one is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from oddlog.errors import ConfigError

EXTRAS = {
    "torch": "torch",
    "transformers": "torch",
    "tokenizers": "torch",
    "peft": "llm",
    "gguf": "llm",
    "bitsandbytes": "qlora",
    "rapidfuzz": "classic",
    "sklearn": "classic",
    "httpx2": "api",
    "cramjam": "serve",
    "fastapi": "serve",
    "opentelemetry": "serve",
    "prometheus_client": "serve",
    "sqlalchemy": "serve",
    "uvicorn": "serve",
    "confluent_kafka": "kafka",
    "psycopg": "postgres",
}
"""Packages that only some parts need, and the extra of oddlog that installs each."""


def import_extra(module: str, detector: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name, such as "sklearn.svm".
        detector: Who needs it, for the message.

    Raises:
        ConfigError: It is not installed; the message says what installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise explain_missing(error, detector) from None


def explain_missing(error: ModuleNotFoundError, detector: str) -> Exception:
    """Return what to raise: the error itself where what is missing belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    return ConfigError(
        f"detector {detector!r} needs {package}: pip install 'oddlog[{EXTRAS[package]}]'"
    )
