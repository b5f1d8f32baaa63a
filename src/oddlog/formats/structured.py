"""Fields of lines that name them: JSON objects, Docker's json-file and logfmt.

Whole columns: a key is looked for in all lines at once, and the next name of the same thing
(``msg`` after ``message``) only in the lines where it was not found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import polars as pl

MESSAGE_KEYS = ("message", "msg", "log", "body", "event", "MESSAGE", "@message")
TIME_KEYS = (
    "time",
    "timestamp",
    "@timestamp",
    "ts",
    "datetime",
    "date",
    "asctime",
    "eventTime",
    "timeUnixNano",
    "observedTimeUnixNano",
    "__REALTIME_TIMESTAMP",
)
LEVEL_KEYS = (
    "level",
    "severity",
    "lvl",
    "levelname",
    "loglevel",
    "log_level",
    "log.level",
    "severityText",
    "severity_text",
)
HOST_KEYS = ("host", "hostname", "host.name", "_HOSTNAME", "node")
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")

LOOKED_AT = 100  # lines whose fields are named
_NAMES = re.compile(r'(?:^|\s)([A-Za-z_@][^\s="]*)=')
_PAIR = r'[^\s="]+(?:=(?:"(?:[^"\\]|\\.)*"|[^\s"]\S*)?)?'
_LOGFMT = r'^\s*[A-Za-z_@][^\s="]*=(?:"(?:[^"\\]|\\.)*"|[^\s"]\S*)?\s+[^\s="]+='


def json_fields(lines: pl.Series, field: str | None) -> pl.DataFrame:
    """Return matched, message, time_text, level, host, session of JSON objects, one per line.

    A line that is no JSON object is not matched. An object without a message is one, of which the
    whole line is the message.
    """
    message = _first(lines, MESSAGE_KEYS)
    nested = _key(lines, message.is_null(), ("body", "stringValue"))
    message = message.zip_with(message.is_not_null(), nested)
    unsure = message.is_null()
    valid = ~unsure | _key(lines, unsure, ()).is_not_null()
    matched = valid & lines.str.contains(r"^\s*\{")
    priority = _key(lines, pl.Series([True]).new_from_index(0, len(lines)), ("PRIORITY",))
    level = _first(lines, LEVEL_KEYS)
    return pl.DataFrame(
        {
            "matched": matched,
            "message": message.zip_with(message.is_not_null(), lines),
            "without_message": matched & message.is_null(),
            "time_text": _first(lines, TIME_KEYS),
            "level": level.zip_with(level.is_not_null(), severity(priority)),
            "host": _first(lines, HOST_KEYS),
            "session": _named(lines, field),
        }
    ).with_columns(_blank_unmatched())


def docker_fields(lines: pl.Series, field: str | None) -> pl.DataFrame:
    """Return matched, message, time_text, stream, partial, session of Docker's json-file lines.

    Docker cuts what a container prints at 16 KiB; a piece that does not end its line is partial.
    """
    every = pl.Series([True]).new_from_index(0, len(lines))
    log = _key(lines, every, ("log",))
    stream = _key(lines, every, ("stream",))
    return pl.DataFrame(
        {
            "matched": log.is_not_null()
            & stream.is_in(["stdout", "stderr"]).fill_null(value=False),
            "message": log.str.strip_suffix("\n").str.strip_suffix("\r"),
            "time_text": _key(lines, every, ("time",)),
            "stream": stream,
            "partial": (~log.str.ends_with("\n")).fill_null(value=False),
            "session": _named(lines, field),
        }
    ).with_columns(_blank_unmatched())


def logfmt_fields(lines: pl.Series, field: str | None) -> pl.DataFrame:
    """Return matched, message, time_text, level, host, session of ``key=value`` lines.

    A line whose first two words are not pairs is not matched. One without a message is one, of
    which the whole line is the message.
    """
    matched = lines.str.contains(_LOGFMT)
    message = _first_pair(lines, MESSAGE_KEYS)
    return pl.DataFrame(
        {
            "matched": matched,
            "message": message.zip_with(message.is_not_null(), lines),
            "without_message": matched & message.is_null(),
            "time_text": _first_pair(lines, TIME_KEYS),
            "level": _first_pair(lines, LEVEL_KEYS),
            "host": _first_pair(lines, HOST_KEYS),
            "session": _nothing(len(lines)) if field is None else _first_pair(lines, (field,)),
        }
    ).with_columns(_blank_unmatched())


def field_names(lines: pl.Series, reads: str) -> tuple[str, ...]:
    """Return the fields of some lines of JSON or logfmt, in the order of their first appearance."""
    found: dict[str, None] = {}
    for line in lines.head(LOOKED_AT):
        if reads == "logfmt":
            found |= dict.fromkeys(_NAMES.findall(line))
            continue
        with suppress(ValueError, RecursionError):
            record = json.loads(line)
            found |= dict.fromkeys(record if isinstance(record, dict) else ())
    return (*found,)


def severity(priority: pl.Series) -> pl.Series:
    """Return the name of a syslog priority's severity; null where there is none."""
    number = priority.cast(pl.Int32, strict=False) % 8
    return number.replace_strict(
        range(len(SEVERITIES)), SEVERITIES, default=None, return_dtype=pl.String
    )


