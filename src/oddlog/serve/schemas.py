"""What OpenAPI is told of the bodies that collectors send, as far as it can be told of each.

Protobuf and lines of text are bytes to OpenAPI; what may be in them is said by their protocols.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
BYTES: Schema = {"type": "string", "format": "binary"}
NANOSECONDS: Schema = {"type": "string", "pattern": "^[0-9]{1,19}$"}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _or_null(schema: Schema) -> Schema:
    """Return what protobuf's JSON allows for a field: null says that it is not there."""
    return schema | {"type": [schema["type"], "null"]}


_SCOPES = _or_null(_list_of({"type": "object"}))
_RESOURCES = _object({"resource": _or_null({"type": "object"}), "scopeLogs": _SCOPES})
OTLP = _object({"resourceLogs": _or_null(_list_of(_RESOURCES))})
"""An ``ExportLogsServiceRequest``; its protocol says what is in a scope."""

_ENTRY: Schema = {
    "type": "array",
    "prefixItems": [NANOSECONDS, TEXT, {"type": "object"}],
    "minItems": 2,
    "maxItems": 3,
}
_STREAM = _object(
    {
        "stream": {"type": "object", "additionalProperties": TEXT},
        "values": _list_of(_ENTRY),
    },
    "values",
)
LOKI = _object({"streams": _list_of(_STREAM)}, "streams")
"""A push: streams of labels, and of nanoseconds, a line, and metadata if there are any."""


def body_of(kinds: dict[str, Schema]) -> dict[str, Any]:
    """Return what OpenAPI is told of a body, by its content types."""
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}
