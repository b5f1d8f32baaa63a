"""How each benchmark cuts its data: training, validation and calibration parts, a test, templates.

In every one of them the three parts hold normal sequences only and share no line with each other
or with the test. Where a set has an order of time it is cut by it: what is learned lies before what
is judged.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from oddlog import Sequences
from oddlog.datasets import (
    IdDataset,
    IdStream,
    RawDataset,
    attach_labels,
    open_dataset,
    read_labels,
)
from oddlog.demo import SESSION, with_planted
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.endings import Silences, log_ends
from oddlog.formats import read_events
from oddlog.formats.layouts import LAYOUTS
from oddlog.group import Window, group
from oddlog.masks import masks_for
from oddlog.pipeline import make_config
from oddlog.pipeline.prepare import prepare, read_sources, with_templates
from oddlog.simulate import simulate, write
from oddlog.split import (
    check_no_leak,
    cut_rows,
    cut_sessions_at_random,
    cut_sessions_by_time,
)

HDFS_SIZES = (2500, 500, 2000)
"""Training, validation, calibration: at an asked 0.1 % the threshold is then the second highest of
2,000 scores, and does not hang on a single session as the highest of 1,000 would."""
SHARES = (0.65, 0.1, 0.25)
BGL_LINES, BGL_RAW_LINES = 100, 20
ADFA_VALID_SHARE, ADFA_CALIBRATION = 0.15, 1000
N_LEARNED, N_SIMULATED, FAULTY_SHARE = 3000, 5000, 0.05


@dataclass(frozen=True, eq=False)
class Cut:
    """A benchmark's data for one seed.

    Attributes:
        parts: Training, validation and calibration, normal sequences only.
        test: Labelled sequences, none of which the parts know.
        templates: What the ids stand for.
    """

    parts: list[Sequences]
    test: Sequences
    templates: Templates


def hdfs_full(folder: Path, seed: int) -> Cut:
    """Draw 5,000 normals for training, validation and calibration; the rest is the test."""
    dataset = open_dataset("hdfs_v1", folder)
    assert isinstance(dataset, IdDataset)
    sequences = dataset.sequences
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~sequences.anomalous))
    cuts = np.cumsum([0, *HDFS_SIZES])
    parts = [sequences.take(np.sort(normal[a:b])) for a, b in pairwise(cuts)]
    test = np.setdiff1d(np.arange(len(sequences)), normal[: cuts[-1]])
    return Cut(parts, sequences.take(test), Templates.from_texts(dataset.texts))


def hdfs_raw(folder: Path, seed: int) -> Cut:
    """Cut the raw sample in time at half of its sessions; the first half's normals are learned."""
    dataset = open_dataset("hdfs_raw", folder)
    assert isinstance(dataset, RawDataset)
    assert dataset.labels is not None
    events, _ = read_events(dataset.path, dataset.layout)
    sequences, _ = group(events, Window(by="session"))
    sequences, _ = attach_labels(sequences, read_labels(dataset.labels))
    halves, split = cut_sessions_by_time(sequences, [0.5, 0.5])
    print(split.summary(), flush=True)
    early, test = (sequences.take(half) for half in halves)
    parts = draw_normals(early, seed)
    check_no_leak(*parts, test)
    parts, test, templates = mine(parts, test, dataset.layout)
    silences = Silences.of(parts[0])
    early_ends = log_ends(early.events)  # what follows is not known when the model is fitted
    parts = [silences.mark(part, early_ends) for part in parts]
    return Cut(parts, silences.mark(test), templates)


def bgl_windows(folder: Path, seed: int) -> Cut:
    """Cut the stream at half, each half into windows of 100 lines; the first half is learned.

    A window is anomalous if one of its lines is. Normal windows of the first half are drawn into
    the parts: cut in time once more, training would end before the template that makes up most of
    what follows, and half of the test would be new to every detector.
    """
    dataset = open_dataset("bgl_stream", folder)
    assert isinstance(dataset, IdStream)
    events = dataset.events.filter(pl.col("label").is_not_null())
    window = Window(by="lines", size=BGL_LINES)
    early, test = (group(half, window)[0] for half in cut_rows(events, [0.5, 0.5]))
    parts = draw_normals(early, seed)
    check_no_leak(*parts, test)
    return Cut(parts, test, Templates.from_texts(dataset.texts))


