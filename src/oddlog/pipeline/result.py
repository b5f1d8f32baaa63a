"""What scoring yields: every sequence with score, p-value and flag; the culprits on request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.alerts import Judgement, make_alerts
from oddlog.calibrate import Calibration
from oddlog.detectors import Detector
from oddlog.drift import Drift, measure_drift
from oddlog.events import Sequences, column
from oddlog.explain import CULPRIT_COLUMNS, TextOf, culprit_records, likely_kind
from oddlog.findings import Alert, Scores
from oddlog.formats import ReadReport
from oddlog.pipeline.foreign import Familiarity

if TYPE_CHECKING:
    from oddlog.pipeline.model import Judge
    from oddlog.report import Judged

CLASSES = pl.List(pl.Struct({"class": pl.String, "probability": pl.Float32}))
"""Of the column ``classes`` of ``Result.table``."""
SPANS = ("score", "flagged", "source", "first_time", "last_time")


@dataclass(frozen=True, eq=False)
class Result:
    """Scored sequences under one calibration; another rate costs nothing (``at``).

    Attributes:
        sequences: What was scored, n windows.
        scores: What the detector said.
        calibration: What turns scores into p-values and flags.
        detector: For explanations.
        text_of: Template id to text, novel ones included.
        notes: What happened to the log on its way here, one line each; see ``lines``.
        baselines: The trivial rules, fitted on the same data, by name; see ``also_flagged``.
        fingerprint: Which fitted model it was; see ``Pipeline.fingerprint``.
        reads: What became of the lines of each source; none where windows were given.
    """

    sequences: Sequences
    scores: Scores
    calibration: Calibration
    detector: Detector
    text_of: TextOf
    notes: tuple[str, ...] = ()
    baselines: Mapping[str, Judge] = field(default_factory=dict)
    fingerprint: str = ""
    reads: tuple[ReadReport, ...] = ()

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def p_values(self) -> NDArray[np.float64]:
        """(n,) share of normal sequences that would score as high or higher."""
        return self.calibration.p_values(self.scores.sequence)

    @property
    def flags(self) -> NDArray[np.bool_]:
        """(n,) whether each sequence is flagged at the calibration's rate."""
        return self.calibration.flags(self.scores.sequence)

    @cached_property
    def drift(self) -> Drift:
        """How the log compares with the calibration; its ``warning`` says if it no longer does."""
        return measure_drift(
            self.calibration.scores,
            self.scores.sequence,
            self.flags,
            self.sequences,
            asked_rate=self.calibration.false_alarm_rate,
            text_of=self.text_of,
        )

    @property
    def familiarity(self) -> Familiarity:
        """How much of the log the model can make something of; its ``warning`` says if little."""
        unknown = self.drift.unknown
        return Familiarity.of(self.reads, len(self), unknown.n_events, unknown.n_unknown_events)

    def at(self, false_alarm_rate: float) -> Result:
        """Return the same scores, flagged at another rate.

        Raises:
            ConfigError: A rate outside (0, 1).
        """
        return replace(self, calibration=self.calibration.at(false_alarm_rate))

    def lines(self) -> list[str]:
        """Say what a person should know before trusting this result, one line each."""
        return [*self.notes, *caveats(len(self), self.calibration)]

    def flagged(self) -> NDArray[np.int64]:
        """Return the numbers of the flagged sequences, worst first."""
        return worst_first(self.scores.sequence, self.flags)

    def also_flagged(self, index: NDArray[np.integer]) -> dict[str, NDArray[np.bool_]]:
        """Return for each baseline which of the chosen sequences it flags at the same rate."""
        chosen = self.sequences.take(index).without_labels()
        rate = self.calibration.false_alarm_rate
        return {
            name: judge.calibration.flags(judge.detector.score(chosen).sequence, rate)
            for name, judge in self.baselines.items()
        }

    def table(self) -> pl.DataFrame:
        """Return one row per sequence, in the order of the log.

        Columns: key, score, p_value, threshold, flagged, n_events, source, first_line, last_line,
        n_sources, first_time, last_time, label, classes. ``threshold`` is null where the
        calibration set is too small for the rate. ``source`` is that of the first event, and the
        lines are those of the first and the last event there; ``n_sources`` says whether others
        hold more of it. The times are the earliest and the latest. ``classes`` is a list of class
        and probability, likeliest first, "" for normal; null where the detector tells none apart.
        """
        threshold = self.calibration.threshold()
        return pl.DataFrame(
            {
                "key": self.sequences.keys,
                "score": self.scores.sequence,
                "p_value": self.p_values,
                "threshold": pl.Series([threshold if np.isfinite(threshold) else None])
                .cast(pl.Float64)
                .new_from_index(0, len(self)),
                "flagged": self.flags,
                "n_events": self.sequences.lengths,
                **places(self.sequences),
                "label": self.sequences.labels,
                "classes": likeliest(self.scores),
            }
        )

    def explain(self, index: NDArray[np.integer] | None = None) -> list[list[dict[str, Any]]]:
        """Return the culprits of the chosen sequences, or of the flagged ones, worst first.

        Each culprit is a mapping as ``oddlog.explain.culprit_records`` describes it.
        """
        chosen = self.sequences.take(self.flagged() if index is None else index)
        explanations = self.detector.explain(chosen) if len(chosen) else []
        return culprit_records(explanations, chosen, self.text_of)

    def highest(self, n: int) -> NDArray[np.int64]:
        """Return the numbers of the n sequences that score highest, flagged or not."""
        return worst_first(self.scores.sequence, np.ones(len(self), dtype=bool))[:n]

    def verdicts(
        self,
        *,
        every: bool = False,
        explain: bool = False,
        chosen: NDArray[np.integer] | None = None,
    ) -> pl.DataFrame:
        """Return rows of ``table``: those of the flagged sequences, worst first.

        Args:
            every: All sequences in the order of the log, not only the flagged ones.
            explain: Add ``culprits``, a list of structs; null for those of ``every`` that are not
                flagged.
            chosen: Numbers of the sequences to tell of in place of the flagged ones.
        """
        explained = self.flagged() if chosen is None else chosen
        index = np.arange(len(self)) if every else explained
        table = self.table()[index]
        if not explain:
            return table
        culprits: list[list[dict[str, Any]] | None] = [None] * len(self)
        for row, found in zip(explained.tolist(), self.explain(explained), strict=True):
            culprits[row] = found
        dtype = pl.List(pl.Struct(CULPRIT_COLUMNS))
        column = pl.Series("culprits", [culprits[row] for row in index.tolist()], dtype=dtype)
        return table.with_columns(column)

    def records(self, *, every: bool = False, explain: bool = False) -> list[dict[str, Any]]:
        """Return ``verdicts`` as one JSON-ready mapping per row, times as ISO 8601.

        Args:
            every: All sequences in the order of the log, not only the flagged ones.
            explain: Add ``culprits``; None for sequences that are not flagged.
        """
        return iso_times(self.verdicts(every=every, explain=explain)).to_dicts()

    def to_html(self, path: str | Path, *, about: Mapping[str, str] | None = None) -> None:
        """Write a report for a person: one HTML file that needs no network, whole or not at all.

        Args:
            path: Where to write.
            about: What made it, shown at its end by name: such as command, model, version.
        """
        from oddlog.report import write

        write(Path(path), self.judged(), about=about)

    def judged(self) -> Judged:
        """Return what a report tells: of all sequences a little, of the worst everything."""
        from oddlog.report import Judged

        numbers = self.worst(most_told())
        return Judged(
            spans=self.spans(),
            n_events=len(self.sequences.rows),
            told=self.take(numbers),
            numbers=numbers,
            calibration=self.calibration,
            drift=self.drift,
            notes=tuple(self.lines()),
            foreign=self.familiarity.warning,
        )

    def spans(self) -> pl.DataFrame:
        """Return columns of ``table``: score, flagged, source, first_time, last_time."""
        return self.table().select(SPANS)

    def worst(self, n: int) -> NDArray[np.int64]:
        """Return the numbers of the n worst sequences: flagged ones, if any can be flagged."""
        return self.highest(n) if self.calibration.n_missing() else self.flagged()[:n]

    def take(self, index: NDArray[np.integer]) -> Result:
        """Return the result of the chosen sequences, with what a table holds of their scores."""
        probs = self.scores.class_probs
        scores = Scores(
            self.scores.sequence[index],
            class_names=self.scores.class_names,
            class_probs=None if probs is None else probs[index],
        )
        return replace(self, sequences=self.sequences.take(index), scores=scores)

    def alerts(self) -> list[Alert]:
        """Return one alert per flagged sequence, worst first, with its lines and culprits.

        Of a sequence of more than ``alerts.MAX_LINES`` lines it has those about the worst culprit.
        """
        index = self.flagged()
        kinds = [likely_kind(record) for record in self.table()[index].to_dicts()]
        threshold = self.calibration.threshold()
        return make_alerts(
            self.sequences.take(index),
            self.scores.sequence[index],
            self.p_values[index],
            self.explain(index),
            Judgement(
                model=self.detector.name,
                fingerprint=self.fingerprint,
                threshold=threshold if np.isfinite(threshold) else None,
            ),
            [kind[0] if kind else None for kind in kinds],
        )


