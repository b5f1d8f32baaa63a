"""How each benchmark cuts its data: training, validation and calibration parts, a test, templates.

The three parts share no line with each other or with the test. Where a set has an order of time it
is cut by it: what is learned lies before what is judged. The parts hold normal sequences only, but
in ``bgl-windows`` and the ``hdfs-`` ones with labels, where a detector that learns from labels is
given those of training and validation, and one that learns from normals is given the normal ones of
the same parts.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.datasets import (
    IdDataset,
    IdStream,
    RawDataset,
    attach_labels,
    open_dataset,
    read_labels,
)
from oddlog.datasets.labels import ANOMALY
from oddlog.demo import SESSION, with_planted
from oddlog.drain import DrainConfig, Novelties, Templates
from oddlog.endings import Silences, log_ends
from oddlog.errors import LabelsError
from oddlog.evaluate import RATES
from oddlog.events import NORMAL, Sequences
from oddlog.formats import read_events
from oddlog.formats.layouts import LAYOUTS
from oddlog.group import Window, group
from oddlog.masks import masks_for
from oddlog.pipeline import make_config
from oddlog.pipeline.prepare import prepare, read_sources, with_templates
from oddlog.simulate import (
    order_texts,
    simulate,
    simulate_drifting,
    simulate_order,
    write,
    write_drifting,
)
from oddlog.simulate.ordered import ANSWER_KINDS, BLOCK_MOVED, MOVED, SWAPPED, WRONG_BRANCH
from oddlog.split import (
    SplitReport,
    check_no_leak,
    cut_rows,
    cut_sessions_at_random,
    cut_sessions_by_time,
)

logger = logging.getLogger(__name__)
D = TypeVar("D", IdDataset, IdStream, RawDataset)
HDFS_SIZES = (2500, 500, 2000)
"""Training, validation, calibration: at an asked 0.1 % the threshold is then the second highest of
2,000 scores, and does not hang on a single session as the highest of 1,000 would."""
SHARES = (0.65, 0.1, 0.25)
BGL_LINES, BGL_RAW_LINES = 100, 20
BGL_SHARES = (0.54, 0.06, 0.2, 0.2)
"""Training, validation, calibration and test, in the order of time."""
LABELLED_SHARE, FEW_SHARE, LABELLED_VALID_SHARE = 0.1, 0.01, 0.1
N_LEARNED, N_SIMULATED, FAULTY_SHARE = 3000, 5000, 0.05
N_RELEASED, SYSLOG = 500, "syslog5424"
"""Sessions from one release to the next; the layout of simulated logs."""
N_ORDERED = 4000
HADOOP_SIZES = (5, 1, 2, 3)
"""Normal applications that train, validate, calibrate and test."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A benchmark's data for one seed.

    Attributes:
        parts: Training, validation and calibration, labelled.
        test: Labelled sequences, none of which the parts know.
        templates: What the ids stand for.
        in_time: The test lies behind the parts in time, and its rows are in the order of time.
        groups: (n,) what each sequence of the test belongs to, where several stand or fall
            together, as the containers of one application do; None where each is its own.
        rates: Asked false-alarm rates; the first one makes the flags.
        n_left_out: Sequences that are in no part and not in the test, as they lie across a cut.
    """

    parts: list[Sequences]
    test: Sequences
    templates: Templates
    in_time: bool = False
    groups: NDArray[np.int64] | None = None
    rates: tuple[float, ...] = RATES
    n_left_out: int = 0

    def learned(self, learns_from: Literal["normal", "labelled"]) -> list[Sequences]:
        """Return the parts as a detector of that kind is given them, as ``fit_sequences`` does.

        Raises:
            LabelsError: It learns from labels, and training holds no anomaly.
        """
        normals = [part.take(~part.anomalous).without_labels() for part in self.parts]
        if learns_from == "normal":
            return normals
        if not self.parts[0].anomalous.any():
            raise LabelsError(
                "this benchmark's training holds normal sequences only: nothing that learns from "
                "labels can be measured on it; name other detectors"
            )
        return [*self.parts[:2], normals[2]]


def hdfs_full(folder: Path, seed: int) -> Cut:
    """Draw 5,000 normals for training, validation and calibration; the rest is the test."""
    dataset = opened("hdfs_v1", folder, IdDataset)
    sequences = dataset.sequences
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~sequences.anomalous))
    cuts = np.cumsum([0, *HDFS_SIZES])
    parts = [sequences.take(np.sort(normal[a:b])) for a, b in pairwise(cuts)]
    test = np.setdiff1d(np.arange(len(sequences)), normal[: cuts[-1]])
    return Cut(parts, sequences.take(test), Templates.from_texts(dataset.texts))


def hdfs_raw(folder: Path, seed: int) -> Cut:
    """Cut the raw sample in time at half of its sessions; the first half's normals are learned."""
    early, test, layout, split = hdfs_halves(folder)
    parts = draw_normals(early, seed)
    check_no_leak(*parts, test)
    parts, test, templates = mine(parts, test, layout)
    parts, test = mark_ends(parts, test, early)
    return Cut(parts, test, templates, in_time=True, n_left_out=split.n_discarded)


