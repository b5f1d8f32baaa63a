"""What a line of each known format looks like: the registry ``LAYOUTS``, and layouts of one's own.

A layout is a value: a pattern for the header, the formats of its times, and what follows from them.
Patterns are anchored, and written so that the linear-time engine can run them in one pass where the
format allows. A pattern's named groups are the fields that ``session_by`` may name; groups that
nothing reads are not captured (see ``capture_only``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import polars as pl

from oddlog.errors import ConfigError

Reads = Literal["text", "json", "docker", "logfmt", "plain"]


@dataclass(frozen=True)
class Layout:
    """One format of lines.

    Attributes:
        name: Its key in ``LAYOUTS`` and the value of ``--format``.
        reads: How a line is taken apart.
        pattern: For text: matched at the line's start. The group ``message`` is the message; in a
            pattern without one the message is what follows the match. Groups with a meaning of
            their own: time, fraction (of the second), level (level2 and level3 where it is empty),
            priority (of syslog), host, label ("-" is normal), session, stream, tag (of CRI).
        times: Formats of the group ``time``, tried in order (see ``times.parse_times``).
        session: Regex whose matches in the message are the default sessions.
        masks: Name of the set of masks that suits its messages.
        fallback: Layout that a line is tried with that does not match, so that a line with a
            simpler header starts an event and is not taken for the end of the one before.
        joins: Whether a line that does not match belongs to the event before it.
        indents_join: Whether a line whose message is indented belongs to the event before it:
            containers log each line of a stack trace in a header of its own.
    """

    name: str
    reads: Reads = "text"
    pattern: str = ""
    times: tuple[str, ...] = ("any",)
    session: str | None = None
    masks: str = "generic"
    fallback: str | None = None
    joins: bool = True
    indents_join: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the pattern's groups."""
        return tuple(_GROUP.findall(self.pattern))


HEAD = "_head"
_INDENT = 4  # of the pattern in the engine's messages
_GROUP = re.compile(r"(?<!\\)\(\?P?<([A-Za-z_]\w*)>")

CLOCK = r"[0-9]{1,2}:[0-9]{2}:[0-9]{2}"
FRACTION = r"(?:[.,][0-9]{1,9})?"
ZONE = r"(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))?"
ISO = (
    r"[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}(?:[T _-]|, ?)"
    rf"{CLOCK}(?:[.,:][0-9]{{1,9}})?{ZONE}"
)
SHORT_YEAR = rf"[0-9]{{2}}/[0-9]{{2}}/[0-9]{{2}} {CLOCK}{FRACTION}"
COMPACT = r"[0-9]{8}[-T ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(?:[.,:][0-9]{1,6})?"
ACCESS = r"[0-9]{1,2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}"
CTIME = rf"[A-Z][a-z]{{2}} [A-Z][a-z]{{2}} [ 0-9]?[0-9] {CLOCK}(?:\.[0-9]{{1,9}})? [0-9]{{4}}"
DAY_FIRST = rf"[0-9]{{1,2}}[- ][A-Z][a-z]{{2}}[- ][0-9]{{4}} {CLOCK}{FRACTION}"
NO_YEAR = rf"[0-9]{{2}}[-.][0-9]{{2}} {CLOCK}{FRACTION}"
SYSLOG_TIME = rf"[A-Z][a-z]{{2}} [ 0-9]?[0-9] {CLOCK}{FRACTION}"
EPOCH = r"1[0-9]{9}(?:\.[0-9]{1,9}|[0-9]{3}|[0-9]{6})?"
ANY_TIME = "|".join(
    (ISO, SHORT_YEAR, COMPACT, ACCESS, CTIME, DAY_FIRST, NO_YEAR, SYSLOG_TIME, EPOCH)
)
TEXT_TIMES = ("iso", "%y/%m/%d %H:%M:%S%.f")

LEVEL = (
    "TRACE|DEBUG|VERBOSE|INFO|INFORMATION|NOTICE|NOTE|WARN|WARNING|ERROR|ERR|CRITICAL|CRIT|SEVERE"
    "|FATAL|ALERT|EMERG|EMERGENCY|PANIC|LOG|CONFIG|FINE|FINER|FINEST|STATEMENT|DETAIL|HINT"
)
# A level in capitals may stand alone; "Error opening x" is a message, "[error] opening x" and
# "Error   opening x" are not.
AFTER_TIME = (
    r"[\])>]*(?: +- +|[\s|,;:]+|$)"
    r"(?:(?:\[[^\]]*\] +|[0-9]+ +|[\w.$/#-]+ - )?(?:"
    rf"[\[<(]?(?P<level>{LEVEL})[\])>]?(?:[:|,]|\s+-\s)?(?:\s+|$)"
    rf"|(?i:[\[<(](?P<level2>{LEVEL})[\])>]:?|(?P<level3>{LEVEL})(?:[:|]| {{2}}|\t))\s*))?"
)
PROCESS = r"(?:(?P<process>[^\s:\[]+)(?:\[(?P<pid>[0-9]+)\])?(?: \([^)]*\))?:(?: |$))?"

