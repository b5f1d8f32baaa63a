"""Headers and messages by shape: what they give is what every line gives by itself."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.formats import LAYOUTS, custom, detect, shaped
from oddlog.formats.layouts import Layout
from oddlog.formats.lines import to_lines
from oddlog.formats.parse import Plan, parse, plan
from oddlog.masks import masks_for
from oddlog.shapes import shapes_of

REFERENCE = datetime(2018, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Go by shape however few the lines and however many the shapes."""
    monkeypatch.setattr(shaped, "FEW_LINES", 1)
    monkeypatch.setattr(shaped, "SHARE", 1)


def settled(layout: Layout, session_by: str | None = None) -> Plan:
    return plan("s", layout, session_by, REFERENCE)


def both(lines: pl.Series, layout: Layout, session_by: str | None = None):
    """Return what parsing gives with shapes, checked against what it gives without."""
    how = settled(layout, session_by)
    plain = parse(how, lines, 1, hold=False)
    found = parse(how, lines, 1, hold=False, shapes=shapes_of(lines, names=False))
    assert_frame_equal(found.events, plain.events)
    assert found.counts == plain.counts
    return found


HDFS = "081109 2036{:02d} {} INFO dfs.Data{}: Got blk_{} of {}::{} 0x{}"


def test_lines_of_one_shape_keep_their_own_digits():
    lines = pl.Series([HDFS.format(i % 60, 7 * i, i % 3, -i, i, i, i) for i in range(50)])
    found = both(lines, LAYOUTS["hdfs"])
    assert found.events["message"][7].startswith("Got blk_-7 of 7::7")


def test_stack_traces_and_lines_without_a_header_are_as_without_shapes():
    head = "2026-03-01 10:00:0{} INFO a.b: step {}"
    lines = [
        "stray 1",
        *(head.format(i, i) for i in range(3)),
        "  at x.y(Z.java:12)",
        "Caused by: 7",
    ]
    found = both(pl.Series([*lines, "2026-03-01 no header 3", head.format(4, 4)]), LAYOUTS["log4j"])
    assert found.shaped is not None


def test_a_pattern_of_ones_own_may_put_the_message_anywhere():
    layout = custom(r"(?P<host>[a-z0-9]+)/(?P<message>[^;]*);(?P<time>[0-9]+)?")
    lines = pl.Series(
        ["web7/took 12 ms;1500000001", "db/none;", "x9/a 3;15", "no match 4", "é5/ñ 6;7"]
    )
    found = both(lines, layout, "host")
    assert found.shaped is None  # the message does not end the line


def test_values_beyond_the_thousandth_byte_are_cut_where_they_stand():
    layout = custom(r"(?P<level>[a-z]+) (?P<host>[^ ]+) (?P<message>.*)")
    both(pl.Series(["x" * 1200 + f" h{i} took {i} s" for i in range(5)]), layout)


def test_shapes_of_a_block_are_those_of_its_lines():
    block = to_lines("a 1::2\nb0 0x3 é4\n\n5\n".encode() * 3)
    assert shaped.shapes_of_block(block).to_list() == shapes_of(block.lines, names=False).to_list()


@pytest.mark.data
@pytest.mark.parametrize(
    "system", ["Android", "BGL", "Linux", "OpenStack", "Thunderbird", "Windows"]
)
def test_real_logs_have_the_same_events_and_ids_by_shape(system: str, data_folder: Path):
    path = next((data_folder / "loghub_2k" / system).glob("*.log"))
    lines = to_lines(path.read_bytes()).lines
    layout = LAYOUTS[detect(lines).layout]
    found = both(lines, layout)
    messages = found.events["message"]
    config = DrainConfig(masks=masks_for(layout.masks))
    plain, by_shape = Templates(config), Templates(config)
    ids = plain.learn(messages)
    assert by_shape.learn(messages, found.shaped).equals(ids)
    assert by_shape.to_json() == plain.to_json()
    plain.freeze()
    novel = Novelties(config)
    assert plain.match(messages, novel, found.shaped).equals(plain.match(messages, novel))
