import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oddlog.nn.ranks import surprise_and_rank

EIGHTHS = torch.log(torch.tensor([4.0, 1.0, 2.0, 1.0]))  # p = 1/2, 1/8, 1/4, 1/8


@pytest.mark.parametrize(
    ("target", "p", "rank"), [(0, 1 / 2, 0), (2, 1 / 4, 1), (1, 1 / 8, 2), (3, 1 / 8, 2)]
)
def test_rank_counts_the_likelier_and_surprise_is_minus_log_p(target, p, rank):
    surprise, found = surprise_and_rank(EIGHTHS, torch.tensor(target))
    assert surprise.item() == pytest.approx(-math.log(p), rel=1e-6)
    assert found.item() == rank


def test_every_target_is_judged_in_its_own_row():
    logits = torch.stack([EIGHTHS, EIGHTHS.flip(0)]).expand(3, 2, 4)  # (B, T, V)
    surprise, rank = surprise_and_rank(logits, torch.tensor([[0, 0], [2, 2], [3, 3]]))
    assert rank.tolist() == [[0, 2], [1, 2], [2, 0]]
    assert (surprise.shape, surprise.dtype, rank.dtype) == ((3, 2), torch.float32, torch.int64)


def test_equally_likely_targets_share_the_best_rank():
    _, rank = surprise_and_rank(torch.zeros(5, 5), torch.arange(5))
    assert rank.tolist() == [0] * 5


@given(st.lists(st.floats(-1e-5, 1e-5), min_size=4, max_size=4))
def test_float_noise_does_not_reorder_ties(noise):
    logits = torch.tensor([[3.0, 1.0, 1.0, -2.0]] * 4) + torch.tensor(noise)[None]
    _, rank = surprise_and_rank(logits, torch.arange(4))
    assert rank.tolist() == [0, 1, 1, 3]


@given(st.floats(-50, 50))
def test_a_shift_of_all_logits_changes_nothing(shift):
    targets = torch.arange(4)
    wanted, found = (surprise_and_rank((EIGHTHS + s).expand(4, 4), targets) for s in (0, shift))
    assert found[0].tolist() == pytest.approx(wanted[0].tolist(), abs=1e-4)
    assert found[1].tolist() == wanted[1].tolist()


def test_half_precision_is_judged_in_single():
    surprise, _ = surprise_and_rank(torch.zeros(1000, dtype=torch.float16), torch.tensor(0))
    assert surprise.dtype == torch.float32
    assert surprise.item() == pytest.approx(math.log(1000), rel=1e-6)


def test_an_impossible_target_ranks_last():
    logits = torch.tensor([0.0, -math.inf, 0.0])
    surprise, rank = surprise_and_rank(logits, torch.tensor(1))
    assert (surprise.item(), rank.item()) == (math.inf, 2)
