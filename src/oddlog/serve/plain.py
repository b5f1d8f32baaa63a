"""Lines without a protocol: plain text, or JSON, an object or a text a line.

An object is an envelope: its text is the field ``line``, ``log``, ``message``, ``text`` or ``msg``,
whichever comes first in this order, or the object itself where it has none. A log whose own lines
are JSON is sent as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from oddlog.serve.lines import (
    Limits,
    Received,
    RefusedError,
    Rows,
    iso_microseconds,
    microseconds,
    table_of,
)
from oddlog.serve.otlp import TEMPLATE, load_json

TEXTS = ("line", "log", "message", "text", "msg")
SOURCES = ("source", "file", "host")
TIMES = ("time", "timestamp", "@timestamp", "ts", "date")
TEMPLATES = ("template", TEMPLATE)
SCALES = ((1e11, 1_000_000_000), (1e14, 1_000_000), (1e17, 1000))
"""Below which a number is a time in seconds, milliseconds, microseconds; nanoseconds beyond."""


def read_text(body: bytes, limits: Limits, source: str) -> Received:
    r"""Read plain text, a line a line; bytes that are not UTF-8 are written as ``\xNN``.

    Raises:
        RefusedError: It holds more than the limits.
    """
    text = body.decode("utf-8", "backslashreplace")
    lines = text.removesuffix("\n").split("\n") if text else []
    n = len(lines)
    columns = {"source": [source] * n, "text": lines, "time": [None] * n, "template": [None] * n}
    return table_of(columns, limits)


def read_json_lines(body: bytes, limits: Limits, source: str) -> Received:
    """Read JSON lines, or one JSON list of the same: objects or texts.

    Raises:
        RefusedError: A line is no JSON, or neither object nor text; nothing is taken then.
    """
    rows = Rows(limits)
    for number, item in enumerate(_items(body), 1):
        if isinstance(item, str):
            rows.add(source, item, None)
        elif isinstance(item, Mapping):
            _add(rows, item, source)
        else:
            raise RefusedError(f"item {number} is neither an object nor a text")
    return rows.received()


def _items(body: bytes) -> list[Any]:
    stripped = body.strip()
    if stripped.startswith(b"["):
        found = load_json(stripped)
        return found if isinstance(found, list) else [found]
    items = []
    for number, line in enumerate(stripped.split(b"\n"), 1):
        if line.strip():
            try:
                items.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise RefusedError(f"line {number} is no JSON: {error}") from None
    return items


def _add(rows: Rows, item: Mapping[str, Any], source: str) -> None:
    text = _first(item, TEXTS)
    named = _first(item, SOURCES)
    template = _first(item, TEMPLATES)
    rows.add(
        str(named) if named else source,
        text if isinstance(text, str) else json.dumps(item, ensure_ascii=False),
        _time(_first(item, TIMES)),
        None if template is None else str(template),
    )


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _time(value: Any) -> int | None:
    if isinstance(value, str):
        return iso_microseconds(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e19:
        return None
    scale = next((factor for bound, factor in SCALES if value < bound), 1)
    return microseconds(round(value * scale))
