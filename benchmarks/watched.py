"""A log pushed through a watcher beside the same log scored as a file: equal, and how fast.

    python benchmarks/watched.py later.log --model model

Prints one JSON object. Times are of the processor, so that other programs hardly move them.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import oddlog
from oddlog.watch import WatchConfig, Watcher

ARRIVAL = 1.8e9  # any time: the log's own decides


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--push", type=int, default=2_000, help="lines at once")
    parser.add_argument("--no-early", action="store_true")
    options = parser.parse_args()
    print(json.dumps(measure(options), indent=1))


def measure(options):
    pipeline = oddlog.load(options.model)
    lines = options.log.read_text().splitlines()
    begun = time.process_time()
    result = pipeline.score([options.log])
    batch_s = time.process_time() - begun
    scores = {}
    watcher = Watcher(
        pipeline,
        WatchConfig(early=not options.no_early),
        listener=lambda windows, found: scores.update(zip(windows.keys, found, strict=True)),
    )
    begun = time.process_time()
    for first in range(0, len(lines), options.push):
        watcher.push(lines[first : first + options.push], ARRIVAL, str(options.log))
    watcher.flush(ARRIVAL)
    stream_s = time.process_time() - begun
    late = [late_by(alert) for alert in watcher.alerts() if alert.early]
    pushed = np.array([scores[key] for key in result.sequences.keys])
    stats = watcher.stats
    return {
        "detector": pipeline.detector.name,
        "lines": len(lines),
        "windows": len(result),
        "same_windows": set(scores) == set(result.sequences.keys),
        "largest_difference_of_scores": float(np.abs(pushed - result.scores.sequence).max()),
        "flags_that_differ": int((result.calibration.flags(pushed) != result.flags).sum()),
        "flagged": int(result.flags.sum()),
        "alerts": len(watcher.alerts()),
        "early_alerts": len(late),
        "events_late_median_max": [float(np.median(late or [0])), max(late, default=0)],
        "judged_twice": stats.n_windows - len(result),
        "file_lines_per_s": round(len(lines) / batch_s),
        "stream_lines_per_s": round(len(lines) / stream_s),
    }


def late_by(alert):
    """Return how many events came between the first that was odd enough and the alert."""
    odd = [c["position"] for c in alert.culprits if c["score"] >= alert.threshold]
    return alert.n_events - 1 - min(odd, default=alert.n_events - 1)


if __name__ == "__main__":
    main()
