import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from known_loggpt import TINY
from oddlog.detectors.loggpt import LogGPTConfig
from oddlog.detectors.loggpt.config import MarginConfig
from oddlog.detectors.loggpt.margin import margin_loss, topk_margin_loss
from oddlog.detectors.loggpt.model import Batch, new_network, next_event_loss
from oddlog.encode import BEGIN, END, N_MARKS, PAD
from oddlog.nn.device import seed_torch

LN2 = math.log(2)
A, B = N_MARKS, N_MARKS + 1
LOGITS = torch.tensor([0.0, 2 * LN2, LN2, -1.0])


def loss_of(true, k, margin=1.0):
    return margin_loss(LOGITS[None], torch.tensor([true]), k, margin).item()


@pytest.mark.parametrize(
    ("true", "k", "wanted"),
    [
        (0, 1, 1 + 2 * LN2),  # the highest of the others is 2 ln 2
        (0, 2, 1 + LN2),  # the second of them ln 2
        (0, 3, 0.0),  # the third -1: one below already
        (1, 1, 1 - LN2),
        (1, 2, 0.0),
        (3, 2, 1 + LN2 + 1),
        (3, 9, 1 + 0.0 + 1),  # the last of three others
    ],
)
def test_a_target_has_to_stand_a_margin_above_the_kth_other_candidate(true, k, wanted):
    assert loss_of(true, k) == pytest.approx(wanted, abs=1e-6)


logits = st.lists(st.integers(-30, 30), min_size=3, max_size=9, unique=True)


@given(logits, st.data())
def test_without_a_margin_the_loss_is_zero_just_where_the_rule_is_content(values, data):
    true = data.draw(st.integers(0, len(values) - 1))
    k = data.draw(st.integers(1, len(values) - 1))
    found = margin_loss(torch.tensor([values]).float(), torch.tensor([true]), k, 0.0).item()
    rank = sum(value > values[true] for value in values)
    assert (found == 0) == (rank < k)


def test_a_target_that_is_itself_the_kth_is_still_pushed_up():
    logits = LOGITS.clone().requires_grad_()
    margin_loss(logits[None], torch.tensor([2]), 2, 1.0).sum().backward()
    assert logits.grad.tolist() == [1, 0, -1, 0]  # 2 is second; the second other is the end


def test_the_loss_of_a_batch_is_the_weighted_mean_with_a_share_of_cross_entropy():
    seed_torch(0)
    network = new_network(LogGPTConfig(**TINY), N_MARKS + 3, torch.device("cpu"))
    tokens = torch.tensor([[BEGIN, A, B, END], [BEGIN, B, END, PAD]])
    batch = Batch(tokens, tokens, torch.tensor([[1.0, 2, 3, 4], [1, 5, 6, 7]]))
    never = MarginConfig(margin=0.0, cross_entropy=0.5)
    # K as large as there are others: only the least likely of four can miss it
    with torch.no_grad():
        network.transformer.wte.weight[N_MARKS + 2] = -100 * network.transformer.ln_f.bias - 9
        network.transformer.ln_f.weight.zero_()
        network.transformer.ln_f.bias.fill_(1.0)
    found = topk_margin_loss(network, batch, 3, never).item()
    assert found == pytest.approx(0.5 * next_event_loss(network, batch).item(), rel=1e-5)
