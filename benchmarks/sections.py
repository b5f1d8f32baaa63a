"""Sections of docs/results.md that are of no protocol: contaminated logs, and LogBERT's speed."""

from __future__ import annotations

from oddlog.bench.records import Record, measured_at, rows_by_detector
from oddlog.bench.render import markdown, spread

CONTAMINATED = {
    "hdfs-full": "HDFS_v1 as event ids: 3,500 + 500 + 1,000 sessions; the test is 60,000 normal "
    "sessions and 16,588 anomalies.",
    "hdfs-raw": "HDFS_v1, raw lines, cut in time: 2,600 + 400 + 1,000 sessions of the first half; "
    "the test is the second half.",
    "simulated": "Simulated storage cluster: 2,200 + 300 + 850 sessions; the test is another log "
    "of 1,500 sessions, a fifth of them faulty.",
}


def contamination_table(records: list[Record]) -> str:
    """Return what each true and assumed share gives, for the detectors that can miss or find."""
    names = [name for name in rows_by_detector(records) if name != "new_event"]
    header = ["true", "assumed", "found in training"]
    header += [f"{name}: {what}" for name in names for what in ("realised", "recall", "at clean")]
    rows = []
    for true, assumed in sorted({(r["true"], r["assumed"]) for r in records}):
        case = [r for r in records if (r["true"], r["assumed"]) == (true, assumed)]
        found = [r["share_found"] for r in case if r["detector"] == names[0] and true and assumed]
        cells = [f"{true:.1%}", f"{assumed:.1%}", spread(found, 2)]
        for own in (rows_by_detector(case).get(name, []) for name in names):
            cells.append(spread((r["realised"] for r in own), 4))
            cells.append(spread((r["recall"] for r in own), 2))
            cells.append(spread((r["recall_at_clean_realised"] for r in own), 2))
        rows.append(cells)
    return markdown(header, rows)


def contamination_section(records: list[Record]) -> str:
    """Say what unknown anomalies in what is learned from cost, log by log."""
    n_seeds = {
        name: len({record["seed"] for record in own})
        for name, own in rows_by_detector(records).items()
    }
    logs = {name: [r for r in records if r["log"] == name] for name in CONTAMINATED}
    tables = "\n\n".join(
        f"{CONTAMINATED[name]}\n\n{contamination_table(own)}" for name, own in logs.items() if own
    )
    return f"""## Anomalies in the log that is learned from

`python benchmarks/contamination.py --seeds {n_seeds["counts"]} --set detector=counts`, and LogGPT
(reading order alone, fewer epochs) by
`python benchmarks/contamination.py --seeds {n_seeds.get("loggpt", 0)} --set loggpt.reads=order
--set loggpt.epochs=15`.

A share of training, validation and calibration is anomalous, and nobody says which (true); as many
are assumed, or none, or too many (assumed: `assume_anomalies`). Found in training: the share of the
anomalies in training and validation that were left out. At an asked 1 %: the realised rate and the
recall; at clean: the recall at the rate that the same detector realised where nothing was anomalous
and nothing assumed. The test of a log and seed is always the same. Mean ± standard deviation over
{n_seeds["counts"]} seeds, at most {n_seeds.get("loggpt", 0)} for LogGPT.

{tables}
"""


def masked_section(records: list[Record]) -> str:
    """Say how fast LogBERT scores, preset by preset."""
    rows = [
        [
            f"`{record['preset']}`",
            f"{record['together']:,.0f}",
            f"{record['apart']:,.1f}",
            f"{record['together'] / record['apart']:.1f}",
            f"{record['difference']:.0e}",
        ]
        for record in records
    ]
    header = ["preset", "all in one call", "one in a call", "ratio", "largest difference"]
    first = records[0]
    return f"""## How fast LogBERT scores

`python benchmarks/masked.py`

Windows per processor second ({first["machine"]}, one thread): {first["n_distinct"]:,} different
sessions of HDFS_v1, {first["mean_length"]:.0f} events on average, in one call, and some of them in
a call each; the best of several rounds, taken in turns. The difference is between the scores of
either way. {measured_at(records)}

{markdown(header, rows)}
"""
