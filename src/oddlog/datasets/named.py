"""The public data sets by name, where they lie below a data folder, read as what they are.

Three kinds: sequences that exist only as ids, one stream of ids, and raw logs, of which only the
place, the layout and the label file are given here.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from oddlog.datasets.catalogue import ORIGINS
from oddlog.datasets.ids import IdDataset, IdStream, read_ids, read_stream
from oddlog.errors import ConfigError, FormatError


@dataclass(frozen=True)
class RawDataset:
    """A raw log.

    Attributes:
        path: The log, packed or not.
        layout: Name of its layout in ``oddlog.formats``.
        labels: Its label file, by session; None where each line carries its own label.
    """

    path: Path
    layout: str
    labels: Path | None


Dataset = IdDataset | IdStream | RawDataset


def open_dataset(name: str, folder: Path) -> Dataset:
    """Open a public data set.

    - ``hdfs_v1``: all of HDFS_v1 as ids with their templates, 575,059 sessions, 16,838 "anomaly".
      The normal ones are shuffled: do not split them by order.
    - ``hdfs_v1_logdeep``: the same without 3,432 exception events, only to reproduce others.
    - ``adfa_ld``: system calls, six classes of attack, column ``split``. No texts: the table
      that the set ships numbers the calls of another architecture than the traces' (i386).
    - ``hadoop``: containers, three classes of failure, column ``application``: the label is the
      application's, so split by it.
    - ``bgl_stream``: an ``IdStream`` of Blue Gene/L's second half, labels by line.
    - ``hdfs_raw``, ``bgl_raw``: a ``RawDataset`` each: a 2 % sample of HDFS, the first 100,000
      lines of Blue Gene/L.
    - ``hdfs_log``, ``bgl_log``, ``thunderbird_log``, ``liberty_log``, ``spirit_log``: a
      ``RawDataset`` each, the whole published log, as ``oddlog data fetch`` gets it.

    Args:
        name: One of ``DATASETS``.
        folder: The folder that has ``hdfs/``, ``bgl/``, ``adfa_ld/``, ``hadoop/``.

    Raises:
        ConfigError: No data set of that name, or a file of it is not below the folder.
        FormatError: A file is damaged.
    """
    files = dataset_files(name)
    paths = [folder / file for file in files]
    for path in paths:
        if not path.is_file():
            way = (
                f"`oddlog data fetch {name} --to {folder}` gets it"
                if name in ORIGINS
                else (
                    f"put the set into {folder}, or name the folder that holds {', '.join(files)}"
                )
            )
            raise ConfigError(f"data set {name!r}: {path} is not there; {way}")
    return _OPENERS[name][0](*paths)


def dataset_files(name: str) -> tuple[str, ...]:
    """Return where the files of a public data set lie below a data folder.

    Raises:
        ConfigError: No data set has that name.
    """
    if name not in _OPENERS:
        near = get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"no data set named {name!r}; {hint}there are: {', '.join(DATASETS)}")
    return _OPENERS[name][1:]


def _open_hdfs(path: Path, templates: Path) -> IdDataset:
    return replace(read_ids(path), texts=_hdfs_texts(templates))


def _open_hadoop(path: Path, templates: Path) -> IdDataset:
    lines = _read_text(templates).splitlines()
    return replace(read_ids(path, label="class"), texts=dict(enumerate(lines, start=1)))


def _open_bgl(path: Path, texts: Path) -> IdStream:
    return replace(read_stream(path), texts=_bgl_texts(texts))


def _open_raw(layout: str, path: Path, labels: Path | None = None) -> RawDataset:
    return RawDataset(path, layout, labels)


def _hdfs_texts(path: Path) -> dict[int, str]:
    """Read ``E3,[*]Served block[*]to[*]`` as 3: ``<*> Served block <*> to <*>``."""
    texts = {}
    for row in csv.DictReader(_read_text(path).splitlines()):
        number = re.fullmatch(r"E(\d+)", row.get("EventId") or "")
        template = row.get("EventTemplate")
        if number is None or template is None:
            raise FormatError(f"{path}: not a table of EventId (E1, E2 ...) and EventTemplate")
        texts[int(number[1])] = " ".join(template.replace("[*]", " <*> ").split())
    return texts


def _bgl_texts(path: Path) -> dict[int, str]:
    try:
        return {
            int(number): entry["text"] for number, entry in json.loads(_read_text(path)).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FormatError(f'{path}: not a JSON table of id to {{"text": ...}}') from None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{path}: not UTF-8 text") from None


_HDFS_TEMPLATES = "hdfs/HDFS.log_templates.csv"
_OPENERS: Mapping[str, tuple[Callable[..., Dataset], *tuple[str, ...]]] = {
    "hdfs_v1": (_open_hdfs, "hdfs/hdfs_v1_sessions.npz", _HDFS_TEMPLATES),
    "hdfs_v1_logdeep": (_open_hdfs, "hdfs/hdfs_v1_sessions_logdeep.npz", _HDFS_TEMPLATES),
    "adfa_ld": (read_ids, "adfa_ld/adfa_ld.parquet"),
    "hadoop": (_open_hadoop, "hadoop/hadoop_containers.parquet", "hadoop/Hadoop_templates.csv"),
    "bgl_stream": (
        _open_bgl,
        "bgl/bgl_second_half_first80.npz",
        "bgl/id_to_text_partial.json",
    ),
    "hdfs_raw": (
        partial(_open_raw, "hdfs"),
        "hdfs/HDFS_2pct.log.gz",
        "hdfs/anomaly_label_2pct.csv",
    ),
    "bgl_raw": (partial(_open_raw, "bgl"), "bgl/bgl_100k.log.gz"),
    "hdfs_log": (partial(_open_raw, "hdfs"), "hdfs/HDFS.log", "hdfs/anomaly_label.csv"),
    "bgl_log": (partial(_open_raw, "bgl"), "bgl/BGL.log"),
    "thunderbird_log": (partial(_open_raw, "thunderbird"), "thunderbird/Thunderbird.log"),
    "liberty_log": (partial(_open_raw, "thunderbird"), "liberty/liberty2.gz"),
    "spirit_log": (partial(_open_raw, "thunderbird"), "spirit/spirit2.gz"),
}
DATASETS: tuple[str, ...] = tuple(_OPENERS)