def hdfs_labelled(folder: Path, seed: int, share: float) -> Cut:
    """Draw this share of the sessions of each class, with their labels; the rest is the test.

    A tenth of them is the validation; 2,000 normals of the others are the calibration. With a share
    of .1 (seed 0) 95 % of the test's sessions are copies of a training session, and 99.8 % of them,
    96 % of the anomalies, have the counts of one: a table of labelled counts is to be beaten.
    """
    dataset = opened("hdfs_v1", folder, IdDataset)
    sequences = dataset.sequences
    random = np.random.default_rng(seed)
    train, valid, others = [], [], []
    for name in ("", ANOMALY):
        drawn = random.permutation(np.flatnonzero((sequences.labels == name).to_numpy()))
        n = round(share * len(drawn))
        n_valid = round(LABELLED_VALID_SHARE * n)
        valid.append(drawn[:n_valid])
        train.append(drawn[n_valid:n])
        others.append(drawn[n:])
    calibration, others[0] = np.split(others[0], [HDFS_SIZES[2]])
    *parts, test = (
        sequences.take(np.sort(np.concatenate(drawn)))
        for drawn in (train, valid, [calibration], others)
    )
    return Cut(parts, test, Templates.from_texts(dataset.texts))


def bgl_windows(folder: Path, seed: int) -> Cut:
    """Cut the stream in time, then each part into windows of 100 lines; all seeds have one cut.

    54 % of the lines are the training, 6 % the validation, 20 % the calibration, 20 % the test; a
    window is anomalous if one of its lines is. Each part lies behind the one before it, so that the
    rate promised by the calibration is realised on a later system: whether it holds is what is
    measured. Of the calibration's normal windows 6 % hold a template that training does not, of the
    test's 14 %, of its last fifth 61 %. An earlier cut, at half and the first half in time once
    more, could measure nothing else: 93 % of the calibration's and 65 % of the test's were new.
    """
    dataset = opened("bgl_stream", folder, IdStream)
    events = dataset.events.filter(pl.col("label").is_not_null())
    window = Window(by="lines", size=BGL_LINES)
    *parts, test = (group(part, window)[0] for part in cut_rows(events, BGL_SHARES))
    check_no_leak(*parts, test)
    return Cut(parts, test, Templates.from_texts(dataset.texts), in_time=True)


def bgl_raw(folder: Path, seed: int) -> Cut:
    """Cut the first 100,000 raw lines at half, each half into windows of 20 lines, as above.

    Two days and a half of log: small, but with the text that culprits are shown by.
    """
    dataset = opened("bgl_raw", folder, RawDataset)
    events, _ = read_events(dataset.path, dataset.layout)
    window = Window(by="lines", size=BGL_RAW_LINES)
    early, test = (group(half, window)[0] for half in cut_rows(events, [0.5, 0.5]))
    parts = draw_normals(early, seed)
    check_no_leak(*parts, test)
    return Cut(*mine(parts, test, dataset.layout), in_time=True)


def adfa(folder: Path, seed: int) -> Cut:
    """Draw the official training traces into the parts; the official validation and attacks test.

    The set names 833 training traces and 4,372 further normal ones, "validation": the only normals
    left to be judged. They were recorded apart from the training traces and are longer, so that a
    rate need not hold in them either.
    """
    dataset = opened("adfa_ld", folder, IdDataset)
    is_learned = dataset.columns["split"].to_numpy() == "train"
    parts = draw_normals(dataset.sequences.take(is_learned), seed)
    test = dataset.sequences.take(~is_learned)
    return Cut(parts, test, Templates.from_texts(dataset.texts))


