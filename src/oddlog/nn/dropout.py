"""Dropout whose draws no other thread disturbs.

torch has one generator on the CPU for the whole process, so that of two networks that learn at the
same time each would draw what the other leaves. ``own_draws`` gives a thread a generator in its
place: ``seed_draws`` seeds it and ``Dropout`` draws from it the numbers that the global one gives.
Nothing else does: weights are drawn before, and the dropout of attention, deep inside torch, is for
networks that learn alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

_OWN: ContextVar[torch.Generator | None] = ContextVar("own draws", default=None)


@contextmanager
def own_draws() -> Iterator[None]:
    """Let this thread draw from a generator of its own, on the CPU."""
    token = _OWN.set(torch.Generator())
    try:
        yield
    finally:
        _OWN.reset(token)


def seed_draws(seed: int) -> None:
    """Seed the generator that this thread draws from: torch's global one, or its own."""
    own = _OWN.get()
    if own is None:
        torch.manual_seed(seed)
    else:
        own.manual_seed(seed)


class Dropout(nn.Dropout):
    """Dropout that draws from the thread's own generator, where it has one."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the values, in training with a share of them left out."""
        own = _OWN.get()
        if own is None or not self.training or not self.p:
            return super().forward(input)
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=own)
        return input * kept.div_(1 - self.p)