_ALL = (
    Layout(
        "docker",
        "docker",
        times=("iso",),
        indents_join=True,
    ),
    Layout("jsonl", "json"),
    Layout(
        "cri",
        pattern=rf"(?P<time>{ISO}) (?P<stream>stdout|stderr) (?P<tag>[FP](?::\S*)?)(?: |$)",
        times=("iso",),
        indents_join=True,
    ),
    Layout(
        "hdfs",
        pattern=r"(?P<time>[0-9]{6} [0-9]{6}) (?P<thread>[0-9]+) (?P<level>[A-Z]+) "
        r"(?P<component>[^ :]+):(?: |$)",
        times=("%y%m%d %H%M%S",),
        session=r"blk_-?[0-9]+",
        masks="hdfs",
    ),
    Layout(
        "bgl",
        pattern=r"(?P<label>[^ ]+) (?P<time>[0-9]{9,10}) [0-9]{4}\.[0-9]{2}\.[0-9]{2} "
        r"(?P<host>[^ ]*) [0-9]{4}-[0-9]{2}-[0-9]{2}-[0-9]{2}\.[0-9]{2}\.[0-9]{2}\."
        r"(?P<fraction>[0-9]{6}) [^ ]* (?P<type>[^ ]*) (?P<component>[^ ]*) (?P<level>[^ ]*)"
        r"(?: |$)",
        times=("epoch",),
        masks="bgl",
    ),
    Layout(
        "thunderbird",
        pattern=r"(?P<label>[^ ]+) (?P<time>[0-9]{9,10}) [0-9]{4}\.[0-9]{2}\.[0-9]{2} "
        rf"(?P<host>[^ ]+) {SYSLOG_TIME} (?P<location>[^ ]+)(?: |$){PROCESS}",
        times=("epoch",),
        masks="thunderbird",
    ),
    Layout(
        "hpc",
        pattern=r"[0-9]+ (?P<host>[^ ]+) (?P<component>[^ ]+) (?P<state>[^ ]+) "
        r"(?P<time>[0-9]{9,10}) (?P<flag>-?[0-9]+)(?: |$)",
        times=("epoch",),
    ),
    Layout(
        "syslog5424",
        pattern=rf"<(?P<priority>[0-9]{{1,3}})>[0-9]{{1,2}} (?P<time>-|{ISO}) (?P<host>[^ ]+) "
        r"(?P<process>[^ ]+) (?P<pid>[^ ]+) (?P<msgid>[^ ]+) "
        r'(?P<structured>-|(?:\[(?:[^\]\\"]|"(?:[^"\\]|\\.)*")*\])+)(?: '
        "\ufeff?|$)",
        times=("iso",),
        masks="syslog",
        fallback="syslog",
    ),
    Layout(
        "syslog",
        pattern=rf"(?:<(?P<priority>[0-9]{{1,3}})>)?(?P<time>{SYSLOG_TIME}) "
        rf"(?P<host>[^ ]+)(?: |$){PROCESS}",
        times=("%b %d %H:%M:%S%.f",),
        masks="syslog",
    ),
    Layout(
        "access",
        pattern=r"(?:(?P<host>[^ ]+:[0-9]+) )?(?P<client>[^ ]+) (?P<identity>[^ ]+) "
        rf"(?P<user>[^ ]+) \[(?P<time>{ACCESS})\](?: |$)",
        times=("%d/%b/%Y:%H:%M:%S %z",),
    ),
    Layout(
        "apache_error",
        pattern=rf"\[(?P<time>{CTIME})\] \[(?:(?P<module>[a-z0-9_-]*):)?(?P<level>[a-z0-9]+)\]"
        r"(?: \[pid (?P<pid>[^\]]*)\])?(?: |$)",
        times=("%a %b %d %H:%M:%S%.f %Y",),
        fallback="timestamped",
    ),
    Layout(
        "klog",
        pattern=r"(?P<level>[IWEF])(?P<time>[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}) +"
        r"(?P<pid>[0-9]+) (?P<file>[^ \]]+)\](?: |$)",
        times=("%m%d %H:%M:%S%.f",),
    ),
    Layout(
        "logcat",
        pattern=rf"(?P<time>(?:[0-9]{{4}}-)?[0-9]{{2}}-[0-9]{{2}} {CLOCK}\.[0-9]{{3,6}}) +"
        r"(?P<pid>[0-9]+) +(?P<thread>[0-9]+) (?P<level>[VDIWEFAS]) (?P<component>.*?) *:(?: |$)",
        times=("%m-%d %H:%M:%S%.f", "iso"),
    ),
    Layout(
        "openstack",
        pattern=rf"(?:[^ ]+ )?(?P<time>{ISO}) (?P<pid>[0-9]+) (?P<level>{LEVEL}) "
        r"(?P<logger>[\w.-]+) \[(?P<request>[^ \]]*)[^\]]*\](?: |$)",
        times=("iso",),
        fallback="timestamped",
    ),
    Layout(
        "spring",
        pattern=rf"(?P<time>{ISO}) +(?P<level>{LEVEL}) +(?P<pid>[0-9]+) --- "
        r"(?:\[[^\]]*\] )?\[ *(?P<thread>[^\]]*)\] (?P<logger>[^ ]+) *:(?: |$)",
        times=("iso",),
        fallback="timestamped",
    ),
    Layout(
        "zookeeper",
        pattern=rf"(?P<time>{ISO}) (?:\[myid:[^\]]*\] )?- (?P<level>{LEVEL}) +"
        r"\[(?P<thread>.*?)\] -(?: |$)",
        times=("iso",),
        fallback="timestamped",
    ),
    Layout(
        "logback",
        pattern=rf"(?P<time>{ISO}) \[(?P<thread>[^\]]*)\] (?P<level>{LEVEL}) +"
        r"(?P<logger>[\w.$/-]+) +-(?: |$)",
        times=("iso",),
        fallback="timestamped",
    ),
    Layout(
        "python",
        pattern=rf"(?P<time>{ISO}) - (?P<logger>[^ ]+) - (?P<level>{LEVEL}) -(?: |$)",
        times=("iso",),
        fallback="timestamped",
    ),
    Layout(
        "log4j",
        pattern=rf"(?P<time>{ISO}|{SHORT_YEAR}) (?P<level>{LEVEL}) +"
        r"(?:\[(?P<thread>[^\]]*)\] )?(?P<logger>[\w.$/-]+):(?: |$)",
        times=TEXT_TIMES,
        fallback="timestamped",
    ),
    Layout(
        "syslog_iso",  # what rsyslog writes by default today: RFC 3164 with a whole time
        pattern=r"(?:<(?P<priority>[0-9]{1,3})>)?(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}"
        r"(?:Z|[+-][0-9]{2}:?[0-9]{2})) (?P<host>[^ ]+) "
        r"(?P<process>[^\s:\[]+)(?:\[(?P<pid>[0-9]+)\])?(?: \([^)]*\))?:(?: |$)",
        times=("iso",),
        masks="syslog",
        fallback="syslog",
    ),
    Layout("logfmt", "logfmt"),
    Layout("timestamped", pattern=rf"[\[(<]?(?P<time>{ANY_TIME}){AFTER_TIME}"),
    Layout("plain", "plain", joins=False),
)

