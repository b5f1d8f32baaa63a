"""Drawing continuations of token strings from LogGPT's network: batched sampling, and beams."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache
from transformers.models.gpt2 import GPT2LMHeadModel

from oddlog.encode import END, FIRST_CANDIDATE, PAD

N_LIKELIEST = 50
"""Tokens that beams may draw from: the default of the library that the released code calls."""


@torch.no_grad()
def continue_strings(
    model: GPT2LMHeadModel, strings: Tensor, drawn: Tensor, generator: torch.Generator
) -> Tensor:
    """Replace chosen tokens by ones drawn from the network, each given all that stands before it.

    Every row is fed from its first token on, so that positions are the true ones whatever the
    length of its prompt; keys and values are kept, so that each column is one step. ``END`` is
    drawn in no column but the last of a row: a continuation is as long as the string it replaces.

    Args:
        model: The network, in evaluation mode.
        strings: (B, T) int64, padded with ``PAD`` on the right.
        drawn: (B, T) bool, the tokens to draw: in each row a run that begins behind its first
            token; the tokens behind the run are left out of the result.
        generator: On the CPU: a seed draws the same on every device.

    Returns:
        (B, T) int64: the prompts with their continuations, ``PAD`` behind them.
    """
    columns = drawn.any(dim=0).nonzero().squeeze(-1).tolist()
    tokens = strings.clone()
    if not columns:
        return tokens
    closing = ends_of(strings)
    cache = DynamicCache(config=model.config)
    fed = 0
    for column in range(columns[0], columns[-1] + 1):
        out = model.transformer(
            input_ids=tokens[:, fed:column], past_key_values=cache, use_cache=True
        )
        logits = out.last_hidden_state[:, -1] @ model.lm_head.weight[FIRST_CANDIDATE:].T  # (B, V')
        logits = without_end(logits, closing[:, column])
        uniform = torch.rand(logits.shape, generator=generator).clamp(min=1e-20)
        noise = -torch.log(-torch.log(uniform)).to(logits.device)  # Gumbel: its argmax is a draw
        new = (logits + noise).argmax(dim=-1) + FIRST_CANDIDATE
        tokens[:, column] = torch.where(drawn[:, column], new, tokens[:, column])
        fed = column
    begun = drawn.cumsum(dim=1) > 0
    return tokens.masked_fill(begun & ~drawn, PAD)


def ends_of(strings: Tensor) -> Tensor:
    """Return (B, T) bool: the last token of each row that is padded on the right."""
    filled = strings != PAD
    return filled & ~torch.cat([filled[:, 1:], torch.zeros_like(filled[:, :1])], dim=1)


def without_end(logits: Tensor, may_end: Tensor) -> Tensor:
    """Return logits over candidates (..., V') in which ``END`` is impossible where not allowed.

    Args:
        logits: (..., V'), the first of them that of ``END``.
        may_end: (...) bool.
    """
    end = logits[..., :1].masked_fill(~may_end.unsqueeze(-1), -torch.inf)
    return torch.cat([end, logits[..., 1:]], dim=-1)


@torch.no_grad()
def beam_sample(model: GPT2LMHeadModel, prompt: Tensor, length: int, beams: int) -> Tensor:
    """Draw one continuation by beam sampling, in the mode that the network is in.

    Randomness is torch's global generator. The marks that can never follow are suppressed.

    Args:
        model: The network.
        prompt: (P,) int64.
        length: Length of the result, > P.
        beams: Number of beams.

    Returns:
        (length,) int64, beginning with the prompt.
    """
    n_candidates = model.config.vocab_size - FIRST_CANDIDATE
    found = model.generate(  # pyright: ignore[reportAttributeAccessIssue] -- a mixin's protocol
        prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        generation_config=GenerationConfig(
            do_sample=True,
            num_beams=beams,
            top_k=min(N_LIKELIEST, n_candidates),
            min_new_tokens=length - len(prompt),
            max_new_tokens=length - len(prompt),
            suppress_tokens=list(range(END)),
            pad_token_id=PAD,
            use_cache=True,
        ),
    )
    return found[0]
