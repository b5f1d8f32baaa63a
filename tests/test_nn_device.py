import numpy as np
import pytest
import torch
from torch import nn

from oddlog.errors import ConfigError
from oddlog.nn.device import choose_device, load_parameters, seed_torch


class Tied(nn.Module):
    """A network whose output layer is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.out = nn.Linear(2, 3, bias=False)
        self.out.weight = self.embed.weight


def linear_weights(**changed):
    weights = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(2)}
    return {name: value for name, value in (weights | changed).items() if value is not None}


@pytest.mark.parametrize(
    ("cuda", "mps", "wanted"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_the_fastest_device_there_is(monkeypatch, cuda, mps, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == wanted


def test_a_named_device_is_taken():
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:99", "cpu:x", "meta", "hpu"])
def test_a_device_that_is_not_there_is_refused_in_one_line(wanted):
    with pytest.raises(ConfigError, match=f"^device '{wanted}' cannot be used here: ") as caught:
        choose_device(wanted)
    assert "\n" not in str(caught.value)


def draws(*parts):
    generator = seed_torch(*parts)
    return torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist()


def test_the_same_numbers_seed_both_generators_alike():
    assert draws(3, 1) == draws(3, 1)


@pytest.mark.parametrize("other", [(3, 2), (4, 1), (1, 3), (3,), (3, 1, 0)])
def test_other_numbers_seed_otherwise(other):
    first, second = draws(3, 1), draws(*other)
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_the_returned_generator_is_apart_from_the_global_one():
    generator = seed_torch(0)
    wanted = torch.rand(2, generator=generator).tolist()
    generator = seed_torch(0)
    torch.rand(100)
    assert torch.rand(2, generator=generator).tolist() == wanted


def test_a_large_seed_is_taken():
    assert draws(2**62, 2**62) == draws(2**62, 2**62)


def test_weights_are_copied_into_the_parameters():
    network = nn.Linear(3, 2)
    load_parameters(network, linear_weights())
    assert network.weight.tolist() == linear_weights()["weight"].tolist()
    assert network.bias.tolist() == [0, 0]


def test_a_network_does_not_share_memory_with_the_weights_given():
    network, weights = nn.Linear(3, 2), linear_weights()
    load_parameters(network, weights)
    weights["weight"][:] = 7
    assert network.weight.tolist() == linear_weights()["weight"].tolist()


def test_a_shared_parameter_is_given_once():
    network = Tied()
    load_parameters(network, {"embed.weight": np.ones((3, 2), dtype=np.float32)})
    assert network.out.weight.tolist() == np.ones((3, 2)).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": None}, "'bias'"),
        ({"extra": np.zeros(1)}, "'extra'"),
        ({"bias": np.zeros(3)}, "shape of bias"),
        ({"weight": np.zeros((3, 2))}, "shape of weight"),
    ],
)
def test_weights_of_another_network_are_refused(change, message):
    with pytest.raises(ValueError, match=f"do not fit the network: .*{message}"):
        load_parameters(nn.Linear(3, 2), linear_weights(**change))


def test_parameters_still_learn_after_loading():
    network = nn.Linear(3, 2)
    load_parameters(network, linear_weights())
    assert all(parameter.requires_grad for parameter in network.parameters())
