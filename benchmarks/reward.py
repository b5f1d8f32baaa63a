r"""LogGPT's second stage: what each variant changes, and how near the preset is to the paper.

    python benchmarks/reward.py hdfs-full --seeds 5 --rewards none topk_margin ppo
    python benchmarks/reward.py bgl-windows --seeds 5 --set loggpt.max_steps=1500 \
        --set loggpt.ppo.max_steps=400 --set loggpt.topk_margin.max_steps=400
    python benchmarks/reward.py adfa --seeds 5 --set loggpt.max_steps=300 \
        --set loggpt.ppo.max_steps=80 --set loggpt.topk_margin.max_steps=100
    python benchmarks/reward.py hdfs-full --seeds 3 --rewards reference \
        --set loggpt.reference.episodes=1
    python benchmarks/reward.py parity --seeds 1     the preset "paper" after 40 and 100 epochs
    python benchmarks/reward.py known --seeds 5      a process whose probabilities are known
    python benchmarks/reward.py table                write the tables of docs/detectors.md

The network that reads the order of events, which is the one with a second stage, is measured by
itself (``reads = "order"``). Its first stage is trained once per seed and kept below --work. One
JSON line per seed and variant goes to benchmarks/results/reward.jsonl (parity, known); what is
there is not run again. Whatever is chosen is chosen by "synthetic": validation normals against
corruptions of them. The test decides nothing.

``known`` is a process whose probabilities are known: a connection opens, then has 2 to 6 exchanges
of three equally likely kinds (a question and its answer, the same asked twice, a write), and
closes. Told are the divergence of the network from those probabilities, in nats per event, the
probability that it gives to what happens, and the normals that its rule flags with K = 3, the
number of things that can follow at most.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog import Run, Sequences
from oddlog.bench.protocols import PROTOCOLS, Cut
from oddlog.bench.records import RESULTS, Record, append, read, source
from oddlog.bench.render import insert, markdown, spread
from oddlog.calibrate import calibrate
from oddlog.config import parse_assignments
from oddlog.datasets import IdDataset, open_dataset
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig
from oddlog.evaluate import Resampling, evaluate
from oddlog.evaluate.decision import decide
from oddlog.pipeline import make_config
from oddlog.pipeline.synthetic import synthetic_auprc

REWARDS = ("none", "topk_margin", "ppo", "reference")
ORDER = ("loggpt.reads=order",)
PARITY_SIZES = (4500, 500)
PARITY = ("loggpt.preset=paper", "loggpt.top_k=7")
PARITY_EPOCHS = (40, 100)
DOCUMENT = Path(__file__).parents[1] / "docs" / "detectors.md"
N_RESAMPLES = 50


def detector_of(assignments: Iterable[str]) -> LogGPT:
    """Return an unfitted LogGPT with settings as ``--set`` gives them."""
    config = make_config(parse_assignments(assignments), "benchmark")
    return LogGPT(LogGPTConfig.model_validate(config.settings))


def checkpoints(work: Path, name: str, seed: int, assignments: list[str]) -> Path:
    """Return where the stages of one seed are kept; other settings have another folder."""
    digest = hashlib.sha256(json.dumps(sorted(assignments)).encode()).hexdigest()[:12]
    return work / f"{name}-{seed}-{digest}"


@lru_cache(maxsize=1)
def cut_of(name: str, seed: int) -> Cut:
    """Return the data of one seed, read once for all its variants."""
    return PROTOCOLS[name](Path(os.environ["ODDLOG_DATA"]), seed)


def run_variant(name: str, seed: int, reward: str, assignments: list[str], work: Path) -> Record:
    """Fit, score and judge one variant of one seed."""
    cut = cut_of(name, seed)
    train, valid, calibration = cut.learned("normal")
    detector = detector_of([*ORDER, *assignments, f"loggpt.reward={reward}"])
    shared = [item for item in assignments if not item.startswith(tuple(OF_STAGE_2))]
    run = Run(seed, checkpoints=checkpoints(work, name, seed, shared), resume=True)
    detector.fit(train, valid, run)
    judge = calibrate(detector.score(calibration).sequence, 0.01)
    scores = detector.score(cut.test.without_labels())
    found = evaluate(
        scores.sequence,
        cut.test.anomalous,
        judge.flags(scores.sequence),
        p_values=judge.p_values(scores.sequence),
        resampling=Resampling(n=N_RESAMPLES, seed=seed),
    )
    return {
        "benchmark": name,
        "seed": seed,
        "reward": reward,
        "source": source(),
        "set": assignments,
        "settings": detector.config.model_dump(),
        "sizes": [len(part) for part in cut.parts],
        "k": detector.top_k,
        "valid_outside_k": outside_k(detector, valid),
        "synthetic": synthetic_auprc(detector, valid),
        "stage_1": min(epoch["valid_loss"] for epoch in detector.history),
        "stage_2": detector.reward_history,
        "evaluation": found.to_dict(),
        "own_rule": own_rule(detector.paper_rule(scores), cut.test.anomalous),
    }


OF_STAGE_2 = ("loggpt.reference.", "loggpt.ppo.", "loggpt.topk_margin.", "loggpt.top_k=")


def outside_k(detector: LogGPT, valid: Sequences) -> float:
    """Return the share of validation normals that the paper's rule flags."""
    return float(np.mean(detector.paper_rule(detector.score(valid))))


