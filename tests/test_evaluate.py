import json
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from oddlog.errors import ConfigError, LabelsError
from oddlog.evaluate import (
    FALSE_POSITIVE_RATES,
    Resampling,
    average_precision,
    consecutive_blocks,
    culprit_accuracy,
    evaluate,
    evaluate_lines,
    recall_by_class,
    table,
)
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation

FEW = Resampling(n=20)


@st.composite
def judged(draw):
    """Draw scores (tied or not), labels with both classes, and flags."""
    n = draw(st.integers(2, 40))
    score = st.integers(0, 5).map(float) | st.floats(-1e6, 1e6, width=32)
    scores = np.array(draw(st.lists(score, min_size=n, max_size=n)))
    truth = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    truth[:2] = True, False
    flags = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    return scores, truth, flags


def simulated(seed=0, n=400, share=0.2):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < share
    scores = np.round(rng.normal(size=n) + 1.5 * truth, 1)
    return scores, truth, scores > 1


@settings(max_examples=40)
@given(judged())
def test_auroc_and_auprc_equal_scikit_learns_in_every_tie(case):
    scores, truth, flags = case
    ranking = evaluate(scores, truth, flags, resampling=FEW).ranking
    assert ranking.auroc.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert ranking.auprc.value == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


@settings(max_examples=40)
@given(judged(), st.floats(0.01, 0.9))
def test_average_precision_equals_scikit_learns_with_the_weights_of_a_base_rate(case, rate):
    scores, truth, _ = case
    assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    weight = np.where(truth, rate / truth.sum(), (1 - rate) / (~truth).sum())
    wanted = average_precision_score(truth, scores, sample_weight=weight)
    assert average_precision(scores, truth, rate) == pytest.approx(wanted)


def test_what_tells_nothing_apart_has_the_base_rate_as_average_precision():
    truth = np.array([True, False, False, False])
    assert average_precision(np.zeros(4), truth) == pytest.approx(0.25)
    assert average_precision(np.zeros(4), truth, 0.03) == pytest.approx(0.03)


@settings(max_examples=40)
@given(judged())
def test_recall_at_a_false_positive_rate_is_read_off_scikit_learns_curve(case):
    scores, truth, flags = case
    ranking = evaluate(scores, truth, flags, resampling=FEW).ranking
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    expected = [true[false <= rate].max() for rate in FALSE_POSITIVE_RATES]
    assert [at.recall.value for at in ranking.recall_at] == pytest.approx(expected)


def test_recall_at_a_false_positive_rate_is_exact_on_many_scores():
    scores, truth, flags = simulated(n=20_000)
    scores = scores + np.random.default_rng(1).normal(size=len(scores)) / 100
    ranking = evaluate(scores, truth, flags, resampling=FEW).ranking
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    expected = [true[false <= rate].max() for rate in FALSE_POSITIVE_RATES]
    assert [at.recall.value for at in ranking.recall_at] == pytest.approx(expected)


@settings(max_examples=40)
@given(judged())
def test_the_figures_of_a_decision_equal_scikit_learns(case):
    scores, truth, flags = case
    found = evaluate(scores, truth, flags, resampling=FEW).decision
    assert found.recall.value == pytest.approx(recall_score(truth, flags))
    assert found.f1.value == pytest.approx(f1_score(truth, flags))
    assert found.specificity.value == pytest.approx(recall_score(~truth, ~flags))
    if 0 < flags.sum() < len(flags):
        assert found.precision.value == pytest.approx(precision_score(truth, flags))
        assert found.mcc.value == pytest.approx(matthews_corrcoef(truth, flags))


def test_a_decision_counted_by_hand():
    truth = [True, True, True, False, False, False, False, False]
    flags = [True, True, False, True, False, False, False, False]
    found = evaluate(np.zeros(8), truth, flags, resampling=FEW).decision
    counts = (found.n_hits, found.n_false_alarms, found.n_missed, found.n_passed)
    assert counts == (2, 1, 1, 4)
    assert found.false_alarm_rate.value == pytest.approx(1 / 5)
    assert found.false_alarms_per_1000.value == pytest.approx(125)


def test_mcc_keeps_its_digits_for_millions():
    truth = np.arange(2_000_000) < 100_000
    flags = np.roll(truth, 10_000)
    found = evaluate(flags.astype(float), truth, flags, resampling=FEW).decision
    assert found.mcc.value == pytest.approx(matthews_corrcoef(truth, flags), rel=1e-12)


