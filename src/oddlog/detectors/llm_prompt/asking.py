"""Asking for what is not known yet, several at a time, and keeping every answer as it comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddlog.detectors.llm_prompt.answers import NO_VERDICT, Answer, append_answers, read_reply
from oddlog.detectors.llm_prompt.client import Client
from oddlog.detectors.llm_prompt.config import LLMPromptConfig
from oddlog.detectors.llm_prompt.prompt import Choice, Lines
from oddlog.errors import ConfigError

MILLION = 1_000_000


@dataclass
class Meter:
    """What was asked, and what that took.

    Attributes:
        n_requests: Requests answered; each distinct piece of a window is one.
        n_retries: Times that a request had to be sent again.
        n_no_verdict: Replies without a verdict.
        n_uncounted: Replies of which the endpoint did not count the tokens.
        tokens_in: Tokens sent.
        tokens_out: Tokens received.
    """

    n_requests: int = 0
    n_retries: int = 0
    n_no_verdict: int = 0
    n_uncounted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, answer: Answer, n_retries: int) -> None:
        """Count a reply."""
        self.n_requests += 1
        self.n_retries += n_retries
        self.n_no_verdict += answer.verdict == NO_VERDICT
        self.n_uncounted += answer.tokens_in == 0
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out

    def __add__(self, other: Meter) -> Meter:
        """Return the sum of both."""
        return Meter(**{name: n + getattr(other, name) for name, n in vars(self).items()})

    def cost(self, config: LLMPromptConfig) -> float:
        """Return what the tokens cost, in the currency of the prices."""
        spent = self.tokens_in * config.price_in + self.tokens_out * config.price_out
        return spent / MILLION

    def tell(self, config: LLMPromptConfig) -> str:
        """Say it in one line."""
        told = f"{self.n_requests:,} answers, {self.n_retries:,} requests repeated, "
        told += f"{self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        if config.price_in or config.price_out:
            told += f", cost {self.cost(config):.4f}"
        if self.n_uncounted:
            told += f"; the endpoint did not count the tokens of {self.n_uncounted:,}"
        if self.n_no_verdict:
            told += f"; {self.n_no_verdict:,} without a verdict, scored .5"
        return told


@dataclass(frozen=True)
class Question:
    """What to ask under which key; the request is made when it is sent, as a log has many.

    Attributes:
        piece: The number of the distinct piece of a window that it is about.
        key: From ``prompt.key_of``.
        body: Makes the request.
        n_lines: Lines that it shows.
    """

    piece: int
    key: str
    body: Callable[[], Mapping[str, Any]]
    n_lines: int


def find_unanswered(
    questions: list[Question], known: Mapping[str, Answer], config: LLMPromptConfig, detector: str
) -> list[Question]:
    """Return the questions that have no answer yet, each once.

    Raises:
        ConfigError: They are more than ``max_requests``.
    """
    missing = list({q.key: q for q in questions if q.key not in known}.values())
    if len(missing) > config.max_requests:
        raise ConfigError(
            f"{detector}: this would take {len(missing):,} requests to {config.host}, more than "
            f"{detector}.max_requests = {config.max_requests:,}; nothing was sent: raise it, or "
            "give less log"
        )
    return missing


def ask_all(
    client: Client,
    questions: list[Question],
    answers: MutableMapping[str, Answer],
    meter: Meter,
    choice: Choice,
) -> None:
    """Ask, and add every answer as it comes to ``answers``, ``meter`` and the cache.

    Stopped half-way, by an error or by a person, nothing more is sent, and what was answered stays.

    Raises:
        EndpointError: The endpoint refuses, or does not answer in the end.
    """
    lock = Lock()

    def ask(question: Question) -> None:
        reply, n_retries = client.ask(question.body())
        answer = read_reply(reply, choice.words, question.n_lines)
        with lock:
            answers[question.key] = answer
            meter.add(answer, n_retries)
            if client.config.cache:
                append_answers(Path(client.config.cache), [(question.key, answer)])

    _in_threads(ask, questions, client.config.concurrency)


def _in_threads(ask: Callable[[Question], None], questions: list[Question], n: int) -> None:
    with ThreadPoolExecutor(n) as pool:
        futures = [pool.submit(ask, question) for question in questions]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def what_leaves(
    n_windows: int,
    lines: Lines,
    shown: NDArray[np.int64],
    choice: Choice,
    config: LLMPromptConfig,
) -> str:
    """Say in one line what is about to be sent, and to whom.

    Args:
        n_windows: Distinct windows that are sent.
        lines: Texts of the log.
        shown: Which of them the windows show.
        choice: What may be answered; the names of kinds are said to leave.
        config: Settings.
    """
    n_unknown = int(np.count_nonzero(shown >= len(lines.texts) - lines.n_unknown))
    where = "this machine" if config.is_local else "not this machine"
    if config.is_plain and not config.is_local:
        where += ", unencrypted"
    told = (
        f"sending {n_windows:,} distinct windows to {config.host} ({where}), model {config.model}: "
        f"{len(shown) - n_unknown:,} distinct texts of templates"
    )
    if n_unknown:
        told += f", {n_unknown:,} messages of unknown template with masks applied"
    if choice.names != choice.words:
        told += f", the names of {len(choice.names) - 1} kinds of anomaly"
    return told + "; no message as it was logged"