def own_rule(flags: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float | None]:
    """Judge the paper's rule."""
    rule = decide(flags, truth, Resampling(n=N_RESAMPLES))
    figures = ("precision", "recall", "f1", "false_alarm_rate")
    return {figure: getattr(rule, figure).value for figure in figures}


def run_parity(seed: int, epochs: int, assignments: list[str], work: Path) -> Record:
    """Train as the released code does, on 4,500 and 500 random normals, and judge its rule."""
    dataset = open_dataset("hdfs_v1", Path(os.environ["ODDLOG_DATA"]))
    assert isinstance(dataset, IdDataset)
    sequences = dataset.sequences
    normal = np.random.default_rng(seed).permutation(np.flatnonzero(~sequences.anomalous))
    n_train, n_all = PARITY_SIZES[0], sum(PARITY_SIZES)
    train, valid = sequences.take(normal[:n_train]), sequences.take(normal[n_train:n_all])
    test = sequences.take(np.setdiff1d(np.arange(len(sequences)), normal[:n_all]))
    settings = [*PARITY, f"loggpt.epochs={epochs}", *assignments]
    detector = detector_of(settings)
    run = Run(seed, checkpoints=checkpoints(work, "parity", seed, settings), resume=True)
    detector.fit(train.without_labels(), valid.without_labels(), run)
    flags = detector.paper_rule(detector.score(test.without_labels()))
    return {
        "benchmark": "parity",
        "seed": seed,
        "epochs": epochs,
        "source": source(),
        "set": assignments,
        "settings": detector.config.model_dump(),
        "k": detector.top_k,
        "n_keys": len(np.unique(train.template_ids())),
        "test": [int((~test.anomalous).sum()), int(test.anomalous.sum())],
        "last_valid_loss": detector.history[-1]["valid_loss"],
        "best_epoch": int(np.argmin([epoch["valid_loss"] for epoch in detector.history])),
        "own_rule": own_rule(flags, test.anomalous),
    }


KNOWN = {
    "plain": (),
    "ppo, kl 0": ("loggpt.reward=ppo", "loggpt.ppo.kl=0.0"),
    "ppo, kl 0.1": ("loggpt.reward=ppo",),
    "ppo, kl 1": ("loggpt.reward=ppo", "loggpt.ppo.kl=1.0"),
    "topk_margin": ("loggpt.reward=topk_margin",),
}
KNOWN_SETTINGS = (
    *("loggpt.layers=2", "loggpt.heads=2", "loggpt.width=24", "loggpt.context=64"),
    *("loggpt.epochs=40", "loggpt.learn=frequency", "loggpt.unknown_rate=0.0"),
    *("loggpt.top_k=3", "loggpt.ppo.learning_rate=1e-4"),
)
KNOWN_SIZES = (400, 100, 500)
OPEN, ASK, ANSWER, RETRY, WRITE, CLOSE = range(6)
EXCHANGES = ([ASK, ANSWER], [ASK, RETRY, ANSWER], [WRITE])
FEWEST, MOST = 2, 6


