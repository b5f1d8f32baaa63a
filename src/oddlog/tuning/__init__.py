"""Settings searched for on training and validation alone, with what the search cost and won.

``spaces`` says what is searched, ``judging`` by which number, ``search`` how, ``result`` what came
of it. The number to choose by needs no anomaly where a detector learns from normal sequences: how
well it tells validation windows from corruptions of them. The calibration part is never looked at,
so that the false-alarm rate of the model that is fitted afterwards is what it says.
"""

from __future__ import annotations

from oddlog.tuning.result import Trial, Tuned
from oddlog.tuning.search import Search, tune
from oddlog.tuning.spaces import SPACES, Choice, Range, parse_space

__all__ = ["SPACES", "Choice", "Range", "Search", "Trial", "Tuned", "parse_space", "tune"]