def most_told() -> int:
    """Return how many sequences a report tells of."""
    from oddlog.report import Limits

    return Limits().sequences


def caveats(n_sequences: int, calibration: Calibration) -> list[str]:
    """Say what keeps a log from being judged, one line each; nothing where nothing does."""
    told = []
    if not n_sequences:
        told.append("no sequences: nothing in this log could be cut into windows and scored")
    if calibration.n_missing():
        told.append(describe_calibration(calibration))
    return told


def worst_first(scores: NDArray[np.floating], flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the numbers of the flagged ones of (n,) scores, the highest first."""
    index = np.flatnonzero(flags)
    return index[np.argsort(-scores[index], kind="stable")]


def iso_times(table: pl.DataFrame) -> pl.DataFrame:
    """Return rows of ``Result.table`` with their times as ISO 8601."""
    return table.with_columns(pl.col("first_time", "last_time").dt.to_string("iso:strict"))


def describe_calibration(calibration: Calibration) -> str:
    """Say what the asked false-alarm rate amounts to with this many calibration sequences."""
    asked, n, n_trimmed = calibration.false_alarm_rate, len(calibration), calibration.n_trimmed
    if missing := calibration.n_missing():
        return (
            f"{n:,} calibration sequences are too few for a false-alarm rate of {asked:.2%}: "
            f"nothing can be flagged; give {missing:,} more, or ask for a higher rate: "
            f"--false-alarm-rate {calibration.lowest_rate():g} or more"
        )
    low, high = calibration.interval()
    told = (
        f"flags normal sequences at a rate of at most {asked:.2%}, by {n:,} calibration "
        f"sequences; the realised rate should lie between {low:.2%} and {high:.2%}"
    )
    if not n_trimmed:
        return told
    return (
        f"{told}. That supposes that the {n_trimmed:,} calibration sequences left out are "
        f"anomalies; if all of them are normal the rate may be {calibration.worst_rate():.2%}"
    )


def likeliest(scores: Scores) -> pl.Series:
    """Return (n,) lists of class and probability, likeliest first; null without classes."""
    n, probs = len(scores.sequence), scores.class_probs
    if probs is None:
        return pl.Series([None], dtype=CLASSES).new_from_index(0, n)
    order = np.argsort(-probs, axis=1, kind="stable")
    names = pl.Series(scores.class_names, dtype=pl.String).gather(order.ravel())
    ranked = np.take_along_axis(probs, order, axis=1).ravel()
    pairs = pl.DataFrame({"class": names, "probability": pl.Series(ranked, dtype=pl.Float32)})
    return pairs.to_struct().reshape((n, order.shape[1])).arr.to_list()


def places(sequences: Sequences) -> dict[str, pl.Series]:
    """Return where each sequence stands: columns source to last_time of ``Result.table``."""
    events = sequences.events
    entries = pl.DataFrame(
        {
            "owner": sequences.owners,
            "source": events["source"].gather(sequences.rows),
            "line": events["line"].gather(sequences.rows),
            "time": column(events, "time").gather(sequences.rows),
        }
    )
    places = entries.group_by("owner", maintain_order=True).agg(
        pl.col("source").first(),
        pl.col("line").first().alias("first_line"),
        pl.col("line")
        .filter(pl.col("source") == pl.col("source").first())
        .last()
        .alias("last_line"),
        pl.col("source").n_unique().cast(pl.Int64).alias("n_sources"),
        pl.col("time").min().alias("first_time"),
        pl.col("time").max().alias("last_time"),
    )
    return {name: places[name] for name in places.columns[1:]}
