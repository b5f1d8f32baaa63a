"""Learning over columns of distinct messages, and the provisional ids of what is novel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oddlog.drain.grouped import EXAMPLE_CHARS, split
from oddlog.drain.settings import DrainConfig
from oddlog.drain.tree import Tokens, Tree, text_of
from oddlog.drain.words import PIECE, Hashed, Words, pieces
from oddlog.threads import two_at_a_time

NOT_LEARNED = -1
FEW = 256  # messages: the smallest piece in which alike ones are looked for
REMEMBERED = 4_000_000  # distinct masked messages, 12 bytes each


class Learner:
    """A tree that sees each distinct masked message once.

    Fed a message again, Drain may place it elsewhere: a template or a branch founded since may be
    closer. Remembering what was placed makes the outcome independent of repeats, and so of how a
    log is cut into chunks. Only hashes of 64 bits are kept: of a million messages, two share one
    with probability 3e-8. Beyond ``REMEMBERED`` messages repeats are learned anew, as Drain does.
    """

    def __init__(self, config: DrainConfig) -> None:
        self.tree = Tree(config.depth, config.similarity, config.max_children, config.max_templates)
        self._max_tokens = config.max_tokens
        self._words = Words(config.max_tokens)
        self._n_held = 0  # templates whose words are in ``_words``
        self._seen = pl.DataFrame(schema={"hash": pl.UInt64, "id": pl.Int32})

    def learn(self, masked: pl.Series) -> NDArray[np.int32]:
        """Return (n,) ids of distinct messages, learned in order; ``NOT_LEARNED`` without room."""
        known = pl.DataFrame({"hash": masked.hash()}).join(
            self._seen, on="hash", how="left", maintain_order="left"
        )
        is_new = known["id"].is_null()
        learned = self._learn_new(masked.filter(is_new))
        ids = known["id"].fill_null(NOT_LEARNED).to_numpy(writable=True)
        ids[is_new.to_numpy()] = learned
        fresh = known.select("hash", pl.Series("id", ids)).filter(is_new)
        self._seen = pl.concat([self._seen, fresh.head(REMEMBERED - self._seen.height)])
        return ids

    def state(self) -> dict[str, Any]:
        """Return plain values."""
        seen = {name: self._seen[name].to_list() for name in ("hash", "id")}
        return {"tree": self.tree.state(), "seen": seen, "probe": _probe()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` described.

        Where another version of polars hashes otherwise, repeats are learned anew, as Drain does.
        """
        self.tree.load(state["tree"])
        if state["probe"] == _probe():
            self._seen = pl.DataFrame(state["seen"], schema=self._seen.schema)

    def _learn_new(self, masked: pl.Series) -> NDArray[np.int32]:
        """Learn (n,) messages in order: the longer the tree stays as it is, the more at once.

        While it changes, more and more are learned one by one before alike ones are looked for.
        """
        found, size, few = [np.empty(0, dtype=np.int32)], FEW, FEW
        cut = pieces(masked)
        for piece, hashed in zip(cut, two_at_a_time(self._words.hashed, cut), strict=True):
            begin = 0
            while begin < len(piece):
                n_changes, end = self.tree.n_changes, begin + size
                learned = self._learn_piece(piece[begin:end], hashed.part(begin, end), few)
                found.append(learned)
                begin += len(learned)
                few = FEW if self.tree.n_changes == n_changes else min(2 * few, PIECE)
                size = min(2 * size, PIECE) if few == FEW else few
        return np.concatenate(found)

    def _learn_piece(self, masked: pl.Series, hashed: Hashed, few: int) -> NDArray[np.int32]:
        """Return ids of (n,) messages, n > 0, as far as they were learned.

        Drain is sequential: where a message goes depends on all before it. But until one changes
        the tree, those that are alike go the same way. From there ``few`` are learned one by one.
        """
        tree = self.tree
        self._words.add(tree.template(i) for i in range(self._n_held, len(tree)))
        self._n_held, n_changes = len(tree), tree.n_changes
        alike = self._words.alike(hashed)
        ids: list[int] = []
        for row, text in zip(alike.first, masked.gather(alike.first), strict=True):
            ids.append(self._learn_one(text))
            if tree.n_changes > n_changes:
                rest = [self._learn_one(text) for text in masked[row + 1 : row + few]]
                return np.array([*(ids[i] for i in alike.codes[: row + 1]), *rest], dtype=np.int32)
        return np.array(ids, dtype=np.int32)[alike.codes]

    def _learn_one(self, text: str) -> int:
        template_id = self.tree.learn(split(text, self._max_tokens))
        return NOT_LEARNED if template_id is None else template_id


