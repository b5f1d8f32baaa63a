"""Whether a session has ended, or the log merely stops before its next event.

The last event of a session says nothing by itself: a file was cut, a stream is still running, a
block will be deleted tomorrow. What says something is the silence after it. Inside normal training
sessions each template is followed by silences up to some length; a session that has been silent for
longer than that when the log ends has ended there, and only then may a detector hold its end
against it. (On the HDFS sample cut in time, a third of the test sessions are normal ones whose
deletion comes after the log's last line; taken as ended they are all false alarms.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import ArtifactError
from oddlog.events import Sequences, column

MICROSECONDS = 1_000_000


def log_ends(events: pl.DataFrame) -> pl.DataFrame:
    """Return when each source ends, columns source and end: the time of its last event with one.

    Not the latest time in it: one line with a broken clock would end every session.
    """
    timed = events.select("source", column(events, "time").alias("end")).drop_nulls("end")
    return timed.group_by("source").agg(pl.col("end").last())


@dataclass(frozen=True, eq=False)
class Silences:
    """The longest silence after each template inside training sessions.

    Attributes:
        template_ids: (k,) int32, rising: the templates of training events that have a time.
        longest_s: (k,) float64 seconds.
    """

    template_ids: NDArray[np.int32]
    longest_s: NDArray[np.float64]

    @classmethod
    def of(cls, train: Sequences) -> Silences:
        """Measure the silences between neighbouring events of each window.

        Events without a time are passed over; events out of order count as silences of no length,
        and so does what follows a window's last event. Without any times nothing is learned, and
        every end is taken as it is given.
        """
        time = column(train.events, "time").dt.timestamp("us").gather(train.rows)
        inside = pl.col("owner").shift(-1) == pl.col("owner")
        pairs = (
            pl.DataFrame({"owner": train.owners, "id": train.template_ids(), "time": time})
            .drop_nulls("time")
            .with_columns(
                silence=pl.when(inside).then(pl.col("time").shift(-1) - pl.col("time")).otherwise(0)
            )
        )
        longest = pairs.group_by("id").agg(pl.col("silence").max().clip(lower_bound=0)).sort("id")
        return cls(
            longest["id"].to_numpy().astype(np.int32),
            longest["silence"].to_numpy() / MICROSECONDS,
        )

    @classmethod
    def none(cls) -> Silences:
        """Return what is learned from a log without times: nothing."""
        return cls(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float64))

    def joined(self, other: Silences) -> Silences:
        """Return the longer silence of the two after each template that either knows."""
        ids = np.concatenate([self.template_ids, other.template_ids])
        both, place = np.unique(ids, return_inverse=True)
        longest_s = np.zeros(len(both))
        np.maximum.at(longest_s, place, np.concatenate([self.longest_s, other.longest_s]))
        return Silences(both, longest_s)

    def mark(self, sequences: Sequences, ends: pl.DataFrame | None = None) -> Sequences:
        """Return the same windows, with ``ends`` only where the silence shows the end.

        A template that was always the last of its session ends it at once; one that training did
        not see is waited for as long as the longest silence of all.

        Args:
            sequences: Windows with template ids.
            ends: When each source ends, as ``log_ends`` gives it; by default of the event table.
                A session is judged by the source of its last event.
        """
        if not len(self.template_ids):
            return sequences
        events = sequences.events
        last = sequences.rows[sequences.offsets[1:] - 1]
        final = pl.DataFrame(
            {"source": events["source"].gather(last), "time": column(events, "time").gather(last)}
        ).join(
            log_ends(events) if ends is None else ends,
            on="source",
            how="left",
            maintain_order="left",
        )
        elapsed = (final["end"] - final["time"]).dt.total_microseconds()
        untimed = elapsed.is_null().to_numpy()
        silent_s = elapsed.fill_null(0).to_numpy() / MICROSECONDS
        enough = silent_s > self.wait_s(events["template_id"].to_numpy()[last])
        return replace(sequences, ends=sequences.ends & (enough | untimed))

    def wait_s(self, template_ids: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return how long to wait after each event before its session counts as ended, seconds."""
        place = np.searchsorted(self.template_ids, template_ids).clip(max=len(self.longest_s) - 1)
        seen = self.template_ids[place] == template_ids
        return np.where(seen, self.longest_s[place], self.longest_s.max())

    def to_json(self) -> dict[str, float]:
        """Return template id to seconds."""
        return {str(i): s for i, s in zip(self.template_ids.tolist(), self.longest_s, strict=True)}

    @classmethod
    def from_json(cls, value: object, where: str = "endings.json") -> Silences:
        """Read what ``to_json`` gave.

        Raises:
            ArtifactError: It is not template ids and seconds.
        """
        try:
            pairs = sorted((int(key), float(s)) for key, s in dict(value).items())  # type: ignore[call-overload]
        except (TypeError, ValueError):
            raise ArtifactError(f"{where}: damaged; fit the model again") from None
        ids, seconds = zip(*pairs, strict=True) if pairs else ((), ())
        return cls(np.array(ids, dtype=np.int32), np.array(seconds, dtype=np.float64))
