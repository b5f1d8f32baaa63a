"""Masks and Drain over whole columns: learn once, freeze, then only match.

Template ids are numbers that outlive everything: they are only ever appended, and a saved folder
gives the same ids for the same messages in every process. What no template covers gets a negative
provisional id from ``Novelties``, one for each novel template, so that two novelties stay two.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from oddlog.config import Config
from oddlog.drain.grouped import EXAMPLE_CHARS, Grouped, split
from oddlog.drain.index import Index
from oddlog.drain.novelties import NOT_LEARNED, Learner, Novelties, first_of_new
from oddlog.drain.settings import DrainConfig
from oddlog.drain.tree import Tokens, template_of, text_of
from oddlog.drain.words import Words, pieces
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.shapes import Shaped
from oddlog.threads import two_at_a_time

logger = logging.getLogger(__name__)


class _Record(Config):
    id: int = Field(ge=0, lt=2**31)
    text: str
    count: int = Field(ge=0)
    example: str | None = None


class _State(Config):
    config: DrainConfig
    generations: tuple[tuple[_Record, ...], ...]
    n_cut: int = Field(ge=0)
    n_not_learned: int = Field(ge=0)


class Templates:
    """Masks and templates: ``learn`` (in chunks), ``freeze``, then ``match`` for good.

    ``learn`` gives each message the template that Drain puts it into at that time. ``match`` gives
    it the most specific template that covers it. Nothing that was learned is ever novel to
    ``match``, but its id may differ from what ``learn`` said, as Drain's templates lose tokens
    afterwards, so fit a model on the ids of ``match``. See docs/templates.md for the cases.

    Attributes:
        n_cut: Learned lines longer than the limits of the config.
        n_not_learned: Lines for which there was no template left (see ``max_templates``).
    """

    def __init__(self, config: DrainConfig) -> None:
        self.config = config
        self.n_cut = 0
        self.n_not_learned = 0
        self._learner: Learner | None = Learner(config)  # None once frozen
        self._generations: list[dict[int, Tokens]] = []  # frozen; the earlier come first
        self._built: tuple[list[Index], Words] | None = None
        self._counts: dict[int, int] = {}
        self._examples: dict[int, str] = {}

    @classmethod
    def from_texts(cls, texts: Mapping[int, str], config: DrainConfig | None = None) -> Self:
        """Return frozen templates with ids known elsewhere, such as those of a published set.

        Args:
            texts: Template id >= 0 to text; a token ``<*>`` matches any token.
            config: Settings for matching, the masks above all.
        """
        if any(template_id < 0 for template_id in texts):
            raise ConfigError(f"template ids have to be >= 0, got {min(texts)}")
        templates = cls(config or DrainConfig.model_validate({}))
        limit = templates.config.max_tokens
        tokens = {i: template_of(split(text, limit)) for i, text in texts.items()}
        templates._set_generations([tokens])
        return templates

    @property
    def n_templates(self) -> int:
        """Number of templates."""
        return len(self._learner.tree) if self._learner else sum(map(len, self._generations))

    @property
    def frozen(self) -> bool:
        """Whether ``learn`` is over."""
        return self._learner is None

    def learn(self, messages: pl.Series, shaped: Shaped | None = None) -> pl.Series:
        """Learn the templates of messages, in order; may be called again with the next chunk.

        How a log is cut into chunks changes nothing.

        Args:
            messages: (n,) String, as logged; null counts as empty.
            shaped: Their shapes, where they are known; only to be faster.

        Returns:
            (n,) Int32 ids >= 0, or -1 where ``max_templates`` left no room.

        Raises:
            ConfigError: The templates are frozen.
        """
        if self._learner is None:
            raise ConfigError("templates are frozen: match, or adopt novelties, but do not learn")
        grouped = Grouped.of(messages, self.config, shaped)
        n_before = self.n_templates
        ids = self._learner.learn(grouped.distinct["masked"])
        self._built = None
        self._count(ids, grouped.distinct, n_before)
        return grouped.spread(ids)

    def _count(self, ids: NDArray[np.int32], distinct: pl.DataFrame, n_before: int) -> None:
        self.n_cut += int(distinct["n_cut"].sum())
        for position in first_of_new(ids, n_before):
            self._examples[int(ids[position])] = distinct["example"][position][:EXAMPLE_CHARS]
        totals = distinct.select("n", pl.Series("id", ids)).group_by("id").agg(pl.col("n").sum())
        counts = dict(totals.select("id", "n").iter_rows())
        n_not_learned = counts.pop(NOT_LEARNED, 0)
        for template_id, n in counts.items():
            self._counts[template_id] = self._counts.get(template_id, 0) + n
        if n_not_learned:
            self.n_not_learned += n_not_learned
            logger.warning(
                "%d lines not learned: there are %d templates, the most that max_templates "
                "allows; masks for what varies in this log would make them fewer",
                *(n_not_learned, self.config.max_templates),
            )

    def match(
        self, messages: pl.Series, novel: Novelties, shaped: Shaped | None = None
    ) -> pl.Series:
        """Return each message's template; changes nothing but ``novel``.

        A template covers a message if every token that is no wildcard is equal. Of several the
        most specific counts, then the one with the lowest id; adopted ones only after all others.

        Args:
            messages: (n,) String, as logged; null counts as empty.
            novel: Gives and remembers the ids of what no template covers.
            shaped: Their shapes, where they are known; only to be faster.

        Returns:
            (n,) Int32 ids, negative where novel.

        Raises:
            NotFittedError: Nothing was learned yet.
        """
        self._build()
        grouped = Grouped.of(messages, self.config, shaped)
        ids = self._find_all(grouped.distinct["masked"])
        is_novel = ids == NOT_LEARNED
        if is_novel.any():
            ids[is_novel] = novel.learn(grouped.distinct.filter(is_novel))
        novel.n_cut += int(grouped.distinct["n_cut"].sum())
        return grouped.spread(ids)

    def _find_all(self, masked: pl.Series) -> NDArray[np.int32]:
        """Return (n,) ids of masked messages, ``NOT_LEARNED`` where no template covers them."""
        indexes, words = self._build()
        limit = self.config.max_tokens
        found = [np.empty(0, dtype=np.int32)]
        cut = pieces(masked)
        for piece, hashed in zip(cut, two_at_a_time(words.hashed, cut), strict=True):
            alike = words.alike(hashed)
            ids = [_find(indexes, split(text, limit)) for text in piece.gather(alike.first)]
            found.append(np.array(ids, dtype=np.int32)[alike.codes])
        return np.concatenate(found)

    def _build(self) -> tuple[list[Index], Words]:
        if self._built is None:
            if self._learner is not None and not self.n_templates:
                raise NotFittedError("templates: nothing was learned; call learn first")
            generations = self._all_generations()
            words = Words(self.config.max_tokens)
            words.add(tokens for generation in generations for tokens in generation.values())
            self._built = [Index(generation) for generation in generations], words
        return self._built

    def _all_generations(self) -> list[dict[int, Tokens]]:
        if self._learner is None:
            return self._generations
        tree = self._learner.tree
        return [{i: tree.template(i) for i in range(len(tree))}]

    def _set_generations(self, generations: list[dict[int, Tokens]]) -> None:
        self._generations, self._learner, self._built = generations, None, None

    def freeze(self) -> None:
        """End learning and let go of what only learning needs; again is harmless."""
        if not self.frozen:
            self._set_generations(self._all_generations())

    def adopt(self, novel: Novelties, chosen: Collection[int] | None = None) -> Templates:
        """Return frozen templates with the novelties appended; this object stays as it is.

        The provisional id -1 - i becomes ``next_id + i``, or of those chosen the i-th to appear.
        Every message that had a template keeps it, as adopted templates are only asked for what
        the earlier ones do not cover.

        Args:
            novel: What this object did not cover.
            chosen: Provisional ids to adopt; None for all that have a template of their own.
        """
        grown = Templates(self.config)
        found = enumerate(novel.templates())
        kept = [each for i, each in found if chosen is None or -1 - i in chosen]
        adopted = dict(enumerate(kept, start=self.next_id))
        tokens = {i: template for i, (template, _) in adopted.items()}
        grown._set_generations([*self._all_generations(), tokens])
        grown._counts = dict(self._counts)
        grown._examples = self._examples | {i: example for i, (_, example) in adopted.items()}
        grown.n_cut, grown.n_not_learned = self.n_cut, self.n_not_learned
        return grown

    @property
    def next_id(self) -> int:
        """The id that the next template will get."""
        return max(self.ids(), default=-1) + 1

    def ids(self) -> list[int]:
        """Return all template ids, in the order in which they came."""
        return [i for generation in self._all_generations() for i in generation]

    def text(self, template_id: int) -> str:
        """Return a template, wildcards as ``<*>``.

        Raises:
            KeyError: There is no such template; negative ids belong to ``Novelties``.
        """
        for generation in self._all_generations() if self.frozen else ():
            if template_id in generation:
                return text_of(generation[template_id])
        if self._learner is not None and 0 <= template_id < self.n_templates:
            return text_of(self._learner.tree.template(template_id))
        raise KeyError(f"no template {template_id}; there are {self.n_templates}")

    def count(self, template_id: int) -> int:
        """Return how many lines were learned into a template."""
        return self._counts.get(template_id, 0)

    def example(self, template_id: int) -> str | None:
        """Return the first message that was learned into a template, as logged, if any."""
        return self._examples.get(template_id)

    def table(self) -> pl.DataFrame:
        """Return template_id, count, template and example, the most frequent first."""
        ids = self.ids()
        return pl.DataFrame(
            {
                "template_id": pl.Series(ids, dtype=pl.Int32),
                "count": pl.Series([self.count(i) for i in ids], dtype=pl.Int64),
                "template": pl.Series([self.text(i) for i in ids], dtype=pl.String),
                "example": pl.Series([self.example(i) for i in ids], dtype=pl.String),
            }
        ).sort("count", descending=True, maintain_order=True)

    def to_json(self) -> dict[str, Any]:
        """Return plain values that ``from_json`` reads; examples are as logged, secrets too."""
        return {
            "config": self.config.model_dump(mode="json"),
            "generations": [
                [
                    {
                        "id": i,
                        "text": text_of(tokens),
                        "count": self.count(i),
                        "example": self.example(i),
                    }
                    for i, tokens in generation.items()
                ]
                for generation in self._all_generations()
            ],
            "n_cut": self.n_cut,
            "n_not_learned": self.n_not_learned,
        }

    @classmethod
    def from_json(cls, state: object) -> Self:
        """Return frozen templates that match as those did which ``to_json`` wrote down.

        Raises:
            ArtifactError: The state is damaged.
        """
        try:
            read = _State.model_validate(state)
        except (ValidationError, ConfigError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ArtifactError(f"templates: damaged: {reason}; fit the model again") from None
        records = [record for generation in read.generations for record in generation]
        if len({record.id for record in records}) < len(records):
            raise ArtifactError("templates: damaged: an id occurs twice; fit the model again")
        templates = cls(read.config)
        templates._set_generations(
            [{r.id: template_of(r.text.split()) for r in each} for each in read.generations]
        )
        templates._counts = {r.id: r.count for r in records}
        templates._examples = {r.id: r.example for r in records if r.example is not None}
        templates.n_cut, templates.n_not_learned = read.n_cut, read.n_not_learned
        return templates


def _find(indexes: list[Index], tokens: tuple[str, ...]) -> int:
    for index in indexes:
        template_id = index.find(tokens)
        if template_id is not None:
            return template_id
    return NOT_LEARNED