LAYOUTS: Mapping[str, Layout] = MappingProxyType({layout.name: layout for layout in _ALL})
"""Every known format by name, the most specific first: of several that match, ``auto`` takes it."""


def layout_named(format: str | Layout) -> Layout:
    """Return a layout by name, or the layout itself.

    Raises:
        ConfigError: No format has that name.
    """
    if isinstance(format, Layout):
        return format
    if format not in LAYOUTS:
        raise ConfigError(f"no format named {format!r}; there are: auto, {', '.join(LAYOUTS)}")
    return LAYOUTS[format]


def custom(pattern: str) -> Layout:
    r"""Make a layout of a regex with named groups, matched at the start of each line.

    The engine is Rust's: linear time, no look-around, no back-references. ``message`` is needed;
    ``time`` (any usual form), ``level``, ``host``, ``session`` and ``label`` ("-" or empty is
    normal) are understood; any other group is a field that ``session_by`` can name.

    Raises:
        ConfigError: The regex is not one, or has no group ``message``.

    Example:
        >>> custom(r"(?P<time>\S+) (?P<host>\S+) (?P<message>.*)").fields
        ('time', 'host', 'message')
    """
    check_regex(pattern, "format pattern")
    layout = Layout("custom", pattern=pattern)
    if "message" not in layout.fields:
        raise ConfigError(
            f"format pattern {pattern!r}: no group 'message'; end it with (?P<message>.*)"
        )
    return layout


def check_regex(pattern: str, what: str) -> None:
    """Raise if the engine does not take a regex, saying where.

    Raises:
        ConfigError: It does not.
    """
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError as error:
        raise ConfigError(f"{what} {pattern!r}: {_reason(str(error))}") from None


def _reason(text: str) -> str:
    """Put the engine's picture of a pattern, with a caret under the place, into one line."""
    rows = text.split("\n\nThis error")[0].splitlines()
    carets = [row.index("^") for row in rows if row.strip(" ^") == "" and "^" in row]
    reason = rows[-1].removeprefix("error: ")
    return f"{reason} at character {carets[0] - _INDENT + 1}" if carets else reason


def capture_only(layout: Layout, wanted: Collection[str]) -> str:
    """Return the layout's pattern, anchored, its whole match being the group ``HEAD``.

    Groups of the project's own patterns that are not wanted are not captured, which is faster.
    """
    pattern = layout.pattern
    if layout.name in LAYOUTS:
        for name in set(layout.fields) - set(wanted):
            pattern = pattern.replace(f"(?P<{name}>", "(?:")
    return f"^(?P<{HEAD}>{pattern})"
