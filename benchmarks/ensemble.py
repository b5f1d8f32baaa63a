"""Rules that make one detector of several: how well they rank, and whether the rate holds.

    python benchmarks/ensemble.py rates                       dependent members, drawn; no log
    python benchmarks/ensemble.py hdfs-full --seed 10         members fitted once, every rule
    python benchmarks/ensemble.py simulated --seed 10
    python benchmarks/ensemble.py bgl-raw --seed 10

Each prints a table for docs/ensembles.md. What rules are chosen by is "validation": the area under
precision and recall of validation windows against corruptions of them. The test is only reported.
``--keep DIR`` stores the fitted ensemble, or takes up one that is there; ``--set`` is that of
``oddlog fit``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddlog import Run
from oddlog.artifact import new_folder, write_json
from oddlog.bench.protocols import PROTOCOLS, Cut
from oddlog.calibrate import calibrate
from oddlog.combine import RULES, Rarity
from oddlog.config import build, parse_assignments
from oddlog.ensemble import Ensemble, EnsembleConfig
from oddlog.evaluate import average_precision
from oddlog.nn.validation import BASE_RATE, N_DRAWS
from oddlog.pipeline import make_config
from oddlog.simulate.corrupt import corrupt

Floats = NDArray[np.float64]
RATES = (0.01, 0.001)
N_REPEATS, N_VALID, N_CALIBRATION, N_TEST = 150, 300, 300, 5000


def table(rows: Sequence[dict[str, str]]) -> str:
    """Return rows as a Markdown table."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + " --- |" * len(rows[0])]
    return "\n".join(lines + ["| " + " | ".join(row.values()) + " |" for row in rows])


def take_up(cut: Cut, config: EnsembleConfig, keep: Path | None, seed: int) -> Ensemble:
    """Return the ensemble that is kept, or fit one and keep it."""
    if keep and keep.exists():
        return Ensemble.load(keep, "cpu")
    train, valid, _ = cut.learned("normal")
    ensemble = Ensemble(config)
    ensemble.fit(train, valid, Run(seed, device="cpu"))
    if keep:
        with new_folder(keep) as staging:
            ensemble.save(staging)
            write_json(staging / "manifest.json", {})
    return ensemble


def compare(cut: Cut, ensemble: Ensemble) -> Iterator[dict[str, str]]:
    """Yield a row for each member and each rule; members are scored once."""
    _, valid, calibration = cut.learned("normal")
    odd = corrupt(valid, 0, N_DRAWS).without_labels()
    parts = (valid, odd, calibration, cut.test.without_labels())
    found = [ensemble.score(part).measures for part in parts]
    truth = cut.test.anomalous
    for name in found[0]:
        yield judge(name, [nats[name] for nats in found], truth)
    for name, rule in RULES.items():
        shown = f"**{name}** (chosen)" if name == ensemble.rule else name
        yield judge(shown, [rule(np.stack([*nats.values()])) for nats in found], truth)


def judge(name: str, scores: Sequence[Floats], truth: NDArray[np.bool_]) -> dict[str, str]:
    """Judge one score, given of validation, corruptions, calibration and test."""
    valid, odd, known, test = scores
    is_odd = np.repeat([False, True], [len(valid), len(odd)])
    area = average_precision(np.concatenate([valid, odd]), is_odd, BASE_RATE)
    row = {"score": name, "validation": f"{area:.4f}"}
    row["AUPRC"] = f"{average_precision(test, truth):.4f}"
    for rate in RATES:
        calibration = calibrate(known, rate)
        flags = calibration.flags(test)
        realised = flags[~truth].mean()
        f1 = 2 * (flags & truth).sum() / (flags.sum() + truth.sum())
        enough = not calibration.n_missing()
        row[f"at {rate:.1%}: realised"] = f"{realised:.4f}" if enough else "-"
        row[f"F1 at {rate:.1%}"] = f"{f1:.3f}" if enough else "-"
    return row


