"""GPT-2 without its head: tokens in, a vector for each out, which sees only what stands before it.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): blocks of

    x <- x + attention(norm(x)),    x <- x + W' gelu(W norm(x) + b) + b'

behind the sum of a token's and a place's embedding, and a norm at the end. Weights have the names
and the shapes of the published ones, and a seed draws those that ``transformers`` draws; that
library does the same, but takes as long to import as torch itself (tests/test_nn_gpt2.py holds the
two equal).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, relu, scaled_dot_product_attention, silu

from oddlog.nn.dropout import Dropout

STD = 0.02
"""Of weights as they are drawn; those that lead back into the sum are drawn smaller."""
_fast_gelu = partial(gelu, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": _fast_gelu,  # GPT-2's own, in one kernel
    "gelu_pytorch_tanh": _fast_gelu,
    "gelu": gelu,
    "relu": relu,
    "silu": silu,
    "swish": silu,
    "tanh": torch.tanh,
}
"""By the names that stored models give them."""


@dataclass(frozen=True)
class Sizes:
    """Everything about a GPT-2 but its weights.

    Attributes:
        n_tokens: Different tokens.
        places: Longest string.
        layers: Blocks.
        heads: Heads of each attention; they divide the width.
        width: Of the vectors.
        inner: Width between W and W'.
        dropout: Share of embeddings and of what blocks add that training leaves out.
        attention_dropout: Share of attention that training leaves out.
        activation: A name of ``ACTIVATIONS``.
        epsilon: Of the norms.
        scaled: Whether attention is divided by the square root of a head's width.
        scaled_by_layer: Whether it is divided by the number of its layer, from 1, as well.

    Raises:
        ValueError: The heads do not divide the width.
    """

    n_tokens: int
    places: int
    layers: int
    heads: int
    width: int
    inner: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: str = "gelu_new"
    epsilon: float = 1e-5
    scaled: bool = True
    scaled_by_layer: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")


@dataclass(eq=False)
class Past:
    """Keys and values (B, heads, S, width of a head) of S tokens that were read, for each layer."""

    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values, and return all of them."""
        if layer in self.layers:
            old_keys, old_values = self.layers[layer]
            keys, values = torch.cat([old_keys, keys], 2), torch.cat([old_values, values], 2)
        self.layers[layer] = keys, values
        return keys, values


class Projection(nn.Module):
    """x W + b, with W (n_in, n_out) as GPT-2 stores it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.normal_(self.weight, std=STD)

    def forward(self, x: Tensor) -> Tensor:
        """Project (..., n_in) to (..., n_out)."""
        rows = torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight)
        return rows.view(*x.shape[:-1], -1)


class Attention(nn.Module):
    """Heads of attention, each to what stands before and to the place itself."""

    def __init__(self, sizes: Sizes, layer: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, sizes.heads
        self.scale = (sizes.width // sizes.heads) ** -0.5 if sizes.scaled else 1.0
        if sizes.scaled_by_layer:
            self.scale /= layer + 1
        self.c_attn = Projection(sizes.width, 3 * sizes.width)
        self.c_proj = Projection(sizes.width, sizes.width)
        self.attn_dropout = nn.Dropout(sizes.attention_dropout)
        self.resid_dropout = Dropout(sizes.dropout)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        """Return what is to be added to x (B, T, D), behind a past if there is one."""
        n, t, width = x.shape
        query, keys, values = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )  # (B, heads, T, D / heads)
        if past is not None:
            keys, values = past.extend(self.layer, keys, values)
        n_before, seen = keys.shape[2] - t, None
        if n_before and t > 1:
            seen = torch.ones(t, n_before + t, dtype=torch.bool, device=x.device).tril(n_before)
        found = scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=seen,
            dropout_p=self.attn_dropout.p if self.training else 0.0,
            is_causal=t > 1 and not n_before,
            scale=self.scale,
        )
        return self.resid_dropout(self.c_proj(found.transpose(1, 2).reshape(n, t, width)))


class FeedForward(nn.Module):
    """Two projections with an activation between them."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.c_fc = Projection(sizes.width, sizes.inner)
        self.c_proj = Projection(sizes.inner, sizes.width)
        self.activation = ACTIVATIONS[sizes.activation]
        self.dropout = Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is to be added to x (B, T, D)."""
        return self.dropout(self.c_proj(self.activation(self.c_fc(x))))


class Block(nn.Module):
    """Attention, then two projections, each added to what came in."""

    def __init__(self, sizes: Sizes, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.attn = Attention(sizes, layer)
        self.ln_2 = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.mlp = FeedForward(sizes)

    def forward(self, x: Tensor, past: Past | None) -> Tensor:
        """Return the next vectors (B, T, D)."""
        x = x + self.attn(self.ln_1(x), past)
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    """The network; weights are drawn from torch's global generator."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.wte = nn.Embedding(sizes.n_tokens, sizes.width)
        self.wpe = nn.Embedding(sizes.places, sizes.width)
        self.drop = Dropout(sizes.dropout)
        self.h = nn.ModuleList([Block(sizes, layer) for layer in range(sizes.layers)])
        self.ln_f = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.apply(self._draw)

    def _draw(self, module: nn.Module) -> None:
        if isinstance(module, Projection | nn.Embedding):
            nn.init.normal_(module.weight, std=STD)
        if isinstance(module, Attention | FeedForward):
            nn.init.normal_(module.c_proj.weight, std=STD / math.sqrt(2 * self.sizes.layers))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.wte.weight.device

    def forward(self, tokens: Tensor, past: Past | None = None) -> Tensor:
        """Return the vectors of tokens.

        Args:
            tokens: (B, T) int64; what stands on the right of a token does not change its vector.
            past: What the network has read before these tokens; they are added to it.

        Returns:
            (B, T, D).
        """
        begin = 0 if past is None else len(past)
        places = torch.arange(begin, begin + tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(places))  # (B, T, D)
        for block in self.h:
            x = block(x, past)
        return self.ln_f(x)