def test_p_values_are_judged_at_each_asked_rate():
    p = np.array([0.001, 0.004, 0.006, 0.02, 0.5, 0.001])
    truth = np.array([True, True, True, True, False, False])
    found = evaluate(-p, truth, p <= 0.5, p_values=p, resampling=FEW)
    recalls = {at.asked: at.decision.recall.value for at in found.at_rates}
    assert recalls == {0.01: 0.75, 0.005: 0.5, 0.001: 0.25}
    assert [at.decision.false_alarm_rate.value for at in found.at_rates] == [0.5, 0.5, 0.5]


def test_without_anomalies_what_needs_them_is_none():
    found = evaluate([1.0, 2.0], [False, False], [True, False], resampling=FEW)
    undefined = (found.decision.recall, found.decision.f1, found.decision.mcc)
    assert [figure.value for figure in undefined] == [None] * 3
    assert (found.ranking.auroc.value, found.ranking.auprc.value) == (None, None)
    assert [at.recall.value for at in found.ranking.recall_at] == [None, None]


def test_without_normals_what_needs_them_is_none():
    found = evaluate([1.0, 2.0], [True, True], [True, False], resampling=FEW)
    assert (found.decision.specificity.value, found.ranking.auroc.value) == (None, None)
    assert [at.recall.value for at in found.ranking.recall_at] == [None, None]


def test_without_flags_precision_is_none_and_f1_zero():
    found = evaluate([1.0, 2.0], [False, True], [False, False], resampling=FEW)
    assert (found.decision.precision.value, found.decision.f1.value) == (None, 0.0)


def test_intervals_hold_the_value():
    found = evaluate(*simulated()).decision
    for figure in (found.precision, found.recall, found.f1, found.mcc):
        assert figure.low < figure.value < figure.high


def test_a_recall_interval_is_about_as_wide_as_the_exact_binomial_one():
    scores, truth, flags = simulated(n=5000)
    found = evaluate(scores, truth, flags).decision
    exact = binomtest(found.n_hits, found.n_hits + found.n_missed).proportion_ci(0.95)
    assert [found.recall.low, found.recall.high] == pytest.approx(exact, abs=0.01)


def test_an_auprc_interval_agrees_with_resampling_sequences_one_by_one():
    scores, truth, flags = simulated(n=1500)
    found = evaluate(scores, truth, flags, resampling=Resampling(n=2000)).ranking.auprc
    rng = np.random.default_rng(9)
    draws = [rng.integers(0, 1500, 1500) for _ in range(1000)]
    plain = [average_precision_score(truth[draw], scores[draw]) for draw in draws]
    assert [found.low, found.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.01)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    true_auroc = NormalDist().cdf(1 / np.sqrt(2))
    covered = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        truth = np.arange(300) < 100
        scores = rng.normal(size=300) + truth
        how = Resampling(n=300, seed=seed)
        found = evaluate(scores, truth, scores > 1, resampling=how).ranking.auroc
        covered += found.low <= true_auroc <= found.high
    assert covered / 150 == pytest.approx(0.95, abs=0.06)


def test_a_wider_confidence_gives_a_wider_interval():
    narrow = evaluate(*simulated(), resampling=Resampling(confidence=0.5)).decision.f1
    wide = evaluate(*simulated(), resampling=Resampling(confidence=0.99)).decision.f1
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_same_seed_gives_the_same_intervals():
    assert evaluate(*simulated(), resampling=FEW) == evaluate(*simulated(), resampling=FEW)


def test_another_seed_gives_other_intervals():
    other = Resampling(n=20, seed=1)
    assert evaluate(*simulated(), resampling=FEW) != evaluate(*simulated(), resampling=other)


def test_blocks_of_one_give_intervals_like_independent_sequences():
    alone = evaluate(*simulated()).decision.recall
    ones = Resampling(blocks=np.arange(400))
    blocked = evaluate(*simulated(), resampling=ones).decision.recall
    assert [blocked.low, blocked.high] == pytest.approx([alone.low, alone.high], abs=0.03)


def test_blocks_widen_the_interval_of_sequences_that_come_in_runs():
    scores, truth, flags = (np.repeat(part, 25) for part in simulated(n=200))
    plain = evaluate(scores, truth, flags).ranking.auprc
    how = Resampling(blocks=consecutive_blocks(len(truth), 25))
    blocked = evaluate(scores, truth, flags, resampling=how).ranking.auprc
    assert blocked.high - blocked.low > 3 * (plain.high - plain.low)


def test_perfect_recall_of_few_anomalies_still_has_an_interval():
    truth = np.arange(100) < 5
    recall = evaluate(truth.astype(float), truth, truth).decision.recall
    wilson = binomtest(5, 5).proportion_ci(0.95, method="wilson")
    assert (recall.value, recall.low) == (1.0, pytest.approx(wilson.low))


