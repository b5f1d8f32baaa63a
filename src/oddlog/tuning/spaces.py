"""Which settings of a detector are searched, and between what.

A declared space is small: settings that matter on most logs, around the default. Left out are those
that change what the validation loss measures (``learn``, ``alpha``), as trials are compared by it
while they run, those of a paper's own rule, which changes no score, and those that only cost time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from oddlog.config import parse_assignments
from oddlog.detectors import detector_class
from oddlog.errors import ConfigError

WIDE = 10  # a range whose end is so many times its beginning is drawn from by its logarithm


@dataclass(frozen=True)
class Choice:
    """One of some values, none closer to another than to a third."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Return whether a value is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return ", ".join(str(value).lower() if value in (True, False) else str(value)
                         for value in self.values)  # fmt: skip


@dataclass(frozen=True)
class Range:
    """A number from low to high, both included; a whole one where both are."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def by_logarithm(self) -> bool:
        """Whether it is so wide that its logarithm is what is drawn."""
        return self.low > 0 and self.high >= WIDE * self.low

    def holds(self, value: Any) -> bool:
        """Return whether a value lies in it."""
        return isinstance(value, (int, float)) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


Dimension = Choice | Range
Space = Mapping[str, Dimension]

_NETWORK: Space = {
    "layers": Range(1, 3),
    "dropout": Range(0.0, 0.3),
    "learning_rate": Range(5e-4, 8e-3),
}
_SHOWN: Space = {"unknown_rate": Choice((0.0, 0.02, 0.05, 0.1, 0.2))}
SPACES: Mapping[str, Space] = MappingProxyType(
    {
        "counts": {"idf": Choice((False, True)), "rule": Choice(("nearest", "unseen"))},
        "ngram": {"n": Range(2, 8), "score": Choice(("surprise", "unseen"))},
        "pca": {
            "variance": Choice((0.9, 0.95, 0.99, 0.999, 0.9999)),
            "idf": Choice(("smooth", "paper")),
        },
        "log_cluster": {"threshold": Range(1e-4, 0.5)},
        "isolation_forest": {
            "trees": Choice((50, 100, 200, 400)),
            "samples": Choice((64, 256, 1024)),
        },
        "one_class_svm": {"nu": Range(1e-3, 0.2), "gamma": Range(0.1, 30.0)},
        "decision_tree": {"min_leaf": Range(1, 50)},
        "logistic_regression": {"strength": Range(1e-3, 1e3)},
        "deeplog": {
            **_NETWORK,
            "window": Choice((5, 10, 20)),
            "width": Choice((32, 64, 128)),
            "cut_rate": Choice((0.0, 0.02, 0.1)),
        },
        "loggpt": {
            **_NETWORK,
            **_SHOWN,
            "width": Choice((36, 60, 96)),
            "cut_rate": Choice((0.0, 0.05, 0.1, 0.2)),
        },
        "logbert": {
            **_NETWORK,
            **_SHOWN,
            "width": Choice((32, 64, 128)),
            "mask_share": Range(0.1, 0.6),
        },
        "gpt2_classifier": {
            **_NETWORK,
            **_SHOWN,
            "width": Choice((36, 60, 96)),
            "weigh": Choice(("count", "root", "log", "distinct")),
        },
    }
)
"""What is searched of each detector; of one that is missing, what ``--space`` names."""


def space_of(detector: str, given: Mapping[str, Any], asked: Space) -> dict[str, Dimension]:
    """Return what to search: what is asked for, and what is declared and not given.

    Args:
        detector: Its name.
        given: Settings that are given; they are not searched unless asked for.
        asked: Dimensions by setting, instead of the declared ones or beside them.

    Raises:
        ConfigError: A setting that the detector does not have, or nothing to search.
    """
    fields = detector_class(detector).Config.model_fields
    for name in asked:
        if name.partition(".")[0] not in fields:
            raise ConfigError(
                f"--space {name}: {detector} has no such setting; it has: {', '.join(fields)}"
            )
    declared = SPACES.get(detector, {})
    space = {name: found for name, found in declared.items() if name not in given} | dict(asked)
    if not space:
        raise ConfigError(
            f"tune: nothing to search of {detector}: "
            + ("all that is declared is given" if declared else "no space is declared for it")
            + "; name settings with --space NAME=VALUE,VALUE"
        )
    return space


def parse_space(items: Iterable[str]) -> dict[str, Dimension]:
    """Turn ``["width=32,64", "learning_rate=1e-4..1e-2"]`` into dimensions.

    Values are read as TOML; a range whose end is ten times its beginning or more is drawn from by
    its logarithm.

    Raises:
        ConfigError: An item of another form, or a range that is none.

    Example:
        >>> parse_space(["width=32,64", "dropout=0.0..0.3"])
        {'width': Choice(values=(32, 64)), 'dropout': Range(low=0.0, high=0.3)}
    """
    space: dict[str, Dimension] = {}
    for item in items:
        name, equals, text = item.partition("=")
        values = [_value(part) for part in text.split(",")]
        if not equals or not name.strip() or "" in values:
            raise ConfigError(f"--space {item}: expected NAME=VALUE,VALUE or NAME=LOW..HIGH")
        low, dots, high = text.partition("..")
        space[name.strip()] = _range(item, low, high) if dots else Choice(tuple(values))
    return space


def _value(text: str) -> Any:
    return parse_assignments([f"value={text}"])["value"]


def _range(item: str, low: str, high: str) -> Range:
    ends = [_value(low), _value(high)]
    numbers = [end for end in ends if type(end) in (int, float) and math.isfinite(end)]
    if len(numbers) < 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"--space {item}: a range is from a number to a higher one")
    return Range(*numbers)