def _probe() -> int:
    return pl.Series(["a text whose hash tells ways of hashing apart"]).hash()[0]


class Novelties:
    """The novel templates of one run: provisional ids -1, -2, ... in order of appearance.

    One object serves all chunks of a file or a whole stream, and one message keeps its id. The
    ids mean nothing to another object, and a message keeps its id only within the bound on memory
    that ``DrainConfig.max_templates`` sets: all novelties beyond it share one last id.

    Attributes:
        n_lines: Lines that no template covered.
        n_cut: Lines longer than the limits of the config, novel or not.
    """

    def __init__(self, config: DrainConfig) -> None:
        self.config = config
        self.n_lines = 0
        self.n_cut = 0
        self._learner = Learner(config)
        self._examples: list[str] = []

    @property
    def n_templates(self) -> int:
        """Number of novel templates so far."""
        return len(self._learner.tree)

    @property
    def n_ids(self) -> int:
        """Number of ids given: one for each novel template, one more for what found no room."""
        return len(self._examples)

    def text(self, template_id: int) -> str:
        """Return a novel template as it is now, wildcards as ``<*>``."""
        self._check(template_id)
        index = -1 - template_id
        if index == self.n_templates:
            return "<*>"
        return text_of(self._learner.tree.template(index))

    def example(self, template_id: int) -> str:
        """Return the first message of a novel template, as logged."""
        self._check(template_id)
        return self._examples[-1 - template_id]

    def _check(self, template_id: int) -> None:
        if not 0 <= -1 - template_id < len(self._examples):
            raise KeyError(f"no novel template {template_id}; there are {len(self._examples)}")

    def learn(self, distinct: pl.DataFrame) -> NDArray[np.int32]:
        """Return (n,) negative ids of distinct masked messages (columns masked, example, n)."""
        ids = self._learner.learn(distinct["masked"])
        self.n_lines += int(distinct["n"].sum())
        ids[ids == NOT_LEARNED] = self.config.max_templates
        for position in first_of_new(ids, len(self._examples)):
            self._examples.append(distinct["example"][position][:EXAMPLE_CHARS])
        return -1 - ids

    def state(self) -> dict[str, Any]:
        """Return all that is held as plain values that JSON can carry."""
        counts = [self.n_lines, self.n_cut]
        return {
            "counts": counts,
            "examples": list(self._examples),
            "learner": self._learner.state(),
        }

    @classmethod
    def restore(cls, config: DrainConfig, state: Mapping[str, Any]) -> Self:
        """Return novelties that go on where ``state`` was taken, under the same settings."""
        novel = cls(config)
        novel.n_lines, novel.n_cut = state["counts"]
        novel._examples = list(state["examples"])
        novel._learner.load(state["learner"])
        return novel

    def templates(self) -> list[tuple[Tokens, str]]:
        """Return the template and the example of each novelty that has one of its own."""
        tree = self._learner.tree
        return [(tree.template(i), self._examples[i]) for i in range(len(tree))]


def first_of_new(ids: NDArray[np.int32], n_known: int) -> list[int]:
    """Return where each id from ``n_known`` on first stands, in the order of the ids."""
    unique, first = np.unique(ids, return_index=True)
    return first[unique >= n_known].tolist()