def test_no_false_alarm_still_has_an_interval_per_thousand():
    truth = np.arange(100) < 5
    found = evaluate(truth.astype(float), truth, truth).decision.false_alarms_per_1000
    wilson = binomtest(0, 100).proportion_ci(0.95, method="wilson")
    assert (found.value, found.high) == (0.0, pytest.approx(1000 * wilson.high))


def test_a_perfect_ranking_claims_no_interval():
    truth = np.arange(100) < 5
    auroc = evaluate(truth.astype(float), truth, truth).ranking.auroc
    assert (auroc.value, auroc.low, auroc.high) == (1.0, None, None)


def test_a_perfect_recall_in_blocks_claims_no_interval():
    truth = np.arange(100) < 5
    how = Resampling(blocks=consecutive_blocks(100, 10))
    recall = evaluate(truth.astype(float), truth, truth, resampling=how).decision.recall
    assert (recall.value, recall.low) == (1.0, None)


def test_infinite_scores_are_ranked():
    found = evaluate([np.inf, 1.0, -np.inf], [True, False, False], [True, False, False])
    assert found.ranking.auroc.value == 1.0


def test_an_evaluation_becomes_json_and_back_unchanged():
    scores, truth, flags = simulated()
    p = np.linspace(0.001, 1, len(truth))
    plain = evaluate(scores, truth, flags, p_values=p, resampling=FEW).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again["at_rates"][0]["asked"] == 0.01
    assert again["decision"] == plain["decision"]


def test_a_table_has_a_row_of_text_for_each_detector():
    found = evaluate(*simulated(), p_values=np.full(400, 0.5), resampling=FEW)
    rows = table({"counts": found, "loggpt": found})
    assert [row["detector"] for row in rows] == ["counts", "loggpt"]
    assert rows[0]["recall at 1.0% asked"].startswith("0.000 [0.000, ")
    assert {type(cell) for row in rows for cell in row.values()} == {str}


def test_a_table_shows_what_is_not_defined_as_a_dash():
    found = evaluate([1.0], [False], [False], resampling=FEW)
    assert table({"counts": found})[0]["recall"] == "-"


def test_no_sequence_to_judge_says_so():
    with pytest.raises(LabelsError, match="no labelled sequence"):
        evaluate([], [], [])


@pytest.mark.parametrize("wrong", ["scores", "flags", "p_values", "blocks"])
def test_columns_of_another_length_are_named(wrong):
    columns = {"scores": [1.0, 2.0], "flags": [True, False], "p_values": [0.5, 0.5]}
    if wrong in columns:
        columns[wrong] = columns[wrong][:1]
    how = Resampling(blocks=np.arange(1 if wrong == "blocks" else 2))
    with pytest.raises(ValueError, match=f"1 {wrong} for 2 labels"):
        evaluate(
            columns["scores"],
            [True, False],
            columns["flags"],
            p_values=columns["p_values"],
            resampling=how,
        )


@pytest.mark.parametrize(("score", "p"), [(np.nan, 0.5), (1.0, np.nan)])
def test_nan_is_refused(score, p):
    with pytest.raises(ValueError, match="NaN"):
        evaluate([score], [True], [True], p_values=[p])


@pytest.mark.parametrize("wrong", [{"n": 1}, {"confidence": 1.0}])
def test_a_resampling_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="2 resamples or more"):
        Resampling(**wrong)


def test_recall_is_given_for_each_class_the_most_frequent_first():
    labels = pl.Series(["disk", "", "net", None, "disk", "disk"])
    found = recall_by_class(labels, [True, True, False, True, False, True])
    assert [(c.name, c.n, c.recall.value) for c in found] == [("disk", 3, 2 / 3), ("net", 1, 0.0)]


def test_a_class_recall_has_its_wilson_interval():
    (found,) = recall_by_class(pl.Series(["disk"] * 29), [True] * 28 + [False])
    wilson = binomtest(28, 29).proportion_ci(0.95, method="wilson")
    assert [found.recall.low, found.recall.high] == pytest.approx(wilson)


def labelled_lines(line_labels, lengths, sequence_labels):
    """Build sequences of the given lengths over one table whose lines carry labels."""
    offsets = np.cumsum([0, *lengths])
    sequences = Sequences.from_arrays(np.zeros(offsets[-1], int), offsets, sequence_labels)
    events = sequences.events.with_columns(pl.Series("label", line_labels, dtype=pl.String))
    parts = (sequences.rows, sequences.offsets, sequences.keys, sequences.labels)
    return Sequences(events, *parts, sequences.starts, sequences.ends)


