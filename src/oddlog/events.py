"""Log events as a table, and windows over it.

Every step after the parser works on these two: a polars DataFrame with the columns of
``EVENT_COLUMNS``, checked once at the edge by ``check_events``, and ``Sequences``, which cuts such
a table into windows by row number, so that no window ever copies an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.errors import FormatError

EVENT_COLUMNS: dict[str, pl.DataType] = {
    "source": pl.String(),  # file, host or topic; (source, line) is unique
    "line": pl.Int64(),  # 1-based number of the event's first line in its source
    "n_lines": pl.Int32(),  # how many lines were joined into it (stack traces)
    "raw": pl.String(),  # as received
    "time": pl.Datetime("us", "UTC"),  # null where the format has none
    "level": pl.String(),
    "host": pl.String(),
    "sessions": pl.List(pl.String()),  # block ids, request ids ...; one line may belong to several
    "message": pl.String(),  # what follows the header, as logged
    "template_id": pl.Int32(),  # the papers' "log key"; negative = not known at fit time
    "label": pl.String(),  # null unknown, "" normal, else the anomaly's class
}
REQUIRED_COLUMNS = ("source", "line")
NORMAL = ""


def check_events(events: pl.DataFrame) -> pl.DataFrame:
    """Return the table with its columns in order, or say which one is wrong.

    A column of ``EVENT_COLUMNS`` other than ``source`` and ``line`` may be left out; that means
    null in every row. Columns of other names are refused.

    Raises:
        FormatError: A column is missing, unknown, or of another type than ``EVENT_COLUMNS`` says.
    """
    for name in REQUIRED_COLUMNS:
        if name not in events.columns:
            raise FormatError(f"event table: no column {name!r}; it needs {REQUIRED_COLUMNS}")
    for name, dtype in events.schema.items():
        wanted = EVENT_COLUMNS.get(name)
        if wanted is None:
            raise FormatError(f"event table: unknown column {name!r}; known: {[*EVENT_COLUMNS]}")
        if dtype != wanted:
            raise FormatError(f"event table: column {name!r} is {dtype}, it has to be {wanted}")
    return events.select(name for name in EVENT_COLUMNS if name in events.columns)


def column(events: pl.DataFrame, name: str) -> pl.Series:
    """Return a column of ``EVENT_COLUMNS``, all null where the table leaves it out."""
    if name in events.columns:
        return events[name]
    return pl.Series(name, [None], dtype=EVENT_COLUMNS[name]).new_from_index(0, events.height)


@dataclass(frozen=True, eq=False)
class Sequences:
    """n windows over one event table; window i is ``rows[offsets[i]:offsets[i + 1]]``.

    Windows may overlap, none is empty. m is the number of rows in all windows together.

    Attributes:
        events: The event table (see ``EVENT_COLUMNS``).
        rows: (m,) int64 row numbers of ``events``, in order within each window.
        offsets: (n + 1,) int64, rising, from 0 to m.
        keys: (n,) String, a name for each window: the session id, or source and first line.
        labels: (n,) String: null unknown, "" normal, else the anomaly's class.
        starts: (n,) bool: the window holds its session's beginning.
        ends: (n,) bool: the window holds its session's end.
    """

    events: pl.DataFrame
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]
    keys: pl.Series
    labels: pl.Series
    starts: NDArray[np.bool_]
    ends: NDArray[np.bool_]

    def __post_init__(self) -> None:
        n = len(self.offsets) - 1
        sizes = {len(self.keys), len(self.labels), len(self.starts), len(self.ends)}
        if n < 0 or sizes != {n}:
            raise ValueError(f"Sequences: {n} windows by offsets, but columns of lengths {sizes}")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.rows):
            raise ValueError("Sequences: offsets have to run from 0 to the number of rows")
        if n and self.lengths.min() < 1:
            raise ValueError("Sequences: a window is empty")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) number of events in each window."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(m,) the window that each entry of ``rows`` belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(n,) whether the window's label is known."""
        return self.labels.is_not_null().to_numpy()

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """(n,) whether the window is labelled with an anomaly's class; unknown counts as no."""
        return (self.labels != NORMAL).fill_null(value=False).to_numpy()

    def template_ids(self) -> NDArray[np.int32]:
        """(m,) template of each entry of ``rows``; negative where not known at fit time."""
        return self.events["template_id"].to_numpy()[self.rows]

    def messages(self) -> pl.Series:
        """(m,) String, the message of each entry of ``rows``."""
        return column(self.events, "message").gather(self.rows)

    def event_anomalous(self) -> NDArray[np.bool_]:
        """(m,) whether the entry's own line carries an anomaly's label; unknown counts as no."""
        label = column(self.events, "label")
        return (label != NORMAL).fill_null(value=False).to_numpy()[self.rows]

    def lines(self, index: int) -> pl.DataFrame:
        """Return window ``index`` as a table of events, in order."""
        return self.events[self.rows[self.offsets[:-1][index] : self.offsets[1:][index]]]

    def take(self, index: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]) -> Sequences:
        """Return the chosen windows, in the order given, over a table of only their events.

        Args:
            index: Window numbers, negative ones counted from the last, or a (n,) boolean mask.

        Raises:
            IndexError: There is no window of that number, or the mask is of another length.
        """
        wanted = np.asarray(index)
        wanted = wanted if wanted.dtype == bool else wanted.astype(np.int64)  # [] is float
        chosen = np.arange(len(self))[wanted]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        rows = self.rows[np.repeat(self.offsets[chosen], lengths) + within]
        used, compact = np.unique(rows, return_inverse=True)
        return Sequences(
            events=self.events[used],
            rows=compact.astype(np.int64),
            offsets=offsets,
            keys=self.keys.gather(chosen),
            labels=self.labels.gather(chosen),
            starts=self.starts[chosen],
            ends=self.ends[chosen],
        )

    def with_labels(self, labels: pl.Series) -> Sequences:
        """Return the same windows with other labels, (n,) String."""
        return Sequences(
            self.events, self.rows, self.offsets, self.keys, labels, self.starts, self.ends
        )

    def without_labels(self) -> Sequences:
        """Return the same windows with every label, of window and of line, unknown."""
        unknown = pl.Series("label", [None], dtype=pl.String).new_from_index(0, len(self))
        events = self.events.drop("label", strict=False)
        return Sequences(
            events, self.rows, self.offsets, self.keys, unknown, self.starts, self.ends
        )

    @staticmethod
    def concat(parts: Sequence[Sequences]) -> Sequences:
        """Join windows over several tables into windows over one."""
        if not parts:
            raise ValueError("Sequences.concat: nothing to join")
        first_row = np.cumsum([0] + [part.events.height for part in parts])
        first_entry = np.cumsum([0] + [len(part.rows) for part in parts])
        shifted = [p.offsets[1:] + s for p, s in zip(parts, first_entry[:-1], strict=True)]
        return Sequences(
            events=pl.concat([part.events for part in parts], how="diagonal"),
            rows=np.concatenate([p.rows + r for p, r in zip(parts, first_row[:-1], strict=True)]),
            offsets=np.concatenate([[0], *shifted]).astype(np.int64),
            keys=pl.concat([part.keys for part in parts]),
            labels=pl.concat([part.labels for part in parts]),
            starts=np.concatenate([part.starts for part in parts]),
            ends=np.concatenate([part.ends for part in parts]),
        )

    @staticmethod
    def from_ids(
        sequences: Sequence[Sequence[int]],
        labels: Sequence[str | None] | None = None,
        source: str = "ids",
    ) -> Sequences:
        """Build complete sessions from lists of template ids, for sequences without a log.

        Example:
            >>> sequences = Sequences.from_ids([[5, 22, 5], [7]], labels=["", "disk_full"])
            >>> sequences.lengths.tolist(), sequences.anomalous.tolist()
            ([3, 1], [False, True])
        """
        n = len(sequences)
        offsets = np.cumsum([0] + [len(ids) for ids in sequences]).astype(np.int64)
        none = np.empty(0, dtype=np.int32)
        flat = np.concatenate([none, *(np.asarray(ids, dtype=np.int32) for ids in sequences)])
        return Sequences.from_arrays(
            flat, offsets, labels if labels is not None else [None] * n, source=source
        )

    @staticmethod
    def from_arrays(
        template_ids: NDArray[np.integer],
        offsets: NDArray[np.integer],
        labels: Sequence[str | None] | pl.Series,
        *,
        keys: Sequence[str] | pl.Series | None = None,
        source: str = "ids",
    ) -> Sequences:
        """Build complete sessions from flat template ids (m,) and offsets (n + 1,)."""
        n, m = len(offsets) - 1, len(template_ids)
        events = pl.DataFrame(
            {
                "source": pl.Series([source], dtype=pl.String).new_from_index(0, m),
                "line": np.arange(1, m + 1, dtype=np.int64),
                "template_id": np.asarray(template_ids, dtype=np.int32),
            }
        )
        names = pl.Series("key", np.arange(n)).cast(pl.String) if keys is None else keys
        return Sequences(
            events=events,
            rows=np.arange(m, dtype=np.int64),
            offsets=np.asarray(offsets, dtype=np.int64),
            keys=pl.Series("key", names, dtype=pl.String),
            labels=pl.Series("label", labels, dtype=pl.String),
            starts=np.ones(n, dtype=bool),
            ends=np.ones(n, dtype=bool),
        )