def draw_connection(dice: np.random.Generator) -> tuple[list[int], list[float]]:
    """Return the events of a connection and the probability of each, the end's last."""
    events, shares = [OPEN], [1.0]
    n = int(dice.integers(FEWEST, MOST + 1))
    for number, kind in enumerate(dice.integers(len(EXCHANGES), size=n)):
        goes_on = 1.0 if number < FEWEST else 1 - 1 / (MOST + 1 - number)
        events += EXCHANGES[kind]
        # a question is two kinds of three; whether it is asked twice is seen later
        shares += ([goes_on * 2 / 3, 1 / 2], [goes_on * 2 / 3, 1 / 2, 1.0], [goes_on / 3])[kind]
    return [*events, CLOSE], [*shares, 1 / (MOST + 1 - n), 1.0]


def run_known(seed: int, variant: str, assignments: list[str], work: Path) -> Record:
    """Train on the known process and compare probabilities."""
    dice = np.random.default_rng(seed)
    drawn = [[draw_connection(dice) for _ in range(n)] for n in KNOWN_SIZES]
    train, valid, test = (Sequences.from_ids([events for events, _ in part]) for part in drawn)
    settings = [*ORDER, *KNOWN_SETTINGS, *assignments]
    detector = detector_of([*settings, *KNOWN[variant]])
    folder = checkpoints(work, "known", seed, settings)
    run = Run(seed, checkpoints=folder, resume=True)
    detector.fit(train, valid, run)
    for path in folder.glob("top-k*"):
        path.unlink()  # variants of other settings have the same name
    scores = detector.score(test)
    ids, surprise = test.template_ids(), scores.measures["surprise"]
    true = np.concatenate([shares[:-1] for _, shares in drawn[2]])  # of events; the end is certain
    return {
        "benchmark": "known",
        "seed": seed,
        "variant": variant,
        "source": source(),
        "set": assignments,
        "divergence": float(np.mean(surprise + np.log(true))),
        "shares": {
            name: [float(np.mean(np.exp(-surprise)[ids == key])), float(np.mean(true[ids == key]))]
            for name, key in (("ask", ASK), ("write", WRITE), ("close", CLOSE))
        },
        "flagged": float(np.mean(detector.paper_rule(scores))),
        "stage_2": detector.reward_history,
    }


def append_missing(out: Path, wanted: dict[str, Any], make: Callable[[], Record]) -> None:
    """Run what the file does not hold yet, and add it."""
    if any(wanted.items() <= _hashable(record).items() for record in read(out)):
        return
    record = make()
    print(headline(record), flush=True)
    append(out, [record])


def _hashable(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.items() if isinstance(value, str | int)} | {
        "set": tuple(record["set"])
    }


def headline(record: Record) -> str:
    """Say a record in one line."""
    names = ("benchmark", "seed", "reward", "epochs", "synthetic")
    cells = [f"{name} {record[name]}" for name in names if name in record]
    if "evaluation" in record:
        cells.append(f"AUPRC {record['evaluation']['ranking']['auprc']['value']:.4f}")
    names = ("variant", "divergence", "shares", "flagged", "own_rule")
    return " ".join([*cells, *(f"{name} {record[name]}" for name in names if name in record)])


