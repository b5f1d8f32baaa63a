"""A stream is judged as the file would be: windows, scores and flags."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oddlog
from oddlog.endings import Silences
from oddlog.group import Window
from oddlog.pipeline import make_config
from oddlog.watch import WatchConfig, Watcher
from watching import ODD, START, USUAL, feed, fitted, lines, stamp

STEPS = ("open", "copy", "close", "disk burns at", "fan stops at")
SIZES = st.integers(1, 6)
SECONDS = st.integers(1, 12)


@st.composite
def windows(draw):
    by = draw(st.sampled_from(["session", "lines", "time"]))
    if by == "session":
        limits = {"gap_s": SECONDS, "age_s": SECONDS, "max_length": st.integers(1, 4)}
        return Window(by=by, **{k: draw(st.none() | v) for k, v in limits.items()})
    size = draw(SIZES)
    return Window(by=by, size=size, step=draw(st.integers(1, size)))


@st.composite
def logs(draw):
    """Draw a log whose sessions run side by side; some lines belong to none or span two rows."""
    second, told = 0, []
    for _ in range(draw(st.integers(0, 25))):
        second += draw(st.sampled_from([0, 0, 1, 2, 7]))
        step, session = draw(st.sampled_from(STEPS)), draw(st.integers(1001, 1004))
        name = draw(st.sampled_from([f"req_{session}", f"req_{session}", "nobody"]))
        told.append(f"{stamp(second)} {step} {name}")
        if draw(st.integers(0, 9)) == 0:
            told.append("    at some.place(of.code)")
    return told


CUTS = st.lists(st.integers(0, 30), max_size=2)


def chunks(told, cuts):
    bounds = [0, *sorted(min(cut, len(told)) for cut in cuts), len(told)]
    return [told[a:b] for a, b in pairwise(bounds)]


def with_window(pipeline, window):
    """Return the pipeline under another rule; no silence is longer than a gap that cuts there."""
    config = pipeline.config.model_copy(update={"window": window})
    learned = pipeline.silences
    longest = np.minimum(learned.longest_s, window.gap_s or np.inf)
    return replace(pipeline, config=config, silences=Silences(learned.template_ids, longest))


class Judged:
    """What a watcher's listener was told last of each window."""

    def __init__(self):
        self.found, self.scores = {}, {}

    def __call__(self, sequences, scores):
        marks = zip(sequences.lengths.tolist(), sequences.starts.tolist(), strict=True)
        for key, mark, score in zip(sequences.keys, marks, scores.tolist(), strict=True):
            self.found[key] = (*mark, pytest.approx(score, abs=1e-5))
            self.scores[key] = score

    def flagged(self, pipeline):
        flags = pipeline.calibration.flags(list(self.scores.values()))
        return {key for key, flag in zip(self.scores, flags, strict=True) if flag}


def batch(pipeline, path, told):
    path.write_text("".join(f"{line}\n" for line in told))
    result = pipeline.score([path])
    found = Judged()
    found(result.sequences, result.scores.sequence)
    flagged = {result.sequences.keys[int(i)] for i in result.flagged()}
    return found.found, flagged


@pytest.mark.parametrize("detector", ["key_set", "ngram"])
@settings(max_examples=15)
@given(told=logs(), window=windows(), cuts=CUTS, early=st.booleans())
def test_a_pushed_log_is_judged_as_the_file(tmp_path_factory, detector, told, window, cuts, early):
    path = tmp_path_factory.mktemp("log") / "today.log"
    pipeline, judged = with_window(fitted(detector), window), Judged()
    watcher = Watcher(pipeline, WatchConfig(early=early, story_s=1e9), listener=judged)
    for part in chunks(told, cuts):
        watcher.push(part, START, str(path))
    watcher.flush(START)
    if told:
        assert (judged.found, judged.flagged(pipeline)) == batch(pipeline, path, told)


@settings(max_examples=8)
@given(told=logs(), window=windows(), cuts=CUTS, cut=st.integers(0, 30))
def test_a_watcher_restored_from_json_goes_on_as_if_nothing_had_happened(told, window, cuts, cut):
    pipeline = with_window(fitted("ngram"), window)
    parts = [*chunks(told[:cut], cuts), None, *chunks(told[cut:], cuts)]
    once, unbroken = Watcher(pipeline), []
    watcher, broken = Watcher(pipeline), []
    for part in parts:
        if part is None:
            watcher = Watcher.restore(pipeline, json.loads(json.dumps(watcher.state())))
            continue
        unbroken += once.push(part, START)
        broken += watcher.push(part, START)
    unbroken += once.flush(START)
    broken += watcher.flush(START)
    assert broken == unbroken
    assert watcher.stats == once.stats
    assert watcher.state() == once.state()


TINY = {"layers": 1, "heads": 2, "width": 16, "context": 16, "epochs": 3, "count_steps": 20}


def test_a_network_judges_a_pushed_log_as_the_file(tmp_path):
    pipeline = fitted("loggpt", json.dumps({"loggpt": TINY, "false_alarm_rate": 0.05}))
    path, judged = tmp_path / "today.log", Judged()
    told = lines([USUAL, ODD, [*USUAL, "copy"], USUAL[::-1], USUAL, ["open", *["copy"] * 30]])
    watcher = Watcher(pipeline, listener=judged)
    feed(watcher, told, source=str(path), size=9)
    watcher.flush(START)
    assert (judged.found, judged.flagged(pipeline)) == batch(pipeline, path, told)


@pytest.mark.data
def test_hdfs_is_judged_as_the_file(data_folder, tmp_path):
    with gzip.open(data_folder / "hdfs" / "HDFS_2pct.log.gz", "rt") as file:
        told = file.read().splitlines()
    (tmp_path / "a.log").write_text("\n".join(told[:100_000]))
    pipeline = oddlog.fit([tmp_path / "a.log"], make_config({"detector": "key_set"}, "test"))
    path, later, judged = tmp_path / "b.log", told[100_000:150_000], Judged()
    found, flagged = batch(pipeline, path, later)
    watcher = Watcher(pipeline, listener=judged)
    for first in range(0, len(later), 1_700):
        watcher.push(later[first : first + 1_700], START, str(path))
    watcher.flush(START)
    assert judged.found == found
    assert judged.flagged(pipeline) == flagged


@settings(max_examples=8)
@given(told=logs(), cuts=CUTS)
def test_how_lines_are_pushed_changes_no_story_of_windows_with_a_gap(told, cuts):
    pipeline = with_window(fitted("key_set"), Window.parse("session,gap=3s"))
    found = []
    for parts in ([told], chunks(told, cuts)):
        watcher = Watcher(pipeline, WatchConfig(early=False))
        for part in parts:
            watcher.push(part, START)
        watcher.flush(START)
        found.append({alert.signature for alert in watcher.alerts()})
    assert found[0] == found[1]
