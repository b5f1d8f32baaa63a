"""The one step that is written twice is windowing; here the two are held equal."""

import json
from itertools import pairwise

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from oddlog.events import EVENT_COLUMNS, Sequences, check_events
from oddlog.group import Grouper, Window, group

LINE_COLUMNS = ("time", "host", "sessions", "label")
SOURCES = ("a.log", "b.log", "c.log")
TENTHS = st.integers(1, 80).map(lambda tenths: tenths / 10)
LINE = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "step": st.sampled_from([0, 1, 2, 5, 9, 40, 40, -7, -60, None]),  # tenths of a second
        "host": st.sampled_from([None, "n1", "n2"]),
        "sessions": st.lists(st.sampled_from(["x", "x", "y", "z", "", None]), max_size=3)
        | st.none(),
        "label": st.sampled_from(["", "", "disk", "net", None]),
    }
)


@st.composite
def session_windows(draw):
    limits = {"gap_s": TENTHS, "age_s": TENTHS, "max_length": st.integers(1, 4)}
    return Window(by="session", **{k: draw(st.none() | v) for k, v in limits.items()})


@st.composite
def span_windows(draw):
    by = draw(st.sampled_from(["lines", "time"]))
    size = draw(st.integers(1, 6) if by == "lines" else TENTHS)
    step = draw(st.integers(1, size) if by == "lines" else TENTHS.filter(lambda s: s <= size))
    return Window(by=by, size=size, step=step, per=draw(st.sampled_from(["source", "host"])))


@st.composite
def logs(draw):
    """Draw an event table; its sources' times rise, stumble and run apart as real ones do."""
    lines = draw(st.lists(LINE, max_size=40))
    clocks = {source: draw(st.integers(0, 60)) for source in SOURCES}
    rows = []
    for number, line in enumerate(lines, 1):
        step, source = line["step"], line["source"]
        time = None if step is None else (clocks[source] + step) * 100_000
        clocks[source] += step or 0
        rows.append({**line, "line": number, "time": time})
    schema = {name: EVENT_COLUMNS[name] for name in ("source", "line", *LINE_COLUMNS)}
    table = pl.DataFrame(rows, schema={**schema, "time": pl.Int64})
    return check_events(table.with_columns(pl.col("time").cast(EVENT_COLUMNS["time"])))


def chunks(events, cuts):
    bounds = [0, *sorted(min(cut, events.height) for cut in cuts), events.height]
    return [events[a:b] for a, b in pairwise(bounds)]


def windows(*parts: Sequences | None) -> list[tuple]:
    """Return what identifies each window, in an order of its own."""
    found = []
    for part in parts:
        for i in range(len(part) if part is not None else 0):
            rows = part.lines(i).select("source", "line").rows()
            marks = bool(part.starts[i]), bool(part.ends[i])
            found.append((part.keys[i], rows, *marks, part.labels[i]))
    return sorted(found, key=lambda window: (window[0], window[1]))


def stream(grouper: Grouper, parts) -> list[Sequences | None]:
    return [*(grouper.push(part) for part in parts), grouper.flush()]


CUTS = st.lists(st.integers(0, 40), max_size=6)


@settings(max_examples=300)
@given(logs(), session_windows(), CUTS)
def test_sessions_of_a_stream_are_those_of_the_table(events, window, cuts):
    batch, _ = group(events, window)
    assert windows(*stream(Grouper(window), chunks(events, cuts))) == windows(batch)


@settings(max_examples=120)
@given(logs(), span_windows(), CUTS)
def test_windows_of_lines_and_time_of_a_stream_are_those_of_the_table(events, window, cuts):
    batch, _ = group(events, window)
    assert windows(*stream(Grouper(window), chunks(events, cuts))) == windows(batch)


@settings(max_examples=100)
@given(logs(), session_windows() | span_windows(), CUTS)
def test_a_stream_counts_what_the_table_counts(events, window, cuts):
    grouper = Grouper(window)
    stream(grouper, chunks(events, cuts))
    assert grouper.report == group(events, window)[1]


@settings(max_examples=50)
@given(logs(), session_windows() | span_windows(), st.integers(0, 40))
def test_a_stream_restored_from_json_goes_on_as_if_nothing_had_happened(events, window, cut):
    before, after = events[:cut], events[cut:]
    first = Grouper(window)
    early = first.push(before)
    second = Grouper.restore(json.loads(json.dumps(first.state())))
    parts = [early, *stream(second, [after])]
    assert windows(*parts) == windows(group(events, window)[0])


@settings(max_examples=30)
@given(logs(), session_windows() | span_windows())
def test_a_flushed_stream_begins_anew(events, window):
    grouper = Grouper(window)
    once = windows(*stream(grouper, [events]))
    assert windows(*stream(grouper, [events])) == once


@settings(max_examples=30)
@given(logs(), session_windows() | span_windows(), CUTS)
def test_no_event_is_lost_or_doubled_when_a_stream_has_to_evict(events, window, cuts):
    grouper = Grouper(window, max_open=2, max_events=5)
    given_out = windows(*stream(grouper, chunks(events, cuts)))
    expected = {row for _, rows, *_ in windows(group(events, window)[0]) for row in rows}
    assert {row for _, rows, *_ in given_out for row in rows} == expected