def hadoop(folder: Path, seed: int) -> Cut:
    """Draw whole applications, each class apart: the label is the application's.

    Of the 11 normal ones 5 are the training, 1 the validation, 2 the calibration and 3 the test: a
    few dozen containers calibrate, so that the asked rates are 10 % and 5 %. Half of the other
    applications of each class are learned from where labels are, a fifth of them as the validation;
    the other half is the test. Messages are the templates, for detectors that read them.
    """
    dataset = opened("hadoop", folder, IdDataset)
    sequences = dataset.with_messages()
    names, owner = np.unique(dataset.columns["application"].to_numpy(), return_inverse=True)
    random = np.random.default_rng(seed)
    part = np.zeros(len(names), dtype=np.int64)  # 0 to 2 the parts, 3 the test
    labels = sequences.labels.to_numpy()
    for name in np.unique(labels):
        drawn = random.permutation(np.unique(owner[labels == name]))
        sizes = HADOOP_SIZES if name == NORMAL else _half_for_test(len(drawn))
        for number, chosen in enumerate(np.split(drawn, np.cumsum(sizes)[:-1])):
            part[chosen] = number
    *parts, test = (sequences.take(part[owner] == number) for number in range(4))
    groups = owner[part[owner] == 3]
    templates = Templates.from_texts(dataset.texts)
    return Cut(parts, test, templates, groups=groups, rates=(0.1, 0.05))


def _half_for_test(n: int) -> tuple[int, int, int, int]:
    """Return how many of n applications train, validate, calibrate and test."""
    n_learned = n // 2
    n_valid = max(1, round(n_learned / 5))
    return n_learned - n_valid, n_valid, 0, n - n_learned


def simulated(
    folder: Path, seed: int, n_learned: int = N_LEARNED, n_judged: int = N_SIMULATED
) -> Cut:
    """Learn from one simulated log, all of it normal, as ``fit`` does; judge another with faults.

    The lines of the test carry the planted fault as their label.
    """
    learned = simulate(n_learned, anomaly_share=0.0, seed=1000 + seed)
    faulty = simulate(n_judged, anomaly_share=FAULTY_SHARE, seed=2000 + seed)
    config = make_config({"session_by": SESSION}, "benchmark")
    with tempfile.TemporaryDirectory() as place:
        first, *_ = write(learned, Path(place) / "learned")
        second, *_ = write(faulty, Path(place) / "faulty")
        prepared = prepare([first], config, labels=None, learns_from="normal", seed=seed)
        events, _ = read_sources([second], prepared.format, SESSION)
    test, _ = attach_labels(group(events, prepared.window)[0], faulty.labels)
    test = with_templates(test, prepared.templates, Novelties(prepared.templates.config))
    test = with_planted(prepared.silences.mark(test), faulty.planted)
    return Cut(list(prepared.parts), test, prepared.templates, in_time=True)


def drifting(folder: Path, seed: int) -> Cut:
    """Learn the first program of a simulated cluster; judge it through ten releases.

    Normal sessions that end before the first release are the parts, all that begin later the test.
    The faults are the same all along; what is normal is not.
    """
    made = simulate_drifting(N_LEARNED, N_RELEASED, anomaly_share=FAULTY_SHARE, seed=5000 + seed)
    with tempfile.TemporaryDirectory() as place:
        log, *_ = write_drifting(made, Path(place))
        events, _ = read_events(log, SYSLOG, session_by=SESSION)
    sequences, _ = attach_labels(group(events, Window(by="session"))[0], made.simulation.labels)
    share = N_LEARNED / len(sequences)
    (early, late), split = cut_sessions_by_time(sequences, [share, 1 - share])
    learned, test = sequences.take(early), sequences.take(late)
    parts = draw_normals(learned, seed)
    check_no_leak(*parts, test)
    parts, test, templates = mine(parts, test, SYSLOG)
    parts, test = mark_ends(parts, test, learned)
    return Cut(parts, test, templates, in_time=True, n_left_out=split.n_discarded)


