"""A detector of one's own, fitted and stored like any other: add_a_detector.py LOG MODEL."""
# ruff: noqa: D101, D102 -- oddlog.detectors.Detector says what each method promises

import sys

import numpy as np

import oddlog
from oddlog.artifact import load_arrays, save_arrays
from oddlog.config import Config
from oddlog.detectors import DETECTORS
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.pipeline import make_config


class Pairs:  # odd is an event that in training never followed the one before it
    name, learns_from, causal, Config = "pairs", "normal", True, Config

    def __init__(self, config):
        self.config = config

    def fit(self, train, valid, run):
        self.known = np.unique(pairs(train))

    def score(self, sequences):
        event = np.isin(pairs(sequences), self.known, invert=True).astype(np.float32)
        return Scores(np.add.reduceat(event, sequences.offsets[:-1]), event)

    def paper_rule(self, scores):
        return None

    def explain(self, sequences):
        odd, first = self.score(sequences).event > 0, sequences.offsets[sequences.owners]
        found = [[] for _ in sequences.keys]
        for i in np.flatnonzero(odd):
            found[sequences.owners[i]].append(Culprit(int(sequences.rows[i]), int(i - first[i]), 1))
        return [Explanation(key, tuple(c)) for key, c in zip(sequences.keys, found, strict=True)]

    def save(self, folder):
        save_arrays(folder / "model.safetensors", {"known": self.known})

    @classmethod
    def load(cls, folder, device="auto"):
        detector = cls(Config())
        detector.known = load_arrays(folder / "model.safetensors")["known"]
        return detector


def pairs(sequences):  # (m,) one number for each event and the one before it in its window
    ids = np.maximum(sequences.template_ids().astype(np.int64), -1) + 2  # 1: unknown
    before = np.roll(ids, 1)
    before[sequences.offsets[:-1]] = 0  # nothing comes before the first
    return before * 2**31 + ids


if __name__ == "__main__":
    log, model = sys.argv[1:]
    DETECTORS["pairs"] = f"{__name__}:Pairs"  # in the package: a line of that table
    oddlog.fit([log], make_config({"detector": "pairs", "session_by": r"blk_\d+"}, ""), model=model)
    print(f"{len(oddlog.load(model).score([log]).flagged())} sequences are odd")
