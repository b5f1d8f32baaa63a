import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oddlog.detectors.gpt2_classifier.loss import class_factors, losses_if, named_factors
from oddlog.errors import ConfigError

QUARTERS = torch.tensor([[0.0, math.log(3)]])  # p(normal) = 1/4, p(anomalous) = 3/4
TOTALS = np.array([90.0, 10.0])


def test_cross_entropy_is_minus_the_logarithm_of_each_probability():
    assert losses_if(QUARTERS, 0.0)[0].tolist() == pytest.approx([math.log(4), math.log(4 / 3)])


def test_focal_loss_is_that_computed_by_hand():
    loss = losses_if(QUARTERS, 2.0)[0].numpy() * class_factors("focal", 0.25, TOTALS)
    by_hand = [0.75 * 0.75**2 * math.log(4), 0.25 * 0.25**2 * math.log(4 / 3)]
    assert loss == pytest.approx(by_hand)
    assert loss == pytest.approx([0.584843, 0.004495], abs=1e-6)


@given(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.floats(0, 5))
def test_focal_loss_is_never_above_cross_entropy(logits, gamma):
    row = torch.tensor([logits])
    assert (losses_if(row, gamma) <= losses_if(row, 0.0) + 1e-6).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_what_is_certain_has_a_finite_gradient(gamma):
    logits = torch.tensor([[100.0, -100.0]], requires_grad=True)
    losses_if(logits, gamma).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_weighs_no_class():
    assert class_factors("cross_entropy", 0.25, TOTALS).tolist() == [1, 1]


def test_weighted_classes_count_the_same_and_one_on_average():
    factors = class_factors("weighted", 0.25, TOTALS)
    assert (factors * TOTALS).tolist() == pytest.approx([50, 50])


def test_balanced_alpha_is_the_share_of_the_normals():
    assert class_factors("focal", "balanced", TOTALS).tolist() == pytest.approx([0.1, 0.9])


def test_alpha_is_that_of_every_kind_of_anomaly():
    factors = class_factors("focal", 0.25, np.array([90.0, 5.0, 5.0]))
    assert factors.tolist() == [0.75, 0.25, 0.25]


def test_named_factors_are_those_of_their_classes():
    assert named_factors(("", "disk", "net"), {"net": 3.0, "normal": 0.5}).tolist() == [0.5, 1, 3]


def test_a_factor_of_no_class_is_refused():
    with pytest.raises(ConfigError, match="no class 'dsk' in training; there are: normal, disk"):
        named_factors(("", "disk"), {"dsk": 2.0})
