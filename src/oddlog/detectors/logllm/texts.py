"""Sequences as strings of message texts, each distinct text once, and their classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.detectors.logllm.config import LogLLMConfig
from oddlog.detectors.logllm.preprocess import preprocess
from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import Chunks
from oddlog.errors import FormatError
from oddlog.events import Sequences, column

Ints = NDArray[np.int64]
POWERS = {"frequency": 1.0, "root": 0.5, "distinct": 0.0}
"""By ``weigh``, of the number of sequences that a string stands for."""


@dataclass(frozen=True, eq=False)
class Strings:
    """n sequences as strings of texts.

    Attributes:
        texts: (k,) the distinct texts, in order.
        distinct: The distinct strings; their tokens are places in ``texts``, and ``of_chunk`` is
            the string of each sequence.
        positions: (t,) place within its sequence of each message that is read.
        codes: (t,) its text.
        offsets: (n + 1,) where each sequence's messages begin in the two.
        n_left_out: (n,) messages of each sequence that are not read, as it has too many.
    """

    texts: list[str]
    distinct: Distinct
    positions: Ints
    codes: Ints
    offsets: Ints
    n_left_out: Ints


def read_strings(sequences: Sequences, config: LogLLMConfig) -> Strings:
    """Turn messages into texts, and sequences into strings of at most ``max_messages`` of them.

    An event without a message is the word "event" and its template's number.

    Raises:
        FormatError: There are neither messages nor template ids.
    """
    texts, code = _texts(sequences.events)
    lengths = sequences.lengths
    within = np.arange(len(sequences.rows)) - np.repeat(sequences.offsets[:-1], lengths)
    head = config.max_messages if config.keep == "head" else -(-config.max_messages // 2)
    tail = config.max_messages - head
    long = np.repeat(lengths, lengths)
    read = (long <= config.max_messages) | (within < head) | (within >= long - tail)
    sizes = np.minimum(lengths, config.max_messages)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    used, codes = np.unique(code[sequences.rows[read]], return_inverse=True)
    chunks = Chunks(offsets[:-1], sizes, np.zeros(len(sizes), dtype=np.int64))
    found = find_distinct(codes, chunks)
    texts = [texts[place] for place in used]
    return Strings(texts, found, within[read], codes, offsets, lengths - sizes)


def _texts(events: pl.DataFrame) -> tuple[list[str], Ints]:
    """Return the distinct texts of an event table, in order, and (N,) which of them each has."""
    message, number = column(events, "message"), column(events, "template_id")
    if events.height and (message.is_null() & number.is_null()).any():
        raise FormatError(
            "logllm reads messages, or template ids where there are none: an event has neither"
        )
    table = pl.DataFrame({"message": message, "number": number}).with_columns(
        pl.when(pl.col("message").is_null()).then("number")
    )
    distinct = table.unique(maintain_order=True).with_columns(
        pl.coalesce(_preprocessed(), _word()).alias("text")
    )
    texts = distinct["text"].unique().sort()
    codes = pl.DataFrame({"text": texts, "code": np.arange(len(texts))})
    found = table.join(
        distinct.join(codes, on="text"),
        on=["message", "number"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return texts.to_list(), found["code"].to_numpy().astype(np.int64)


def _preprocessed() -> pl.Expr:
    """Return the preprocessed column "message"."""
    return pl.col("message").map_batches(preprocess, return_dtype=pl.String)


def _word() -> pl.Expr:
    number = pl.col("number").cast(pl.String)
    return pl.when(pl.col("number") < 0).then(pl.lit("unknown event")).otherwise("event " + number)


@dataclass(frozen=True, eq=False)
class Lessons:
    """Distinct strings with their classes: what is trained on.

    Attributes:
        strings: The strings.
        of: (p,) the string of each pair of string and class.
        label: (p,) its class.
        times: (p,) float64, how many sequences are that pair.
    """

    strings: Strings
    of: Ints
    label: Ints
    times: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.of)

    def fingerprint(self) -> str:
        """Name the data, so that no checkpoint of other data is resumed."""
        digest = hashlib.sha256("\n".join(self.strings.texts).encode())
        distinct = self.strings.distinct
        for array in (distinct.tokens, distinct.offsets, self.of, self.label, self.times):
            digest.update(array.tobytes())
        return digest.hexdigest()


def learn_lessons(
    sequences: Sequences, names: tuple[str, ...], config: LogLLMConfig
) -> tuple[Lessons, int]:
    """Pair the distinct strings with the classes that they occur in.

    Args:
        sequences: Labelled ones.
        names: The classes; a sequence of another one is left out.
        config: How strings are made.

    Returns:
        The pairs, and how many sequences were left out for their class.
    """
    known = sequences.labels.is_in(list(names)).to_numpy()
    own = sequences if known.all() else sequences.take(known)
    strings = read_strings(own, config)
    place = {name: number for number, name in enumerate(names)}
    label = own.labels.replace_strict(place, return_dtype=pl.Int64).to_numpy()
    pair, times = np.unique(strings.distinct.of_chunk * len(names) + label, return_counts=True)
    lessons = Lessons(strings, pair // len(names), pair % len(names), times.astype(np.float64))
    return lessons, int((~known).sum())


def draw_weights(lessons: Lessons, config: LogLLMConfig) -> NDArray[np.float64]:
    """Return (p,) how often each pair is trained on in an epoch.

    With the paper's frequencies: as often as it occurs, and the rarer of normal and anomalous
    times max(n_min, beta n_maj / (1 - beta)) / n_min.
    """
    weights = lessons.times ** POWERS[config.weigh]
    odd = lessons.label > 0
    masses = np.array([weights[~odd].sum(), weights[odd].sum()])
    wanted = np.maximum(masses, config.beta * masses.max() / (1 - config.beta))
    factor = np.divide(wanted, masses, out=np.ones(2), where=masses > 0)
    return weights * factor[odd.astype(np.int64)]
