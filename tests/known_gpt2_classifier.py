"""Small labelled sessions, and classifiers that learn them in a second."""

from dataclasses import replace

import numpy as np
import polars as pl

from oddlog.detectors.gpt2_classifier import GPT2Classifier, GPT2ClassifierConfig
from oddlog.events import Sequences
from oddlog.run import Run

TINY = {
    "layers": 1,
    "heads": 2,
    "width": 8,
    "context": 16,
    "dropout": 0.0,
    "epochs": 1,
    "min_steps": 60,
    "parts": 4,
    "batch_size": 16,
    "learning_rate": 0.03,
    "alpha": 0.5,
}
TEXTS = {0: "open file", 1: "read 5 bytes", 2: "close file", 8: "disk full", 9: "link down"}
KINDS = {"disk": 8, "net": 9}


def draw(n, seed=0, kinds=("disk",)):
    """Return n normal sessions, and n with the one template that tells the kind of each."""
    rng = np.random.default_rng(seed)
    ids, labels = [], []
    for number in range(2 * n):
        session = [0] * int(rng.random() < 0.7) + [1] * int(rng.integers(1, 5))
        session += [2] * int(rng.random() < 0.7)
        label = "" if number < n else kinds[number % len(kinds)]
        if label:
            session.insert(int(rng.integers(len(session) + 1)), KINDS[label])
        ids.append(session)
        labels.append(label)
    return sessions(ids, labels)


def sessions(ids, labels=None):
    """Return sessions with messages."""
    found = Sequences.from_ids(ids, labels)
    texts = [TEXTS.get(int(i), "never seen before") for i in found.template_ids()]
    return replace(found, events=found.events.with_columns(pl.Series("message", texts)))


def fit(train=None, valid=None, run=None, **settings):
    """Fit a tiny classifier."""
    train = draw(40) if train is None else train
    detector = GPT2Classifier(GPT2ClassifierConfig(**(TINY | settings)))
    detector.fit(train, draw(10, seed=1) if valid is None else valid, run or Run(device="cpu"))
    return detector
