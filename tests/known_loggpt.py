"""Tiny LogGPTs whose answers are known: weights set by hand, through a saved model's files."""

import math
from dataclasses import replace

import numpy as np

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig
from oddlog.encode import FIRST_CANDIDATE
from oddlog.events import Sequences
from oddlog.run import Run

TINY = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "context": 16,
    "epochs": 1,
    "batch_size": 4,
    "learning_rate": 0.02,
    "sequence_score": "rank",
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
    detector = LogGPT(LogGPTConfig(**(TINY | settings)))
    sequences = sessions(train)
    validation = sequences if valid is None else sessions(valid)
    detector.fit(sequences, validation, run or Run(device="cpu"))
    return detector


def rebuild(detector, folder, change, **settings):
    """Save a detector, change its arrays and settings on disk, and load it again."""
    folder.mkdir(parents=True, exist_ok=True)
    detector.save(folder)
    weights = load_arrays(folder / "model.safetensors")
    change(weights)
    save_arrays(folder / "model.safetensors", weights)
    write_json(folder / "config.json", read_json(folder / "config.json") | settings)
    return LogGPT.load(folder, "cpu")


def unigram(folder, shares=None, **settings):
    """Return a detector that expects the same at every place: token v with share p(v).

    The last layer norm gives (1, 0, 0 ...) whatever comes in, so the logit of a token is the first
    number of its embedding.
    """
    shares = EIGHTHS if shares is None else shares

    def change(weights):
        weights["transformer.ln_f.weight"][:] = 0.0
        weights["transformer.ln_f.bias"][:] = np.eye(1, 8)[0]
        logits = [math.log(shares[name]) for name in ("end", *KEYS)]
        weights["transformer.wte.weight"][FIRST_CANDIDATE:, 0] = logits

    return rebuild(fit(TRAIN), folder, change, **settings)


def memoryless(detector, folder, context):
    """Return a detector of which each token's answer depends on the one token before it."""

    def change(weights):
        weights["transformer.wpe.weight"] = np.zeros((context, 8), dtype=np.float32)
        weights["transformer.h.0.attn.c_proj.weight"][:] = 0.0
        weights["transformer.h.0.attn.c_proj.bias"][:] = 0.0

    return rebuild(detector, folder, change, context=context)
