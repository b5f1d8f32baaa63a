"""The scripts beside the benchmarks: what they draw and change, and the text they write."""

import importlib
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oddlog
from known_bench import tiny
from oddlog.bench.config import PaperConfig, Published, Row
from oddlog.bench.protocols import Cut, mine
from oddlog.ensemble import EnsembleConfig
from oddlog.simulate import simulate, simulate_drifting

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Return a function that imports one of the scripts."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def result(**figures):
    """Return a record of one detector and seed, as much of it as the text reads."""
    at_rates = [
        {
            "asked": asked,
            "decision": {key: {"value": 0} for key in ("false_alarm_rate", "recall", "f1")},
        }
        for asked in (0.01, 0.005, 0.001)
    ]
    ranking = {"auprc": {"value": 0.5}, "auroc": {"value": 0.5}}
    evaluation = {"n_sequences": 10, "n_anomalous": 2, "ranking": ranking, "at_rates": at_rates}
    record = {"seed": 0, "detector": "new_event", "set": [], "sizes": [3, 2, 999], "fit_s": 1.0}
    record |= {"score_s": 1.0, "machine": "x", "evaluation": evaluation}
    return (
        record | {"slices": {"no_unseen_key": {"n": 6, "n_anomalous": 0, "auprc": 0.1}}} | figures
    )


def ranked(name, auprc, **figures):
    """Return a record of a detector with an AUPRC."""
    record = result(detector=name, **figures)
    record["evaluation"]["ranking"]["auprc"] = {"value": auprc}
    return record


def first_cells(table):
    """Return the first cell of each row below the header."""
    return [row.split(" | ")[0].strip("| ") for row in table.splitlines()[2:]]


def test_detectors_stand_in_blocks_by_what_they_learn_from_the_best_first(benchmark):
    labelled = {"learns_from": "labelled", "anomalous": [2, 1]}
    records = [
        ranked("lookup", 0.8, **labelled),
        ranked("counts", 0.2),
        ranked("loggpt", 0.7),
        ranked("decision_tree", 0.9, **labelled),
    ]
    assert first_cells(benchmark("table").main_table(records)) == [
        "*from normal sequences*",
        "`loggpt`",
        "`counts`",
        "*from 5 labels, 3 of them of anomalies*",
        "`decision_tree`",
        "`lookup`",
    ]


def test_a_detector_with_fewer_seeds_says_how_many(benchmark):
    records = [ranked("counts", 0.2), ranked("counts", 0.2, seed=1), ranked("loggpt", 0.7)]
    assert first_cells(benchmark("table").main_table(records)) == [
        "`loggpt` (1 of 2 seeds)",
        "`counts`",
    ]


def test_a_rate_for_which_the_calibration_is_too_small_has_no_figures(benchmark):
    table = benchmark("table").main_table([result(sizes=[3, 2, 998])])
    assert table.splitlines()[-1].endswith("| 0.0000 | 0.000 | 0.000 | - | - | - |")


def test_a_section_tells_rates_over_time_where_the_test_has_one(benchmark):
    piece = {"n": 2, "n_anomalous": 1, "false_alarm_rate": 0.25, "recall": None}
    text = benchmark("table").section("bgl-windows", [result(over_time=[piece] * 5)])
    assert "| fifth 5 (1 of 2) |" in text
    assert "| `new_event` | 0.250 / - |" in text


def test_a_section_names_the_command_with_its_settings(benchmark):
    text = benchmark("table").section("adfa", [result(set=["loggpt.layers=2"])])
    assert "`oddlog bench adfa --seeds 1 --detectors new_event --set loggpt.layers=2`" in text


def test_a_section_names_the_commits_of_its_records(benchmark):
    records = [
        result(version="0.1.0", commit="a" * 40),
        result(version="0.1.0", commit="b" * 40 + " dirty"),
    ]
    text = benchmark("table").section("adfa", records)
    told = "Measured with 0.1.0 at aaaaaaaaa, 0.1.0 at bbbbbbbbb dirty."
    assert told in " ".join(text.split())


def test_a_section_tells_the_share_of_normal_sequences_with_a_new_template(benchmark):
    text = benchmark("table").section("adfa", [result()])
    assert "25.00 % of its normal ones hold a template" in " ".join(text.split())


def test_a_section_tells_recall_by_class_only_where_there_are_several(benchmark):
    section = benchmark("table").section
    one, two = {"anomaly": 0.5}, {"Adduser": 0.5, "Web_Shell": None}
    told = ["by class" in section("adfa", [result(by_class=classes)]) for classes in (one, two)]
    assert told == [False, True]


