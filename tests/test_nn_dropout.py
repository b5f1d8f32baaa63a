"""Dropout gives the same numbers from a thread's own generator as from torch's global one."""

import pytest
import torch

from oddlog.nn.device import seed_torch
from oddlog.nn.dropout import Dropout, own_draws


def drawn(share, shape):
    """Return the seed's first two dropouts of some values, and the gradient of both."""
    x = torch.linspace(-1, 1, torch.Size(shape).numel()).reshape(shape).requires_grad_()
    dropout = Dropout(share)
    seed_torch(3, 1)
    found = [dropout(x) for _ in range(2)]
    sum((part.sin().sum() for part in found), torch.zeros(())).backward()
    return [*(part.tolist() for part in found), x.grad.tolist()]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(7,), (3, 13), (4, 9, 60)])
def test_a_generator_of_its_own_draws_what_the_global_one_does(share, shape):
    with own_draws():
        own = drawn(share, shape)
    assert own == drawn(share, shape)


def test_own_draws_leave_the_global_generator_as_it_is():
    before = torch.random.get_rng_state()
    with own_draws():
        drawn(0.5, (9,))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_is_left_out_when_a_network_is_evaluated():
    x = torch.ones(100)
    with own_draws():
        assert torch.equal(Dropout(0.5).eval()(x), x)
