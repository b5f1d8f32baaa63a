"""LogGPT on sessions of ids, both stages, its own rule and a calibrated one: loggpt.py [REWARD]."""

import sys

import numpy as np

from oddlog import Run, Sequences
from oddlog.calibrate import calibrate
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig

OPEN, ASK, ANSWER, RETRY, WRITE, CLOSE = range(6)
SMALL = {"layers": 2, "heads": 2, "width": 24, "context": 64, "epochs": 10, "count_steps": 300}


def session(dice: np.random.Generator) -> list[int]:
    """Return a connection: questions, each answered, perhaps asked twice, and writes."""
    events = [OPEN]
    for kind in dice.integers(3, size=dice.integers(2, 7)):
        events += ([ASK, ANSWER], [ASK, RETRY, ANSWER], [WRITE])[kind]
    return [*events, CLOSE]


def unanswered(dice: np.random.Generator) -> list[int]:
    """Return the same with one answer missing: no event and no count is new."""
    while ANSWER not in (events := session(dice)):
        pass
    events.pop(events.index(ANSWER))
    return events


def main(reward: str = "topk_margin") -> None:
    dice = np.random.default_rng(0)
    train, valid, normal = (
        Sequences.from_ids([session(dice) for _ in range(n)]) for n in (200, 100, 300)
    )
    test = Sequences.from_ids(
        [session(dice) for _ in range(450)] + [unanswered(dice) for _ in range(50)],
        [""] * 450 + ["unanswered"] * 50,
    )
    epochs = {"topk_margin": {"epochs": 4}, "ppo": {"epochs": 1}, "reference": {"episodes": 1}}
    detector = LogGPT(LogGPTConfig(**SMALL, **epochs, top_k=3, reward=reward))
    detector.fit(train, valid, Run(seed=0))  # checkpoints=Path(...), resume=True for long ones
    print(f"language model: {detector.history[-1]['valid_loss']:.3f} nats per event")
    for epoch in detector.reward_history:
        print(f"second stage, epoch {epoch['epoch']}: {epoch['valid_loss']:.3f}")

    scores = detector.score(test)
    calibration = calibrate(detector.score(normal).sequence, 0.01)
    rules = {
        "an event outside the 3 likeliest": detector.paper_rule(scores),
        "p-value of at most 1 %": calibration.flags(scores.sequence),
    }
    for name, flags in rules.items():
        alarms, hits = flags[~test.anomalous].mean(), flags[test.anomalous].mean()
        print(f"{name}: {hits:.0%} found, {alarms:.1%} false alarms")


if __name__ == "__main__":
    main(*sys.argv[1:])
