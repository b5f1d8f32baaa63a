"""JSON lines, Docker, CRI and logfmt: fields by name, pieces put together."""

import json

import polars as pl
import pytest

from oddlog.formats import LAYOUTS, Counts, parse_lines


def parse(
    name: str, lines: list[str], session_by: str | None = None
) -> tuple[pl.DataFrame, Counts]:
    return parse_lines(pl.Series(lines, dtype=pl.String), "s", LAYOUTS[name], session_by=session_by)


@pytest.mark.parametrize("key", ["message", "msg", "log", "body", "event", "MESSAGE"])
def test_a_message_is_found_under_its_usual_names(key: str) -> None:
    events, _ = parse("jsonl", [json.dumps({"n": 1, key: "hi"})])
    assert events["message"].to_list() == ["hi"]


def test_message_goes_before_msg() -> None:
    events, _ = parse("jsonl", ['{"msg":"b","message":"a"}', '{"msg":"c"}'])
    assert events["message"].to_list() == ["a", "c"]


def test_an_otlp_body_gives_its_string() -> None:
    line = '{"timeUnixNano":"1704164645678901234","body":{"stringValue":"hi"}}'
    events, _ = parse("jsonl", [line])
    assert (events["message"].item(), events["time"].item().microsecond) == ("hi", 678901)


def test_an_object_is_not_taken_for_a_text() -> None:
    line = '{"log":{"level":"warn"},"host":{"name":"web"},"message":"m"}'
    events, _ = parse("jsonl", [line])
    assert events.select("message", "level", "host").row(0) == ("m", "warn", "web")


def test_the_journal_gives_its_severity_by_number() -> None:
    line = '{"MESSAGE":"m","PRIORITY":"3","__REALTIME_TIMESTAMP":"1704164645678901"}'
    events, _ = parse("jsonl", [line])
    assert (events["level"].item(), events["time"].item().year) == ("err", 2024)


def test_an_object_without_a_message_is_its_own_message_and_counted() -> None:
    events, counts = parse("jsonl", ['{"a": 1}'])
    assert (events["message"].item(), counts.n_without_message) == ('{"a": 1}', 1)


@pytest.mark.parametrize("line", ["text", "[1]", '"msg"', "5", '{"msg": "cut', '{"msg": "x"} y'])
def test_what_is_no_json_object_does_not_match(line: str) -> None:
    events, counts = parse("jsonl", [line])
    assert (events["message"].item(), counts.n_unmatched) == (line, 1)


def test_a_trace_between_json_lines_joins_the_line_before() -> None:
    events, counts = parse("jsonl", ['{"msg":"a"}', "Traceback", "  x", '{"msg":"b"}'])
    assert (events["n_lines"].to_list(), counts.n_joined) == ([3, 1], 2)


def test_a_key_of_a_record_can_name_the_session() -> None:
    lines = ['{"msg":"a","request_id":"r1"}', '{"msg":"b"}', '{"msg":"c","request_id":7}']
    events, _ = parse("jsonl", lines, "request_id")
    assert events["sessions"].to_list() == [["r1"], [], ["7"]]


def test_a_dotted_key_reaches_into_objects() -> None:
    lines = ['{"msg":"a","ctx":{"id":"x"}}', '{"msg":"b","ctx.id":"y"}']
    events, _ = parse("jsonl", lines, "ctx.id")
    assert events["sessions"].to_list() == [["x"], ["y"]]


def docker(text: str, stream: str = "stdout") -> str:
    return json.dumps({"log": text, "stream": stream, "time": "2024-01-02T03:04:05.5Z"})


def test_pieces_of_a_docker_line_are_one_event() -> None:
    events, counts = parse("docker", [docker("a"), docker("b"), docker("c\n"), docker("d\n")])
    assert events["message"].to_list() == ["abc", "d"]
    assert (events["n_lines"].to_list(), counts.n_joined) == ([3, 1], 2)


def test_pieces_of_different_streams_are_not_put_together() -> None:
    events, _ = parse("docker", [docker("a"), docker("b\n", "stderr")])
    assert events["message"].to_list() == ["a", "b"]


def test_an_indented_docker_line_belongs_to_the_event_before() -> None:
    events, _ = parse("docker", [docker("boom\n"), docker("\tat a.b(C.java)\n"), docker("ok\n")])
    assert events.select("message", "n_lines").rows() == [("boom", 2), ("ok", 1)]


def cri(tag: str, text: str, stream: str = "stdout") -> str:
    return f"2016-10-06T00:17:09.669794202Z {stream} {tag} {text}"


def test_pieces_of_a_cri_line_are_one_event() -> None:
    events, _ = parse("cri", [cri("P", "a "), cri("P", "b"), cri("F", "c"), cri("F", "d")])
    assert events["message"].to_list() == ["a bc", "d"]


def test_a_cri_line_may_be_empty() -> None:
    events, _ = parse("cri", ["2016-10-06T00:17:09Z stdout F "])
    assert events["message"].to_list() == [""]


def test_logfmt_keys_within_quotes_are_not_keys() -> None:
    events, _ = parse("logfmt", ['a="msg=no level=no" msg=yes level=info', 'msg="" a=1'])
    assert events.select("message", "level").rows() == [("yes", "info"), ("", None)]


def test_a_logfmt_key_can_name_the_session() -> None:
    events, _ = parse("logfmt", ['msg=a id="r 1"', "msg=b other=2"], "id")
    assert events["sessions"].to_list() == [["r 1"], []]


def test_logfmt_needs_two_pairs() -> None:
    _, counts = parse("logfmt", ["x=1 and then text", "a sentence with x=1 y=2"])
    assert counts.n_unmatched == 2