def test_a_section_tells_culprits_beside_chance(benchmark):
    lines = {"n": 2, "first": 0.5, "first_three": 0.75, "line_auprc": 0.125}
    lines |= {"chance_first": 0.1, "chance_first_three": 0.3, "line_auprc_by_chance": 0.01}
    text = benchmark("table").section("bgl-raw", [result(lines=lines)])
    assert "| `new_event` | 0.500 | 0.750 | 0.125 |\n| by chance | 0.100 | 0.300 | 0.010 |" in text


@pytest.mark.parametrize(("kind", "n_more"), [("insert", 1), ("reword", 0)])
def test_a_release_changes_what_its_share_of_sessions_writes(benchmark, kind, n_more):
    drift = benchmark("drift")
    old = simulate(60, anomaly_share=0.0, seed=1, noise_share=0.0)
    new = drift.release(old, kind, 0.5, seed=2)
    added = pl.Series(list((Counter(new.lines) - Counter(old.lines)).elements()))
    changed = set(added.str.extract(r"(blk_\d+)"))
    assert 15 < len(changed) < 45
    assert len(new.lines) - len(old.lines) == n_more * len(changed)
    assert drift.release(old, kind, 0.0, seed=2).lines.to_list() == old.lines.to_list()


def test_contaminated_parts_hold_their_share_of_anomalies_and_no_session_twice(benchmark):
    contamination = benchmark("contamination")
    pool = oddlog.Sequences.from_ids([[1]] * 200, labels=[""] * 180 + ["fault"] * 20)
    bench = contamination.Bench(pool, (100, 20, 40), pool, "hdfs")
    parts = contamination.contaminated(bench, 0.1, seed=0)
    assert [(len(part), int(part.anomalous.sum())) for part in parts] == [
        (100, 10),
        (20, 2),
        (40, 4),
    ]
    assert pl.concat([part.keys for part in parts]).is_unique().all()


def test_more_contamination_only_replaces_normal_sessions(benchmark):
    contamination = benchmark("contamination")
    pool = oddlog.Sequences.from_ids([[1]] * 200, labels=[""] * 180 + ["fault"] * 20)
    bench = contamination.Bench(pool, (100, 20, 40), pool, "hdfs")
    clean, poisoned = (contamination.contaminated(bench, share, 0)[1] for share in (0.0, 0.1))
    kept = poisoned.keys.filter(~poisoned.anomalous)
    assert set(kept) <= set(clean.keys)


def test_recall_is_read_at_the_threshold_that_realises_the_rate(benchmark):
    normal, odd = [float(i) for i in range(100)], [97.5, 98.5, 200.0]
    truth = np.array([False] * 100 + [True] * 3)
    found = benchmark("contamination").recall_at(np.array(normal + odd), truth, 0.01)
    assert found == pytest.approx(2 / 3)


def test_the_speed_of_a_call_for_all_is_told_as_a_ratio(benchmark):
    record = {"preset": "paper", "n_distinct": 1000, "mean_length": 28.4, "together": 300.0}
    record |= {"apart": 25.0, "difference": 1e-6, "machine": "x"}
    text = benchmark("sections").masked_section([record])
    assert "| `paper` | 300 | 25.0 | 12.0 | 1e-06 |" in text


def test_sessions_that_are_drawn_to_be_scored_differ_from_each_other(benchmark):
    sequences = oddlog.Sequences.from_ids([[1, 2], [1], [1, 2], [2, 1], [1]])
    drawn = benchmark("masked").distinct_sessions(sequences, 10)
    assert sorted(drawn.template_ids()[a:b].tolist() for a, b in pairwise(drawn.offsets)) == [
        [1],
        [1, 2],
        [2, 1],
    ]


def test_an_ensembles_members_and_every_rule_are_judged(benchmark, tmp_path):
    script = benchmark("ensemble")
    config = EnsembleConfig(members=("new_event", "key_set"))
    kept = script.take_up(tiny(None, 0), config, tmp_path / "kept", 0)
    again = script.take_up(tiny(None, 0), config, tmp_path / "kept", 0)
    rows = [*script.compare(tiny(None, 0), again)]
    names = [row["score"].removesuffix(" (chosen)").strip("*") for row in rows]
    assert names == ["new_event", "key_set", "fisher", "cauchy", "minimum"]
    assert {row["AUPRC"] for row in rows} == {"1.0000"}
    assert again.rule == kept.rule


