"""Where a network runs, and how a run is made repeatable."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from numpy.typing import NDArray
from torch import nn

from oddlog.errors import ConfigError
from oddlog.nn.dropout import seed_draws


def choose_device(wanted: str) -> torch.device:
    """Return the device that a name stands for; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: The name is no device, or that device is not there.
    """
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(1, device=device).item()  # "meta" holds nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {wanted!r} cannot be used here: {reason}") from None
    return device


def seed_torch(*parts: int) -> torch.Generator:
    """Seed torch from several numbers and return a generator of its own, on the CPU.

    Dropout draws from the global generator (or the thread's own, see ``dropout``), shuffling from
    the returned one: an epoch seeded by (seed, epoch) is the same whether the run came to it or was
    resumed there.
    """
    seed = 0
    for part in parts:
        seed = (seed * 1_000_003 + part + 1) % (2**63 - 1)
    seed_draws(seed)
    return torch.Generator().manual_seed(seed)


def parameters_of(network: nn.Module) -> dict[str, NDArray]:
    """Return a network's parameters by name, shared ones once, as arrays on the CPU."""
    return {name: value.detach().cpu().numpy() for name, value in network.named_parameters()}


def load_parameters(network: nn.Module, weights: Mapping[str, NDArray]) -> None:
    """Copy named arrays into a network's parameters; shared ones are stored once.

    Raises:
        ValueError: A parameter is missing, left over, or of another shape.
    """
    parameters = dict(network.named_parameters())
    if parameters.keys() != weights.keys():
        differing = sorted(parameters.keys() ^ weights.keys())
        raise ValueError(f"weights do not fit the network: {differing[:3]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != weights[name].shape:
                raise ValueError(f"weights do not fit the network: shape of {name}")
            parameter.copy_(torch.from_numpy(weights[name]))
