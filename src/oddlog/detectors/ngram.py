"""N-grams: how likely an event is after the few events before it, counted and not learned.

Source: the n-gram detector of Landauer, Skopik & Wurzenberger, "A critical review of common log
data sets used for evaluation of sequence-based anomaly detection techniques" (FSE 2024), and
DeepLog's rule of the g likeliest (Du, Li, Zheng & Srikumar, CCS 2017) on counts, with no network.

Equations, for an event w with the past h of at most n - 1 tokens, h' the past without its first
token, c(h w) how often training shows w after h, T(h) how many different w it shows there, and
c(h) = sum_w c(h w) (the smoothing of Witten & Bell, 1991)::

    p(w | h)      (c(h w) + T(h) p(w | h')) / (c(h) + T(h)), and p(w | h') where c(h) = 0;
                  before any event is counted 1 / (V + 2): V templates, the end, any other template
    surprise      -log p(w | h) in nats;  rank = the number of candidates likelier than w
    unseen        1 if c(h w) = 0, else 0
    score         "surprise": the highest of an event; "unseen": the number of unseen n-grams
    paper's rule  "surprise": any rank >= g (DeepLog); "unseen": any is (Landauer et al.)

Deviations and choices: begin and end of a session are events of the language, where the window
holds them; Landauer's score is the share of unseen n-grams, with the best threshold on the test,
here their number (a long session hides nothing), calibrated. A template that training never held
has what each step leaves over in p, less than any known one, and the rank V + 2; an n-gram that
holds it is unseen. Where a window begins after its session, h ends there, and what came before is
not held against it. Surprise and n = 4 are the defaults because they won on validation normals
against synthetic corruptions of them (docs/diary.md). No sequence is too short or too long: none
gets a default score.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.distinct import Grams, Pasts, find_pasts, number_rows
from oddlog.encode import FIRST_CANDIDATE, HIDDEN, PAD, UNKNOWN, Vocabulary, training_templates
from oddlog.errors import ArtifactError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.strings import Encoded, in_order
from oddlog.nn.suspects import Odd, Suspects, of_order
from oddlog.run import Run

Ints = NDArray[np.int64]
BLOCK_CELLS = 2**22  # float64 cells of one block: 32 MB
TIE = 1e-9  # by which two probabilities may differ, relatively, and be the same


class NgramConfig(settings.Config):
    """Settings of the n-gram detector.

    Attributes:
        n: Tokens of an n-gram: an event and at most n - 1 before it.
        score: What a sequence is odd by; see the module's equations.
        top_g: g of DeepLog's rule.
        n_expected: How many expected templates an explanation names.
    """

    n: Annotated[int, Field(ge=1, le=16)] = 4
    score: Literal["surprise", "unseen"] = "surprise"
    top_g: PositiveInt = 9
    n_expected: PositiveInt = 3


@dataclass(frozen=True, eq=False)
class Tree:
    """What follows each past: a tree of pasts, read backwards from the event to come.

    Node 0 is the empty past. The child of a node for a token is the past with that token in front.

    Attributes:
        n_tokens: Number of tokens, marks included.
        children: (N - 1,) int64, rising: node * n_tokens + token; entry i leads to node i + 1.
        follows: (f,) int64, rising: node * n_tokens + token that came after the node's past.
        counts: (f,) int64, how often.
    """

    n_tokens: int
    children: Ints
    follows: Ints
    counts: Ints

    @classmethod
    def of(cls, grams: Grams, n_tokens: int) -> Tree:
        """Count what follows the pasts of n-grams, of each length from 0 to n - 1."""
        node, alive = np.zeros(len(grams.rows), dtype=np.int64), np.arange(len(grams.rows))
        n_nodes, children, follows, counts = 1, [], [], []
        for back in range(grams.rows.shape[1]):
            if back:
                token = grams.rows[alive, -1 - back]
                alive, token = alive[token != PAD], token[token != PAD]
                edges, child = np.unique(node[alive] * n_tokens + token, return_inverse=True)
                node[alive] = n_nodes + child
                n_nodes += len(edges)
                children.append(edges)
            after = node[alive] * n_tokens + grams.rows[alive, -1]
            found, place = np.unique(after, return_inverse=True)
            follows.append(found)
            counts.append(np.bincount(place, grams.counts[alive], minlength=len(found)))
        return cls(
            n_tokens,
            np.concatenate([*children, np.empty(0, dtype=np.int64)]),
            np.concatenate(follows),
            np.concatenate(counts).astype(np.int64),
        )

    def step(self, node: Ints, token: Ints) -> Ints:
        """Return the child of each node for a token, -1 where training has none."""
        if not len(self.children):
            return np.full(len(node), -1)
        wanted = node * self.n_tokens + token
        place = np.searchsorted(self.children, wanted).clip(max=len(self.children) - 1)
        found = (node >= 0) & (token != PAD) & (self.children[place] == wanted)
        return np.where(found, place + 1, -1)

    def after(self, node: Ints) -> NDArray[np.float64]:
        """Return (B, n_tokens - FIRST_CANDIDATE) how often each candidate follows each node."""
        bounds = np.searchsorted(self.follows, np.stack([node, node + 1]) * self.n_tokens)
        lengths = bounds[1] - bounds[0]
        owner = np.repeat(np.arange(len(node)), lengths)
        place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        place += bounds[0][owner]
        table = np.zeros((len(node), self.n_tokens - FIRST_CANDIDATE))
        table[owner, self.follows[place] % self.n_tokens - FIRST_CANDIDATE] = self.counts[place]
        return table


@dataclass(frozen=True, eq=False)
class Judged:
    """What the counts say of each of d n-grams.

    Attributes:
        surprise: (d,) float32 nats.
        rank: (d,) int64, from 0.
        unseen: (d,) bool.
    """

    surprise: NDArray[np.float32]
    rank: Ints
    unseen: NDArray[np.bool_]


def judge(tree: Tree, rows: Ints) -> Judged:
    """Judge n-grams (d, n); those that end in a first mark are as expected as can be."""
    found = Judged(
        surprise=np.zeros(len(rows), dtype=np.float32),
        rank=np.zeros(len(rows), dtype=np.int64),
        unseen=np.zeros(len(rows), dtype=bool),
    )
    for block, past, odds in _blocks(tree, rows):
        token = rows[block, -1]
        judged = (token >= FIRST_CANDIDATE) | (token == UNKNOWN)
        past, column = past[judged], np.where(token == UNKNOWN, 0, token - FIRST_CANDIDATE)[judged]
        chance = odds.probability[past, column]
        chance[token[judged] == UNKNOWN] = odds.novelty[past[token[judged] == UNKNOWN]]
        place = np.arange(block.start, block.stop)[judged]
        found.surprise[place] = -np.log(chance)
        likelier = odds.probability[past] > chance[:, None] * (1 + TIE)
        found.rank[place] = likelier.sum(axis=1)
        unseen = odds.longest[past, column] < odds.length[past]
        found.unseen[place] = unseen | (token[judged] == UNKNOWN)
        found.rank[place[token[judged] == UNKNOWN]] += 1
    return found


@dataclass(frozen=True, eq=False)
class Odds:
    """What may follow each of B pasts.

    Attributes:
        probability: (B, K) of each candidate.
        novelty: (B,) the probability of a template that training never held.
        longest: (B, K) the length of the longest end of the past that training shows the candidate
            after; -1 where it never shows the candidate.
        length: (B,) how much of the past is known.
    """

    probability: NDArray[np.float64]
    novelty: NDArray[np.float64]
    longest: NDArray[np.int8]
    length: Ints


def back_off(tree: Tree, pasts: Ints) -> Odds:
    """Return what may follow pasts (B, n - 1); see the module for the equation."""
    n_candidates = tree.n_tokens - FIRST_CANDIDATE
    probability = np.full((len(pasts), n_candidates), 1.0 / (n_candidates + 1))
    novelty = np.full(len(pasts), 1.0 / (n_candidates + 1))
    longest = np.full((len(pasts), n_candidates), -1, dtype=np.int8)
    node = np.zeros(len(pasts), dtype=np.int64)
    for back in range(pasts.shape[1] + 1):
        if back:
            node = tree.step(node, pasts[:, -back])
        alive = np.flatnonzero(node >= 0)
        counts = tree.after(node[alive])
        n_kinds = np.count_nonzero(counts, axis=1)
        total = counts.sum(axis=1) + n_kinds
        longest[alive] = np.where(counts > 0, back, longest[alive])
        probability[alive] = (counts + n_kinds[:, None] * probability[alive]) / total[:, None]
        novelty[alive] *= n_kinds / total
    known = (pasts != PAD) & (pasts != HIDDEN)
    return Odds(probability, novelty, longest, known.sum(axis=1))


def expect(tree: Tree, rows: Ints, n_expected: int) -> tuple[Ints, NDArray[np.float32]]:
    """Return (d, k) the likeliest tokens in place of each n-gram's last, and their chances."""
    k = min(n_expected, tree.n_tokens - FIRST_CANDIDATE)
    tokens = np.zeros((len(rows), k), dtype=np.int64)
    probability = np.zeros((len(rows), k), dtype=np.float32)
    for block, past, odds in _blocks(tree, rows):
        best = np.argsort(-odds.probability, axis=1, kind="stable")[:, :k]
        tokens[block] = best[past] + FIRST_CANDIDATE
        probability[block] = np.take_along_axis(odds.probability, best, axis=1)[past]
    return tokens, probability