def bgl_raw(folder: Path, seed: int) -> Cut:
    """Cut the first 100,000 raw lines at half, each half into windows of 20 lines, as above.

    Two days and a half of log: small, but with the text that culprits are shown by.
    """
    dataset = open_dataset("bgl_raw", folder)
    assert isinstance(dataset, RawDataset)
    events, _ = read_events(dataset.path, dataset.layout)
    window = Window(by="lines", size=BGL_RAW_LINES)
    early, test = (group(half, window)[0] for half in cut_rows(events, [0.5, 0.5]))
    parts = draw_normals(early, seed)
    check_no_leak(*parts, test)
    return Cut(*mine(parts, test, dataset.layout))


def adfa(folder: Path, seed: int) -> Cut:
    """Learn from the official training traces; draw the calibration from the official validation.

    The set names 833 training traces and 4,372 further normal ones, "validation": too many to
    choose an epoch by, and the only normals left to be judged. So 15 % of the training traces,
    drawn by the seed, choose the epoch, 1,000 of the others are the calibration, and the rest of
    those is the test, with every attack.
    """
    dataset = open_dataset("adfa_ld", folder)
    assert isinstance(dataset, IdDataset)
    sequences, split = dataset.sequences, dataset.columns["split"].to_numpy()
    generator = np.random.default_rng(seed)
    train = generator.permutation(np.flatnonzero(split == "train"))
    others = generator.permutation(np.flatnonzero(split == "validation"))
    n_valid = round(len(train) * ADFA_VALID_SHARE)
    calibration, normal = others[:ADFA_CALIBRATION], others[ADFA_CALIBRATION:]
    parts = [
        sequences.take(np.sort(drawn)) for drawn in (train[n_valid:], train[:n_valid], calibration)
    ]
    test = np.sort(np.concatenate([normal, np.flatnonzero(split == "attack")]))
    return Cut(parts, sequences.take(test), Templates.from_texts(dataset.texts))


def simulated(folder: Path, seed: int) -> Cut:
    """Learn from one simulated log, all of it normal, as ``fit`` does; judge another with faults.

    The lines of the test carry the planted fault as their label.
    """
    learned = simulate(N_LEARNED, anomaly_share=0.0, seed=1000 + seed)
    faulty = simulate(N_SIMULATED, anomaly_share=FAULTY_SHARE, seed=2000 + seed)
    config = make_config({"session_by": SESSION}, "benchmark")
    with tempfile.TemporaryDirectory() as place:
        first, *_ = write(learned, Path(place) / "learned")
        second, *_ = write(faulty, Path(place) / "faulty")
        prepared = prepare([first], config, labels=None, learns_from="normal", seed=seed)
        events, _ = read_sources([second], prepared.format, SESSION)
    test, _ = attach_labels(group(events, prepared.window)[0], faulty.labels)
    test = with_templates(test, prepared.templates, Novelties(prepared.templates.config))
    test = with_planted(prepared.silences.mark(test), faulty.planted)
    return Cut(list(prepared.parts), test, prepared.templates)


def mine(
    parts: list[Sequences], test: Sequences, layout: str
) -> tuple[list[Sequences], Sequences, Templates]:
    """Mine templates from the training part alone; return all with its ids, and the templates."""
    config = DrainConfig.model_validate({"masks": masks_for(LAYOUTS[layout].masks)})
    templates = Templates(config)
    templates.learn(parts[0].events["message"])
    templates.freeze()
    novel = Novelties(config)
    *parts, test = (with_templates(part, templates, novel) for part in (*parts, test))
    return parts, test, templates


def draw_normals(sequences: Sequences, seed: int) -> list[Sequences]:
    """Draw the normal sequences into training, validation and calibration."""
    normals = sequences.take(~sequences.anomalous)
    drawn, _ = cut_sessions_at_random(normals, SHARES, seed)
    return [normals.take(index) for index in drawn]


PROTOCOLS: Mapping[str, Callable[[Path, int], Cut]] = {
    "hdfs-full": hdfs_full,
    "hdfs-raw": hdfs_raw,
    "bgl-windows": bgl_windows,
    "bgl-raw": bgl_raw,
    "adfa": adfa,
    "simulated": simulated,
}
