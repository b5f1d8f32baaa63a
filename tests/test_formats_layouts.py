"""What each layout reads out of a line, and what ``detect`` picks."""

from datetime import UTC, datetime

import polars as pl
import pytest

from oddlog.errors import ConfigError
from oddlog.events import check_events
from oddlog.formats import LAYOUTS, custom, detect, parse_lines
from oddlog.formats.layouts import layout_named

REFERENCE = datetime(2024, 3, 10, 12, tzinfo=UTC)

# layout, line, time, level, host, message
READ = [
    (
        "hdfs",
        "081109 203530 147 INFO dfs.DataNode$PacketResponder: Received block blk_-5 of size 7",
        "2008-11-09 20:35:30",
        "INFO",
        None,
        "Received block blk_-5 of size 7",
    ),
    (
        "bgl",
        "- 1117838570 2005.06.03 R02-M1-N0-C:J12-U11 2005-06-03-15.42.50.363779 "
        "R02-M1-N0-C:J12-U11 RAS KERNEL INFO instruction cache parity error corrected",
        "2005-06-03 22:42:50.363779",
        "INFO",
        "R02-M1-N0-C:J12-U11",
        "instruction cache parity error corrected",
    ),
    (
        "thunderbird",
        "- 1131566461 2005.11.09 dn228 Nov 9 12:01:01 dn228/dn228 crond(pam_unix)[2915]: "
        "session closed for user root",
        "2005-11-09 20:01:01",
        None,
        "dn228",
        "session closed for user root",
    ),
    (
        "hpc",
        "2286759 full partition status 1061219795 -1 running",
        "2003-08-18 15:16:35",
        None,
        "full",
        "running",
    ),
    (
        "syslog",
        "<34>Feb  9 22:14:15 mymachine su[77]: 'su root' failed for lonvick",
        "2024-02-09 22:14:15",
        "crit",
        "mymachine",
        "'su root' failed for lonvick",
    ),
    (
        "syslog",
        "Dec 31 23:59:59 web last message repeated 2 times",
        "2023-12-31 23:59:59",
        None,
        "web",
        "last message repeated 2 times",
    ),
    (
        "syslog5424",
        '<165>1 2003-10-11T22:14:15.003Z host.example evntslog - ID47 [x@32473 iut="3" '
        's="a \\"]\\" b"][y a="b"] An application event',
        "2003-10-11 22:14:15.003",
        "notice",
        "host.example",
        "An application event",
    ),
    ("syslog5424", "<0>1 - - app - - - no time", None, "emerg", None, "no time"),
    (
        "syslog_iso",
        "2024-01-02T03:04:05.678901+02:00 web kernel: [   12.5] oops",
        "2024-01-02 01:04:05.678901",
        None,
        "web",
        "[   12.5] oops",
    ),
    (
        "jsonl",
        '{"ts": 1700000000.25, "lvl": "warn", "hostname": "a", "msg": "disk \\u00e9 full\\n"}',
        "2023-11-14 22:13:20.250",
        "warn",
        "a",
        "disk é full\n",
    ),
    (
        "docker",
        '{"log":"hello \\"you\\"\\n","stream":"stderr","time":"2024-01-02T03:04:05.123456789Z"}',
        "2024-01-02 03:04:05.123456",
        None,
        None,
        'hello "you"',
    ),
    (
        "cri",
        "2016-10-06T00:17:09.669794202Z stdout F the message",
        "2016-10-06 00:17:09.669794",
        None,
        None,
        "the message",
    ),
    (
        "logfmt",
        'ts=2024-01-02T03:04:05Z level=error err="no msg=here, \\"no\\"" msg="it \\"broke\\"" n=5',
        "2024-01-02 03:04:05",
        "error",
        None,
        'it "broke"',
    ),
    (
        "access",
        '127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a.gif HTTP/1.0" 200 2326 "-" "curl"',
        "2000-10-10 20:55:36",
        None,
        None,
        '"GET /a.gif HTTP/1.0" 200 2326 "-" "curl"',
    ),
    (
        "apache_error",
        "[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6",
        "2005-12-04 04:47:44",
        "error",
        None,
        "mod_jk child workerEnv in error state 6",
    ),
    (
        "apache_error",
        "[Wed Oct 11 14:32:52.123456 2017] [core:error] [pid 7:tid 9] [client ::1:5] denied",
        "2017-10-11 14:32:52.123456",
        "error",
        None,
        "[client ::1:5] denied",
    ),
    (
        "klog",
        "W0229 07:29:13.123456   12345 reflector.go:424] failed to list",
        "2024-02-29 07:29:13.123456",
        "W",
        None,
        "failed to list",
    ),
    (
        "logcat",
        "03-09 16:13:38.811  1702  2395 D WindowManager: printing",
        "2024-03-09 16:13:38.811",
        "D",
        None,
        "printing",
    ),
    (
        "openstack",
        "nova-api.log 2017-05-16 00:00:00.008 25746 INFO nova.wsgi [req-38 113 - -] GET ok",
        "2017-05-16 00:00:00.008",
        "INFO",
        None,
        "GET ok",
    ),
    (
        "spring",
        "2024-01-02T03:04:05.678Z  INFO 1234 --- [shop] [  main] c.e.App     : Started App",
        "2024-01-02 03:04:05.678",
        "INFO",
        None,
        "Started App",
    ),
    (
        "zookeeper",
        "2015-07-29 17:41:44,747 - INFO  [QuorumPeer[myid=1]/0:0:0:0:2181:Fast@774] - "
        "Notification time out: 3200",
        "2015-07-29 17:41:44.747",
        "INFO",
        None,
        "Notification time out: 3200",
    ),
    (
        "logback",
        "2024-01-02 03:04:05.678 [main] WARN  com.acme.Shop - stock is low",
        "2024-01-02 03:04:05.678",
        "WARN",
        None,
        "stock is low",
    ),
    (
        "python",
        "2024-01-02 03:04:05,678 - shop.stock - ERROR - gone",
        "2024-01-02 03:04:05.678",
        "ERROR",
        None,
        "gone",
    ),
    (
        "log4j",
        "2015-10-18 18:01:47,978 INFO [main] org.apache.MRAppMaster: Created",
        "2015-10-18 18:01:47.978",
        "INFO",
        None,
        "Created",
    ),
    (
        "log4j",
        "17/06/09 20:10:40 INFO executor.Backend: Registered",
        "2017-06-09 20:10:40",
        "INFO",
        None,
        "Registered",
    ),
    (
        "timestamped",
        "2016-09-28 04:30:31, Info                  CBS    Loaded",
        "2016-09-28 04:30:31",
        "Info",
        None,
        "CBS    Loaded",
    ),
    (
        "timestamped",
        "2024/01/02 03:04:05 [error] 12#0: *5 connect() failed",
        "2024-01-02 03:04:05",
        "error",
        None,
        "12#0: *5 connect() failed",
    ),
    (
        "timestamped",
        "2024-01-02 03:04:05.678 UTC [123] LOG:  checkpoint complete",
        "2024-01-02 03:04:05.678",
        "LOG",
        None,
        "checkpoint complete",
    ),
    (
        "timestamped",
        "20171224-0:28:0:83|Step_LSC|300|action",
        "2017-12-24 00:28:00.083",
        None,
        None,
        "Step_LSC|300|action",
    ),
    ("timestamped", "[07.26 13:30:49] chrome.exe", "2023-07-26 13:30:49", None, None, "chrome.exe"),
    (
        "timestamped",
        "2024-01-02T03:04:05Z Error opening the Zebra",
        "2024-01-02 03:04:05",
        None,
        None,
        "Error opening the Zebra",
    ),
    (
        "timestamped",
        "04-Dec-2005 12:00:00.123 SEVERE [main] boom",
        "2005-12-04 12:00:00.123",
        "SEVERE",
        None,
        "[main] boom",
    ),
    ("timestamped", "1700000000 up", "2023-11-14 22:13:20", None, None, "up"),
    ("plain", "  anything\tat all ", None, None, None, "  anything\tat all "),
]
IDS = [f"{row[0]}-{number}" for number, row in enumerate(READ)]


