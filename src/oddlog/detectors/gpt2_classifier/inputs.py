"""What a sequence is to the network: tokens of templates, their numbers as text, or messages.

- ``event_id_token``: one token for each template, and marks for a session's begin and end.
- ``event_id_text``: " E5 E22 ..." through a byte-pair tokenizer, the number being the template's.
  A template that training never held has no number, and its events are left out.
- ``raw``: the messages, each with a line break behind it, through a byte-pair tokenizer.

Text begins with the tokenizer's mark of a text's begin or end, so that no string is empty. Each
event is encoded by itself, its blank or line break with it, and the pieces are joined: a byte-pair
tokenizer that never joins words gives the same for the whole text, and each distinct text is
encoded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from oddlog.artifact import write_text
from oddlog.encode import ENTRY_OF_MARK, UNKNOWN, Tokens, Vocabulary, add_marks
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences

MARK = "<|endoftext|>"
"""GPT-2's own mark between texts; a tokenizer that is trained here has it as token 0."""
TEXTS_AT_ONCE = 4096
TEXTS_TO_LEARN = 200_000
"""Distinct messages that a tokenizer is trained on, at most: the first ones."""
TOKENIZER_FILE = "tokenizer.json"


@dataclass(frozen=True, eq=False)
class KeyReader:
    """Reads one token for each template."""

    vocabulary: Vocabulary

    @property
    def n_tokens(self) -> int:
        """Number of different tokens."""
        return self.vocabulary.size

    @property
    def known(self) -> NDArray[np.int32]:
        """Ids of the templates that have a token."""
        return self.vocabulary.template_ids

    def read(self, sequences: Sequences) -> Tokens:
        """Return sequences as token strings."""
        return add_marks(sequences, self.vocabulary.encode(sequences.template_ids()))

    def kinds(self, sequences: Sequences) -> NDArray[np.int64]:
        """Return (m,) a number for each event, the same for events that read the same."""
        return self.vocabulary.encode(sequences.template_ids())

    def novel(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Return (m,) whether an event's template is unknown."""
        return self.kinds(sequences) == UNKNOWN


@dataclass(frozen=True, eq=False)
class TextReader:
    """Reads text through a tokenizer.

    Attributes:
        tokenizer: The tokenizer.
        mark: The token that every string begins with.
        known: (V,) ids of the templates whose numbers are read; None to read messages.
    """

    tokenizer: Tokenizer
    mark: int
    known: NDArray[np.int32] | None

    @property
    def n_tokens(self) -> int:
        """Number of different tokens."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def read(self, sequences: Sequences) -> Tokens:
        """Return sequences as token strings.

        Raises:
            ConfigError: Messages are wanted, and the events have none.
        """
        texts, of_event = self._texts(sequences)
        pieces, bounds = encode_texts(self.tokenizer, texts)
        sizes = np.diff(bounds)[of_event]  # (m,) tokens of each event
        lengths = 1 + np.bincount(sequences.owners, sizes, minlength=len(sequences))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = np.full(offsets[-1], self.mark, dtype=np.int64)
        entries = np.full(offsets[-1], ENTRY_OF_MARK, dtype=np.int64)
        inner = np.ones(offsets[-1], dtype=bool)
        inner[offsets[:-1]] = False
        first = bounds[:-1][of_event] - (np.cumsum(sizes) - sizes)
        tokens[inner] = pieces[np.repeat(first, sizes) + np.arange(sizes.sum())]
        entries[inner] = np.repeat(np.arange(len(of_event)), sizes)
        return Tokens(tokens, offsets, entries)

    def kinds(self, sequences: Sequences) -> NDArray[np.int64]:
        """Return (m,) a number for each event, the same for events that read the same."""
        return self._texts(sequences)[1]

    def novel(self, sequences: Sequences) -> NDArray[np.bool_]:
        """Return (m,) whether an event's template is unknown, which means nothing to messages."""
        if self.known is None:
            return np.zeros(len(sequences.rows), dtype=bool)
        return ~np.isin(sequences.template_ids(), self.known)

    def _texts(self, sequences: Sequences) -> tuple[list[str], NDArray[np.int64]]:
        """Return distinct texts, and (m,) which of them each event is."""
        if self.known is None:
            return distinct_messages(sequences)
        ranked = np.sort(self.known)
        place = np.searchsorted(ranked, sequences.template_ids()).clip(max=len(ranked) - 1)
        nothing = len(ranked)
        of_event = np.where(ranked[place] == sequences.template_ids(), place, nothing)
        return [*id_texts(ranked), ""], of_event


Reader = KeyReader | TextReader


def id_texts(template_ids: NDArray[np.integer]) -> list[str]:
    """Return what templates are called in text."""
    return [f" E{number}" for number in template_ids]


def distinct_messages(sequences: Sequences) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct messages, and (m,) which of them each event has.

    Raises:
        ConfigError: The events have no messages.
    """
    messages = sequences.messages()
    if len(messages) and messages.null_count() == len(messages):
        raise ConfigError(
            "gpt2_classifier.reads = 'raw': the events have no messages, only template ids; "
            "give raw logs, or read event_id_token or event_id_text"
        )
    messages = messages.fill_null("") + "\n"
    distinct = messages.unique(maintain_order=True)
    number = pl.int_range(len(distinct), eager=True)
    return distinct.to_list(), messages.replace_strict(
        distinct, number, return_dtype=pl.Int64
    ).to_numpy()


def encode_texts(
    tokenizer: Tokenizer, texts: list[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens of all texts one after the other, and (n + 1,) where each begins."""
    tokens, lengths = [np.empty(0, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        block = texts[first : first + TEXTS_AT_ONCE]
        found = [each.ids for each in tokenizer.encode_batch(block, add_special_tokens=False)]
        lengths.append(np.array([len(ids) for ids in found], dtype=np.int64))
        tokens.append(np.fromiter(chain.from_iterable(found), np.int64, lengths[-1].sum()))
    return np.concatenate(tokens), np.cumsum(np.concatenate(lengths))


def train_tokenizer(texts: list[str], n_tokens: int) -> Tokenizer:
    """Train a byte-level byte-pair tokenizer, GPT-2's kind, on distinct texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens,
        special_tokens=[MARK],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_blocks(texts[:TEXTS_TO_LEARN]), trainer)
    return tokenizer


def _blocks(texts: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        yield texts[first : first + TEXTS_AT_ONCE]


def save_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write tokenizer.json."""
    write_text(folder / TOKENIZER_FILE, tokenizer.to_str())


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read what ``save_tokenizer`` wrote.

    Raises:
        ArtifactError: The file is missing or damaged.
    """
    path = folder / TOKENIZER_FILE
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot read it: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 -- tokenizers raises nothing more special
        raise ArtifactError(f"{path}: damaged: {error}; fit the model again") from None
