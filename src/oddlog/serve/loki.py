r"""Loki's push, as promtail, Alloy, Fluent Bit and Vector send it: JSON, or protobuf in snappy.

Protocol: https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs and the
``PushRequest`` of Loki's push.proto, whose fields that matter here are declared in this module:
protobuf makes the messages of them, so that no generated code is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from oddlog.serve.lines import Limits, Received, RefusedError, Rows, microseconds, named
from oddlog.serve.otlp import load_json

SERVICES = ("service_name", "job", "app", "unit", "filename")
PLACES = ("pod", "host", "hostname", "instance", "node_name")
TEMPLATE = "log_record_template"  # Loki's spelling of OpenTelemetry's name
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"')
STRING, MESSAGE = 9, 11  # types of a field in protobuf's descriptors


def read_json(body: bytes, limits: Limits) -> Received:
    """Read a push request in JSON: streams of labels and of (nanoseconds, line) pairs.

    Raises:
        RefusedError: It is none, or holds more than the limits.
    """
    request = load_json(body)
    rows = Rows(limits)
    try:
        for stream in request["streams"]:
            source = _source(_texts(stream.get("stream", {})))
            for time, line, *more in stream["values"]:
                if not isinstance(line, str) or not isinstance(time, str) or len(more) > 1:
                    raise TypeError("not a time and a line of text, with or without metadata")
                template = more[0].get(TEMPLATE) if more else None
                rows.add(source, line, microseconds(int(time)), template and str(template))
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
        raise RefusedError(f"no push request of Loki in JSON: {error!r}"[:300]) from None
    return rows.received()


def _texts(found: Any) -> Mapping[str, str]:
    if not isinstance(found, dict) or not all(isinstance(one, str) for one in found.values()):
        raise TypeError("labels are not names with a text each")
    return found


def read_protobuf(body: bytes, limits: Limits) -> Received:
    """Read a ``PushRequest``, already out of snappy.

    Raises:
        RefusedError: It is none, or holds more than the limits.
    """
    from google.protobuf.message import DecodeError

    try:
        request = _push_request().FromString(body)
    except DecodeError as error:
        raise RefusedError(f"no push request of Loki in protobuf: {error}") from None
    rows = Rows(limits)
    for stream in request.streams:
        source = _source(labels(stream.labels))
        for entry in stream.entries:
            time = entry.timestamp.seconds * 1_000_000_000 + entry.timestamp.nanos
            more = {pair.name: pair.value for pair in entry.metadata}
            rows.add(source, entry.line, microseconds(time), more.get(TEMPLATE))
    return rows.received()


def labels(text: str) -> dict[str, str]:
    r"""Return the labels of a stream.

    Example:
        >>> labels('{job="api", path="C:\\\\log"}')
        {'job': 'api', 'path': 'C:\\log'}
    """
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in _LABEL.findall(text)}


def _source(found: Mapping[str, Any]) -> str:
    service = next((str(found[name]) for name in SERVICES if found.get(name)), None)
    place = next((str(found[name]) for name in PLACES if found.get(name)), None)
    return named("loki", service, place)


@cache
def _push_request() -> Any:
    """Return the message class of a ``PushRequest``, made of its fields' names and numbers."""
    from google.protobuf import timestamp_pb2
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message_factory import GetMessageClass

    file = FileDescriptorProto(name="oddlog/push.proto", package="oddlog", syntax="proto3")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    _message(file, "Pair", name=(1, "string"), value=(2, "string"))
    _message(file, "Entry", timestamp=(1, ".google.protobuf.Timestamp"), line=(2, "string"),
             metadata=(3, "*Pair"))  # fmt: skip
    _message(file, "Stream", labels=(1, "string"), entries=(2, "*Entry"))
    _message(file, "PushRequest", streams=(1, "*Stream"))
    pool = DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName("oddlog.PushRequest"))


def _message(file: Any, name: str, /, **fields: tuple[int, str]) -> None:
    """Declare a message; ``*`` before a field's type says that it is repeated."""
    message = file.message_type.add(name=name)
    for field, (number, kind) in fields.items():
        repeated = kind.startswith("*")
        added = message.field.add(name=field, number=number, label=3 if repeated else 1)
        added.type = STRING if kind == "string" else MESSAGE
        if added.type == MESSAGE:
            added.type_name = f".oddlog.{kind[1:]}" if repeated else kind
