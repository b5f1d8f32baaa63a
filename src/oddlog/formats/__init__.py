"""Log formats: lines in, event table out, with a report of what became of every line.

``read_events`` reads a source whole, ``iter_events`` in bounded memory, ``parse_lines`` takes lines
from anywhere; ``LAYOUTS`` lists the known formats, ``detect`` chooses one, ``custom`` makes one of
a regex.
"""

from oddlog.formats.detect import Detection, detect
from oddlog.formats.layouts import LAYOUTS, Layout, custom
from oddlog.formats.parse import Counts, parse_lines
from oddlog.formats.read import ReadReport, iter_events, read_events

__all__ = [
    "LAYOUTS",
    "Counts",
    "Detection",
    "Layout",
    "ReadReport",
    "custom",
    "detect",
    "iter_events",
    "parse_lines",
    "read_events",
]