def order_only(
    folder: Path,
    seed: int,
    n_requests: int,
    n_learned: int = N_ORDERED,
    kinds: Sequence[str] | None = None,
    *,
    branching: bool = False,
) -> Cut:
    """Learn simulated sessions in which k answers follow the order of k requests; judge others.

    A fault changes the order of the answers and nothing else: k = 3 has 6 orders, which training
    shows hundreds of times each, k = 4 has 24, k = 6 has 720, each a few times. With branches half
    of the sessions are answered in reverse, as their first event says.
    """
    how = {"n_requests": n_requests, "branching": branching}
    n = n_learned + sum(HDFS_SIZES[1:])
    learned = simulate_order(n, anomaly_share=0.0, seed=3000 + seed, **how)
    cuts = np.cumsum([0, n_learned, *HDFS_SIZES[1:]])
    parts = [learned.take(np.arange(a, b)) for a, b in pairwise(cuts)]
    test = simulate_order(
        N_SIMULATED, anomaly_share=FAULTY_SHARE, seed=4000 + seed, kinds=kinds, **how
    )
    texts = order_texts(n_requests, branching=branching)
    return Cut(parts, test, Templates.from_texts(texts))


def hdfs_halves(folder: Path) -> tuple[Sequences, Sequences, str, SplitReport]:
    """Read the raw sample's labelled sessions; return early ones, late ones, layout and split.

    Early ones end in the first half of the log, late ones begin in the second; the others, which
    lie across the cut, are discarded, and the split says how many.
    """
    dataset = opened("hdfs_raw", folder, RawDataset)
    if dataset.labels is None:
        raise LabelsError(f"{dataset.path}: no label file beside it")
    events, _ = read_events(dataset.path, dataset.layout)
    sequences, _ = group(events, Window(by="session"))
    sequences, _ = attach_labels(sequences, read_labels(dataset.labels))
    halves, split = cut_sessions_by_time(sequences, [0.5, 0.5])
    logger.info("%s: %s", dataset.path.name, split.summary())
    early, late = (sequences.take(half) for half in halves)
    return early, late, dataset.layout, split


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


def mark_ends(
    parts: list[Sequences], test: Sequences, learned: Sequences
) -> tuple[list[Sequences], Sequences]:
    """Mark which sessions are known to have ended, by the silences of the training part.

    Args:
        parts: Training part first, all of them drawn from ``learned``.
        test: Sessions of later.
        learned: All that was known when the parts were drawn: what follows it is not.
    """
    silences = Silences.of(parts[0])
    ends = log_ends(learned.events)
    return [silences.mark(part, ends) for part in parts], silences.mark(test)


def opened(name: str, folder: Path, kind: type[D]) -> D:
    """Open a public data set that is known to be of a kind."""
    dataset = open_dataset(name, folder)
    if not isinstance(dataset, kind):
        raise TypeError(f"{name} is a {type(dataset).__name__}")
    return dataset


def draw_normals(sequences: Sequences, seed: int) -> list[Sequences]:
    """Draw the normal sequences into training, validation and calibration."""
    normals = sequences.take(~sequences.anomalous)
    drawn, _ = cut_sessions_at_random(normals, SHARES, seed)
    return [normals.take(index) for index in drawn]


PROTOCOLS: Mapping[str, Callable[[Path, int], Cut]] = {
    "hdfs-full": hdfs_full,
    "hdfs-raw": hdfs_raw,
    "hdfs-labelled": partial(hdfs_labelled, share=LABELLED_SHARE),
    "hdfs-few-labels": partial(hdfs_labelled, share=FEW_SHARE),
    "bgl-windows": bgl_windows,
    "bgl-raw": bgl_raw,
    "adfa": adfa,
    "hadoop": hadoop,
    "simulated": simulated,
    "simulated-small": partial(simulated, n_learned=900, n_judged=900),
    "drifting": drifting,
    "order-easy": partial(order_only, n_requests=3),
    "order-easy-small": partial(order_only, n_requests=3, n_learned=1000),
    "order-middle": partial(order_only, n_requests=4, kinds=(*ANSWER_KINDS, BLOCK_MOVED)),
    "order-hard": partial(order_only, n_requests=6),
    "order-branch": partial(
        order_only,
        n_requests=4,
        kinds=(SWAPPED, MOVED, BLOCK_MOVED, WRONG_BRANCH),
        branching=True,
    ),
}
"""How each benchmark cuts its data, given the data folder and a seed."""
READ: Mapping[str, tuple[str, ...]] = {
    "hdfs-full": ("hdfs_v1",),
    "hdfs-raw": ("hdfs_raw",),
    "hdfs-labelled": ("hdfs_v1",),
    "hdfs-few-labels": ("hdfs_v1",),
    "bgl-windows": ("bgl_stream",),
    "bgl-raw": ("bgl_raw",),
    "adfa": ("adfa_ld",),
    "hadoop": ("hadoop",),
}
"""The public data sets that a protocol reads; one that is not here makes its own data."""
