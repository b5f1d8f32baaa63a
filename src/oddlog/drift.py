"""Whether a log still looks like the one that a model was calibrated on.

A threshold holds while normal sequences score as the calibration's did. So the scores of a log are
compared with the calibration's: how far apart the two are (Kolmogorov-Smirnov distance, population
stability index), and how often chance alone makes as much. Beside it stand what usually explains
it, templates that were not known at fit time, and what it costs, the realised rate of flags.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from oddlog.events import Sequences, column
from oddlog.findings import TOLERANCE

CELLS = 256  # places at which two distributions are compared
PERMUTATIONS = 999  # the smallest p-value there is, is .001
SIGNIFICANCE = 0.01
MIN_SEQUENCES = 50  # in a log of fewer each speaks for itself
MIN_DISTANCE = 0.1  # one sequence in ten: fewer may well be the anomalies that one is looking for
DECILES = np.arange(1, 10) / 10
BINS, PER_BIN = 20, 50
SHOWN = 20
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Shift:
    """How far the scores of a log are from the calibration's.

    Attributes:
        n_calibration: Sequences of the calibration.
        n_sequences: Sequences of the log.
        distance: Kolmogorov-Smirnov distance, 0 to 1: at least this share of the sequences would
            have to score otherwise for the two to agree.
        p_value: How often sequences shuffled between the two are as far apart, ties and all;
            exact, by ``PERMUTATIONS`` permutations. It takes sequences for independent.
        stability_index: Population stability index over the calibration's deciles, as far as ties
            leave them apart; by custom .1 is worth a look and .25 a shift.
        is_higher: Where the two are furthest apart, the log has more sequences above.
    """

    n_calibration: int
    n_sequences: int
    distance: float
    p_value: float
    stability_index: float
    is_higher: bool

    @property
    def matters(self) -> bool:
        """Whether it is both large and hardly chance, in a log that is not too small to tell.

        Of a million sequences any distance is significant, so it takes ``MIN_DISTANCE``; of a few
        all may be anomalies, so it takes ``MIN_SEQUENCES``.
        """
        return (
            self.distance >= MIN_DISTANCE
            and self.p_value <= SIGNIFICANCE
            and self.n_sequences >= MIN_SEQUENCES
        )


@dataclass(frozen=True)
class UnknownTemplate:
    """A template that was not known at fit time, and where it occurs."""

    template_id: int
    n_events: int
    n_sequences: int
    text: str


@dataclass(frozen=True)
class Unknown:
    """How much of a log has a template that was not known at fit time.

    Attributes:
        n_events: Events in all sequences.
        n_unknown_events: Those of an unknown template.
        n_unknown_sequences: Sequences that hold one.
        n_templates: Distinct unknown templates.
        templates: Those in the most sequences first, at most ``SHOWN`` of them.
    """

    n_events: int
    n_unknown_events: int
    n_unknown_sequences: int
    n_templates: int
    templates: tuple[UnknownTemplate, ...]


@dataclass(frozen=True)
class FlagRate:
    """How many of some sequences were flagged.

    Attributes:
        n_sequences: How many they are.
        n_flagged: Those flagged.
        rate: Share of those flagged; 0 of no sequence.
        low: Lower end of the rate's 95 % interval (Wilson).
        high: Upper end.
        first_time: When the earliest of them began; None where a sequence has no time.
        last_time: When the latest of them began.
    """

    n_sequences: int
    n_flagged: int
    rate: float
    low: float
    high: float
    first_time: datetime | None = None
    last_time: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, times as ISO 8601."""
        times = {name: getattr(self, name) for name in ("first_time", "last_time")}
        return asdict(self) | {n: None if t is None else t.isoformat() for n, t in times.items()}


