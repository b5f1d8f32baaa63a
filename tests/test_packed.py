"""Tables within a state."""

import json
from base64 import b64encode

import polars as pl
import pytest

from oddlog.group import Grouper, Window, plain
from oddlog.group.packed import unpack

SCHEMA = {"name": pl.String(), "rows": pl.Int64()}


def test_a_packed_table_is_text_that_gives_the_table_back():
    table = pl.DataFrame({"name": ["a\U0001f600", None], "rows": [1, -2]}, schema=SCHEMA)
    packed = json.loads(json.dumps(plain({"deep": {"table": table}, "n": [1, 2]})))
    assert packed["n"] == [1, 2]
    assert unpack(packed["deep"]["table"], SCHEMA).equals(table)


@pytest.mark.parametrize("text", ["", "no base 64!", b64encode(b"no table").decode()])
def test_what_is_no_packed_table_is_refused(text):
    with pytest.raises(ValueError, match=r"not a packed table|base64"):
        unpack(text, SCHEMA)


def test_a_packed_table_with_other_columns_is_refused():
    text = plain(pl.DataFrame({"name": [1], "more": [2]}))
    with pytest.raises(ValueError, match="name, more"):
        unpack(text, SCHEMA)


def test_a_snapshot_stays_as_it_was_while_the_stream_goes_on():
    def events(*lines: int) -> pl.DataFrame:
        rows = {"source": ["log"] * len(lines), "line": lines, "message": ["x"] * len(lines)}
        return pl.DataFrame(
            rows | {"sessions": [["a"]] * len(lines), "template_id": [0] * len(lines)}
        )

    grouper = Grouper(Window(by="session"))
    grouper.push(events(1, 2))
    snapshot = grouper.snapshot()
    before = plain(snapshot)
    grouper.push(events(3, 4))
    grouper.flush()
    assert plain(snapshot) == before