def test_every_sequence_is_judged_once_and_no_group_is_on_both_sides(benchmark):
    kinds = benchmark("kinds")
    rng = np.random.default_rng(0)
    labels = rng.choice(["", "disk", "network"], size=300, p=[0.5, 0.3, 0.2]).tolist()
    sequences = oddlog.Sequences.from_ids([[1]] * 300, labels)
    groups = np.arange(300) // 4
    found = list(kinds.folds(sequences, groups, seed=0))
    assert sorted(np.concatenate([fold.test for fold in found]).tolist()) == [*range(300)]
    for fold in found:
        parts = [set(groups[part].tolist()) for part in (fold.train, fold.valid, fold.test)]
        assert sum(map(len, parts)) == len(set.union(*parts))


def test_kinds_are_told_beside_the_commonest_class(benchmark):
    kinds = benchmark("kinds")
    record = {
        "benchmark": "hadoop",
        "detector": "lookup",
        "names": ["", "disk", "network"],
        "label": ["", "", "", "disk", "network", "network"],
        "found": [0, 0, 0, 1, 2, 1],
        "test": [0, 1, 2, 3, 4, 5],
        "group": [0, 1, 2, 3, 4, 5],
        "auprc": 0.9,
        "fit_s": 2.0,
    }
    rows = kinds.table([record], "hadoop").splitlines()
    assert rows[2].startswith("| `lookup` | 1 | 0.778")
    assert rows[3].startswith("| the commonest class | - | 0.222")
    assert "normal (3) | disk (1) | network (2)" in rows[7]
    with pytest.raises(AssertionError, match="different cuts"):
        kinds.table([record, record], "hadoop")


@pytest.fixture
def cut_of_texts(benchmark):
    """Return sessions of two templates, the fault's among them, with templates and messages."""
    ids = [[0, 1, 0, 1]] * 30 + [[0, 1, 2]] * 10
    sequences = oddlog.Sequences.from_ids(ids, [""] * 30 + ["fault"] * 10)
    texts = ("Received the file", "closing the stream", "exception while writing the file")
    messages = pl.Series("message", [texts[i] for session in ids for i in session])
    sequences = replace(sequences, events=sequences.events.with_columns(messages))
    parts, test, templates = mine([sequences] * 3, sequences, "plain")
    return Cut(parts, test, templates)


def test_a_test_on_which_nothing_changes_is_the_one_that_was_cut(benchmark, cut_of_texts):
    found = benchmark("unstable").unstable(cut_of_texts, "none", 0.0, 0)
    assert (found.sequences, found.touched) == (cut_of_texts.test, 0.0)


@pytest.mark.parametrize(("kind", "share"), [("templates", 1.0), ("release", 0.5)])
def test_what_is_reworded_is_unknown_and_counted(benchmark, cut_of_texts, kind, share):
    found = benchmark("unstable").unstable(cut_of_texts, kind, share, 0)
    unknown = np.bincount(found.sequences.owners, found.sequences.template_ids() < 0) > 0
    assert found.touched == unknown.mean() > 0
    assert sorted(found.sequences.keys) == sorted(cut_of_texts.test.keys)


def test_a_detector_is_judged_on_every_test_and_not_twice(
    benchmark, cut_of_texts, tmp_path, monkeypatch
):
    unstable, out = benchmark("unstable"), tmp_path / "out.jsonl"
    monkeypatch.setattr(unstable, "labelled_cut", lambda folder, seed: cut_of_texts)
    monkeypatch.setenv("ODDLOG_DATA", str(tmp_path))
    for _ in range(2):
        unstable.main(["--detectors", "key_set", "--seeds", "1", "--out", str(out)])
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["kind"], r["share"]) for r in records] == list(unstable.CASES)
    rows = unstable.tables(records).splitlines()
    assert "| `key_set` | 1.000 |" in "\n".join(rows)
    assert sum(row.startswith("### ") for row in rows) == 5


def test_a_reworded_template_is_the_one_most_alike_and_a_new_one_is_not(benchmark, cut_of_texts):
    unstable = benchmark("unstable")
    texts = {0: "Got the file", 1: "closing the stream", 2: "a line of its own"}
    old = cut_of_texts.test.events["template_id"]
    messages = old.replace_strict(texts, return_dtype=pl.String).alias("message")
    changed = replace(cut_of_texts.test, events=cut_of_texts.test.events.with_columns(messages))
    found = unstable.matched_again(changed, cut_of_texts, nearest=True).template_ids()
    assert (found[old == 0].tolist(), found[old == 1].tolist()) == ([0] * 70, [1] * 70)
    assert (found[old == 2] < 0).all()


