r"""How near LogBERT's preset "code" comes to the published score, and what that score leaves out.

    python benchmarks/logbert.py --seeds 1 --epochs 40
    python benchmarks/logbert.py --table                    write the table of docs/detectors.md

As in the released code: 4,855 random normal sessions of HDFS_v1, a tenth of them to choose the
epoch; one random draw of masked keys; g = 6; sessions of fewer than 10 keys left out of training
and test; r, a share of the masked keys, searched on the test. The last two are no part of any
detector of ours: they are done here, and told beside the same network's figures with every session
of the test in it, and with the score in place of the rule. Published: precision .870, recall .781,
F1 .823 on the 10,647 anomalies of at least 10 keys.

The training is resumed where it was stopped. One JSON line per seed and number of epochs goes to
benchmarks/results/logbert.jsonl; ``python benchmarks/table.py`` makes the table.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog import Run
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.bench.work import new_detector
from oddlog.datasets import IdDataset, open_dataset
from oddlog.evaluate import average_precision

DOCUMENT = Path(__file__).parents[1] / "docs" / "detectors.md"
MIN_LENGTH = 10
N_LEARNED, VALID_SHARE = 4855, 0.1
RATIOS = np.arange(10) / 10


def rule(missed: NDArray, masked: NDArray, truth: NDArray[np.bool_]) -> dict[str, float]:
    """Return precision, recall and F1 of the share of misses that has the best F1 here."""
    return max(
        (_judge(missed > r * masked, truth, r) for r in RATIOS), key=lambda found: found["f1"]
    )


def _judge(flags: NDArray[np.bool_], truth: NDArray[np.bool_], r: float) -> dict[str, float]:
    hits = int((flags & truth).sum())
    precision, recall = hits / max(1, int(flags.sum())), hits / int(truth.sum())
    f1 = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"r": float(r), "precision": precision, "recall": recall, "f1": f1}


def run(seed: int, epochs: int, assignments: list[str], work: Path) -> Record:
    """Train the preset, and judge its rule on the test with short sessions and without."""
    dataset = open_dataset("hdfs_v1", Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    sequences = dataset.sequences
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~sequences.anomalous))
    drawn = normal[:N_LEARNED]
    test = sequences.take(np.setdiff1d(np.arange(len(sequences)), drawn))
    drawn = drawn[sequences.lengths[drawn] >= MIN_LENGTH]
    n_valid = round(VALID_SHARE * len(drawn))
    valid, train = sequences.take(drawn[:n_valid]), sequences.take(drawn[n_valid:])
    settings = ["logbert.preset=code", f"logbert.epochs={epochs}", *assignments]
    detector = new_detector("logbert", settings)
    place = work / f"logbert-{seed}-{epochs}"
    detector.fit(
        train.without_labels(), valid.without_labels(), Run(seed, checkpoints=place, resume=True)
    )
    scores = detector.score(test.without_labels())
    missed, masked = scores.measures["n_missed"], scores.measures["n_masked"]
    truth, long = test.anomalous, test.lengths >= MIN_LENGTH
    history: list[dict[str, Any]] = getattr(detector, "history", [])
    return {
        "seed": seed,
        "epochs": epochs,
        "set": assignments,
        "settings": detector.config.model_dump(mode="json"),
        "source": source(),
        "n_epochs": len(history),
        "valid_loss": min(epoch["valid_loss"] for epoch in history),
        "long": {"n_anomalous": int((truth & long).sum())}
        | rule(missed[long], masked[long], truth[long]),
        "all": {"n_anomalous": int(truth.sum())} | rule(missed, masked, truth),
        "auprc": average_precision(scores.sequence, truth),
    }


def table(records: list[Record]) -> str:
    """Return a row for each number of epochs and each choice of sessions."""
    header = ["epochs", "seeds", "test", "anomalies", "r, best on it", "precision", "recall", "F1"]
    rows = []
    for epochs in sorted({record["epochs"] for record in records}):
        for part, name in (("long", "10 keys or more"), ("all", "every session")):
            found = [record[part] for record in records if record["epochs"] == epochs]
            cells = [str(epochs), str(len(found)), name, f"{found[0]['n_anomalous']:,}"]
            cells += [spread((figures["r"] for figures in found), 1)]
            rows.append(
                cells + [spread(f[name] for f in found) for name in ("precision", "recall", "f1")]
            )
    published = ["200", "", "10 keys or more, published", "10,647", "", ".870", ".781", ".823"]
    return markdown(header, [published, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oddlog-logbert")
    parser.add_argument("--out", type=Path, default=RESULTS / "logbert.jsonl")
    parser.add_argument("--table", action="store_true", help="only write the table")
    asked = parser.parse_args()
    if asked.table:
        insert(DOCUMENT, "logbert", table(read(asked.out)))
        return
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    for seed in range(asked.seeds):
        done = [(record["seed"], record["epochs"], record["set"]) for record in read(asked.out)]
        if (seed, asked.epochs, asked.set) not in done:
            record = run(seed, asked.epochs, asked.set, asked.work)
            append(asked.out, [record])
            print({name: record[name] for name in ("seed", "n_epochs", "long", "all", "auprc")})


if __name__ == "__main__":
    main()
