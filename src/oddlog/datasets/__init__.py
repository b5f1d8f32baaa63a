"""Data sets that are more than a log: sequences of ids, label files, and the named sets.

``ids`` reads sequences and streams that exist only as template ids, ``labels`` reads label files
and attaches them to sequences, ``named`` knows where the public sets lie below a data folder.
``catalogue`` knows where raw sets are published, ``download`` gets them when it is told to.
"""

from oddlog.datasets.catalogue import ORIGINS, Origin
from oddlog.datasets.download import fetch, read_receipts, wrong_files
from oddlog.datasets.ids import IdDataset, IdStream, read_ids, read_stream
from oddlog.datasets.labels import LabelReport, attach_labels, label_keys, read_labels
from oddlog.datasets.named import DATASETS, Dataset, RawDataset, dataset_files, open_dataset

__all__ = [
    "DATASETS",
    "ORIGINS",
    "Dataset",
    "IdDataset",
    "IdStream",
    "LabelReport",
    "Origin",
    "RawDataset",
    "attach_labels",
    "dataset_files",
    "fetch",
    "label_keys",
    "open_dataset",
    "read_ids",
    "read_labels",
    "read_receipts",
    "read_stream",
    "wrong_files",
]