@pytest.mark.parametrize(("name", "line", "time", "level", "host", "message"), READ, ids=IDS)
def test_a_layout_reads_time_level_host_and_message(name, line, time, level, host, message) -> None:
    events, _ = parse_lines(pl.Series([line]), "s", LAYOUTS[name], reference=REFERENCE)
    row = events.row(0, named=True)
    wanted = datetime.fromisoformat(time).replace(tzinfo=UTC) if time else None
    assert (row["time"], row["level"], row["host"], row["message"]) == (
        wanted,
        level,
        host,
        message,
    )


@pytest.mark.parametrize(("name", "line"), [row[:2] for row in READ], ids=IDS)
def test_each_line_is_detected_as_its_own_layout(name: str, line: str) -> None:
    assert detect(pl.Series([line] * 20)).layout == name


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_a_valid_table_of_no_lines(name: str) -> None:
    events, counts = parse_lines(pl.Series([], dtype=pl.String), "s", LAYOUTS[name])
    assert (check_events(events).height, counts.n_lines) == (0, 0)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_keeps_a_line_that_it_does_not_know(name: str) -> None:
    events, _ = parse_lines(pl.Series(["what is this?"]), "s", LAYOUTS[name])
    assert events["message"].to_list() == ["what is this?"]


@pytest.mark.parametrize(("line", "label"), [("-", ""), ("KERNDTLB", "KERNDTLB")])
def test_the_first_column_of_bgl_is_the_label(line: str, label: str) -> None:
    text = f"{line} 1117838570 2005.06.03 R02 2005-06-03-15.42.50.363779 R02 RAS KERNEL INFO x"
    events, _ = parse_lines(pl.Series([text]), "s", LAYOUTS["bgl"])
    assert events["label"].to_list() == [label]


