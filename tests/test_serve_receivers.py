"""OTLP, Loki and plain lines become one table, or are refused; nothing else happens."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from oddlog.serve import loki, otlp, plain
from oddlog.serve.lines import LINE_COLUMNS, Limits, RefusedError

LIMITS = Limits(n_lines=50, line_chars=100)
TIME = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
NANOSECONDS = int(TIME.timestamp()) * 1_000_000_000
READERS = {
    "otlp protobuf": lambda body: otlp.read_protobuf(body, LIMITS),
    "otlp json": lambda body: otlp.read_json(body, LIMITS),
    "loki protobuf": lambda body: loki.read_protobuf(body, LIMITS),
    "loki json": lambda body: loki.read_json(body, LIMITS),
    "text": lambda body: plain.read_text(body, LIMITS, "http"),
    "json lines": lambda body: plain.read_json_lines(body, LIMITS, "http"),
}
NAMES = (
    "resourceLogs", "scopeLogs", "logRecords", "resource", "attributes", "key", "value", "body",
    "timeUnixNano", "stringValue", "intValue", "arrayValue", "kvlistValue", "values", "streams",
    "stream", "line", "time", "log", "source", "template",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


def export(*bodies, service="checkout", time=NANOSECONDS, **attributes):
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    resource.resource.attributes.add(key="host.name").value.string_value = "web-3"
    records = resource.scope_logs.add().log_records
    for body in bodies:
        record = records.add(time_unix_nano=time)
        record.body.string_value = body
        for name, value in attributes.items():
            record.attributes.add(key=name.replace("_", ".")).value.string_value = value
    return request


def push(*lines, labels='{job="api", host="web-3"}', **metadata):
    request = loki._push_request()()
    stream = request.streams.add(labels=labels)
    for line in lines:
        entry = stream.entries.add(line=line)
        entry.timestamp.seconds = int(TIME.timestamp())
        for name, value in metadata.items():
            entry.metadata.add(name=name, value=value)
    return request.SerializeToString()


def push_json(*values, **labels):
    return json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()


def test_a_record_of_otlp_is_a_line_with_time_and_source():
    body = export("disk full").SerializeToString()
    table = otlp.read_protobuf(body, LIMITS).table
    assert table.rows() == [("checkout@web-3", "disk full", TIME, None)]


def test_the_template_of_a_record_of_otlp_is_kept():
    body = export("user 7 left", log_record_template="user {id} left").SerializeToString()
    assert otlp.read_protobuf(body, LIMITS).table["template"].to_list() == ["user {id} left"]


def test_otlp_in_json_says_what_it_says_in_protobuf():
    from google.protobuf.json_format import MessageToJson

    request = export("one", "two\n  at three", log_record_template="x")
    record = request.resource_logs[0].scope_logs[0].log_records.add(observed_time_unix_nano=5000)
    record.body.kvlist_value.values.add(key="n").value.int_value = 1 << 60
    record.body.kvlist_value.values.add(key="ok").value.bool_value = True
    in_json = MessageToJson(request).encode()
    table = otlp.read_json(in_json, LIMITS).table
    assert table.equals(otlp.read_protobuf(request.SerializeToString(), LIMITS).table)
    assert table["text"][-1] == '{"n": 1152921504606846976, "ok": true}'


def test_a_push_of_loki_is_lines_with_time_and_source():
    table = loki.read_protobuf(push("one", "two"), LIMITS).table
    assert table.rows() == [("api@web-3", "one", TIME, None), ("api@web-3", "two", TIME, None)]


def test_a_push_of_loki_in_json_says_what_it_says_in_protobuf():
    body = push_json(
        [str(NANOSECONDS), "one"],
        [str(NANOSECONDS), "two", {"log_record_template": "t"}],
        job="api",
        host="web-3",
    )
    table = loki.read_json(body, LIMITS).table
    assert table[:1].equals(loki.read_protobuf(push("one"), LIMITS).table)
    assert table["template"].to_list() == [None, "t"]


def test_labels_of_loki_may_hold_quotes_and_backslashes():
    assert loki.labels(r'{a="say \"hi\", b", c="d\\"}') == {"a": 'say "hi", b', "c": "d\\"}


def test_lines_end_as_they_do_in_a_file():
    table = plain.read_text(b"one\r\n\ntwo\n", LIMITS, "web").table
    assert table["text"].to_list() == ["one", "", "two"]


def test_an_empty_body_holds_no_line():
    assert plain.read_text(b"", LIMITS, "web").table.height == 0


def test_bytes_that_are_not_utf8_are_spelled_out():
    assert plain.read_text(b"caf\xe9", LIMITS, "web").table["text"].to_list() == ["caf\\xe9"]


@pytest.mark.parametrize(
    "time",
    [
        TIME.timestamp(),
        TIME.timestamp() * 1000,
        NANOSECONDS,
        "2026-11-22T10:30:00Z",
        "2026-11-22T12:30:00+02:00",
    ],
)
def test_a_time_is_read_whatever_its_unit(time):
    body = json.dumps({"log": "x", "time": time}).encode()
    assert plain.read_json_lines(body, LIMITS, "http").table["time"].to_list() == [TIME]


def test_an_object_without_a_text_is_its_own_line():
    table = plain.read_json_lines(b'{"a": 1, "host": "h"}\n\n"two"\n', LIMITS, "http").table
    assert table["text"].to_list() == ['{"a": 1, "host": "h"}', "two"]
    assert table["source"].to_list() == ["h", "http"]


def test_a_list_is_read_as_its_items_would_be():
    lines = plain.read_json_lines(b'{"line": "a"}\n"b"', LIMITS, "http").table
    assert plain.read_json_lines(b'[{"line": "a"}, "b"]', LIMITS, "http").table.equals(lines)


def test_a_lone_surrogate_is_spelled_out():
    body = b'{"line": "a\\ud800", "source": "\\ud800"}'
    table = plain.read_json_lines(body, LIMITS, "http").table
    assert table.rows() == [("\\ud800", "a\\ud800", None, None)]


def test_only_the_first_line_of_a_record_has_its_template():
    table = loki.read_protobuf(push("a\nb", log_record_template="a"), LIMITS).table
    assert table["template"].to_list() == ["a", None]


def test_a_long_line_is_cut_and_counted():
    received = plain.read_text(b"x" * 300 + b"\nshort", LIMITS, "http")
    assert received.n_cut == 1
    assert received.table["text"].str.len_chars().to_list() == [100, 5]


def test_a_list_of_pairs_without_keys_is_refused():
    value = {"kvlistValue": {"values": [{"value": {}}]}}
    record = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": value}]}]}]}
    with pytest.raises(RefusedError, match="key"):
        otlp.read_json(json.dumps(record).encode(), LIMITS)


def test_too_many_lines_are_refused_whole():
    with pytest.raises(RefusedError) as refused:
        plain.read_text(b"x\n" * 51, LIMITS, "http")
    assert refused.value.status == 413


def test_the_line_that_is_no_json_is_named():
    with pytest.raises(RefusedError, match="line 2 is no JSON"):
        plain.read_json_lines(b'"fine"\n{"half', LIMITS, "http")


@pytest.mark.parametrize("reader", READERS)
@given(body=st.binary(max_size=300))
def test_bytes_of_any_kind_are_read_or_refused(reader, body):
    check_read_or_refused(READERS[reader], body)


@pytest.mark.parametrize("reader", ["otlp json", "loki json", "json lines"])
@given(value=JSON)
def test_json_of_any_shape_is_read_or_refused(reader, value):
    check_read_or_refused(READERS[reader], json.dumps(value).encode())


@pytest.mark.parametrize("reader", ["otlp json", "loki json", "json lines"])
def test_json_nested_without_end_is_refused(reader):
    with pytest.raises(RefusedError):
        READERS[reader](b"[" * 100_000)


@pytest.mark.parametrize(("reader", "whole"), [
    ("otlp protobuf", export("one line", "another", a="b").SerializeToString()),
    ("loki protobuf", push("one line", "another", trace="1")),
])  # fmt: skip
@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_protobuf_with_a_wrong_byte_is_read_or_refused(reader, whole, place, byte):
    place %= len(whole)
    damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
    check_read_or_refused(READERS[reader], damaged)


def check_read_or_refused(read, body):
    try:
        table = read(body).table
    except RefusedError:
        return
    assert dict(table.schema) == LINE_COLUMNS
    assert table["text"].null_count() == table["source"].null_count() == 0
    assert table.height <= LIMITS.n_lines
    table["time"].to_list()  # each can be said in Python
