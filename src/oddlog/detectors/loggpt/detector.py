"""LogGPT as a detector: encode, learn the language of normal sequences, score the next event.

Paper: Han, Yuan, Trabelsi, "LogGPT: Log Anomaly Detection via GPT", IEEE BigData 2023,
arXiv:2309.14482. Its first stage is a language model: a GPT-2 from random weights is
trained on normal sequences ``x_1 .. x_T`` of template ids to minimise

    L = -(1/n) sum_t log p(x_{t+1} | x_1 .. x_t)

and the paper's rule calls a sequence anomalous if any event is outside the K likeliest:

    anomalous  <=>  max_t rank_t >= K,   rank_t = #{v : p(v | past) > p(x_t | past)}, from 0

Ours is a second network of the same kind that reads how often each template occurs, whatever the
order (``counting``, ``strings``); ``config.reads`` is "order" for the paper's alone.

Its second stage, on request (``config.reward``), is in ``reward``. ``preset = "paper"`` is what the
released code does.

Deviations, and why: marks for begin and end, only on windows that hold them (the released code
marks HDFS only, and never scores the first event); padding carries no loss (theirs does); the best
validation epoch is restored (theirs is saved and forgotten); the different continuations of a past
count the same in the loss, however often they occur (``config.learn``, "frequency" for the
paper's); some events are shown as unknown and some pasts cut off in training; sequences longer
than the context are scored in overlapping chunks (theirs are dropped); the vocabulary is the
training events' alone and ranks count only what can occur there (theirs include filler marks); a
continuous score.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.config import build_stored
from oddlog.detectors.loggpt.adapt import (
    adapt_counts,
    adapt_order,
    grow,
)
from oddlog.detectors.loggpt.config import AFTER_FIRST_STAGE, LogGPTConfig
from oddlog.detectors.loggpt.counting import counting_stage
from oddlog.detectors.loggpt.model import (
    Batch,
    LanguageModel,
    expect,
    export_graph,
    judge,
    language_model_task,
    new_network,
)
from oddlog.detectors.loggpt.reward import Strings, learn_reward
from oddlog.encode import FIRST_CANDIDATE, UNKNOWN, Vocabulary
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.beside import side_by_side
from oddlog.nn.device import choose_device, load_parameters, parameters_of, seed_torch
from oddlog.nn.export import Graph
from oddlog.nn.replay import bare, from_arrays, no_windows, sample_windows, to_arrays
from oddlog.nn.strings import N_COUNT_MARKS, Encoded, counted, in_order, judged_marks, marks_of
from oddlog.nn.suspects import Odd, of_counts, of_order
from oddlog.nn.tail import Tail
from oddlog.nn.training import Stage, Task, run_stage
from oddlog.run import Run


@dataclass(frozen=True, eq=False)
class _Reading:
    """What one network found in n windows of t tokens, marks included.

    Attributes:
        encoded: The windows as token strings.
        surprise: (t,) in nats.
        rank: (t,) from 0.
        score: (t,) how odd each token is, in nats of ``Tail`` where there are two readers.
        worst: (n,) how odd each window is, in the same unit.
    """

    encoded: Encoded
    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]
    score: NDArray[np.float64]
    worst: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Reader:
    """A network with its weights drawn, and how it is to be trained."""

    network: LanguageModel
    stage: Stage
    task: Task[Batch]
    identity: str

    def learn(self, run: Run) -> list[dict[str, float]]:
        """Train the network in place; return its history."""
        return run_stage(self.network, self.stage, self.task, run, self.identity)


class LogGPT:
    """GPT-2 language model of normal sequences; see the module for equations and deviations.

    Scores: the event score is the event's surprise or rank (``config.sequence_score``), the
    sequence score that of its worst event, the end of the session counting as an event where the
    window holds it. A template that training never saw has rank ``n_keys + 1``, below every
    candidate, and the surprise ``log(n + 1) + log(n_keys + 1)`` of one continuation among all
    after n training events without it. No sequence is left out.

    With two readers (``config.reads``) both scores are in nats, -log of the share of normal windows
    that score as high (``tail.Tail``, fitted to the validation windows), and the sequence score is
    the higher of two: of its worst event, and of its counts, where a window scores the worst
    surprise of its string plus the mean one, so that among windows with one unseen template those
    rank first in which the rest is odd too. The mean is over all tokens, the two marks included,
    whose surprise is 0. The counts of a session that may still go on are not judged
    (``strings.judged_marks``).

    Measures: ``surprise`` and ``rank`` (m,), ``end_surprise`` and ``end_rank`` (n,), 0 where the
    window does not hold its end, and ``worst_rank`` (n,) for the paper's rule.
    """

    name: ClassVar[str] = "loggpt"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = True
    Config: ClassVar[type[LogGPTConfig]] = LogGPTConfig

    def __init__(self, config: LogGPTConfig | None = None) -> None:
        self.config = config or LogGPTConfig()
        self._vocabulary: Vocabulary | None = None
        self._network: LanguageModel | None = None
        self._counts: LanguageModel | None = None
        self._tails: tuple[Tail, Tail] | None = None
        """Of the order and of the counts, where there are two readers."""
        self._judged = np.zeros(4, dtype=bool)
        """Which windows the second reader judges, by ``marks_of``."""
        self._n_training_events = 0
        self._replayed = no_windows()
        self.history: list[dict[str, float]] = []
        """One record per epoch of training: epoch, train_loss, valid_loss (nats per event)."""
        self.reward_history: list[dict[str, float]] = []
        """The same of the second stage, if there is one; its losses are in ``reward``."""
        self.counts_history: list[dict[str, float]] = []
        """The same of the second reader, if there is one."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn the next event on ``train``; keep the epoch with the best loss on ``valid``.

        Two readers learn side by side, where the device lets them; a second stage follows.
        """
        vocabulary = Vocabulary.of(train.template_ids())
        strings = Strings(
            *(in_order(part, vocabulary, self.config.context).distinct for part in (train, valid))
        )
        if not (strings.valid.tokens >= FIRST_CANDIDATE).any():
            raise ConfigError(
                "no known template in the validation windows: nothing to choose the epoch by; "
                "give more log, or a larger valid_share"
            )
        device = choose_device(run.device)
        seed_torch(run.seed)
        readers = [self._order_reader(new_network(self.config, vocabulary.size, device), strings)]
        if self.config.reads == "both":
            context = self.config.context
            counts = Strings(*(counted(p, vocabulary, context).distinct for p in (train, valid)))
            seed_torch(run.seed, 1)
            network = new_network(self.config, vocabulary.size, device)
            readers.append(self._counts_reader(network, counts))
        self._learn(readers, run, device)
        self.reward_history = learn_reward(
            readers[0].network, strings, self.config, run, _identity(self.config, (), strings)
        )
        self._vocabulary, self._network = vocabulary, readers[0].network
        self._n_training_events = len(train.rows)
        self._replayed = sample_windows(train, run.seed)
        self._counts, self._tails = None, None
        if self.config.reads == "both":
            self._counts = readers[1].network
            self._fit_tails(train, valid, readers[1].network)

    def _learn(self, readers: list[_Reader], run: Run, device: torch.device) -> None:
        """Train all readers, and keep their histories."""
        lessons = [reader.learn for reader in readers]
        if self.config.attention_dropout:  # its draws are torch's own: see ``nn.dropout``
            histories = [learn(run) for learn in lessons]
        else:
            histories = side_by_side(lessons, run, device)
        self.history, self.counts_history = (*histories, [])[:2]

    def _order_reader(self, network: LanguageModel, strings: Strings) -> _Reader:
        """Return the first reader, to be trained."""
        config = self.config
        task = language_model_task(network, strings.train, strings.valid, config)
        stage = Stage(
            name="language model",
            epochs=min(config.epochs, -(-config.max_steps // task.n_batches)),
            learning_rate=config.learning_rate,
            patience=config.patience,
            weight_decay=config.weight_decay,
            schedule=config.schedule,
            warmup=0.0 if config.schedule == "constant" else Stage.warmup,
            clip=config.clip,
            keep=config.keep,
        )
        return _Reader(network, stage, task, _identity(config, AFTER_FIRST_STAGE, strings))

    def _counts_reader(self, network: LanguageModel, strings: Strings) -> _Reader:
        """Return the second reader, to be trained."""
        stage, task = counting_stage(network, strings.train, strings.valid, self.config)
        return _Reader(network, stage, task, _identity(self.config, AFTER_FIRST_STAGE, strings))

    def _fit_tails(self, train: Sequences, valid: Sequences, counts: LanguageModel) -> None:
        """Learn how each reader scores normal windows."""
        self._tails = None  # what is read now is in nats of surprise
        self._judged = judged_marks(train)
        by_counts = self._read_counts(valid, counts).worst
        judged = self._judged[marks_of(valid)]
        self._tails = (
            Tail.of(self._read_order(valid).worst),
            Tail.of(by_counts[judged] if judged.any() else by_counts),
        )

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> LogGPT:
        """Return a detector that has learned on, old windows beside ``train``; see ``adapt``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        vocabulary, network = self._fitted()
        together = Sequences.concat([self._replayed, bare(train)])
        parts = (together, valid)
        grown = vocabulary.with_more(train.template_ids())
        adapted = LogGPT(self.config)
        adapted._vocabulary = grown
        adapted._n_training_events = self._n_training_events + len(train.rows)
        adapted._replayed = sample_windows(together, run.seed)
        context = self.config.context
        learned, chosen_by = (in_order(part, grown, context).distinct for part in parts)
        copy = grow(network, self.config, grown.size)
        found = adapt_order(copy, self.config, learned, chosen_by, run)
        adapted._network, adapted.history = found
        if self._counts is not None:
            learned, chosen_by = (counted(part, grown, context).distinct for part in parts)
            copy = grow(self._counts, self.config, grown.size)
            found = adapt_counts(copy, self.config, learned, chosen_by, run)
            adapted._counts, adapted.counts_history = found
            adapted._fit_tails(together, valid, found[0])
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the worst event and, with two readers, by the counts; see the class."""
        order = self._read_order(sequences)
        worst = order.worst
        if self._counts is not None:
            counts = self._read_counts(sequences, self._counts).worst
            judged = self._judged[marks_of(sequences)]
            worst = np.where(judged, np.maximum(worst, counts), worst)
        tokens = order.encoded.tokens
        is_event = tokens.entries >= 0
        first, last = tokens.offsets[:-1], tokens.offsets[1:] - 1
        at_end = np.where(sequences.ends, last, first)  # the first mark carries zeros
        return Scores(
            sequence=worst.astype(np.float32),
            event=order.score[is_event].astype(np.float32),
            measures={
                "surprise": order.surprise[is_event],
                "rank": order.rank[is_event],
                "end_surprise": order.surprise[at_end],
                "end_rank": order.rank[at_end],
                "worst_rank": self._worst_rank(order.rank, tokens.offsets),
            },
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether any event's rank reaches K; K counts from the training keys."""
        return scores.measures["worst_rank"] >= self.top_k

    @property
    def top_k(self) -> int:
        """K of the paper's rule, at least 1."""
        if isinstance(self.config.top_k, int):
            return self.config.top_k
        return self.config.k_of(self._fitted()[0].n_keys)

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the worst events of each sequence and the likeliest templates in their places."""
        vocabulary, network = self._fitted()
        order = self._read_order(sequences)
        suspects = of_order(order.encoded, self._odd(order, network))
        if self._counts is not None:
            counts = self._read_counts(sequences, self._counts)
            odd = self._odd(counts, self._counts)
            judged = self._judged[marks_of(sequences)]
            blamed = of_counts(sequences, counts.encoded, odd, judged)
            suspects = suspects.and_counts(blamed, sequences.lengths)
        return suspects.explain(sequences, vocabulary.template_of)

    def graphs(self) -> list[Graph]:
        """Return the language models of the order and of the counts."""
        vocabulary, network = self._fitted()
        found = [export_graph("order", network, vocabulary)]
        if self._counts is not None:
            found.append(export_graph("counts", self._counts, vocabulary))
        return found

    def save(self, folder: Path) -> None:
        """Write config.json, vocab.json, and safetensors: networks, and windows to replay."""
        vocabulary, network = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(
            folder / "vocab.json",
            {
                "templates": vocabulary.to_json(),
                "n_training_events": self._n_training_events,
                "tails": [asdict(tail) for tail in self._tails or ()],
                "judged_marks": self._judged.tolist(),
            },
        )
        save_arrays(folder / "model.safetensors", parameters_of(network))
        save_arrays(folder / "replay.safetensors", to_arrays(self._replayed))
        if self._counts is not None:
            save_arrays(folder / "counts.safetensors", parameters_of(self._counts))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> LogGPT:
        """Read what ``save`` wrote onto a device."""
        config, vocab = read_json(folder / "config.json"), read_json(folder / "vocab.json")
        weights = load_arrays(folder / "model.safetensors")
        replay = folder / "replay.safetensors"
        replayed = load_arrays(replay) if replay.exists() else None  # a model older than replay
        place = choose_device(device)
        try:
            detector = cls(build_stored(LogGPTConfig, config, str(folder / "config.json")))
            vocabulary = Vocabulary.from_json(vocab["templates"])
            network = new_network(detector.config, vocabulary.size, place)
            load_parameters(network, weights)
            detector._n_training_events = max(0, int(vocab["n_training_events"]))
            if replayed is not None:
                detector._replayed = from_arrays(replayed)
            if detector.config.reads == "both":
                detector._counts = new_network(detector.config, vocabulary.size, place)
                load_parameters(detector._counts, load_arrays(folder / "counts.safetensors"))
                order, counts = (Tail(**tail) for tail in vocab["tails"])
                detector._tails = order, counts
                detector._judged = np.array(vocab["judged_marks"], dtype=bool).reshape(4)
        except (ConfigError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector._vocabulary = vocabulary
        detector._network = network
        return detector

    def _fitted(self) -> tuple[Vocabulary, LanguageModel]:
        if self._vocabulary is None or self._network is None:
            raise NotFittedError("loggpt has not learned yet: call fit or load first")
        return self._vocabulary, self._network

    def _worst_rank(self, rank: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (n,) the highest rank that the paper's rule looks at."""
        if not self.config.first_event:
            rank = rank.copy()
            rank[offsets[:-1] + 1] = 0
        return worst_of(rank, offsets)

    def _read_order(self, sequences: Sequences) -> _Reading:
        vocabulary, network = self._fitted()
        encoded = in_order(sequences, vocabulary, self.config.context)
        surprise, rank = self._judge(encoded, network)
        by_rank = self.config.sequence_score == "rank"
        score = break_ties(rank, surprise) if by_rank else surprise.astype(np.float64)
        score = self._tails[0].nats(score) if self._tails else score
        worst = worst_of(score, encoded.tokens.offsets)
        return _Reading(encoded, surprise, rank, score, worst)

    def _read_counts(self, sequences: Sequences, network: LanguageModel) -> _Reading:
        encoded = counted(sequences, self._fitted()[0], self.config.context)
        surprise, rank = self._judge(encoded, network)
        offsets = encoded.tokens.offsets
        surprise[(offsets[:-1, None] + np.arange(N_COUNT_MARKS)).ravel()] = 0.0
        worst = worst_of(surprise, offsets).astype(np.float64)
        if len(worst):
            worst += np.add.reduceat(surprise, offsets[:-1]) / np.diff(offsets)
        score = surprise.astype(np.float64)
        if self._tails:
            score, worst = self._tails[1].nats(score), self._tails[1].nats(worst)
        return _Reading(encoded, surprise, rank, score, worst)

    def _judge(
        self, encoded: Encoded, network: LanguageModel
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the surprise and the rank of each token, unseen templates included."""
        n_keys = self._fitted()[0].n_keys
        judged = judge(network, encoded.distinct)
        surprise, rank = encoded.spread(judged.surprise), encoded.spread(judged.rank)
        unknown = encoded.tokens.tokens == UNKNOWN
        rank[unknown] = n_keys + 1
        surprise[unknown] = np.log1p(self._n_training_events) + np.log1p(n_keys)
        return surprise, rank

    def _odd(self, reading: _Reading, network: LanguageModel) -> Odd:
        expected = expect(network, reading.encoded.distinct, self.config.n_expected)
        likeliest, probability = (reading.encoded.spread(values) for values in expected)
        return Odd(reading.score, likeliest, probability)


def break_ties(rank: NDArray[np.int64], surprise: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rank plus a share below one that rises with the surprise."""
    return rank + surprise / (1.0 + surprise)


def worst_of(values: NDArray, offsets: NDArray[np.int64]) -> NDArray:
    """Return (n,) the largest value of each string."""
    return np.maximum.reduceat(values, offsets[:-1]) if len(offsets) > 1 else values[:0]


def _identity(config: LogGPTConfig, ignored: Iterable[str], strings: Strings) -> str:
    """Name what a stage's weights depend on, so that a checkpoint of others is not resumed.

    Args:
        config: All of its settings count,
        ignored: but those that the stage does not know of.
        strings: The data.
    """
    excluded: set[str] = set(ignored)
    digest = hashlib.sha256()
    for part in (strings.train, strings.valid):
        for array in (part.tokens, part.offsets, part.counts, part.of_chunk):
            digest.update(array.tobytes())
    return config.model_dump_json(exclude=excluded) + digest.hexdigest()
