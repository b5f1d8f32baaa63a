"""Leave out what may be anomalies, where nobody has labelled the log that is learned from.

A detector must not be asked: it has learned, or is about to learn, the very sequences in question,
and what it was trained on looks ordinary to it. Nor may each be compared with its nearest others:
faults repeat, and each copy finds its twins. What anomalies cannot be is common. So ``rarity`` asks
how many sequences hold the rarest thing in a sequence: what only anomalies bring is held by no more
sequences than there are anomalies, however much these resemble each other.

Training and validation are trimmed by rarity before anything is learned, of ``MARGIN`` times the
assumed share: rare normal sequences go too, and calibration then shows them as rare as they are, so
that no promise rests on it. The false-alarm rate rests on calibration (``calibrate``), where only
what is rare and also has one of the highest scores is left out, the share and no more: a detector
that cannot tell anomalies would otherwise have normal sequences left out. Templates and silences
are still learned from all of the training part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.artifact import write_text
from oddlog.calibrate import n_needed
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.pipeline.prepare import PARTS
from oddlog.pipeline.result import places

MARGIN = 1.5
"""At 1 four fifths of the anomalies are found on HDFS, at 1.5 all of them; at 2 more of the rare
normal sequences are lost than is won (docs/diary.md)."""
TIE_BREAK = 1e-6  # of nats: below any difference between two numbers of sequences that matters
BEGIN, END = -(2**31), -(2**31) + 1  # no template has such an id
FILE = "trimmed.jsonl"
COLUMNS: dict[str, pl.DataType] = {
    "part": pl.String(),
    "key": pl.String(),
    "by": pl.String(),  # what gave the score: rarity, or the detector's name
    "score": pl.Float64(),
    "n_events": pl.Int64(),
    "source": pl.String(),
    "first_line": pl.Int64(),
    "last_line": pl.Int64(),
}


def rarity(sequences: Sequences) -> NDArray[np.float64]:
    """Return (n,) how rare the rarest things in each sequence are, in nats; 0 if all have them.

    It is the surprise of its rarest pair of neighbouring events plus the surprise of its set of
    templates, the surprise of a thing being log(n / number of the n sequences that hold it). A
    known beginning or end of a session is a neighbour too. What a window does not hold whole may
    lack templates that come later: there the pair counts twice, in place of the set. Where that
    ties, as it does for all that is unique, the mean surprise of all pairs decides.

    Pairs show what is out of order, sets what is missing. Together they found more than either
    alone, than single templates, triples, count vectors, and distances to neighbours
    (docs/diary.md). Nothing is fitted or drawn; the cost is that of sorting the events.
    """
    n = len(sequences)
    owner = sequences.owners
    ids = sequences.template_ids().astype(np.int64)
    rarest, mean = np.zeros(n), np.zeros(n)  # a single event in the midst of a session has no pair
    surprise = (pl.lit(n) / pl.len().over("before", "after")).log()
    pairs = _pairs(sequences, ids).unique().select("owner", surprise=surprise).group_by("owner")
    found = pairs.agg(pl.col("surprise").max().alias("max"), pl.col("surprise").mean())
    place = found["owner"].to_numpy()
    rarest[place], mean[place] = found["max"].to_numpy(), found["surprise"].to_numpy()
    sets = (
        pl.DataFrame({"owner": owner, "id": ids})
        .unique()
        .sort("owner", "id")
        .group_by("owner", maintain_order=True)
        .agg("id")
        .select((pl.lit(n) / pl.len().over("id")).log().alias("surprise"))
    )
    whole = sequences.starts & sequences.ends
    second = np.where(whole, sets["surprise"].to_numpy(), rarest)
    return np.round(rarest + second + TIE_BREAK * mean, 12)  # a sum's order is not to part twins


def _pairs(sequences: Sequences, ids: NDArray[np.int64]) -> pl.DataFrame:
    """Return owner, before and after of each two neighbours, known ends of a session included."""
    owner = sequences.owners
    inside = owner[1:] == owner[:-1]
    first, last = sequences.offsets[:-1], sequences.offsets[1:] - 1
    begun, ended = first[sequences.starts], last[sequences.ends]
    return pl.DataFrame(
        {
            "owner": np.concatenate([owner[1:][inside], owner[begun], owner[ended]]),
            "before": np.concatenate(
                [ids[:-1][inside], np.full(len(begun), BEGIN, dtype=np.int64), ids[ended]]
            ),
            "after": np.concatenate(
                [ids[1:][inside], ids[begun], np.full(len(ended), END, dtype=np.int64)]
            ),
        }
    )


def highest(scores: NDArray[np.floating], share: float) -> NDArray[np.bool_]:
    """Return (n,) which scores are the highest: at most this share, and no tie is divided.

    Example:
        >>> highest(np.array([5.0, 1.0, 3.0, 3.0, 2.0]), 0.4).tolist()
        [True, False, False, False, False]
    """
    n_most = math.floor(share * len(scores) + 1e-9)  # .29 * 100 is a hair below 29
    if not n_most:
        return np.zeros(len(scores), dtype=bool)
    place = len(scores) - n_most - 1
    if place < 0:
        return np.ones(len(scores), dtype=bool)
    return scores > np.partition(scores, place)[place]


def check_share(share: float, learns_from: str, detector: str) -> None:
    """Refuse to guess at anomalies for a detector that is told of them.

    Raises:
        ConfigError: The detector learns from labels.
    """
    if share and learns_from == "labelled":
        raise ConfigError(
            f"assume_anomalies {share}: {detector} learns from labels, so that its anomalies are "
            "known and none is to be left out; set it to 0"
        )


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Parts to fit on, and what is known of those left out of them.

    Attributes:
        parts: Training and validation without their rarest; calibration whole.
        rare: (n,) of calibration, which are among the rarest; only these can be suspects.
        share: The assumed share of anomalies.
        sizes: Sequences in each part at first, by its name.
        left_out: What is missing from training and validation, in the columns of ``COLUMNS``.
    """

    parts: tuple[Sequences, Sequences, Sequences]
    rare: NDArray[np.bool_]
    share: float
    sizes: dict[str, int]
    left_out: pl.DataFrame

    def suspects(self, scores: NDArray[np.floating]) -> NDArray[np.bool_] | None:
        """Return (n,) which of calibration to leave out by a detector's scores; None if none is."""
        return highest(scores, self.share) & self.rare if self.share else None

    def table(self, scores: NDArray[np.floating], detector: str) -> pl.DataFrame:
        """Return all that was left out, the suspects of calibration by these scores included."""
        odd = self.suspects(scores)
        if odd is None:
            return self.left_out
        last = describe(self.parts[2], odd, scores, PARTS[2], by=detector)
        return pl.concat([self.left_out, last])


