"""Learn an ordinary log and see what was done to it: train_on_normal.py LOG MODEL [DETECTOR]."""

import sys

import oddlog
from oddlog.pipeline import make_config

# What `oddlog fit --config settings.toml` reads, here as values.
SETTINGS = {
    "session_by": r"blk_\d+",  # one session per block; without it windows are cut by time
    "false_alarm_rate": 0.02,
    "train_share": 0.6,
    "valid_share": 0.1,
    "calibration_share": 0.3,
}


def report(stage: str, done: int, total: int) -> None:
    print(f"\r{stage} {done}/{total or '?'}", end="", file=sys.stderr)


def main(log: str, model: str, detector: str = "loggpt") -> None:
    config = make_config({**SETTINGS, "detector": detector}, "settings")
    run = oddlog.Run(seed=7, progress=report)
    pipeline = oddlog.fit([log], config, model=model, run=run)
    print(file=sys.stderr)
    for line in pipeline.report.lines():
        print(line)
    print(pipeline.calibration_note())
    for epoch in pipeline.manifest["history"]:
        print(f"epoch {epoch['epoch']}: validation loss {epoch['valid_loss']:.3f} nats per event")
    # Any log of the same kind can be scored now, in this process or another.
    print(f"{len(pipeline.score([log]).flagged())} sequences of the same log are flagged")


if __name__ == "__main__":
    main(*sys.argv[1:])