def draw(rng: np.random.Generator, n: int) -> Floats:
    """Draw (3, n) scores of dependent members: smooth, of few values, and nearly always 0."""
    shared = rng.normal(size=n)
    smooth = shared + 0.5 * rng.normal(size=n)
    coarse = np.floor(np.maximum(shared + 0.5 * rng.normal(size=n), 0) * 2)
    return np.stack([smooth, coarse, (shared > 2.2).astype(float)])


def nats_of(reference: Floats, scores: Floats) -> Floats:
    """Return (K, n) how rare scores are among a reference of the same members."""
    return np.stack([Rarity.of(r).nats(s) for r, s in zip(reference, scores, strict=True)])


def halves(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rank among one half of the calibration, calibrate the statistic on the other."""
    reference, known = draw(rng, N_CALIBRATION // 2), draw(rng, N_CALIBRATION // 2)
    return reference, nats_of(reference, known)


def leave_one_out(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rank each calibration window among all others, and calibrate on what comes of it."""
    reference = draw(rng, N_CALIBRATION)
    each = [
        nats_of(np.delete(reference, i, axis=1), reference[:, [i]]) for i in range(N_CALIBRATION)
    ]
    return reference, np.hstack(each)


def validation(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Rank among the validation windows, calibrate on the calibration ones: what is done."""
    reference, known = draw(rng, N_VALID), draw(rng, N_CALIBRATION)
    return reference, nats_of(reference, known)


def low_validation(rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Do the same with a validation part on which members score lower than on any other."""
    reference, known = draw(rng, N_VALID) - 0.3, draw(rng, N_CALIBRATION)
    return reference, nats_of(reference, known)


WAYS: dict[str, Callable[[np.random.Generator], tuple[Floats, Floats]]] = {
    "halves of the calibration": halves,
    "each calibration window left out": leave_one_out,
    "validation, then calibration": validation,
    "the same, validation too low": low_validation,
}
TEXTBOOK: dict[str, Callable[[Floats], Floats]] = {
    "fisher": lambda half: np.exp(-half) * (1 + half + half**2 / 2),  # chi-squared, 6 degrees
    "cauchy": lambda nats: np.exp(-nats),
    "minimum": lambda nats: 1 - (1 - np.exp(-nats)) ** 3,
}
"""p-values of the statistics of three members, were theirs independent and uniform."""


def rates(seed: int, rate: float) -> Iterator[dict[str, str]]:
    """Yield the realised rate, mean and standard error, of each way and rule."""
    found: dict[str, dict[str, list[float]]] = {}
    rng = np.random.default_rng(seed)
    for _ in range(N_REPEATS):
        test = draw(rng, N_TEST)
        reference = draw(rng, N_VALID + N_CALIBRATION)
        for rule, p_values in TEXTBOOK.items():
            flags = p_values(RULES[rule](nats_of(reference, test))) <= rate
            own = found.setdefault("textbook distribution", {})
            own.setdefault(rule, []).append(flags.mean())
        for way, ranks in WAYS.items():
            reference, known = ranks(rng)
            nats = nats_of(reference, test)
            for rule, combine in RULES.items():
                flags = calibrate(combine(known), rate).flags(combine(nats))
                found.setdefault(way, {}).setdefault(rule, []).append(flags.mean())
    for way, by_rule in found.items():
        told = {
            rule: f"{np.mean(drawn):.4f} ± {np.std(drawn) / np.sqrt(N_REPEATS):.4f}"
            for rule, drawn in by_rule.items()
        }
        yield {f"asked {rate:.1%}": way, **told}


def main() -> None:
    """Print one table; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=["rates", *PROTOCOLS])
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked = parser.parse_args()
    if asked.name == "rates":
        print(table([*rates(asked.seed, 0.02)]))
        return
    cut = PROTOCOLS[asked.name](Path(os.environ["ODDLOG_DATA"]), asked.seed)
    settings = make_config(parse_assignments(asked.set) | {"detector": "ensemble"}, "benchmark")
    config = build(EnsembleConfig, settings.settings, "benchmark")
    ensemble = take_up(cut, config, asked.keep, asked.seed)
    print(table([*compare(cut, ensemble)]))


if __name__ == "__main__":
    main()
