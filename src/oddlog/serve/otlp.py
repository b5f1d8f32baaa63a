"""OpenTelemetry's logs, as ``POST /v1/logs`` carries them: protobuf or JSON to lines.

Protocol: OTLP/HTTP 1.x (https://opentelemetry.io/docs/specs/otlp/). JSON is read by hand and not
by protobuf's JSON reader, as OTLP writes ids in hexadecimal there and asks that unknown fields be
passed over. A body that is no text becomes JSON, so that nothing of it is lost.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from oddlog.serve.lines import Limits, Received, RefusedError, Rows, microseconds, named

TEMPLATE = "log.record.template"
SERVICE = "service.name"
PLACES = ("k8s.pod.name", "container.name", "host.name")
"""Attributes of a resource that say where it runs, the closest first."""


def read_protobuf(body: bytes, limits: Limits) -> Received:
    """Read an ``ExportLogsServiceRequest``.

    Raises:
        RefusedError: It is none, or holds more than the limits.
    """
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    try:
        request = ExportLogsServiceRequest.FromString(body)
    except DecodeError as error:
        raise RefusedError(f"no OTLP logs in protobuf: {error}") from None
    rows = Rows(limits)
    for resource in request.resource_logs:
        source = _source({a.key: _value(a.value) for a in resource.resource.attributes})
        for scope in resource.scope_logs:
            for record in scope.log_records:
                time = record.time_unix_nano or record.observed_time_unix_nano
                template = None
                for attribute in record.attributes:
                    if attribute.key == TEMPLATE:
                        template = _text(_value(attribute.value))
                rows.add(source, _body(record.body), microseconds(time), template)
    return rows.received()


def _body(value: Any) -> str:
    return value.string_value if value.HasField("string_value") else _text(_value(value))


def _value(value: Any) -> Any:
    """Return an ``AnyValue`` as what JSON can carry; bytes become base64."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: _value(item.value) for item in value.kvlist_value.values}
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    return getattr(value, kind)


def read_json(body: bytes, limits: Limits) -> Received:
    """Read an ``ExportLogsServiceRequest`` in OTLP's JSON.

    Raises:
        RefusedError: It is none, or holds more than the limits.
    """
    request = load_json(body)
    rows = Rows(limits)
    try:
        for resource in _list(request, "resourceLogs"):
            source = _source(_attributes(_object(resource, "resource")))
            for scope in _list(resource, "scopeLogs"):
                for record in _list(scope, "logRecords"):
                    _add_json(rows, source, record)
    except (
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise RefusedError(f"no OTLP logs in JSON: {error!r}"[:300]) from None
    return rows.received()


def load_json(body: bytes) -> Any:
    """Read JSON of a request.

    Raises:
        RefusedError: It is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"no JSON: {error}") from None


def _add_json(rows: Rows, source: str, record: Mapping[str, Any]) -> None:
    time = int(record.get("timeUnixNano") or record.get("observedTimeUnixNano") or 0)
    template = _attributes(record).get(TEMPLATE)
    body = _json_value(_object(record, "body"))
    known = None if template is None else _text(template)
    rows.add(source, _text(body), microseconds(time), known)


def _list(holder: Mapping[str, Any], name: str) -> Iterable[Mapping[str, Any]]:
    found = holder.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TypeError(f"{name} is no list")
    return found


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = holder.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no object")
    return found


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        a["key"]: _json_value(a.get("value") or {})
        for a in _list(holder, "attributes")
        if "key" in a
    }


def _json_value(value: Mapping[str, Any]) -> Any:
    if "stringValue" in value:
        return value["stringValue"]
    if "intValue" in value:
        return int(value["intValue"])  # 64 bits, which OTLP writes as text
    if "arrayValue" in value:
        return [_json_value(item) for item in _list(value["arrayValue"], "values")]
    if "kvlistValue" in value:
        return {a["key"]: _json_value(a["value"]) for a in _list(value["kvlistValue"], "values")}
    return next(iter(value.values()), None)  # boolValue, doubleValue, bytesValue


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _source(attributes: Mapping[str, Any]) -> str:
    place = next((_text(attributes[name]) for name in PLACES if attributes.get(name)), None)
    return named("otlp", _text(attributes.get(SERVICE)), place)


def answer_protobuf(n_cut: int) -> bytes:
    """Return the answer to a request in protobuf, which says how many lines were cut."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    answer = ExportLogsServiceResponse()
    if n_cut:
        answer.partial_success.error_message = _cut_note(n_cut)
    return answer.SerializeToString()


def answer_json(n_cut: int) -> str:
    """Return the answer to a request in JSON, which says how many lines were cut."""
    told = {"partialSuccess": {"errorMessage": _cut_note(n_cut)}} if n_cut else {}
    return json.dumps(told)


def _cut_note(n_cut: int) -> str:
    return f"{n_cut} lines were longer than the limit and were cut"
