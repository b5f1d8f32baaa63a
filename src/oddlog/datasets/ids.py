"""Sequences and streams that exist only as template ids: npz, parquet and CSV.

The kind of file is read from its first bytes, not its name. Whatever does not fit is refused here,
with the array or the row, so that ``Sequences`` can trust what it gets.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.datasets.labels import ANOMALY, to_classes
from oddlog.errors import FormatError
from oddlog.events import EVENT_COLUMNS, NORMAL, Sequences, check_events

ID_COLUMNS = ("events", "event_ids", "syscalls")
KEY_COLUMNS = ("session", "key", "trace", "container")
NPZ_MAGIC, PARQUET_MAGIC = b"PK", b"PAR1"
UNKNOWN = -1  # as an integer label
# What numpy, zipfile and polars raise on damaged files; polars panics on some parquet headers.
_NPZ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
_TABLE_ERRORS = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True, eq=False)
class IdDataset:
    """Sequences of ids, what their ids mean, and what else is known of each.

    Attributes:
        sequences: The sequences, in the file's order.
        texts: Template id to template, ``<*>`` for variables; empty where none are known.
        columns: The file's other columns, one row per sequence (application, split ...).
    """

    sequences: Sequences
    texts: dict[int, str] = field(default_factory=dict)
    columns: pl.DataFrame = field(default_factory=pl.DataFrame)

    def with_messages(self) -> Sequences:
        """Return the sequences with each event's template as its message, null where unknown.

        For detectors that read messages, such as LogLLM.
        """
        events = self.sequences.events
        known = list(self.texts), list(self.texts.values())
        message = events["template_id"].replace_strict(*known, default=None, return_dtype=pl.String)
        return replace(self.sequences, events=events.with_columns(message.alias("message")))


@dataclass(frozen=True, eq=False)
class IdStream:
    """One long stream of ids with a label for each line, to be cut into windows.

    Attributes:
        events: ``source``, ``line``, ``template_id``, ``label``; see ``EVENT_COLUMNS``.
        texts: Template id to template, of those that are known.
    """

    events: pl.DataFrame
    texts: dict[int, str] = field(default_factory=dict)


def read_ids(
    path: Path, *, events: str | None = None, key: str | None = None, label: str | None = None
) -> IdDataset:
    """Read sequences of template ids.

    - npz: arrays ``events`` (m,), ``offsets`` (n + 1,), ``labels`` (n,), integers; without
      ``labels`` they are unknown. Label 0 is normal, 1 "anomaly", -1 unknown, others are classes.
    - parquet, CSV: a row per sequence; ids as a list or as text with blanks between them. The
      label is a number as above or a word as in ``read_labels``; an empty field is unknown.

    Args:
        path: The file.
        events: Column of the ids; by default the first of ``events``, ``event_ids``, ``syscalls``.
        key: Column of the sequence's name; by default the first of ``session``, ``key``,
            ``trace``, ``container``; the row's number from 0 where there is none.
        label: Column of the label; by default ``label``; unknown where there is none.

    Raises:
        FormatError: The file is missing or damaged, or its arrays, columns or values do not fit.
    """
    magic = _first_bytes(path)
    if magic.startswith(NPZ_MAGIC):
        return IdDataset(_sequences_of_arrays(path, _load_arrays(path)))
    table = _read_parquet(path) if magic == PARQUET_MAGIC else _read_csv(path)
    return _of_table(path, table, events=events, key=key, label=label)


def read_stream(path: Path) -> IdStream:
    """Read a stream from an npz of ``events`` (m,) and ``labels`` (m,): 0, 1, or -1 for unknown.

    The singular names ``event`` and ``label`` do as well.

    Raises:
        FormatError: The file is missing or damaged, or its arrays do not fit.
    """
    if not _first_bytes(path).startswith(NPZ_MAGIC):
        raise FormatError(f"{path}: not an npz; a stream is an npz of events and labels")
    arrays = _load_arrays(path)
    ids = _ids(path, _array(path, arrays, "events", "event"))
    labels = _array(path, arrays, "labels", "label")
    if len(labels) != len(ids):
        raise FormatError(f"{path}: {len(labels)} labels for {len(ids)} events")
    if not len(ids):
        raise FormatError(f"{path}: no events in it")
    table = pl.DataFrame(
        {
            "source": pl.Series([path.stem]).new_from_index(0, len(ids)),
            "line": np.arange(1, len(ids) + 1, dtype=np.int64),
            "template_id": ids,
            "label": _classes_of_numbers(labels),
        },
        schema_overrides={"label": EVENT_COLUMNS["label"]},
    )
    return IdStream(check_events(table))


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise FormatError(f"{path}: cannot read it: {error.strerror}") from None


def _load_arrays(path: Path) -> dict[str, NDArray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _NPZ_ERRORS as error:
        raise FormatError(f"{path}: damaged, or no npz of plain arrays: {error}") from None


def _array(path: Path, arrays: dict[str, NDArray], *names: str) -> NDArray[np.integer]:
    for name in names:
        if name in arrays:
            array = arrays[name]
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise FormatError(
                    f"{path}: array {name!r} is {array.dtype} of shape {array.shape}; "
                    "it has to be one row of integers"
                )
            return array
    raise FormatError(f"{path}: no array {names[0]!r}; it has {', '.join(arrays) or 'none'}")


def _ids(path: Path, ids: NDArray[np.integer]) -> NDArray[np.int32]:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < 2**31:
        raise FormatError(f"{path}: ids from {ids.min()} to {ids.max()}; they have to be 0 to 2^31")
    return ids.astype(np.int32)


def _sequences_of_arrays(path: Path, arrays: dict[str, NDArray]) -> Sequences:
    if "offsets" not in arrays:
        raise FormatError(f"{path}: no array 'offsets'; a stream is read by read_stream")
    ids = _ids(path, _array(path, arrays, "events"))
    offsets = _offsets(path, _array(path, arrays, "offsets"), len(ids))
    n = len(offsets) - 1
    labels = _array(path, arrays, "labels") if "labels" in arrays else np.full(n, UNKNOWN)
    if len(labels) != n:
        raise FormatError(f"{path}: {len(labels)} labels for {n} sequences")
    return Sequences.from_arrays(ids, offsets, _classes_of_numbers(labels), source=path.stem)


def _offsets(path: Path, offsets: NDArray[np.integer], n_events: int) -> NDArray[np.int64]:
    if len(offsets) < 2:
        raise FormatError(f"{path}: no sequences in it")
    offsets = offsets.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != n_events:
        raise FormatError(
            f"{path}: offsets run from {offsets[0]} to {offsets[-1]}; "
            f"they have to run from 0 to the number of events, {n_events}"
        )
    lengths = np.diff(offsets)
    if lengths.min() < 1:
        raise FormatError(
            f"{path}: sequence {int(lengths.argmin())} has {lengths.min()} events by its offsets"
        )
    return offsets


def _classes_of_numbers(labels: NDArray[np.integer]) -> pl.Series:
    """Name the few distinct numbers once and gather the names."""
    distinct, inverse = np.unique(labels, return_inverse=True)
    known = {0: NORMAL, 1: ANOMALY, UNKNOWN: None}
    names = [known.get(number, str(number)) for number in distinct.tolist()]
    return pl.Series("label", names, dtype=pl.String).gather(inverse.astype(np.int64))


def _read_parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except _TABLE_ERRORS as error:
        raise FormatError(f"{path}: damaged parquet: {_first_line(error)}") from None


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except _TABLE_ERRORS as error:
        raise FormatError(f"{path}: neither npz, parquet nor CSV: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _of_table(
    path: Path, table: pl.DataFrame, *, events: str | None, key: str | None, label: str | None
) -> IdDataset:
    ids_column = _column(path, table, events, ID_COLUMNS)
    if ids_column is None:
        raise FormatError(
            f"{path}: no column of ids ({', '.join(ID_COLUMNS)}); it has {', '.join(table.columns)}"
        )
    if not table.height:
        raise FormatError(f"{path}: no sequences in it")
    key_column = _column(path, table, key, KEY_COLUMNS)
    label_column = _column(path, table, label, ("label",))
    ids, offsets = _flat_ids(path, table[ids_column])
    sequences = Sequences.from_arrays(
        ids,
        offsets,
        _labels(path, table, label_column),
        keys=_keys(path, table, key_column),
        source=path.stem,
    )
    used = [name for name in (ids_column, key_column, label_column) if name is not None]
    return IdDataset(sequences, columns=table.drop(used))


def _column(
    path: Path, table: pl.DataFrame, asked: str | None, usual: tuple[str, ...]
) -> str | None:
    if asked is not None and asked not in table.columns:
        raise FormatError(f"{path}: no column {asked!r}; it has {', '.join(table.columns)}")
    return asked or next((name for name in usual if name in table.columns), None)


def _flat_ids(path: Path, column: pl.Series) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    if column.dtype == pl.String:
        column = column.str.extract_all(r"\S+")
    if not isinstance(column.dtype, pl.List):
        raise FormatError(f"{path}: column {column.name!r} is {column.dtype}, not lists of ids")
    lengths = column.list.len().fill_null(0).to_numpy()
    if lengths.min() < 1:
        raise FormatError(f"{path}: row {int(lengths.argmin()) + 1} has no events")
    flat = column.explode()
    numbers = flat.cast(pl.Int64, strict=False)
    if flat.dtype.is_float() or numbers.null_count():
        bad = int(numbers.is_null().arg_max() or 0)
        row = int(np.searchsorted(np.cumsum(lengths), bad, side="right")) + 1
        raise FormatError(f"{path}: row {row}: {flat[bad]!r} is not an id; ids are integers")
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return _ids(path, numbers.to_numpy()), offsets


def _keys(path: Path, table: pl.DataFrame, name: str | None) -> pl.Series | None:
    if name is None:
        return None
    keys = table[name].cast(pl.String)
    wrong = ~keys.is_first_distinct() | keys.is_null()
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        said = "no name" if keys[row] is None else f"{keys[row]!r} a second time"
        raise FormatError(f"{path}: row {row + 1}: {said} in {name!r}; each sequence has its own")
    return keys


def _labels(path: Path, table: pl.DataFrame, name: str | None) -> pl.Series:
    if name is None:
        return pl.Series("label", [None], dtype=pl.String).new_from_index(0, table.height)
    labels = table[name]
    if labels.dtype.is_integer():
        return _classes_of_numbers(labels.fill_null(UNKNOWN).to_numpy())
    if labels.dtype != pl.String:
        raise FormatError(f"{path}: column {name!r} is {labels.dtype}; labels are words or numbers")
    return to_classes(labels)
