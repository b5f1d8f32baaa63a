"""A small log and models of it, for the tests of what watches a log."""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import oddlog
from oddlog.pipeline import make_config

N_NORMAL = 400
USUAL = ["open", "copy", "close"]
ODD = ["open", "disk burns at", "close"]
START = 1_772_438_400.0  # 2026-03-02 08:00:00 UTC


def stamp(second):
    return f"2026-03-02 {8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def lines(sessions, first=1000, second=0):
    """Return the lines of sessions, lists of steps, one after the other, a second apart."""
    told = []
    for number, steps in enumerate(sessions, first):
        for step in steps:
            told.append(f"{stamp(second)} {step} req_{number}")
            second += 1
    return told


@cache
def fitted(detector="key_set", settings="{}"):
    """Return a pipeline fitted on normal sessions, the same one each time; settings are JSON."""
    values = {"detector": detector, "session_by": r"req_\d+", "false_alarm_rate": 0.02}
    with TemporaryDirectory() as folder:
        log = Path(folder) / "a.log"
        log.write_text("\n".join([*lines([USUAL] * N_NORMAL), ""]))
        return oddlog.fit([log], make_config(values | json.loads(settings), "test"))


def feed(watcher, told, *, source="-", size=1, now=START):
    """Push lines, so many at once, and return every alert."""
    raised = []
    for first in range(0, len(told), size):
        raised += watcher.push(told[first : first + size], now, source)
    return raised
