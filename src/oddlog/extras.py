"""Packages that only some detectors and commands need: what to install where one is missing."""

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
    "distributed": "dask",
    "optuna": "tune",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "mlflow": "mlflow",
    "trackio": "trackio",
}
"""Packages that only some parts need, and the extra of oddlog that installs each."""


def import_extra(module: str, name: str, *, kind: str = "detector") -> Any:
    """Import a module of an optional package.

    Args:
        module: Its name, such as "sklearn.svm".
        name: Who needs it, for the message.
        kind: What that is.

    Raises:
        ConfigError: It is not installed; the message says what installs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise explain_missing(error, name, kind=kind) from None


def explain_missing(error: ModuleNotFoundError, name: str, *, kind: str = "detector") -> Exception:
    """Return what to raise: the error itself where what is missing belongs to no extra."""
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return error
    return ConfigError(f"{kind} {name!r} needs {package}: pip install 'oddlog[{EXTRAS[package]}]'")
