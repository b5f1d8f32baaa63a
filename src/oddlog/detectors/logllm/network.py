"""BERT, a projector and a decoder as one network: vectors of messages in the place of words.

    x = E(before) ++ P v_1 .. P v_n ++ E(asked),    v_i = BERT(text i)

Between the first words and the messages shorter sequences are padded, so that the words behind
stand in the same columns; positions count what is not padding. The first words are the same for all
sequences: in scoring they pass the decoder once, and their keys and values are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from oddlog.detectors.logllm.config import LogLLMConfig
from oddlog.detectors.logllm.prompt import Prompt

IGNORED = -100
TEXTS_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Tokenized:
    """k texts as tokens of BERT: (k, L) int64 each, padded on the right."""

    tokens: Tensor
    mask: Tensor


def tokenize(tokenizer: Any, texts: list[str], max_tokens: int) -> Tokenized:
    """Turn texts into tokens, cut at a number of them."""
    if not texts:
        empty = torch.zeros((0, 1), dtype=torch.int64)
        return Tokenized(empty, empty)
    found = tokenizer(
        texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    return Tokenized(found["input_ids"], found["attention_mask"])


class Network(nn.Module):
    """The three parts; see the module. B sequences, T messages, W and D the models' widths."""

    def __init__(self, bert: Any, llama: Any, prompt: Prompt, config: LogLLMConfig) -> None:
        super().__init__()
        self.bert, self.llama = bert, llama
        self.projector = nn.Linear(bert.config.hidden_size, llama.config.hidden_size)
        self.projector.to(llama.device)
        self.prompt, self.pool = prompt, config.pool

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what fitting changes and a model folder keeps: adapters and projector, by name."""
        named = self.named_parameters()
        return {k: v for k, v in named if ".lora_" in k or k.startswith("projector.")}

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.projector.weight.device

    def embed(self, texts: Tokenized, index: Tensor) -> Tensor:
        """Return (k, W) the vectors of chosen texts."""
        mask = texts.mask[index]
        width = int(mask.sum(dim=1).max())
        mask = mask[:, :width].to(self.device)
        tokens = texts.tokens[index, :width].to(self.device)
        found = self.bert(input_ids=tokens, attention_mask=mask)
        if self.pool == "pooler":
            return found.pooler_output.float()
        states = found.last_hidden_state.float()  # (k, L, W)
        if self.pool == "cls":
            return states[:, 0]
        shares = mask / mask.sum(dim=1, keepdim=True)
        return (states * shares[:, :, None]).sum(dim=1)

    @torch.no_grad()
    def embed_all(self, texts: Tokenized) -> Tensor:
        """Return (k, W) the vectors of all texts, without gradient, those of one length at once."""
        vectors = torch.zeros((len(texts.tokens), self.projector.in_features), device=self.device)
        order = texts.mask.sum(dim=1).argsort(stable=True)
        for index in order.split(TEXTS_AT_ONCE) if len(order) else ():
            vectors[index.to(self.device)] = self.embed(texts, index)
        return vectors

    @torch.no_grad()
    def centre(self, vectors: Tensor) -> None:
        """Let the projector begin with words' mean 0 and size, for these (k, W) vectors."""
        weight, bias = self.projector.weight, self.projector.bias
        bias.copy_(-weight @ vectors.mean(dim=0))
        spread = self.projector(vectors).pow(2).mean().sqrt()
        words = self.llama.get_input_embeddings().weight.detach().float()
        scale = words.pow(2).mean().sqrt() / spread.clamp(min=1e-12) if spread > 0 else 1.0
        weight.mul_(scale)
        bias.mul_(scale)

    def losses(self, vectors: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        """Return (B,) the mean cross-entropy of the tokens of each sequence's answer.

        Args:
            vectors: (B, T, W), padded on the left.
            mask: (B, T) bool, which are messages.
            labels: (B,) class.
        """
        answers = _pad_right([self.prompt.answers[label] for label in labels.tolist()], IGNORED)
        answers = answers.to(self.device)  # (B, A)
        spoken = answers.clamp(min=0)  # what stands for padding is behind all that is asked
        batch = len(labels)
        words = (
            self._words(self.prompt.before, batch),
            self._project(vectors),
            self._words(self.prompt.question, batch),
            self.llama.get_input_embeddings()(spoken),
        )
        padded = self._mask(mask, words)
        n_read, n_kept = padded.shape[1], answers.shape[1] + 1
        logits = self.llama(
            inputs_embeds=torch.cat(words, dim=1),
            attention_mask=padded,
            position_ids=_positions(padded),
            use_cache=False,
            logits_to_keep=torch.arange(n_read - n_kept, n_read, device=self.device),
        ).logits[:, :-1]  # (B, A, V)
        nats = nn.functional.cross_entropy(
            logits.float().transpose(1, 2), answers, ignore_index=IGNORED, reduction="none"
        )
        return nats.sum(dim=1) / (answers != IGNORED).sum(dim=1)

    @torch.no_grad()
    def read_prefix(self) -> DynamicCache:
        """Return the keys and values of the words before the messages."""
        found = self.llama(inputs_embeds=self._words(self.prompt.before, 1), use_cache=True)
        return found.past_key_values

    @torch.no_grad()
    def evidence(self, vectors: Tensor, mask: Tensor, prefix: DynamicCache | None) -> Tensor:
        """Return (B, K) logits of the classes' tokens where the answers differ.

        Args:
            vectors: (B, T, W), padded on the left.
            mask: (B, T) bool, which are messages.
            prefix: From ``read_prefix``; None to read the first words again.
        """
        batch = len(vectors)
        before = self._words(self.prompt.before, batch)
        words = (before, self._project(vectors), self._words(self.prompt.asked, batch))
        padded = self._mask(mask, words)
        n_read = 0 if prefix is None else before.shape[1]
        logits = self.llama(
            inputs_embeds=torch.cat(words, dim=1)[:, n_read:],
            attention_mask=padded,
            position_ids=_positions(padded)[:, n_read:],
            past_key_values=None if prefix is None else _repeat(prefix, batch),
            use_cache=prefix is not None,
            logits_to_keep=1,
        ).logits
        return logits[:, -1, list(self.prompt.deciding)].float()

    def _project(self, vectors: Tensor) -> Tensor:
        return self.projector(vectors).to(self.llama.dtype)

    def _words(self, tokens: Sequence[int], batch: int) -> Tensor:
        """Return (B, len(tokens), D) the decoder's embeddings of the same words for all."""
        row = torch.tensor([tokens], device=self.device)
        return self.llama.get_input_embeddings()(row).expand(batch, -1, -1)

    def _mask(self, mask: Tensor, words: tuple[Tensor, ...]) -> Tensor:
        """Return (B, all positions) int64, 0 where a message is padding."""
        batch, n_before = len(mask), words[0].shape[1]
        n_behind = sum(part.shape[1] for part in words[2:])
        ones = [torch.ones((batch, n), dtype=torch.int64) for n in (n_before, n_behind)]
        return torch.cat([ones[0], mask.long().cpu(), ones[1]], dim=1).to(self.device)


def _positions(mask: Tensor) -> Tensor:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _repeat(prefix: DynamicCache, batch: int) -> DynamicCache:
    """Return the cache for so many sequences; reading on grows it, the original stays."""
    layers: list[Any] = prefix.layers
    kept = [(layer.keys, layer.values) for layer in layers]
    return DynamicCache([tuple(p.expand(batch, -1, -1, -1) for p in pair) for pair in kept])


def _pad_right(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