def _blocks(tree: Tree, rows: Ints) -> Iterator[tuple[slice, Ints, Odds]]:
    """Yield blocks of n-grams, the past of each, and what may follow those pasts."""
    n_rows = max(1, BLOCK_CELLS // tree.n_tokens)
    for begin in range(0, len(rows), n_rows):
        block = slice(begin, min(begin + n_rows, len(rows)))
        first, past = number_rows(rows[block, :-1])
        yield block, past, back_off(tree, rows[block, :-1][first])


@dataclass(frozen=True, eq=False)
class _Model:
    """What training left: the vocabulary, the n-grams, and the tree that is made of them."""

    vocabulary: Vocabulary
    grams: Grams
    tree: Tree

    @classmethod
    def of(cls, vocabulary: Vocabulary, grams: Grams) -> _Model:
        return cls(vocabulary, grams, Tree.of(grams, vocabulary.size))


class Ngram:
    """Look how often training shows each event after the few events before it."""

    name: ClassVar[str] = "ngram"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = True
    Config: ClassVar[type[settings.Config]] = NgramConfig

    def __init__(self, config: NgramConfig) -> None:
        self.config = config
        self._model: _Model | None = None

    @property
    def memory(self) -> int:
        """Events before an event that its score depends on."""
        return self.config.n - 1

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Count the n-grams of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template.
        """
        training_templates(train, self.name)  # says what is not learned from, or that nothing is
        vocabulary = Vocabulary.of(train.template_ids())
        grams = Grams.of(_encode(train, vocabulary).distinct, self.config.n)
        self._model = _Model.of(vocabulary, grams)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that has counted the n-grams of ``train`` as well.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        old = self._fitted()
        vocabulary = old.vocabulary.with_more(train.template_ids())
        grams = Grams.of(_encode(train, vocabulary).distinct, self.config.n)
        adapted = type(self)(self.config)
        adapted._model = _Model.of(vocabulary, old.grams.joined(grams))
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the worst event, or by the number of unseen n-grams; see the module.

        ``measures`` holds ``surprise`` float32, ``rank`` int64 and ``unseen`` bool, (m,) of the
        events and, with ``end_`` before the name, (n,) of the end: zeros where the window does not
        hold it; and for the rules ``worst_rank`` and ``n_unseen``, (n,) int64.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        encoded, found, judged = self._judge(sequences)
        tokens = encoded.tokens
        of_token = {
            field.name: encoded.spread(getattr(judged, field.name)[found.of_token])
            for field in fields(judged)
        }
        measures = tokens.measures(of_token, sequences.ends)
        first = tokens.offsets[:-1]
        measures["worst_rank"] = np.maximum.reduceat(of_token["rank"], first)
        measures["n_unseen"] = np.add.reduceat(of_token["unseen"], first, dtype=np.int64)
        by_surprise = self.config.score == "surprise"
        worst = np.maximum.reduceat(of_token["surprise"], first)
        return Scores(
            sequence=worst if by_surprise else measures["n_unseen"].astype(np.float32),
            event=measures[self.config.score].astype(np.float32),
            measures=measures,
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) DeepLog's decision or, where unseen n-grams are counted, whether any is."""
        if self.config.score == "unseen":
            return scores.measures["n_unseen"] > 0
        return scores.measures["worst_rank"] >= self.config.top_g

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the worst events of each sequence and the likeliest templates in their places.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        encoded, found, judged = self._judge(sequences)
        score = getattr(judged, self.config.score).astype(np.float64)
        expected = expect(model.tree, found.rows, self.config.n_expected)
        odd = Odd(*(encoded.spread(values[found.of_token]) for values in (score, *expected)))
        suspects = of_order(encoded, odd)
        guilty = suspects.score > 0
        suspects = Suspects(*(getattr(suspects, field.name)[guilty] for field in fields(suspects)))
        return suspects.explain(sequences, model.vocabulary.template_of)

    def save(self, folder: Path) -> None:
        """Write ``config.json``, ``vocab.json`` and the n-grams as ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(folder / "vocab.json", model.vocabulary.to_json())
        save_arrays(folder / "model.safetensors", vars(model.grams))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(NgramConfig, read_json(where), str(where))
        vocabulary = Vocabulary.from_json(read_json(folder / "vocab.json"))
        try:
            grams = Grams(**load_arrays(folder / "model.safetensors"))
            grams.check(config.n, vocabulary.size)
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._model = _Model.of(vocabulary, grams)
        return detector

    def _fitted(self) -> _Model:
        if self._model is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._model

    def _judge(self, sequences: Sequences) -> tuple[Encoded, Pasts, Judged]:
        """Return the windows as strings, and the n-grams of the distinct ones, judged."""
        model = self._fitted()
        encoded = _encode(sequences, model.vocabulary)
        strings = encoded.distinct
        found = find_pasts(strings.tokens, strings.offsets, self.config.n)
        return encoded, found, judge(model.tree, found.rows)


def _encode(sequences: Sequences, vocabulary: Vocabulary) -> Encoded:
    """Return whole windows as strings: nothing limits their length."""
    return in_order(sequences, vocabulary, int(sequences.lengths.max(initial=0)) + 2)
