"""Lines to events: joining, sessions, counting, and the same table in chunks of any size."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.errors import ConfigError, FormatError
from oddlog.formats import LAYOUTS, custom, iter_events, parse_lines, read_events
from oddlog.formats import parse as parse_module

STAMP = "2024-01-02 03:04:05 "
LINES = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "",
            "\tat x",
            "Caused by: y",
            STAMP + "ERROR a",
            STAMP,
            "081109 203530 147 INFO a.B: blk_1 blk_-2 blk_1",
            '{"msg": "a", "id": 1}',
            '{"log":"a","stream":"stdout","time":"2024-01-02T03:04:05Z"}',
            '{"log":"b\\n","stream":"stdout","time":"x"}',
            '{"log":"\\tb","stream":"stdout","time":"x"}',
            "2016-10-06T00:17:09Z stdout P a",
            "2016-10-06T00:17:09Z stderr P a",
            "2016-10-06T00:17:09Z stdout F  b",
            "2016-10-06T00:17:09Z stdout F b",
            "a=1 msg=b",
        ]
    ),
)


@given(lines=st.lists(LINES), name=st.sampled_from(sorted(LAYOUTS)), cap=st.integers(1, 4))
def test_raw_gives_back_the_lines_and_every_line_is_counted(
    lines: list[str], name: str, cap: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_module, "MAX_RECORD_LINES", cap)
        events, counts = parse_lines(
            pl.Series(lines, dtype=pl.String), "s", LAYOUTS[name], first_line=11
        )
    numbers = [11, *(11 + events["n_lines"].cum_sum()).to_list()]
    assert "\n".join(events["raw"]) == "\n".join(lines)
    assert events["line"].to_list() == numbers[: events.height]
    assert events["n_lines"].sum() == counts.n_lines == len(lines)
    assert counts.n_events + counts.n_joined == counts.n_lines
    assert events["message"].null_count() == 0


FILE_LINES = LINES.map(lambda line: line.translate({10: None, 13: None, 0: None}))


@settings(max_examples=50)
@given(
    lines=st.lists(FILE_LINES, min_size=1, max_size=15),
    name=st.sampled_from(["auto", *sorted(LAYOUTS)]),
    chunk_lines=st.integers(1, 9),
    cap=st.integers(1, 4),
)
def test_chunks_of_any_size_give_the_same_table(
    lines: list[str],
    name: str,
    chunk_lines: int,
    cap: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.mktemp("chunks") / "x.log"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_module, "MAX_RECORD_LINES", cap)
        patch.setattr("oddlog.formats.lines.N_CONTROLS", 10_000)
        whole, report = read_events(path, name)
        parts = list(iter_events(path, name, chunk_lines=chunk_lines))
    assert pl.concat([events for events, _ in parts]).equals(whole)
    for count in ("n_lines", "n_events", "n_joined", "n_unmatched", "n_bad_times"):
        assert sum(getattr(part, count) for _, part in parts) == getattr(report, count)


def test_chunks_are_of_the_size_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("".join(f"{STAMP}{i}\n" for i in range(100)))
    heights = [events.height for events, _ in iter_events(path, "timestamped", chunk_lines=30)]
    assert max(heights) <= 30


def test_continuation_lines_are_in_raw_and_not_in_the_message() -> None:
    lines = pl.Series([STAMP + "ERROR boom", "java.lang.X: y", "\tat z", STAMP + "ok"])
    events, counts = parse_lines(lines, "s", LAYOUTS["timestamped"])
    assert events.select("line", "n_lines", "message").rows() == [(1, 3, "boom"), (4, 1, "ok")]
    assert events["raw"][0] == STAMP + "ERROR boom\njava.lang.X: y\n\tat z"
    assert (counts.n_joined, counts.n_unmatched) == (2, 0)


def test_lines_before_the_first_header_are_events_of_their_own() -> None:
    events, counts = parse_lines(pl.Series(["x", "y", STAMP + "z"]), "s", LAYOUTS["timestamped"])
    assert events["message"].to_list() == ["x", "y", "z"]
    assert counts.n_unmatched == 2


def test_a_record_takes_no_more_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parse_module, "MAX_RECORD_LINES", 3)
    events, counts = parse_lines(
        pl.Series([STAMP + "a", "1", "2", "3", "4"]), "s", LAYOUTS["timestamped"]
    )
    assert events["n_lines"].to_list() == [3, 1, 1]
    assert counts.n_unmatched == 2


def sessions(messages: list[str], session_by: str) -> list[list[str]]:
    events, _ = parse_lines(pl.Series(messages), "s", LAYOUTS["plain"], session_by=session_by)
    return events["sessions"].to_list()


def test_every_distinct_match_is_a_session_in_order() -> None:
    assert sessions(["b2 b1 b2", "", "b3"], r"b\d") == [["b2", "b1"], [], ["b3"]]


def test_with_a_group_the_group_is_the_session() -> None:
    assert sessions(["id=7 id=8 id=7", "id="], r"id=(\d*)") == [["7", "8"], []]


def test_an_empty_match_is_no_session() -> None:
    assert sessions(["ab"], "x*") == [[]]


def test_hdfs_has_sessions_of_its_own() -> None:
    line = "081109 203530 147 INFO a.B: delete blk_1 blk_-2 blk_1"
    events, _ = parse_lines(pl.Series([line]), "s", LAYOUTS["hdfs"])
    assert events["sessions"].to_list() == [["blk_1", "blk_-2"]]


def test_a_field_of_the_layout_can_name_the_session() -> None:
    line = "2015-10-18 18:01:47,978 INFO [main] a.B: x"
    events, _ = parse_lines(pl.Series([line]), "s", LAYOUTS["log4j"], session_by="thread")
    assert events["sessions"].to_list() == [["main"]]


def test_a_regex_for_sessions_goes_before_those_of_a_custom_layout() -> None:
    layout = custom(r"(?P<session>\S+) (?P<message>.*)")
    events, _ = parse_lines(pl.Series(["s1 b7"]), "s", layout, session_by=r"b\d")
    assert events["sessions"].to_list() == [["b7"]]


def test_a_bad_session_regex_is_told() -> None:
    with pytest.raises(ConfigError, match=r"session regex .*: unclosed group at character 1$"):
        sessions(["x"], "(")


def test_a_session_regex_has_at_most_one_group() -> None:
    with pytest.raises(ConfigError, match="more than one group"):
        sessions(["x"], "(a)(b)")


@pytest.mark.parametrize(
    "lines",
    ['{"msg": "a", "rid": 1}\n{"msg": "b", "at": {"x": 1}}\n', 'msg="a=c" rid=1\nmsg=b at=x\n'],
    ids=["json", "logfmt"],
)
def test_a_field_that_never_occurs_is_told_with_those_that_do(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "x.log"
    path.write_text(lines)
    with pytest.raises(FormatError, match=r"no line has a value .*'request_id'.*\(msg, rid, at\)"):
        read_events(path, session_by="request_id")


def test_the_year_comes_from_the_file_unless_given(tmp_path: Path) -> None:
    path = tmp_path / "messages"
    path.write_text("Jul  9 12:16:49 web sshd[1]: x\n")
    os.utime(path, (0, datetime(2005, 8, 1, tzinfo=UTC).timestamp()))
    given_time = datetime(2011, 1, 1, tzinfo=UTC)
    by_file, by_argument = read_events(path), read_events(path, reference=given_time)
    years = [events["time"].item().year for events, _ in (by_file, by_argument)]
    assert years == [2005, 2010]


def test_a_reference_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no zone"):
        parse_lines(pl.Series(["x"]), "s", LAYOUTS["syslog"], reference=datetime(2024, 1, 1))


def test_a_log_of_another_format_is_told_to_be_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text('{"msg": "up"}\n')
    assert "no line is of that format" in read_events(log, "syslog")[1].summary()
    assert "no line is of that format" not in read_events(log)[1].summary()


def test_the_report_tells_what_was_not_plain(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"?\n2024-02-30 00:00:00 a\r\n\tb\xff\n2024-02-03 00:00:00 \0\n")
    _, report = read_events(path, "timestamped")
    assert report.summary() == (
        f"{path}: 4 lines, 3 events as timestamped, 1 joined to the event before, "
        "1 matching nothing, 1 with a bad time, 1 with bytes that are not UTF-8, 1 with NUL "
        "(format given)"
    )
    assert report.n_cr == 1


def test_a_docker_file_is_not_taken_for_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "x-json.log"
    path.write_text('{"log":"a\\n","stream":"stdout","time":"2024-01-02T03:04:05Z"}\n' * 3)
    _, report = read_events(path)
    assert (report.format, report.note) == (
        "docker",
        "picked docker: 100% of 3 lines of the sample match",
    )


def test_columns_that_are_not_asked_for_stay_empty_and_the_others_the_same(tmp_path):
    path = tmp_path / "hdfs.log"
    path.write_text("081109 203530 147 INFO dfs.DataNode: Receiving block blk_1\n" * 3)
    everything, _ = read_events(path, "hdfs")
    messages, report = read_events(path, "hdfs", columns=())
    assert report.n_events == 3
    assert messages.columns == everything.columns
    for name in ("source", "line", "n_lines", "raw", "message"):
        assert messages[name].equals(everything[name])
    assert messages["time"].null_count() == 3
    assert messages["sessions"].list.len().sum() == 0
    assert everything["sessions"].list.len().sum() == 3
