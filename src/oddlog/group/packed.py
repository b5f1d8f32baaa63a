"""Tables within a state, as text that JSON can carry.

What holds many events describes itself by a snapshot: plain values, and functions that give them,
or a table where there is a value for every event. Taking one copies next to nothing, as what it
holds does not change. ``plain`` makes of it what JSON can carry, wherever there is time for that.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import polars as pl


def plain(value: Any) -> Any:
    """Return a snapshot's plain values; functions and tables stand in dictionaries, not lists."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    found = value() if callable(value) else value
    return _pack(found) if isinstance(found, pl.DataFrame) else found


def _pack(table: pl.DataFrame) -> str:
    """Return a table as an Arrow stream, compressed, in base 64."""
    buffer = BytesIO()
    table.write_ipc_stream(buffer, compression="zstd")
    return b64encode(buffer.getbuffer()).decode("ascii")


def unpack(text: str, schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return a table that ``plain`` packed.

    Args:
        text: Of the table.
        schema: Its columns; some may be missing.

    Raises:
        ValueError: It is none, or has other columns.
    """
    try:
        table = pl.read_ipc_stream(BytesIO(b64decode(text, validate=True)))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"not a packed table: {error}") from None
    wrong = [name for name, dtype in table.schema.items() if dtype != schema.get(name)]
    if wrong:
        raise ValueError(f"a packed table has other columns than expected: {', '.join(wrong)}")
    return table