def variant_table(records: list[Record]) -> str:
    """Return one row per benchmark and variant."""
    header = ["data", "second stage", "seeds", "validation, synthetic", "AUPRC"]
    for rate in ("1 %", "0.5 %", "0.1 %"):
        header += [f"at {rate}: realised", "recall"]
    rows = []
    groups = {(record["benchmark"], record["reward"]): [] for record in records}
    for record in records:
        groups[record["benchmark"], record["reward"]].append(record)
    for (name, reward), found in sorted(
        groups.items(), key=lambda item: (item[0][0], REWARDS.index(item[0][1]))
    ):
        cells = [name, f"`{reward}`", str(len(found))]
        cells.append(spread(record["synthetic"] for record in found))
        cells.append(spread(r["evaluation"]["ranking"]["auprc"]["value"] for r in found))
        for place in range(3):
            decisions = [r["evaluation"]["at_rates"][place]["decision"] for r in found]
            cells.append(spread((d["false_alarm_rate"]["value"] for d in decisions), 4))
            cells.append(spread(d["recall"]["value"] for d in decisions))
        cells.append(spread(record["own_rule"]["f1"] for record in found))
        rows.append(cells)
    return markdown([*header, "paper's rule, F1"], rows)


def parity_table(records: list[Record]) -> str:
    """Return one row per number of epochs."""
    rows = []
    for epochs in sorted({record["epochs"] for record in records}):
        rules = [record["own_rule"] for record in records if record["epochs"] == epochs]
        cells = [spread(rule[name] for rule in rules) for name in ("precision", "recall", "f1")]
        rows.append([str(epochs), str(len(rules)), *cells])
    return markdown(["epochs", "seeds", "precision", "recall", "F1"], rows)


def known_table(records: list[Record]) -> str:
    """Return one row per variant, and the process's own probabilities."""
    header = ["second stage", "seeds", "divergence, nats"]
    names = ("ask", "write", "close")
    rows = []
    for variant in KNOWN:
        found = [record for record in records if record["variant"] == variant]
        cells = [variant, str(len(found)), spread(record["divergence"] for record in found)]
        cells += [spread(record["shares"][name][0] for record in found) for name in names]
        rows.append([*cells, spread(record["flagged"] for record in found)])
    true = [spread(record["shares"][name][1] for record in records) for name in names]
    rows.append(["the process itself", "", "0", *true, "0"])
    return markdown([*header, *(f"p({name})" for name in names), "flagged"], rows)


TABLES = {"reward": variant_table, "parity": parity_table, "known": known_table}


def write_tables() -> None:
    """Write the tables of what was measured between their marks."""
    for name, make in TABLES.items():
        if records := read(RESULTS / f"{name}.jsonl"):
            insert(DOCUMENT, name, make(records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=[*PROTOCOLS, "parity", "known", "table"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rewards", nargs="+", choices=REWARDS, default=REWARDS[:3])
    parser.add_argument("--epochs", type=int, nargs="+", default=PARITY_EPOCHS, help="of parity")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "oddlog-reward")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.what == "table":
        write_tables()
        return
    if not os.environ.get("ODDLOG_DATA"):
        parser.error("set ODDLOG_DATA to the folder with the real logs")
    name = asked.what if asked.what in TABLES else "reward"
    out = asked.out or RESULTS / f"{name}.jsonl"
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for wanted, make in wanted_runs(asked, seed):
            append_missing(out, wanted, make)


def wanted_runs(
    asked: argparse.Namespace, seed: int
) -> list[tuple[dict[str, Any], Callable[[], Record]]]:
    """Return what identifies each record of a seed, and how it is made."""
    also = (asked.set, asked.work)
    given = {"benchmark": asked.what, "seed": seed, "set": tuple(asked.set)}
    if asked.what == "known":
        return [(given | {"variant": v}, partial(run_known, seed, v, *also)) for v in KNOWN]
    if asked.what == "parity":
        return [(given | {"epochs": n}, partial(run_parity, seed, n, *also)) for n in asked.epochs]
    runs = {
        reward: partial(run_variant, asked.what, seed, reward, *also) for reward in asked.rewards
    }
    return [(given | {"reward": reward}, make) for reward, make in runs.items()]


if __name__ == "__main__":
    main()
