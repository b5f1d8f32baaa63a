"""Score a log with a fitted model and show its worst lines: score_a_file.py MODEL LOG."""

import sys

import oddlog


def main(model: str, log: str) -> None:
    result = oddlog.load(model).score([log])
    for note in result.notes:
        print(note, file=sys.stderr)
    print(f"{len(result.flagged())} of {len(result)} sequences are odd")
    for alert in result.alerts()[:5]:
        print(f"\n{alert.key}: p = {alert.p_value:.2g}, {len(alert.lines)} lines")
        for culprit in alert.culprits[:1]:
            print(f"  {culprit['source']}:{culprit['line']}: {culprit['message']}")
            for expected in culprit["expected"][:1]:
                print(f"  expected: {expected['template']} ({expected['probability']:.0%})")
    # Scores are kept: another false-alarm rate needs no second pass.
    print(f"\nat a false-alarm rate of 5 %: {len(result.at(0.05).flagged())}")


if __name__ == "__main__":
    main(*sys.argv[1:])