@pytest.mark.parametrize(
    ("scores", "truth", "threshold"),
    [([1, 2, 3, 4], [0, 0, 1, 1], 3), ([1, 2, 2, 4], [0, 0, 1, 1], 2), ([1, 1], [0, 1], 1)],
    ids=["between the classes", "a tie is flagged whole, or not at all", "nothing to tell apart"],
)
def test_the_threshold_is_the_best_of_the_validation(benchmark, scores, truth, threshold):
    found = benchmark("focal").best_threshold(np.array(scores), np.array(truth, dtype=bool))
    assert found == threshold


def test_what_is_drawn_by_class_has_the_shares_of_the_whole(benchmark):
    sequences = oddlog.Sequences.from_ids([[1]] * 200, [""] * 180 + ["fault"] * 20)
    drawn, others = benchmark("focal").stratified(sequences, 0.1, np.random.default_rng(0))
    assert (len(drawn), int(sequences.take(drawn).anomalous.sum())) == (20, 2)
    assert sorted([*drawn, *others]) == list(range(200))


@pytest.fixture
def focal(benchmark, cut_of_texts, tmp_path, monkeypatch):
    """Return the script on small data, with a small network, and a function that runs it."""
    script, out = benchmark("focal"), tmp_path / "out.jsonl"
    small = "layers=1 heads=2 width=8 context=16 min_steps=3 max_steps=3 parts=1 batch_size=8"
    parts = (cut_of_texts.parts[0], cut_of_texts.parts[1], cut_of_texts.test)
    monkeypatch.setattr(script, "parts_of", lambda data, seed: parts)
    monkeypatch.setenv("ODDLOG_DATA", str(tmp_path))

    def run(*arguments):
        chosen = [f"gpt2_classifier.{item}" for item in small.split()]
        chosen += ["loggpt.layers=1", "loggpt.heads=2", "loggpt.width=8", "loggpt.context=16"]
        given = [part for item in [*chosen, "loggpt.epochs=1"] for part in ("--set", item)]
        places = ["--out", str(out), "--work", str(tmp_path / "work")]
        monkeypatch.setattr("sys.argv", ["focal.py", *arguments, *given, *places])
        script.main()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return script, run


def test_every_input_and_loss_is_judged_once_beside_the_classifiers_on_counts(focal):
    script, run = focal
    for _ in range(2):
        records = run("sample", "--reads", *script.FORMS, "--losses", "focal")
    assert [(r["detector"], r["reads"]) for r in records] == [
        *(("gpt2_classifier", form) for form in script.FORMS),
        *((name, "") for name in script.BASELINES),
    ]
    assert "| sample | lookup | - | - | 1 | 1.000 |" in script.table(
        records, ("data", "detector", "reads", "loss")
    )


def test_few_labels_start_from_what_was_read_without_them(focal):
    _, run = focal
    arguments = ["--losses", "focal", "--starts", "random", "loggpt", "--shares", ".5"]
    records = run("hdfs", *arguments, "--baselines")
    assert [(r["start"], r["sizes"][:2]) for r in records] == [
        ("random", [20, 20]),
        ("loggpt", [20, 20]),
    ]
    assert "loggpt" in records[1]["settings"]["start"]


def test_a_section_tells_further_slices_with_intervals_where_anomalies_are_few(benchmark):
    slices = {
        "no_unseen_key": {"n": 6, "n_anomalous": 0, "auprc": 0.1},
        "not_a_copy": {"n": 9, "n_anomalous": 2, "auprc": 0.5, "auprc_interval": [0.25, 0.75]},
        "length_301": {"n": 3, "n_anomalous": 0, "auprc": None},
    }
    text = benchmark("table").slice_table([result(slices=slices)])
    assert "| not a copy (2 of 9) | 301 events and more (0 of 3) |" in text
    assert "| `new_event` | 0.500 [0.250, 0.750] | - |" in text
    assert benchmark("table").slice_table([result()]) == ""


def paper():
    """Return a paper's protocol with one row."""
    row = {"name": "ours", "where": {"epochs": 40, "set": []}, "figures": "own.rule"}
    published = {"precision": 0.9, "recall": 0.8, "f1": 0.85, "source": "A 2020"}
    return PaperConfig(
        title="t", about="Drawn.", leaks="r is of the test", command="python x.py", results="x",
        published=Published(**published), rows=(Row(**row),),
    )  # fmt: skip


