"""What is measured: one TOML file for each benchmark, shipped inside the package.

A benchmark of the honest track names a protocol, detectors, their settings and how many seeds; one
of the paper track names what was published, and where this project's own figures are. The name of
a config is its path below ``configs/``: ``honest/adfa``. Its records go to ``adfa.jsonl``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from oddlog.bench.protocols import PROTOCOLS, READ
from oddlog.config import Config, build, read_toml
from oddlog.detectors import DETECTORS
from oddlog.errors import ConfigError

CONFIGS = files("oddlog.bench") / "configs"
TRACKS = ("honest", "paper", "quick")


class BenchConfig(Config):
    """A benchmark that ``oddlog bench`` runs.

    Attributes:
        title: What stands above its results.
        about: How its data are cut, in a few sentences.
        protocol: One of ``PROTOCOLS``.
        detectors: Each is measured with every seed; an ensemble stands behind its members.
        seeds: How many, from 0.
        settings: Of a detector, by its name.
        memory_mb: What a cell may take; as many run at once as fit.
    """

    title: Annotated[str, Field(min_length=1)]
    about: str
    protocol: str
    detectors: Annotated[tuple[str, ...], Field(min_length=1)]
    seeds: Annotated[int, Field(ge=1)] = 5
    settings: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    memory_mb: Annotated[int, Field(ge=1)] = 1500

    @field_validator("protocol")
    @classmethod
    def _exists(cls, name: str) -> str:
        if name not in PROTOCOLS:
            raise ValueError(f"no protocol {name!r}; {nearest(name, PROTOCOLS)}")
        return name

    @field_validator("detectors", "settings")
    @classmethod
    def _exist(cls, names: Any) -> Any:
        for name in names:
            if name not in DETECTORS:
                raise ValueError(f"no detector {name!r}; {nearest(name, DETECTORS)}")
        return names

    @property
    def datasets(self) -> tuple[str, ...]:
        """The public data sets that it reads."""
        return READ.get(self.protocol, ())

    def assignments(self, detectors: Iterable[str]) -> list[str]:
        """Return the settings as ``--set`` would give them."""
        return [
            f"{name}.{key}={value if isinstance(value, str) else json.dumps(value)}"
            for name in self.settings
            if name in detectors
            for key, value in _flat(self.settings[name])
        ]


class Published(Config):
    """Figures of a paper, and where they stand in it."""

    precision: float
    recall: float
    f1: float
    source: str


class Row(Config):
    """Records of a paper's protocol: those whose values are the same as ``where``.

    ``figures`` names what holds their precision, recall and F1, with dots between names.
    """

    name: str
    where: dict[str, Any]
    figures: str


class PaperConfig(Config):
    """A paper's own protocol, run by a script of the repository, beside what it published.

    Attributes:
        title: What stands above its row.
        about: How it splits and judges, and where this differs.
        leaks: What of the test is known to reach its training or its threshold.
        command: What measures it.
        results: Stem of the file that the command writes.
        published: The paper's own figures.
        rows: What is shown beside them.
    """

    title: str
    about: str
    leaks: str
    command: str
    results: str
    published: Published
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is the nearest to an unknown one, or which there are."""
    close = get_close_matches(name, [*known], n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting with the names of its groups before it, dots between them."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def config_names(track: str | None = None) -> list[str]:
    """Return the names of the configs of a track, or of all of them."""
    return [
        f"{each}/{place.name.removesuffix('.toml')}"
        for each in TRACKS
        if track in (None, each)
        for place in sorted((CONFIGS / each).iterdir(), key=lambda place: place.name)
        if place.name.endswith(".toml")
    ]


def read_config(name: str) -> BenchConfig | PaperConfig:
    """Read a config of the package by its name.

    Raises:
        ConfigError: It holds an unknown key or a value that does not fit.
    """
    place = CONFIGS / f"{name}.toml"
    values = read_toml(Path(str(place)))
    if name.startswith("paper/"):
        return build(PaperConfig, values, f"{name}.toml")
    return build(BenchConfig, values, f"{name}.toml")


def chosen_configs(words: Iterable[str]) -> dict[str, BenchConfig | PaperConfig]:
    """Return the configs that words ask for: ``honest/adfa``, ``adfa``, ``honest`` or a TOML file.

    Raises:
        ConfigError: No config has that name; the nearest is told.
    """
    chosen: dict[str, BenchConfig | PaperConfig] = {}
    for word in words:
        if word.endswith(".toml"):
            path = Path(word)
            chosen[path.stem] = build(BenchConfig, read_toml(path), word)
            continue
        names = names_of(word)
        chosen |= {name: read_config(name) for name in names}
    return chosen


def names_of(word: str) -> list[str]:
    """Return the configs that a word means: one, by its name or the end of it, or all of a track.

    Raises:
        ConfigError: None has that name.
    """
    if word in TRACKS:
        return config_names(word)
    names = config_names()
    for name in (word, f"honest/{word}", f"paper/{word}", f"quick/{word}"):
        if name in names:
            return [name]
    ends = [name.partition("/")[2] for name in names]
    raise ConfigError(f"no benchmark {word!r}; {nearest(word, [*TRACKS, *names, *ends])}")