def blame(*rows):
    return Explanation("key", tuple(Culprit(row, 0, 1.0) for row in rows))


def test_culprit_accuracy_counts_the_first_and_the_first_three():
    lines = ["", "bad", "", "", "", "", "bad", "", "", "", "", "bad"]
    sequences = labelled_lines(lines, [4, 4, 4], ["bad", "bad", "bad"])
    explanations = [blame(1, 0), blame(4, 5, 6), blame(8, 9, 10, 11)]
    found = culprit_accuracy(sequences, explanations, FEW)
    assert (found.first.value, found.first_three.value) == (1 / 3, 2 / 3)


def test_culprit_accuracy_leaves_out_and_counts_anomalies_without_a_labelled_line():
    sequences = labelled_lines(["bad", "", "", ""], [2, 1, 1], ["bad", "bad", ""])
    found = culprit_accuracy(sequences, [blame(0), blame(2), blame()], FEW)
    assert (found.n, found.n_without_line, found.first.value) == (1, 1, 1.0)


def test_culprit_accuracy_says_what_picking_at_random_would_reach():
    sequences = labelled_lines(["bad", "", "", "", "bad"], [4, 1], ["bad", "bad"])
    found = culprit_accuracy(sequences, [blame(), blame()], FEW)
    assert found.chance_first == pytest.approx((1 / 4 + 1) / 2)
    assert found.chance_first_three == pytest.approx((3 / 4 + 1) / 2)


def test_culprit_accuracy_without_anomalies_is_none():
    sequences = labelled_lines(["", ""], [1, 1], ["", ""])
    found = culprit_accuracy(sequences, [blame(), blame()], FEW)
    assert (found.n, found.first.value, found.chance_first) == (0, None, None)


def test_culprit_accuracy_resamples_in_the_blocks_given():
    lines = ["bad", ""] * 40
    sequences = labelled_lines(lines, [2] * 40, ["bad"] * 40)
    explanations = [blame(2 * i + (i % 20 >= 10)) for i in range(40)]
    blocks = Resampling(n=50, blocks=consecutive_blocks(40, 10))
    found = culprit_accuracy(sequences, explanations, blocks)
    assert (found.first.value, found.first.high) == (0.5, 1.0)


def test_one_explanation_for_each_sequence_is_needed():
    sequences = labelled_lines(["bad"], [1], ["bad"])
    with pytest.raises(ValueError, match="0 explanations for 1 labels"):
        culprit_accuracy(sequences, [])


def test_line_figures_equal_scikit_learns_on_labelled_lines():
    rng = np.random.default_rng(4)
    labels = rng.choice(["", "bad"], size=60).tolist()
    sequences = labelled_lines(labels, [3] * 20, [""] * 20)
    scores = rng.integers(0, 5, 60).astype(float)
    found = evaluate_lines(sequences, scores, FEW)
    expected = average_precision_score([label == "bad" for label in labels], scores)
    assert found.ranking.auprc.value == pytest.approx(expected)


def test_lines_without_a_label_are_left_out_and_counted():
    sequences = labelled_lines(["bad", "", None], [3], [""])
    found = evaluate_lines(sequences, [1.0, 0.0, 5.0], FEW)
    assert (found.n_lines, found.n_unlabelled, found.ranking.auroc.value) == (2, 1, 1.0)


def test_a_line_in_two_windows_counts_once_by_its_worst_score():
    once = labelled_lines(["bad", "", ""], [1, 1, 1], [""] * 3)
    windows = Sequences(
        events=once.events,
        rows=np.array([0, 1, 0, 2]),
        offsets=np.array([0, 2, 4]),
        keys=pl.Series(["a", "b"]),
        labels=pl.Series(["", ""]),
        starts=np.zeros(2, bool),
        ends=np.zeros(2, bool),
    )
    found = evaluate_lines(windows, [0.0, 1.0, 2.0, 1.5], FEW)
    assert (found.n_lines, found.ranking.auroc.value) == (3, 1.0)


def test_lines_without_any_label_say_so():
    sequences = labelled_lines([None, None], [2], ["bad"])
    with pytest.raises(LabelsError, match="no line has a label"):
        evaluate_lines(sequences, [1.0, 2.0])


def test_line_and_culprit_figures_become_json():
    sequences = labelled_lines(["bad", ""], [2], ["bad"])
    plain = evaluate_lines(sequences, [1.0, 0.0], FEW).to_dict()
    plain |= culprit_accuracy(sequences, [blame(0)], FEW).to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False))["first"]["value"] == 1.0
