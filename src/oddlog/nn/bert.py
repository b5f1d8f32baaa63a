"""BERT with its head for masked tokens: tokens in, a vector for each out, which sees all others.

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"
(NAACL 2019): blocks of

    x <- norm(x + attention(x)),    x <- norm(x + W' gelu(W x + b) + b')

over the norm of the sum of a token's, a place's and a segment's embedding. Weights have the names
and the shapes of the published ones, and a seed draws those that ``transformers`` draws; that
library does the same, but takes as long to import as torch itself (tests/test_nn_bert.py holds the
two equal).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

STD = 0.02
"""Of weights as they are drawn."""
EPSILON = 1e-12
"""Of the norms."""


@dataclass(frozen=True)
class Sizes:
    """Everything about a BERT but its weights.

    Attributes:
        n_tokens: Different tokens.
        places: Longest string.
        layers: Blocks.
        heads: Heads of each attention; they divide the width.
        width: Of the vectors.
        inner: Width between W and W'.
        dropout: Share of embeddings and of what blocks add that training leaves out.
        attention_dropout: Share of attention that training leaves out.
        padding: The token that fills; its embedding is nought and does not learn.
        tied: Whether tokens are told by the embeddings that they are read by.

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
    padding: int = 0
    tied: bool = True

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")


class Embeddings(nn.Module):
    """What a token, its place and its segment, of which there is one, stand for."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.n_tokens, sizes.width, padding_idx=sizes.padding)
        self.position_embeddings = nn.Embedding(sizes.places, sizes.width)
        self.token_type_embeddings = nn.Embedding(1, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, T, D) for tokens (B, T)."""
        places = self.position_embeddings.weight[: tokens.shape[1]]  # (T, D)
        found = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0] + places
        return self.dropout(self.LayerNorm(found))


class SelfAttention(nn.Module):
    """Heads of attention, each to all that is filled."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads, self.share = sizes.heads, sizes.attention_dropout
        self.query = nn.Linear(sizes.width, sizes.width)
        self.key = nn.Linear(sizes.width, sizes.width)
        self.value = nn.Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Return (B, T, D) for x (B, T, D)."""
        n, t, width = x.shape
        query, keys, values = (
            project(x).view(n, t, self.heads, -1).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )  # (B, heads, T, D / heads)
        found = scaled_dot_product_attention(
            query, keys, values, attn_mask=seen, dropout_p=self.share if self.training else 0.0
        )
        return found.transpose(1, 2).reshape(n, t, width)


class Added(nn.Module):
    """A projection that is added to what came in, and the norm of both."""

    def __init__(self, n_in: int, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, found: Tensor, x: Tensor) -> Tensor:
        """Return (B, T, D) for what was found (B, T, n_in) in x (B, T, D)."""
        return self.LayerNorm(self.dropout(self.dense(found)) + x)


class Inner(nn.Module):
    """The wider projection of a block, with its activation."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.width, sizes.inner)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, inner) for x (B, T, D)."""
        return gelu(self.dense(x))


class Block(nn.Module):
    """Attention, then two projections, each added to what came in."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(sizes), "output": Added(sizes.width, sizes)}
        )
        self.intermediate = Inner(sizes)
        self.output = Added(sizes.inner, sizes)

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Return the next vectors (B, T, D)."""
        x = self.attention["output"](self.attention["self"](x, seen), x)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    """The blocks, one after the other."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer = nn.ModuleList([Block(sizes) for _ in range(sizes.layers)])

    def forward(self, x: Tensor, seen: Tensor | None) -> Tensor:
        """Return the last vectors (B, T, D)."""
        for block in self.layer:
            x = block(x, seen)
        return x


class Body(nn.Module):
    """Embeddings and blocks."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        self.encoder = Encoder(sizes)
        self.apply(_draw)

    def forward(self, tokens: Tensor, seen: Tensor | None) -> Tensor:
        """Return (B, T, D) for tokens (B, T)."""
        return self.encoder(self.embeddings(tokens), seen)


class Transform(nn.Module):
    """A vector made ready to be compared with embeddings."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.dense = nn.Linear(sizes.width, sizes.width)
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., D) for x (..., D)."""
        return self.LayerNorm(gelu(self.dense(x)))


class Head(nn.Module):
    """How likely each token stands where a vector comes from."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.transform = Transform(sizes)
        self.decoder = nn.Linear(sizes.width, sizes.n_tokens)
        self.decoder.bias = None  # pyright: ignore[reportAttributeAccessIssue] -- it is below
        self.bias = nn.Parameter(torch.zeros(sizes.n_tokens))
        self.apply(_draw)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., n_tokens) for x (..., D)."""
        return linear(self.transform(x), self.decoder.weight, self.bias)


class BERT(nn.Module):
    """The network; weights are drawn from torch's global generator."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.bert = Body(sizes)
        head = Head(sizes)
        if sizes.tied:
            head.decoder.weight = self.bert.embeddings.word_embeddings.weight
        self.cls = nn.ModuleDict({"predictions": head})

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.bert.embeddings.word_embeddings.weight.device

    def forward(self, tokens: Tensor, filled: Tensor | None = None) -> Tensor:
        """Return the vectors of tokens.

        Args:
            tokens: (B, T) int64.
            filled: (B, T) bool, what may be looked at; None for all.

        Returns:
            (B, T, D).
        """
        seen = None
        if filled is not None:
            n, t = tokens.shape
            seen = filled[:, None, None].expand(n, 1, t, t)
        return self.bert(tokens, seen)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return (..., n_tokens) for vectors (..., D)."""
        return self.cls["predictions"](hidden)


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx] = 0.0
