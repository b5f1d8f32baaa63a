"""Work on two cores: in order, bounded, with errors where they belong, and no thread is left."""

import gzip
import os
import random
import threading
import time
from itertools import count
from pathlib import Path

import pytest

from oddlog.errors import FormatError
from oddlog.formats import lines as lines_module
from oddlog.formats import read as read_module
from oddlog.formats import read_events
from oddlog.formats.read import iter_shaped
from oddlog.threads import ahead, two_at_a_time

WAYS = {
    "ahead": ahead,
    "two_at_a_time": lambda items: two_at_a_time(lambda item: item, list(items)),
}


def threads():
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread()]


def is_open(path):
    held = Path("/proc/self/fd").iterdir()
    return any(link.is_symlink() and link.readlink() == path for link in held)


def test_what_another_thread_makes_comes_in_order_and_so_does_its_error():
    def make():
        yield from range(5)
        raise FormatError("torn")

    made = []
    with pytest.raises(FormatError, match="torn"):
        made.extend(ahead(make()))
    assert made == list(range(5))


def test_items_are_worked_on_in_order_and_an_error_comes_in_its_place():
    def work(item):
        time.sleep(0.01 / item)  # the first takes longest
        return 12 // (4 - item)

    made = []
    with pytest.raises(ZeroDivisionError):
        made.extend(two_at_a_time(work, [1, 2, 3, 4, 5]))
    assert made == [4, 6, 12]


def test_one_item_needs_no_thread():
    assert list(two_at_a_time(lambda _: threading.current_thread(), [0])) == [
        threading.current_thread()
    ]


def test_one_item_is_made_ahead_and_no_more():
    made = []
    numbers = (made.append(number) or number for number in count())
    coming = ahead(numbers)
    next(coming)
    coming.close()
    assert made == [0, 1]


def test_no_more_is_worked_on_than_two_ahead():
    begun = []
    coming = two_at_a_time(begun.append, range(100))
    next(coming)
    coming.close()
    assert len(begun) <= 3


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stop", [GeneratorExit, KeyboardInterrupt])
def test_no_thread_is_left_where_the_reader_stops(way, stop):
    before = threads()
    coming = WAYS[way](iter(range(100)))
    next(coming)
    with pytest.raises(stop):
        coming.throw(stop)
    assert threads() == before


@pytest.fixture
def log(tmp_path, monkeypatch):
    """A packed log of many blocks."""
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(lines_module, "PACKED_BYTES", 1 << 9)
    monkeypatch.setattr(lines_module, "SNIFF_BYTES", 1 << 12)
    draw = random.Random(0)
    text = "".join(f"user {draw.random()} in\n" for _ in range(5_000))
    path = tmp_path / "x.log.gz"
    path.write_bytes(gzip.compress(text.encode()))
    return path


@pytest.mark.parametrize("stop", [GeneratorExit, KeyboardInterrupt])
def test_a_log_that_is_not_read_to_its_end_leaves_no_thread_and_no_file(log, stop):
    before = threads()
    chunks = iter_shaped(log, "plain", chunk_lines=100)
    next(chunks)
    assert is_open(log)
    with pytest.raises(stop):
        chunks.throw(stop)
    del chunks
    assert threads() == before
    assert not is_open(log)


def test_a_log_that_is_torn_gives_what_is_before_the_tear_and_then_its_error(log):
    whole, _ = read_events(log, "plain")
    log.write_bytes(log.read_bytes()[:-2_000])
    found = []
    with pytest.raises(FormatError, match="the gzip data ends too early"):
        found.extend(
            text
            for chunk in iter_shaped(log, "plain", chunk_lines=100)
            for text in chunk.events["message"]
        )
    assert len(found) > 1_000
    assert found == whole["message"].to_list()[: len(found)]


def test_a_pipe_that_may_have_nothing_for_long_is_read_without_a_thread(tmp_path, monkeypatch):
    monkeypatch.setattr(read_module, "ahead", None)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a line\n" * 9_000,))
    writer.start()
    events, _ = read_events(pipe, "plain")
    writer.join()
    assert events.height == 9_000