def clean(parts: Sequence[Sequences], share: float, false_alarm_rate: float) -> Cleaned:
    """Leave the rarest sequences out of what is learned from; see the module.

    Training and validation are judged together, as a part of few sequences knows too little of what
    is rare. Calibration has no part in that, or it would have been used.

    Args:
        parts: Training, validation and calibration, with template ids, without known anomalies.
        share: Share of anomalies assumed; ``MARGIN`` times as many are left out at most.
        false_alarm_rate: What calibration has to be large enough for.

    Raises:
        ConfigError: Nothing would be left of a part, or too little to calibrate by.
    """
    train, valid, calibration = parts
    sizes = {name: len(part) for name, part in zip(PARTS, parts, strict=True)}
    nothing = pl.DataFrame(schema=COLUMNS)
    if not share:
        rare = np.zeros(len(calibration), dtype=bool)
        return Cleaned((train, valid, calibration), rare, share, sizes, nothing)
    _check_calibration(len(calibration), share, false_alarm_rate)
    scores = rarity(Sequences.concat([train, valid]))
    odd = highest(scores, MARGIN * share)
    kept, tables = [], []
    cut = len(train)
    for part, name, own in zip((train, valid), PARTS, (slice(cut), slice(cut, None)), strict=False):
        if odd[own].all():
            raise ConfigError(
                f"assume_anomalies {share}: leaves nothing of {len(part):,} {name} sequences, all "
                "of them rare; assume fewer, or give more log"
            )
        kept.append(part.take(~odd[own]))
        tables.append(describe(part, odd[own], scores[own], name, by="rarity"))
    rare = highest(rarity(Sequences.concat(parts)), MARGIN * share)[-len(calibration) :]
    return Cleaned((kept[0], kept[1], calibration), rare, share, sizes, pl.concat(tables))


def _check_calibration(n: int, share: float, rate: float) -> None:
    """Refuse a share that leaves too little to calibrate by, before anything is trained.

    Raises:
        ConfigError: n sequences are enough for the false-alarm rate, and what is left is not.
    """
    needed, left = n_needed(rate), n - int(share * n)
    if n >= needed > left:
        raise ConfigError(
            f"assume_anomalies {share}: leaves {left:,} of {n:,} calibration sequences, and a "
            f"false-alarm rate of {rate:.2%} needs {needed:,}; give more log, a larger "
            "calibration_share or a higher rate"
        )


def describe(
    part: Sequences, odd: NDArray[np.bool_], scores: NDArray[np.floating], name: str, *, by: str
) -> pl.DataFrame:
    """Return what was left out of a part as a table of ``COLUMNS``, the worst first.

    Args:
        part: The part, n sequences.
        odd: (n,) which were left out.
        scores: (n,) what they were judged by.
        name: What to call the part.
        by: What gave the scores.
    """
    index = np.flatnonzero(odd)
    index = index[np.argsort(-scores[index], kind="stable")]
    out = part.take(index)
    where = places(out)
    return pl.DataFrame(
        {
            "part": pl.Series([name]).new_from_index(0, len(out)),
            "key": out.keys,
            "by": pl.Series([by]).new_from_index(0, len(out)),
            "score": scores[index].astype(np.float64),
            "n_events": out.lengths,
            **{column: where[column] for column in ("source", "first_line", "last_line")},
        },
        schema_overrides=COLUMNS,
    )


def count(sizes: Mapping[str, int], table: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return, for each part by name, how many sequences it had and how many were left out."""
    left_out = dict(table.group_by("part").len().iter_rows())
    return {name: {"of": n, "left_out": left_out.get(name, 0)} for name, n in sizes.items()}


def summary(share: float, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Say in one line what ``count`` found."""
    parts = ", ".join(f"{n['left_out']:,} of {n['of']:,} {name}" for name, n in counts.items())
    return f"{share:.2%} anomalies assumed; left out as the likeliest: {parts} sequences"


def write_table(folder: Path, table: pl.DataFrame) -> None:
    """Write one JSON line for each sequence that was left out."""
    write_text(folder / FILE, table.write_ndjson())


def read_table(folder: Path) -> pl.DataFrame:
    """Read what ``write_table`` wrote; no rows where there is no such file.

    Raises:
        ArtifactError: The file is damaged.
    """
    path = folder / FILE
    try:
        lines = path.read_bytes() if path.exists() else b""
        return pl.read_ndjson(lines, schema=COLUMNS) if lines else pl.DataFrame(schema=COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ArtifactError(f"{path}: damaged: {error}; fit the model again") from None
