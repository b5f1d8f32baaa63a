"""Classes told apart: the figures of scikit-learn, and what happens at their edges."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from oddlog.errors import LabelsError
from oddlog.evaluate import Resampling, evaluate_classes

NAMES = ("", "disk full", "network")
FEW = Resampling(n=20)


def one_hot(found, k=3):
    return np.eye(k)[np.asarray(found, dtype=int)]


def judge(truth, found, how=FEW):
    return evaluate_classes(pl.Series(truth), NAMES, one_hot(found), resampling=how)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_figures_equal_scikit_learns(pairs):
    truth, found = (np.array(column) for column in zip(*pairs, strict=True))
    judged = judge([NAMES[i] for i in truth], found)
    present = np.unique(truth)
    f1 = f1_score(truth, found, labels=present, average="macro", zero_division=0)
    assert judged.macro_f1.value == pytest.approx(f1)
    assert judged.accuracy.value == pytest.approx(accuracy_score(truth, found))
    assert [list(row) for row in judged.confusion] == confusion_matrix(
        truth, found, labels=[0, 1, 2]
    ).tolist()


def test_a_hand_computed_confusion():
    judged = judge(["", "", "", "network", "network", "disk full"], [0, 0, 2, 2, 1, 1])
    assert judged.confusion == ((2, 0, 1), (0, 1, 0), (0, 1, 1))
    network = judged.classes[2]
    assert (network.n, network.precision.value, network.recall.value) == (2, 0.5, 0.5)
    assert judged.macro_f1.value == pytest.approx((4 / 5 + 2 / 3 + 1 / 2) / 3)


def test_a_class_that_the_detector_does_not_know_counts_as_missed():
    judged = judge(["", "power cut"], [0, 1])
    assert judged.names == (*NAMES, "power cut")
    assert judged.classes[3].recall.value == 0.0
    assert judged.macro_f1.value == pytest.approx(0.5)


def test_a_class_of_which_nothing_is_there_has_no_recall_and_no_part_in_the_mean():
    judged = judge(["", "network"], [0, 2])
    assert judged.classes[1].recall.value is None
    assert judged.macro_f1.value == 1.0


def test_intervals_hold_the_figure_and_narrow_with_more_sequences():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, size=2000)
    found = np.where(rng.random(2000) < 0.8, truth, 0)
    names = [NAMES[i] for i in truth]
    how = Resampling(n=200)
    wide, narrow = (judge(names[:n], found[:n], how).macro_f1 for n in (100, 2000))
    assert narrow.low < narrow.value < narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_blocks_that_are_drawn_whole_widen_the_interval():
    truth = np.repeat([0, 1, 2, 0, 1, 2, 0, 1, 2], 20)
    found = np.repeat([0, 1, 2, 0, 1, 2, 1, 2, 0], 20)  # a third of the blocks are all wrong
    names = [NAMES[i] for i in truth]
    alone = judge(names, found, Resampling(n=200)).accuracy
    whole = judge(names, found, Resampling(n=200, blocks=np.repeat(np.arange(9), 20))).accuracy
    assert whole.high - whole.low > 2 * (alone.high - alone.low)


def test_the_first_of_equally_likely_classes_is_taken():
    tied = np.full((1, 3), 1 / 3)
    assert evaluate_classes(pl.Series([""]), NAMES, tied).accuracy.value == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(LabelsError, match="no labelled sequence"):
        evaluate_classes(pl.Series([], dtype=pl.String), NAMES, np.empty((0, 3)))
    with pytest.raises(ValueError, match="unknown"):
        evaluate_classes(pl.Series([None], dtype=pl.String), NAMES, one_hot([0]))
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 3"):
        evaluate_classes(pl.Series([""]), NAMES, np.ones((1, 2)))
    with pytest.raises(ValueError, match="1 class_probs for 2 labels"):
        evaluate_classes(pl.Series(["", ""]), NAMES, one_hot([0]))