@dataclass(frozen=True)
class Drift:
    """How a scored log compares with the calibration.

    Attributes:
        asked_rate: Share of normal sequences that may be flagged.
        flagged: How many of all sequences were.
        over_time: The same for consecutive runs of equally many sequences, by time or, without
            times, in the order of the log.
        shift: The scores.
        unknown: Templates not known at fit time.
    """

    asked_rate: float
    flagged: FlagRate
    over_time: tuple[FlagRate, ...]
    shift: Shift
    unknown: Unknown

    @property
    def warning(self) -> str | None:
        """One line if the log no longer looks like the calibration's: what, how sure, what to do.

        It is the shift of the scores that decides; see ``Shift.matters``.
        """
        shift = self.shift
        if not shift.matters:
            return None
        way = "higher" if shift.is_higher else "lower"
        told = (
            f"this log no longer looks like the calibration's: at least {shift.distance:.0%} of "
            f"its {shift.n_sequences:,} sequences score {way} than those did (Kolmogorov-Smirnov "
            f"distance {shift.distance:.2f}, p {shift.p_value:.3f}); {self.flagged.rate:.1%} are "
            f"flagged, {self.asked_rate:.1%} asked"
        )
        if n := self.unknown.n_unknown_sequences:
            told += (
                f"; {n / shift.n_sequences:.0%} hold one of {self.unknown.n_templates:,} templates "
                "unknown at fit time"
            )
        return (
            f"{told}. If the system has changed, run `oddlog update` on a normal log of it; "
            "if not, something is wrong with it"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, times as ISO 8601; ``warning`` among them."""
        return asdict(self) | {
            "warning": self.warning,
            "flagged": self.flagged.to_dict(),
            "over_time": [rate.to_dict() for rate in self.over_time],
        }


def measure_drift(
    calibration: ArrayLike,
    scores: ArrayLike,
    flags: NDArray[np.bool_],
    sequences: Sequences,
    *,
    asked_rate: float,
    text_of: Callable[[int], str],
) -> Drift:
    """Compare a scored log with the calibration.

    Args:
        calibration: (c,) scores of the calibration, at least one, in any order.
        scores: (n,) scores of the log's sequences.
        flags: (n,) which of them were flagged.
        sequences: The n sequences, with template ids.
        asked_rate: Share of normal sequences that may be flagged.
        text_of: Template id to text, unknown ones included.
    """
    unknown = find_unknown(sequences, text_of)
    times = begun(sequences)
    return drift_of(calibration, scores, flags, times, asked_rate=asked_rate, unknown=unknown)


def begun(sequences: Sequences) -> pl.Series:
    """Return (n,) Datetime, when each sequence began; null where that is not known."""
    return column(sequences.events, "time").gather(sequences.rows[sequences.offsets[:-1]])


def drift_of(
    calibration: ArrayLike,
    scores: ArrayLike,
    flags: NDArray[np.bool_],
    times: pl.Series,
    *,
    asked_rate: float,
    unknown: Unknown,
) -> Drift:
    """Compare scored sequences with the calibration, from what is known of each.

    Args:
        calibration: (c,) scores of the calibration, at least one, in any order.
        scores: (n,) scores of the log's sequences, in the order of the log.
        flags: (n,) which of them were flagged.
        times: (n,) Datetime, when each began.
        asked_rate: Share of normal sequences that may be flagged.
        unknown: The templates that were not known at fit time.
    """
    whole, bins = flag_rates(flags, times)
    return Drift(
        asked_rate=asked_rate,
        flagged=whole,
        over_time=bins,
        shift=compare_scores(calibration, scores),
        unknown=unknown,
    )


def compare_scores(calibration: ArrayLike, scores: ArrayLike, *, seed: int = 0) -> Shift:
    """Measure how far two samples of scores are apart, and how often chance makes as much.

    The distributions are compared at up to ``CELLS`` quantiles of both samples together, each moved
    up by more than ``TOLERANCE``, so that scores that tie stay together. These do not depend on
    which sample a score is from, so the permutation test is exact, whatever ties there are, and
    costs the same for a thousand sequences and for a million.

    Args:
        calibration: (c,) scores, c at least 1.
        scores: (n,) scores; none are 0 apart.
        seed: Of the permutations.
    """
    old, new = (np.sort(np.asarray(s, dtype=np.float64)) for s in (calibration, scores))
    if not len(new):
        return Shift(len(old), 0, 0.0, 1.0, 0.0, is_higher=False)
    together = np.sort(np.concatenate([old, new]))
    places = np.linspace(0, len(together) - 1, CELLS).astype(np.int64)
    cuts = np.unique(together[places]) + 2 * TOLERANCE
    n_old, n_new = (np.diff(np.searchsorted(s, cuts, "right"), prepend=0) for s in (old, new))
    differences = n_old.cumsum() / len(old) - n_new.cumsum() / len(new)
    furthest = int(np.abs(differences).argmax())
    distance = float(np.abs(differences[furthest]))
    n_both = n_old + n_new
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(
        n_both, len(new), size=PERMUTATIONS, method="marginals"
    )
    share = drawn.cumsum(axis=1) / len(new)
    rest = (n_both - drawn).cumsum(axis=1) / len(old)
    n_as_far = int((np.abs(rest - share).max(axis=1) >= distance - 1e-12).sum())
    return Shift(
        n_calibration=len(old),
        n_sequences=len(new),
        distance=distance,
        p_value=(1 + n_as_far) / (1 + PERMUTATIONS),
        stability_index=_stability_index(old, new),
        is_higher=bool(differences[furthest] > 0),
    )


def _stability_index(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """Return sum (q - p) log(q / p) over the deciles of ``old``; half a sequence in each more."""
    edges = np.unique(np.quantile(old, DECILES, method="inverted_cdf")) + 2 * TOLERANCE
    shares = []
    for scores in (old, new):
        below = np.searchsorted(scores, edges, "right")
        counts = np.diff(below, prepend=0, append=len(scores)) + 0.5
        shares.append(counts / counts.sum())
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def find_unknown(
    sequences: Sequences, text_of: Callable[[int], str], *, n_shown: int | None = SHOWN
) -> Unknown:
    """Count the events of templates that were not known at fit time: their ids are negative.

    Args:
        sequences: Sequences with template ids.
        text_of: Template id to text.
        n_shown: Most templates to name; None for all.
    """
    ids = sequences.template_ids()
    strange = ids < 0
    table = pl.DataFrame({"id": ids[strange], "owner": sequences.owners[strange]})
    counts = (
        table.group_by("id")
        .agg(pl.len(), pl.col("owner").n_unique())
        .sort("owner", "len", "id", descending=True)
    )
    return Unknown(
        n_events=len(ids),
        n_unknown_events=table.height,
        n_unknown_sequences=table["owner"].n_unique(),
        n_templates=counts.height,
        templates=tuple(
            UnknownTemplate(i, n_events, n_sequences, text_of(i))
            for i, n_events, n_sequences in counts.head(
                counts.height if n_shown is None else n_shown
            ).iter_rows()
        ),
    )


def joined(parts: Sequence[Unknown], *, n_shown: int | None = SHOWN) -> Unknown:
    """Return what was unknown in a log from all that was unknown in parts of it.

    Args:
        parts: As ``find_unknown`` gives them with no limit to what is named; a sequence is in one
            part.
        n_shown: Most templates to name; None for all.
    """
    together: dict[int, UnknownTemplate] = {}
    for each in (template for part in parts for template in part.templates):
        same = together.get(each.template_id)
        together[each.template_id] = each if same is None else _sum(same, each)
    most_first = sorted(
        together.values(), key=lambda t: (-t.n_sequences, -t.n_events, -t.template_id)
    )
    return Unknown(
        n_events=sum(part.n_events for part in parts),
        n_unknown_events=sum(part.n_unknown_events for part in parts),
        n_unknown_sequences=sum(part.n_unknown_sequences for part in parts),
        n_templates=len(together),
        templates=tuple(most_first[:n_shown]),
    )


def _sum(some: UnknownTemplate, more: UnknownTemplate) -> UnknownTemplate:
    return replace(
        more,
        n_events=some.n_events + more.n_events,
        n_sequences=some.n_sequences + more.n_sequences,
    )


def flag_rates(flags: NDArray[np.bool_], times: pl.Series) -> tuple[FlagRate, tuple[FlagRate, ...]]:
    """Return the rate of flags of all sequences, and of consecutive runs of them.

    There are up to ``BINS`` runs of at least ``PER_BIN`` sequences, in the order of the times at
    which the sequences began, or in that of the log where one has no time.
    """
    timed = len(times) > 0 and times.null_count() == 0
    order = np.argsort(times.to_numpy(), kind="stable") if timed else np.arange(len(times))
    n_bins = min(BINS, max(1, len(order) // PER_BIN))
    bins = [members for members in np.array_split(order, n_bins) if len(members)]
    known = times if timed else None
    return _rate(flags, order, known), tuple(_rate(flags, members, known) for members in bins)


def _rate(
    flags: NDArray[np.bool_], members: NDArray[np.integer], times: pl.Series | None
) -> FlagRate:
    """Return the rate of flags of the members, which are in the order of time."""
    n, n_flagged = len(members), int(flags[members].sum())
    if not n:
        return FlagRate(0, 0, 0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    rate, widening = n_flagged / n, z * z / n
    centre = (rate + widening / 2) / (1 + widening)
    half = math.sqrt(rate * (1 - rate) * widening + widening**2 / 4) / (1 + widening)
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    if times is None:
        return FlagRate(n, n_flagged, rate, low, high)
    first, last = times[int(members[0])], times[int(members[-1])]
    return FlagRate(n, n_flagged, rate, low, high, first, last)
