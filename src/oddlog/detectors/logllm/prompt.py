"""The words around the messages, and the words of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from oddlog.errors import ConfigError

BEFORE = "Below is a sequence of system log messages:"
NORMAL_WORD, ANOMALOUS_WORD = "normal", "anomalous"


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens of the decoder, for K classes.

    Attributes:
        before: Tokens before the messages.
        question: Tokens behind them.
        answers: For each class the answer's tokens, the end of the text last.
        n_shared: How many first tokens all answers share. What comes next tells the class.
    """

    before: tuple[int, ...]
    question: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]
    n_shared: int

    @property
    def asked(self) -> tuple[int, ...]:
        """The tokens behind the messages, up to where the answers differ."""
        return self.question + self.answers[0][: self.n_shared]

    @property
    def deciding(self) -> tuple[int, ...]:
        """The token of each class in which the answers differ."""
        return tuple(answer[self.n_shared] for answer in self.answers)


def make_prompt(tokenizer: Any, names: tuple[str, ...], chosen: Mapping[str, str]) -> Prompt:
    """Ask for one of the classes, normal first.

    The words are "normal" and "anomalous", or with more classes their names; where these begin with
    the same token, one forward pass cannot tell them apart, and letters stand for them.

    Args:
        tokenizer: The decoder's.
        names: The classes.
        chosen: Words by class that are to be used in place of these.

    Raises:
        ConfigError: ``chosen`` names no class, or its words cannot be told apart.
    """
    if unknown := set(chosen) - set(names):
        raise ConfigError(
            f"logllm.answers: no class {sorted(unknown)[0]!r} in training; there are: "
            f"{', '.join(repr(name) for name in names)}"
        )
    prompt = _prompt(tokenizer, answer_words(names, chosen))
    if prompt is None and not chosen:
        prompt = _prompt(tokenizer, (NORMAL_WORD, *ascii_uppercase[: len(names) - 1]))
    if prompt is None:
        raise ConfigError(
            "logllm.answers: two answers begin with the same token of the decoder, so that no "
            "single token tells them apart; name other words with logllm.answers"
        )
    return prompt


def answer_words(names: tuple[str, ...], chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return the word that answers for each class, normal first."""
    if len(names) == 2:
        usual = (NORMAL_WORD, ANOMALOUS_WORD)
    else:
        usual = (NORMAL_WORD, *(name.replace("_", " ") for name in names[1:]))
    return tuple(chosen.get(name, word) for name, word in zip(names, usual, strict=True))


def _prompt(tokenizer: Any, words: tuple[str, ...]) -> Prompt | None:
    """Return the prompt, or None if the answers' first different tokens are not all different."""
    choice = " or ".join([", ".join(words[:-1]), words[-1]])

    def encode(text: str) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    end = (tokenizer.eos_token_id,)
    answers = tuple(encode(f"The sequence is {word}.") + end for word in words)
    n_shared = 0
    while len({answer[n_shared] for answer in answers}) == 1:
        n_shared += 1
        if n_shared == min(len(answer) for answer in answers):
            return None
    if len({answer[n_shared] for answer in answers}) < len(words):
        return None
    before = tuple(tokenizer(BEFORE)["input_ids"])
    return Prompt(before, encode(f". Is this sequence {choice}? \n"), answers, n_shared)