def test_ours_stands_beside_what_was_published_with_the_difference_and_the_leaks(benchmark):
    found = {"precision": 0.5, "recall": {"value": 1.0}, "f1": 0.75}
    records = [
        {"epochs": 40, "set": [], "own": {"rule": found}},
        {"epochs": 20, "set": [], "own": {"rule": None}},
    ]
    text = benchmark("paper").section(paper(), records)
    assert "| A 2020 |  | 0.900 | 0.800 | 0.850 |  |" in text
    assert "| ours | 1 | 0.500 | 1.000 | 0.750 | -0.100 |" in text
    assert "Known leaks: r is of the test." in " ".join(text.split())


def test_a_paper_without_records_has_its_published_figures_alone(benchmark):
    assert benchmark("paper").table(paper(), []).count("\n") == 2


def drawable(name, auprc):
    """Return a record that every figure can be drawn of."""
    histogram = {"edges": [0, 1, 2], "normal": [8, 0], "anomalous": [1, 1], "threshold": 1.5}
    slices = {"not_a_copy": {"n": 5, "n_anomalous": 2, "auprc": 0.5, "f1": 0.5}}
    shares = ("first", "first_three", "chance_first", "chance_first_three")
    lines = dict.fromkeys(shares, 0.5)
    return ranked(
        name, auprc, histogram=histogram, curve=[1.0, 0.5], slices=slices, lines=lines
    )  # fmt: skip


def test_figures_are_svg_of_what_the_records_hold(benchmark):
    by = {name: [drawable(name, 0.5)] for name in ("a<b", "counts")}
    shown = benchmark("figures").figures("x", by)
    assert [file for _, file, _ in shown] == [
        f"x-{kind}.svg" for kind in ("cost", "slices", "curves", "scores", "culprits")
    ]
    for _, _, drawn in shown:
        texts = [node.text for node in ElementTree.fromstring(drawn).iter()]
        assert any(text and text.startswith("a<b") for text in texts)


def test_records_without_curves_have_no_figure_of_them(benchmark):
    by = {"counts": [result()], "ngram": [result()]}
    shown = benchmark("figures").figures("x", by)
    assert [file for _, file, _ in shown] == ["x-cost.svg"]


@given(st.lists(st.floats(0, 400), max_size=20))
def test_labels_never_lie_on_each_other(wanted):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        svg = importlib.import_module("svg")
    placed = sorted(svg.apart(wanted, 0, 400))
    assert all(below - above >= svg.TALL - 1e-6 for above, below in pairwise(placed))


@pytest.mark.parametrize(("value", "at"), [(-1, 0.0), (0.5, 0.25), (1.5, 0.75), (9, 1.0)])
def test_a_threshold_is_drawn_among_the_bins(benchmark, value, at):
    assert benchmark("figures").place(value, [0, 1, 2]) == at


def test_the_log_of_ten_releases_is_cut_into_whole_sessions(benchmark, monkeypatch, tmp_path):
    drifting = benchmark("drifting")
    monkeypatch.setattr(drifting, "N_BEFORE", 20)
    monkeypatch.setattr(drifting, "N_EACH", 10)
    made = simulate_drifting(20, 10, anomaly_share=0.1, seed=1, pace=drifting.PACE)
    logs = drifting.write_pieces(made, tmp_path)
    lines = {name: path.read_text().splitlines() for name, path in logs.items()}
    found = {name: set(re.findall(drifting.SESSION, "\n".join(own))) for name, own in lines.items()}
    sessions = made.ran["session"].to_list()
    assert found["first"] == set(sessions[:20])
    assert found["roll-out 1"] == set(sessions[20:25])
    assert found["judged 10"] == set(sessions[-5:])
    assert sum(map(len, lines.values())) == len(made.simulation.lines)


def test_the_table_of_ten_releases_says_where_seeds_are_fewer(benchmark):
    drifting = benchmark("drifting")
    records = [
        {"detector": name, "way": "frozen", "release": 1, "seed": seed,
         "false_alarm_rate": 0.1 + 0.2 * seed, "recall": 0.5, "recall_unseen": 1.0}
        for name, seed in (("ngram", 0), ("ngram", 1), ("key_set", 0))
    ]  # fmt: skip
    text = drifting.tables(records)
    assert "2 seeds (`key_set` 1)" in text
    assert "| `ngram` | frozen | 0.20 ± 0.14 | - |" in text
