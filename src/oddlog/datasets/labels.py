"""Label files: which session is an anomaly, and of what class; and their marriage with sequences.

The words of the public sets become the project's own: "" for normal, "anomaly" where no class is
named, the class otherwise.
"""

from __future__ import annotations

import csv
import logging
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import polars as pl

from oddlog.errors import LabelsError
from oddlog.events import NORMAL, Sequences

log = logging.getLogger(__name__)

ANOMALY = "anomaly"
NORMAL_WORDS = ("normal", "0", "-", "")
ANOMALY_WORDS = ("anomaly", "1")
SESSION_COLUMNS = ("session", "blockid")
LABEL_COLUMN = "label"
LATER_PART = r"~(?:[2-9]|[1-9]\d+)$"  # group names the parts of a long session id, id~2, id~3


def to_classes(words: pl.Series) -> pl.Series:
    """Return (n,) String classes for a file's words: "" normal, "anomaly", or the word itself.

    Case and surrounding blanks of ``Normal``, ``0``, ``-``, ``Anomaly`` and ``1`` do not matter;
    null stays null.

    Example:
        >>> to_classes(pl.Series(["Normal", "1", "disk_full", None])).to_list()
        ['', 'anomaly', 'disk_full', None]
    """
    stripped = pl.col("word").str.strip_chars()
    lower = stripped.str.to_lowercase()
    classes = (
        pl.when(lower.is_in(NORMAL_WORDS))
        .then(pl.lit(NORMAL))
        .when(lower.is_in(ANOMALY_WORDS))
        .then(pl.lit(ANOMALY))
        .otherwise(stripped)
    )
    return pl.DataFrame({"word": words}, schema={"word": pl.String}).select(label=classes)["label"]


def read_labels(path: Path) -> pl.DataFrame:
    """Read a CSV of ``BlockId,Label`` (Loghub) or ``session,label``; other columns are left alone.

    Returns:
        ``session``, ``label`` (String): "" normal, "anomaly", or a class; one row per session, in
        the file's order. A session that the file names twice with the same label is there once.

    Raises:
        LabelsError: No such file, not CSV, no such columns, nothing in it, or a session with two
            labels; with the line.
    """
    header, rows, lines = _read_csv(path)
    session, label = _find_columns(path, header)
    table = pl.DataFrame(
        {
            "session": [row[session] for row in rows],
            "label": [row[label] for row in rows],
            "line": lines,
        },
        schema={"session": pl.String, "label": pl.String, "line": pl.Int64},
    )
    table = table.with_columns(to_classes(table["label"]), pl.col("session").str.strip_chars())
    nameless = table.filter(pl.col("session") == "")
    if nameless.height:
        raise LabelsError(f"{path}:{nameless['line'][0]}: no session; give its id")
    _refuse_contradiction(path, table)
    once = table.unique("session", keep="first", maintain_order=True)
    if once.height < table.height:
        log.info("%s: %d labels are given twice, alike", path, table.height - once.height)
    return once.select("session", "label")


def _read_csv(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows and the line each row ends on.

    Python's own reader, row by row: it is the one that knows the line numbers for the errors, and
    a label file has one short row per session (575,061 of HDFS take half a second).
    """
    text = _read_text(path)
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise LabelsError(f"{path}:{reader.line_num}: not CSV: {error}") from None
    if len(rows) < 2:
        raise LabelsError(f"{path}: no labels in it; it needs a header and a line per session")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(rows[0]):
            raise LabelsError(
                f"{path}:{line}: {len(row)} fields where the header has {len(rows[0])}"
            )
    return rows[0], rows[1:], lines[1:]


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LabelsError(f"{path}: cannot read the labels: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelsError(f"{path}:{line}: not UTF-8 text; labels are a CSV file") from None


def _find_columns(path: Path, header: list[str]) -> tuple[int, int]:
    names = [name.strip().lower() for name in header]
    sessions = [names.index(name) for name in SESSION_COLUMNS if name in names]
    if not sessions or LABEL_COLUMN not in names:
        raise LabelsError(
            f"{path}:1: columns {header}; labels need 'session' (or 'BlockId') and 'label'"
        )
    return sessions[0], names.index(LABEL_COLUMN)


def _refuse_contradiction(path: Path, table: pl.DataFrame) -> None:
    first = pl.col("label").first().over("session")
    wrong = table.with_columns(first=first).filter(pl.col("first") != pl.col("label"))
    if wrong.height:
        row = wrong.row(0, named=True)
        one, other = row["first"] or "normal", row["label"] or "normal"
        raise LabelsError(
            f"{path}:{row['line']}: session {row['session']} is {other} here and {one} before; "
            "a session has one label"
        )


@dataclass(frozen=True)
class LabelReport:
    """How labels and sequences fit together; a session in several parts counts once.

    Attributes:
        n_labels: Sessions that the labels name.
        n_labelled: Sessions of the log that got their label.
        n_unlabelled: Sessions of the log that the labels do not name.
        n_unused: Sessions that the labels name and the log does not have.
    """

    n_labels: int
    n_labelled: int
    n_unlabelled: int
    n_unused: int

    def summary(self) -> str:
        """Return one line for a person."""
        return (
            f"{self.n_labelled} sessions labelled, {self.n_unlabelled} without a label, "
            f"{self.n_unused} of {self.n_labels} labels for sessions that are not in the log"
        )


def attach_labels(sequences: Sequences, labels: pl.DataFrame) -> tuple[Sequences, LabelReport]:
    """Give each sequence the label of its session; see ``label_keys``."""
    given, report = label_keys(sequences.keys, sequences.labels, labels)
    return sequences.with_labels(given), report


def label_keys(
    keys: pl.Series, old: pl.Series, labels: pl.DataFrame
) -> tuple[pl.Series, LabelReport]:
    """Return the labels of sequences by their sessions.

    A sequence's key is its session's id, for later parts with ``~2``, ``~3`` ... behind it; a key
    that the labels name as it stands is taken as it stands. A sequence that the labels do not name
    keeps the label it had, and its session is counted as unlabelled.

    Args:
        keys: (n,) String, of the sequences.
        old: (n,) String, the labels they had.
        labels: ``session``, ``label``, each session once, as ``read_labels`` returns them.

    Raises:
        LabelsError: Not one sequence is named: the labels belong to another log.
    """
    table = pl.DataFrame({"key": keys, "old": old})
    exact = table["key"].is_in(labels["session"].implode())
    session = pl.when(exact).then("key").otherwise(pl.col("key").str.replace(LATER_PART, ""))
    given = table.with_columns(session=session).join(
        labels.select("session", "label", named=True),
        on="session",
        how="left",
        maintain_order="left",
    )
    new = pl.when("named").then("label").otherwise("old")
    sessions = given.unique("session")
    n_labelled = int(sessions["named"].fill_null(value=False).sum())
    if not n_labelled and labels.height and table.height:
        raise LabelsError(
            f"none of {labels.height} labels is for one of the {sessions.height} sessions: labels "
            f"have ids like {labels['session'][0]!r}, the log like {sessions['session'][0]!r}"
        )
    report = LabelReport(
        n_labels=labels.height,
        n_labelled=n_labelled,
        n_unlabelled=sessions.height - n_labelled,
        n_unused=labels.height - n_labelled,
    )
    return given.select(label=new)["label"], report
