"""Tiny LogBERTs whose answers are known: weights set by hand, through a saved model's files."""

import math
from dataclasses import replace

import numpy as np

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.detectors.logbert import LogBERT, LogBERTConfig
from oddlog.encode import FIRST_CANDIDATE
from oddlog.events import Sequences
from oddlog.run import Run

TINY = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "inner": 16,
    "context": 16,
    "epochs": 1,
    "epoch_batches": 2,
    "batch_size": 4,
    "learning_rate": 0.02,
    "reads": "order",
}
KEYS = (10, 20, 30)  # templates by falling frequency in TRAIN
TRAIN = [[10, 20, 10, 30, 10, 20, 10]]
N_TRAIN = 7
EIGHTHS = {"end": 1.0, 10: 4.0, 20: 2.0, 30: 1.0}  # p = 1/8, 1/2, 1/4, 1/8


def sessions(ids, *, starts=True, ends=True):
    sequences = Sequences.from_ids(ids)
    n = len(sequences)
    return replace(sequences, starts=np.full(n, starts), ends=np.full(n, ends))


def fit(train, valid=None, run=None, **settings):
    detector = LogBERT(LogBERTConfig(**(TINY | settings)))
    sequences = sessions(train)
    validation = sequences if valid is None else sessions(valid)
    detector.fit(sequences, validation, run or Run(device="cpu"))
    return detector


def unigram(folder, **settings):
    """Return a detector that expects the same at every place: token v with share ``EIGHTHS[v]``.

    Output weights of nothing make the logits those of the output's bias.
    """
    fit(TRAIN).save(folder)
    weights = load_arrays(folder / "model.safetensors")
    weights["cls.predictions.decoder.weight"][:] = 0.0
    logits = [math.log(EIGHTHS[name]) for name in ("end", *KEYS)]
    weights["cls.predictions.bias"][FIRST_CANDIDATE:-1] = logits
    save_arrays(folder / "model.safetensors", weights)
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    return LogBERT.load(folder, "cpu")
