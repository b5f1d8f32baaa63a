"""Template ids to the dense tokens that a network reads, and long sequences to chunks.

Token order: five marks, then the training templates by falling frequency. What training never saw
is ``UNKNOWN``, which is never a target: no model can expect it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import END as END_OF_SESSION

logger = logging.getLogger(__name__)
PAD, UNKNOWN, HIDDEN, BEGIN, END = range(5)
"""Marks: filler; unseen template; something not shown, such as a past before the window; begin and
end of the session."""
N_MARKS = 5
FIRST_CANDIDATE = END
"""Tokens from here on can be the next one: the end of the session, then the keys."""
ENTRY_OF_MARK = -1


def training_templates(train: Sequences, detector: str) -> NDArray[np.int32]:
    """Return (V,) the known templates of the training windows, ascending.

    Events of unknown template are left out, and how many is logged as a warning.

    Args:
        train: Windows with template ids.
        detector: Who learns from them, for the messages.

    Raises:
        ConfigError: There is no window, or no known template in any.
    """
    ids = train.template_ids()
    known = np.unique(ids[ids >= 0]).astype(np.int32)
    if not len(known):
        raise ConfigError(
            f"{detector}: nothing to learn from: {len(train)} training sequences with no known "
            "template; give fit normal log lines and mine their templates first"
        )
    if n_unknown := int(np.count_nonzero(ids < 0)):
        logger.warning("%s: %d training events of unknown template", detector, n_unknown)
    return known


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The templates of the training windows, (n_keys,) int32 by falling frequency, ties by id."""

    template_ids: NDArray[np.int32]

    @classmethod
    def of(cls, template_ids: NDArray[np.integer]) -> Vocabulary:
        """Build it from the template ids of every training event; negatives are left out.

        Raises:
            NotFittedError: There is no known template among them.
        """
        ids, counts = np.unique(template_ids[template_ids >= 0], return_counts=True)
        if not len(ids):
            raise NotFittedError("no known template in the training windows: nothing to learn from")
        return cls(ids[np.lexsort((ids, -counts))].astype(np.int32))

    def with_more(self, template_ids: NDArray[np.integer]) -> Vocabulary:
        """Return a vocabulary that also holds these templates; every token stays what it is."""
        new = np.unique(template_ids[template_ids >= 0])
        new = new[~np.isin(new, self.template_ids)]
        return Vocabulary(np.concatenate([self.template_ids, new]).astype(np.int32))

    @property
    def n_keys(self) -> int:
        """Number of training templates (the papers' "log keys")."""
        return len(self.template_ids)

    @property
    def size(self) -> int:
        """Number of tokens: marks and keys."""
        return N_MARKS + self.n_keys

    def encode(self, template_ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the token of each template id, ``UNKNOWN`` for those not in the vocabulary."""
        order = np.argsort(self.template_ids)
        ranked = self.template_ids[order]
        place = np.searchsorted(ranked, template_ids).clip(max=self.n_keys - 1)
        return np.where(ranked[place] == template_ids, order[place] + N_MARKS, UNKNOWN)

    def template_of(self, token: int) -> int:
        """Return the template id of a key's token, and ``findings.END`` for the end mark."""
        if token == END:
            return END_OF_SESSION
        return int(self.template_ids[token - N_MARKS])

    def to_json(self) -> list[int]:
        """Return the template ids in token order."""
        return self.template_ids.tolist()

    @classmethod
    def from_json(cls, value: object) -> Vocabulary:
        """Read what ``to_json`` gave.

        Raises:
            ArtifactError: It is not a list of distinct template ids, at least one.
        """
        if (
            not isinstance(value, list)
            or not all(type(item) is int and 0 <= item < 2**31 for item in value)
            or len(set(value)) != len(value)
            or not value
        ):
            raise ArtifactError("vocab.json: expected distinct template ids; fit the model again")
        return cls(np.array(value, dtype=np.int32))


@dataclass(frozen=True, eq=False)
class Tokens:
    """n token strings, flat: string i is ``tokens[offsets[i]:offsets[i + 1]]``.

    Attributes:
        tokens: (t,) int64.
        offsets: (n + 1,) int64.
        entries: (t,) int64, the place in ``Sequences.rows`` of each token, -1 for a mark.
    """

    tokens: NDArray[np.int64]
    offsets: NDArray[np.int64]
    entries: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) number of tokens in each string."""
        return np.diff(self.offsets)

    def measures(
        self, of_token: Mapping[str, NDArray], ends: NDArray[np.bool_]
    ) -> dict[str, NDArray]:
        """Return named values of tokens as measures of events and of ends.

        Args:
            of_token: (t,) each; 0 at the first mark of every string.
            ends: (n,) whether the string has an end mark.

        Returns:
            For each name (m,) the values of the events and, with ``end_`` before the name, (n,) of
            the end marks, 0 where there is none.
        """
        is_event = self.entries >= 0
        at_end = np.where(ends, self.offsets[1:] - 1, self.offsets[:-1])
        found = {}
        for name, values in of_token.items():
            found |= {name: values[is_event], f"end_{name}": values[at_end]}
        return found


def add_marks(sequences: Sequences, tokens: NDArray[np.int64]) -> Tokens:
    """Put a first mark before each sequence and an end mark behind those that hold their end.

    The first mark is ``BEGIN`` where the window holds its session's beginning, else ``HIDDEN``, so
    that the first event of any window is predicted from something.

    Args:
        sequences: n sequences with m events.
        tokens: (m,) the token of each event.
    """
    lengths = sequences.lengths + 1 + sequences.ends
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    marked = np.empty(offsets[-1], dtype=np.int64)
    entries = np.full(offsets[-1], ENTRY_OF_MARK, dtype=np.int64)
    inner = np.ones(offsets[-1], dtype=bool)
    inner[offsets[:-1]] = False
    marked[offsets[:-1]] = np.where(sequences.starts, BEGIN, HIDDEN)
    last = offsets[1:][sequences.ends] - 1
    inner[last] = False
    marked[last] = END
    marked[inner] = tokens
    entries[inner] = np.arange(len(tokens))
    return Tokens(marked, offsets, entries)


@dataclass(frozen=True, eq=False)
class Chunks:
    """Pieces of token strings that fit a network's context, as ranges of ``Tokens.tokens``.

    A string that fits is one chunk. A longer one is cut into overlapping chunks, each but the
    first of which scores only what the chunks before it have not: every token is scored once,
    with at least ``overlap`` tokens of past.

    Attributes:
        begins: (c,) int64, first token of the chunk.
        sizes: (c,) int64, number of its tokens.
        n_context: (c,) int64, how many of its first tokens are only context.
    """

    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    n_context: NDArray[np.int64]


def cut_into_chunks(offsets: NDArray[np.int64], context: int, overlap: int) -> Chunks:
    """Cut token strings so that no chunk is longer than ``context``.

    Args:
        offsets: (n + 1,) of the strings.
        context: Largest number of tokens in a chunk, > ``overlap``.
        overlap: Tokens that a chunk shares with the one before it.
    """
    lengths = np.diff(offsets)
    stride = context - overlap
    n_chunks = 1 + np.maximum(0, -(-(lengths - context) // stride))
    owner = np.repeat(np.arange(len(lengths)), n_chunks)
    first_chunk = np.cumsum(n_chunks) - n_chunks
    number = np.arange(n_chunks.sum()) - first_chunk[owner]
    start = number * stride
    return Chunks(
        begins=offsets[:-1][owner] + start,
        sizes=np.minimum(context, lengths[owner] - start),
        n_context=np.where(number == 0, 0, overlap),
    )