def test_a_layout_without_labels_leaves_them_unknown() -> None:
    events, _ = parse_lines(pl.Series(["x"]), "s", LAYOUTS["plain"])
    assert events["label"].to_list() == [None]


def test_a_header_with_an_impossible_time_is_an_event_without_one_and_counted() -> None:
    lines = pl.Series(["2024-02-30 00:00:00 INFO x", "2024-02-28 00:00:00 INFO x"])
    events, counts = parse_lines(lines, "s", LAYOUTS["timestamped"])
    assert (events["time"].is_null().to_list(), counts.n_bad_times) == ([True, False], 1)


def test_a_line_of_a_simpler_header_is_an_event_by_the_fallback() -> None:
    lines = pl.Series(["2024-01-02 03:04:05,1 INFO a.B: x", "2024-01-02 03:04:06 y", "\tat z"])
    events, _ = parse_lines(lines, "s", LAYOUTS["log4j"])
    assert events["message"].to_list() == ["x", "y"]


def test_detect_is_not_misled_by_stack_traces() -> None:
    head = "2024-01-02 03:04:05,1 ERROR a.B: x"
    trace = ["java.lang.RuntimeException: y", *["\tat a.b.C(D.java:1)"] * 30, "Caused by: z"]
    assert detect(pl.Series([head, *trace] * 5)).layout == "log4j"


def test_detect_says_when_it_is_not_sure() -> None:
    found = detect(pl.Series(["free text", "more of it", "2024-01-02 03:04:05 x"]))
    assert (found.layout, found.sure) == ("plain", False)
    assert "fell back to plain: timestamped fits best, but only 33%" in found.note


@pytest.mark.parametrize(
    "text", ['[\n {\n  "msg": "a"\n }\n]', '[{"msg": "a"}]', '{\n "msg": 1\n}\n']
)
def test_json_that_is_not_one_object_a_line_is_told_with_what_to_do(text: str) -> None:
    found = detect(pl.Series(text.split("\n")))
    assert found.layout == "plain"
    assert "make one object a line of it, by jq" in found.note


def test_detect_of_nothing_is_plain() -> None:
    assert detect(pl.Series([], dtype=pl.String)).layout == "plain"


def test_an_unknown_format_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no format named 'hfds'.*hdfs"):
        layout_named("hfds")


def test_a_custom_layout_fills_the_columns_that_it_names() -> None:
    layout = custom(
        r"(?P<label>\S+) (?P<time>\S+ \S+) (?P<host>\S+)/(?P<session>\S*) (?P<level>\w+) "
        r"(?P<message>.*)"
    )
    lines = pl.Series(
        ["- 2024-01-02 03:04:05 web/s1 INFO hi", "E5 2024-01-02 03:04:06 web/ WARN ho"]
    )
    events, _ = parse_lines(lines, "s", layout)
    assert events.select("label", "host", "sessions", "level", "message").rows() == [
        ("", "web", ["s1"], "INFO", "hi"),
        ("E5", "web", [], "WARN", "ho"),
    ]


def test_a_custom_layout_needs_a_message() -> None:
    with pytest.raises(ConfigError, match="no group 'message'"):
        custom(r"(?P<time>\S+)")


def test_a_bad_regex_is_shown_with_its_place() -> None:
    with pytest.raises(ConfigError, match="unclosed character class at character 13"):
        custom("(?P<message>[)")