def _blank_unmatched() -> list[pl.Expr]:
    """Nothing that a line seems to say counts where the line is not of the format."""
    names = ("message", "time_text", "level", "host", "session")
    kept = pl.col("^(" + "|".join(names) + ")$")
    return [pl.when("matched").then(kept).otherwise(None).name.keep()]


def _nothing(n: int) -> pl.Series:
    return pl.Series([None], dtype=pl.String).new_from_index(0, n)


def _first(lines: pl.Series, keys: Sequence[str]) -> pl.Series:
    """Return (n,) the value of the first of the keys that each line has, null if it has none."""
    found = _nothing(len(lines))
    for key in keys:
        unset = found.is_null()
        if not unset.any():
            break
        value = _key(lines, unset, tuple(key.split(".")))
        found = found.zip_with(~unset, value)
    return found


def _named(lines: pl.Series, field: str | None) -> pl.Series:
    """Return (n,) the value of a key of the user's, "a.b" being the key itself or b within a."""
    if field is None:
        return _nothing(len(lines))
    value = _key(lines, lines.is_not_null(), (field,))
    if "." not in field:
        return value
    nested = _key(lines, value.is_null(), tuple(field.split(".")))
    return value.zip_with(value.is_not_null(), nested)


def _key(lines: pl.Series, where: pl.Series, path: tuple[str, ...]) -> pl.Series:
    """Return (n,) the value at a path in the chosen lines; null elsewhere, and for an object."""
    last = path[-1] if path else ""
    if path:
        where = where & lines.str.contains(f'"{last}"', literal=True).fill_null(value=False)
        # an object has no text of its own: ECS writes {"log": {"level": ...}}
        where = where & ~lines.str.contains(rf'"{re.escape(last)}"\s*:\s*\{{').fill_null(value=True)
    rows = np.flatnonzero(where.to_numpy())
    steps = "".join(f"['{step}']" for step in path)
    if len(rows) == len(lines):
        return lines.str.json_path_match(f"${steps}")
    found = lines.gather(rows).str.json_path_match(f"${steps}")
    return _nothing(len(lines)).scatter(rows, found) if len(rows) else _nothing(len(lines))


def _first_pair(lines: pl.Series, keys: Sequence[str]) -> pl.Series:
    found = _nothing(len(lines))
    for key in keys:
        unset = found.is_null() & lines.str.contains(f"{key}=", literal=True)
        rows = np.flatnonzero(unset.fill_null(value=False).to_numpy())
        if len(rows):
            found = found.scatter(rows, _pair(lines.gather(rows), key))
    return found


def _pair(lines: pl.Series, key: str) -> pl.Series:
    """Return (n,) the key's value, unquoted; pairs before it are skipped with their quotes."""
    pattern = (
        rf"^\s*(?:{_PAIR}\s+)*?{re.escape(key)}="
        r'(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s"]\S*))?'
    )
    parts = lines.str.extract_groups(pattern).struct.unnest()
    quoted = parts["quoted"]
    escaped = quoted.str.contains("\\", literal=True).fill_null(value=False)
    if escaped.any():
        decoded = (
            pl.Series([chr(34)]).new_from_index(0, len(quoted)) + quoted + chr(34)
        ).str.json_path_match("$")
        quoted = decoded.zip_with(escaped & decoded.is_not_null(), quoted)
    return quoted.zip_with(quoted.is_not_null(), parts["bare"])
