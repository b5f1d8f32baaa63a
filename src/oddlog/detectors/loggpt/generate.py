"""Drawing continuations of token strings from LogGPT's network: batched sampling, and beams."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from oddlog.detectors.loggpt.model import LanguageModel
from oddlog.encode import END, FIRST_CANDIDATE, PAD
from oddlog.extras import import_extra
from oddlog.nn.gpt2 import Past

N_LIKELIEST = 50
"""Tokens that beams may draw from: the default of the library that the released code calls."""


@torch.no_grad()
def continue_strings(
    model: LanguageModel, strings: Tensor, drawn: Tensor, generator: torch.Generator
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
    past, fed = Past(), 0
    for column in range(columns[0], columns[-1] + 1):
        hidden = model.transformer(tokens[:, fed:column], past)  # (B, T, D)
        logits = model.candidate_logits(hidden[:, -1])  # (B, V')
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
def beam_sample(model: LanguageModel, prompt: Tensor, length: int, beams: int) -> Tensor:
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
    transformers = import_extra("transformers", "loggpt")  # takes seconds, and only this needs it
    n_candidates = model.sizes.n_tokens - FIRST_CANDIDATE
    found = _as_theirs(model, transformers).generate(
        prompt[None],
        attention_mask=torch.ones_like(prompt)[None],
        generation_config=transformers.GenerationConfig(
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


def _as_theirs(model: LanguageModel, transformers: Any) -> Any:
    """Return the network as one of ``transformers``, which has beams, over the same weights."""
    sizes = model.sizes
    with torch.device("meta"):  # nothing is drawn
        theirs = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=sizes.n_tokens,
                n_positions=sizes.places,
                n_embd=sizes.width,
                n_layer=sizes.layers,
                n_head=sizes.heads,
                n_inner=sizes.inner,
                resid_pdrop=sizes.dropout,
                embd_pdrop=sizes.dropout,
                attn_pdrop=sizes.attention_dropout,
                activation_function="gelu_pytorch_tanh",
                bos_token_id=None,
                eos_token_id=None,
            )
        )
    theirs.load_state_dict(model.state_dict(), strict=False, assign=True)
    theirs.tie_weights()
    return theirs.train(model.training)
