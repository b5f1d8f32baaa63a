"""LogGPT as a detector: encode, learn the language of normal sequences, score the next event.

Paper: Han, Yuan, Trabelsi, "LogGPT: Log Anomaly Detection via GPT", IEEE BigData 2023,
arXiv:2309.14482. Its first stage is a language model: a GPT-2 from random weights is
trained on normal sequences ``x_1 .. x_T`` of template ids to minimise

    L = -(1/n) sum_t log p(x_{t+1} | x_1 .. x_t)

and the paper's rule calls a sequence anomalous if any event is outside the K likeliest:

    anomalous  <=>  max_t rank_t >= K,   rank_t = #{v : p(v | past) > p(x_t | past)}, from 0

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
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from transformers.models.gpt2 import GPT2LMHeadModel

from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.config import build_stored
from oddlog.detectors.loggpt.config import SECOND_STAGE, LogGPTConfig
from oddlog.detectors.loggpt.model import (
    expect,
    judge,
    language_model_task,
    new_network,
)
from oddlog.detectors.loggpt.reward import Strings, learn_reward
from oddlog.encode import (
    FIRST_CANDIDATE,
    UNKNOWN,
    Chunks,
    Tokens,
    Vocabulary,
    add_marks,
    cut_into_chunks,
)
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.nn.batches import Distinct, find_distinct
from oddlog.nn.device import choose_device, load_parameters, seed_torch
from oddlog.nn.training import Stage, run_stage
from oddlog.run import Run

N_CULPRITS = 5


@dataclass(frozen=True, eq=False)
class _Encoded:
    """Sequences as token strings, their chunks, and the distinct ones among those."""

    tokens: Tokens
    chunks: Chunks
    distinct: Distinct

    def spread(self, values: NDArray) -> NDArray:
        """Carry a value of each distinct string's token to every token that it stands for.

        Args:
            values: (t',) or (t', k) beside ``distinct.tokens``.

        Returns:
            (t, ...) beside ``tokens.tokens``.
        """
        new = self.chunks.sizes - self.chunks.n_context  # (c,) tokens that this chunk is to score
        owner = np.repeat(np.arange(len(new)), new)
        within = np.arange(new.sum()) - np.repeat(np.cumsum(new) - new, new)
        within += self.chunks.n_context[owner]
        place = self.distinct.offsets[:-1][self.distinct.of_chunk[owner]] + within
        result = np.zeros((len(self.tokens.tokens), *values.shape[1:]), dtype=values.dtype)
        result[self.chunks.begins[owner] + within] = values[place]
        return result


@dataclass(frozen=True, eq=False)
class _Token:
    """What was found at each token, marks included, beside ``Tokens.tokens``."""

    score: NDArray[np.float32]
    surprise: NDArray[np.float32]
    rank: NDArray[np.int64]


class LogGPT:
    """GPT-2 language model of normal sequences; see the module for equations and deviations.

    Scores: the event score is the event's surprise or rank (``config.sequence_score``), the
    sequence score that of its worst event, the end of the session counting as an event where the
    window holds it. A template that training never saw has rank ``n_keys + 1``, below every
    candidate, and the surprise ``log(n + 1) + log(n_keys + 1)`` of one continuation among all
    after n training events without it. No sequence is left out.

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
        self._network: GPT2LMHeadModel | None = None
        self._n_training_events = 0
        self.history: list[dict[str, float]] = []
        """One record per epoch of training: epoch, train_loss, valid_loss (nats per event)."""
        self.reward_history: list[dict[str, float]] = []
        """The same of the second stage, if there is one; its losses are in ``reward``."""

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn the next event on ``train``; keep the epoch with the best loss on ``valid``."""
        vocabulary = Vocabulary.of(train.template_ids())
        train_strings = _encode(train, vocabulary, self.config).distinct
        valid_strings = _encode(valid, vocabulary, self.config).distinct
        if not (valid_strings.tokens >= FIRST_CANDIDATE).any():
            raise ConfigError(
                "no known template in the validation windows: nothing to choose the epoch by; "
                "give more log, or a larger valid_share"
            )
        device = choose_device(run.device)
        seed_torch(run.seed)
        network = new_network(self.config, vocabulary.size, device)
        task = language_model_task(network, train_strings, valid_strings, self.config)
        stage = Stage(
            name="language model",
            epochs=min(self.config.epochs, -(-self.config.max_steps // task.n_batches)),
            learning_rate=self.config.learning_rate,
            patience=self.config.patience,
            weight_decay=self.config.weight_decay,
            schedule=self.config.schedule,
            warmup=0.0 if self.config.schedule == "constant" else Stage.warmup,
            clip=self.config.clip,
            keep=self.config.keep,
        )
        strings = Strings(train_strings, valid_strings)
        data = _fingerprint(train_strings, valid_strings)
        self.history = run_stage(
            network, stage, task, run, _settings_of_stage(1, self.config) + data
        )
        self.reward_history = learn_reward(
            network, strings, self.config, run, _settings_of_stage(2, self.config) + data
        )
        self._vocabulary, self._network = vocabulary, network
        self._n_training_events = len(train.rows)

    def score(self, sequences: Sequences) -> Scores:
        """Score by the worst event; see the class."""
        encoded = self._encoded(sequences)
        token = self._judge(encoded)
        entry = encoded.tokens.entries
        first = encoded.tokens.offsets[:-1]
        last = encoded.tokens.offsets[1:] - 1
        is_event = entry >= 0
        at_end = np.where(sequences.ends, last, first)  # the first mark carries zeros
        return Scores(
            sequence=np.maximum.reduceat(token.score, first) if len(first) else token.score[:0],
            event=token.score[is_event],
            measures={
                "surprise": token.surprise[is_event],
                "rank": token.rank[is_event],
                "end_surprise": token.surprise[at_end],
                "end_rank": token.rank[at_end],
                "worst_rank": self._worst_rank(token.rank, first),
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
        encoded = self._encoded(sequences)
        token = self._judge(encoded)
        likeliest, probability = expect(network, encoded.distinct, self.config.n_expected)
        likeliest, probability = encoded.spread(likeliest), encoded.spread(probability)
        explanations = []
        for index, key in enumerate(sequences.keys):
            begin, end = encoded.tokens.offsets[index : index + 2]
            last = sequences.offsets[index + 1] - 1
            places = begin + 1 + np.argsort(-token.score[begin + 1 : end], kind="stable")
            culprits = []
            for place in places[:N_CULPRITS]:
                entry = encoded.tokens.entries[place]
                expected = zip(likeliest[place], probability[place], strict=True)
                culprits.append(
                    Culprit(
                        row=int(sequences.rows[entry if entry >= 0 else last]),
                        position=int(place - begin - 1),
                        score=float(token.score[place]),
                        expected=tuple((vocabulary.template_of(t), float(p)) for t, p in expected),
                    )
                )
            explanations.append(Explanation(str(key), tuple(culprits)))
        return explanations

    def save(self, folder: Path) -> None:
        """Write config.json, vocab.json and model.safetensors."""
        vocabulary, network = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        write_json(
            folder / "vocab.json",
            {"templates": vocabulary.to_json(), "n_training_events": self._n_training_events},
        )
        save_arrays(
            folder / "model.safetensors",
            {name: value.detach().cpu().numpy() for name, value in network.named_parameters()},
        )

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> LogGPT:
        """Read what ``save`` wrote onto a device."""
        config, vocab = read_json(folder / "config.json"), read_json(folder / "vocab.json")
        weights = load_arrays(folder / "model.safetensors")
        place = choose_device(device)
        try:
            detector = cls(build_stored(LogGPTConfig, config, str(folder / "config.json")))
            vocabulary = Vocabulary.from_json(vocab["templates"])
            network = new_network(detector.config, vocabulary.size, place)
            load_parameters(network, weights)
            detector._n_training_events = max(0, int(vocab["n_training_events"]))
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector._vocabulary = vocabulary
        detector._network = network
        return detector

    def _fitted(self) -> tuple[Vocabulary, GPT2LMHeadModel]:
        if self._vocabulary is None or self._network is None:
            raise NotFittedError("loggpt has not learned yet: call fit or load first")
        return self._vocabulary, self._network

    def _encoded(self, sequences: Sequences) -> _Encoded:
        return _encode(sequences, self._fitted()[0], self.config)

    def _worst_rank(self, rank: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return (n,) the highest rank that the paper's rule looks at."""
        if not len(first):
            return rank[:0]
        if not self.config.first_event:
            rank = rank.copy()
            rank[first + 1] = 0
        return np.maximum.reduceat(rank, first)

    def _judge(self, encoded: _Encoded) -> _Token:
        vocabulary, network = self._fitted()
        judged = judge(network, encoded.distinct)
        surprise, rank = encoded.spread(judged.surprise), encoded.spread(judged.rank)
        unknown = encoded.tokens.tokens == UNKNOWN
        rank[unknown] = vocabulary.n_keys + 1
        surprise[unknown] = np.log1p(self._n_training_events) + np.log1p(vocabulary.n_keys)
        score = surprise if self.config.sequence_score == "surprise" else break_ties(rank, surprise)
        return _Token(score.astype(np.float32), surprise, rank)


def break_ties(rank: NDArray[np.int64], surprise: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the rank plus a share below one that rises with the surprise."""
    return rank + surprise / (1.0 + surprise)


def _encode(sequences: Sequences, vocabulary: Vocabulary, config: LogGPTConfig) -> _Encoded:
    tokens = add_marks(sequences, vocabulary.encode(sequences.template_ids()))
    chunks = cut_into_chunks(tokens.offsets, config.context, config.overlap)
    return _Encoded(tokens, chunks, find_distinct(tokens.tokens, chunks))


def _settings_of_stage(number: int, config: LogGPTConfig) -> str:
    """Name what a stage's weights depend on; the first stage does not know of the second."""
    return config.model_dump_json(exclude=set(SECOND_STAGE) if number == 1 else None)


def _fingerprint(*strings: Distinct) -> str:
    """Name training data, so that a checkpoint of other data is not resumed."""
    digest = hashlib.sha256()
    for part in strings:
        for array in (part.tokens, part.offsets, part.counts, part.of_chunk):
            digest.update(array.tobytes())
    return digest.hexdigest()
