"""DeepLog's model of log keys: an LSTM predicts the next template from the h before it.

Paper: Du, Li, Zheng & Srikumar, "DeepLog: Anomaly Detection and Diagnosis from System Logs through
Deep Learning", CCS 2017, section 3.1. Its model of parameter values and its workflows are not here.

Equations, for an event x_t and the window w_t = x_{t-h} .. x_{t-1} of the h tokens before it::

    p(v | w_t) = softmax(W h_t + b)[v], h_t the last output of a stacked LSTM that reads w_t
    loss        -(1/n) sum_t log p(x_t | w_t) over the windows of normal sessions
    paper's rule  anomalous <=> any x_t is not among the g likeliest: rank_t >= g,
                  rank_t = #{v : p(v | w_t) > p(x_t | w_t)}
    event score   -log p(x_t | w_t) in nats
    score         the highest of an event, the end of the session being one

h = 10, g = 9, two layers of 64 are the paper's. Deviations, and why:

- A window that reaches back before its session is filled up in front, behind it a mark of the
  beginning, and the end of a session is a key. The paper's windows begin at the h-th event, so that
  no short session has one; codes in circulation fill them with a number that no prediction can be,
  which makes every session of at most h events an anomaly: on HDFS a third of the recall.
- Equal windows with the same next key are one, in training and in scoring. ``learn`` is how much
  such a one counts in training: "support", once, "frequency", as often as it occurs, the paper's.
- A template is an embedding that is learned, not a one-hot vector or (in codes in circulation) its
  number; the best validation epoch is restored; some training windows are shown without their
  beginning, as live ones may be. Settings were chosen on validation normals against synthetic
  corruptions of them (docs/diary.md).
- A template that training never held has rank V + 1 and the surprise log(n + 1) + log(V + 1) of one
  continuation among V after n training events without it. The paper's score is a miss or none, and
  its online update from false alarms is ``adapt`` here, with old windows beside the new ones.

No sequence is too short or too long: none gets a default score.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.detectors.deeplog.model import (
    DeepLogConfig,
    NextKey,
    Read,
    export_graph,
    grow,
    new_network,
    next_key_task,
    read,
)
from oddlog.distinct import Grams
from oddlog.encode import UNKNOWN, Vocabulary, training_templates
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Explanation, Scores
from oddlog.nn.device import choose_device, load_parameters, parameters_of, seed_torch
from oddlog.nn.export import Graph
from oddlog.nn.strings import Encoded, in_order
from oddlog.nn.suspects import Odd, of_order
from oddlog.nn.training import Stage, run_stage
from oddlog.run import Run

REPLAYED_WINDOWS, VALIDATED_WINDOWS = 2**16, 2**16
SHARE_OF_RATE = 0.25
"""Of the learning rate, when learning on: the whole rate undoes what was learned."""


@dataclass(frozen=True, eq=False)
class _Model:
    """What training left, with a sample of its windows and the number of its events."""

    vocabulary: Vocabulary
    network: NextKey
    windows: Grams
    n_events: int


class DeepLog:
    """Predict each template from the ten before it with an LSTM."""

    name: ClassVar[str] = "deeplog"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = True
    Config: ClassVar[type[settings.Config]] = DeepLogConfig

    def __init__(self, config: DeepLogConfig) -> None:
        self.config = config
        self._model: _Model | None = None
        self.history: list[dict[str, float]] = []
        """One record per epoch of training: epoch, train_loss, valid_loss (nats per window)."""

    @property
    def memory(self) -> int:
        """Events before an event that its score depends on."""
        return self.config.window

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Learn the next key on ``train``; keep the epoch with the best loss on ``valid``.

        Raises:
            ConfigError: ``train`` or ``valid`` holds no known template, or training diverged.
        """
        training_templates(train, self.name)  # says what is not learned from, or that nothing is
        vocabulary = Vocabulary.of(train.template_ids())
        windows, chosen_by = (self._windows(part, vocabulary) for part in (train, valid))
        device = choose_device(run.device)
        seed_torch(run.seed)
        network = new_network(self.config, vocabulary.size, device)
        self.history = self._train(network, windows, chosen_by, self.config, run)
        kept = windows.sample(REPLAYED_WINDOWS, run.seed)
        self._model = _Model(vocabulary, network, kept, len(train.rows))

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that has learned on, a sample of the old windows beside ``train``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        old = self._fitted()
        vocabulary = old.vocabulary.with_more(train.template_ids())
        windows = old.windows.joined(self._windows(train, vocabulary))
        network = grow(old.network, self.config, vocabulary.size)
        gentle = {"learning_rate": SHARE_OF_RATE * self.config.learning_rate}
        config = self.config.model_copy(update=gentle)
        plain = Run(run.seed, run.device, progress=run.progress)  # there is nothing to resume
        adapted = type(self)(self.config)
        chosen_by = self._windows(valid, vocabulary)
        adapted.history = self._train(network, windows, chosen_by, config, plain)
        kept = windows.sample(REPLAYED_WINDOWS, run.seed)
        adapted._model = _Model(vocabulary, network, kept, old.n_events + len(train.rows))
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the most surprising event; see the module.

        ``measures`` holds ``surprise`` float32 and ``rank`` int64, (m,) of the events and, with
        ``end_`` before the name, (n,) of the end: zeros where the window does not hold it; and
        ``worst_rank`` (n,) int64 for the paper's rule.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        encoded, found = self._read(sequences)
        first = encoded.tokens.offsets[:-1]
        of_token = {"surprise": found.surprise, "rank": found.rank}
        measures = encoded.tokens.measures(of_token, sequences.ends)
        return Scores(
            sequence=np.maximum.reduceat(found.surprise, first),
            event=measures["surprise"],
            measures=measures | {"worst_rank": np.maximum.reduceat(found.rank, first)},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether any event, or the end, is not among the g likeliest."""
        return scores.measures["worst_rank"] >= self.config.top_g

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the worst events of each sequence and the likeliest templates in their places.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        encoded, found = self._read(sequences, self.config.n_expected)
        odd = Odd(found.surprise.astype(np.float64), found.likeliest, found.probability)
        return of_order(encoded, odd).explain(sequences, self._fitted().vocabulary.template_of)

    def graphs(self) -> list[Graph]:
        """Return the network.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        return [export_graph(model.network, self.config.window, model.vocabulary)]

    def save(self, folder: Path) -> None:
        """Write config.json, vocab.json, and safetensors: the network, and windows to replay.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        vocab = {"templates": model.vocabulary.to_json(), "n_training_events": model.n_events}
        write_json(folder / "vocab.json", vocab)
        save_arrays(folder / "model.safetensors", parameters_of(model.network))
        save_arrays(folder / "windows.safetensors", vars(model.windows))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote onto a device.

        Raises:
            ArtifactError: The folder is missing or damaged.
            ConfigError: There is no such device.
        """
        where = folder / "config.json"
        config = settings.build_stored(DeepLogConfig, read_json(where), str(where))
        vocab = read_json(folder / "vocab.json")
        weights = load_arrays(folder / "model.safetensors")
        stored = load_arrays(folder / "windows.safetensors")
        place = choose_device(device)
        try:
            vocabulary = Vocabulary.from_json(vocab["templates"])
            windows = Grams(**stored)
            windows.check(config.window + 1, vocabulary.size)
            network = new_network(config, vocabulary.size, place)
            load_parameters(network, weights)
            n_events = max(0, int(vocab["n_training_events"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._model = _Model(vocabulary, network, windows, n_events)
        return detector

    def _fitted(self) -> _Model:
        if self._model is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._model

    def _train(
        self, network: NextKey, train: Grams, valid: Grams, config: DeepLogConfig, run: Run
    ) -> list[dict[str, float]]:
        """Train in place; return the history."""
        if not len(valid.rows):
            raise ConfigError(
                "no known template in the validation windows: nothing to choose the epoch by; "
                "give more log, or a larger valid_share"
            )
        valid = valid.sample(VALIDATED_WINDOWS, run.seed)  # about as long as an epoch of training
        task = next_key_task(network, train, valid, config)
        stage = Stage(
            name="next key",
            epochs=min(config.epochs, -(-config.max_steps // task.n_batches)),
            learning_rate=config.learning_rate,
            patience=config.patience,
            weight_decay=config.weight_decay,
        )
        identity = config.model_dump_json(exclude={"top_g", "n_expected"})
        return run_stage(network, stage, task, run, identity + _fingerprint(train, valid))

    def _windows(self, sequences: Sequences, vocabulary: Vocabulary) -> Grams:
        """Return the distinct windows of h tokens with their next keys."""
        return Grams.of(_encode(sequences, vocabulary).distinct, self.config.window + 1)

    def _read(self, sequences: Sequences, n_expected: int = 0) -> tuple[Encoded, Read]:
        """Return windows as strings, and what the network says of each token, new ones included."""
        model = self._fitted()
        encoded = _encode(sequences, model.vocabulary)
        found = read(model.network, encoded.distinct, self.config.window, n_expected)
        found = Read(**{name: encoded.spread(values) for name, values in vars(found).items()})
        n_keys, unknown = model.vocabulary.n_keys, encoded.tokens.tokens == UNKNOWN
        found.rank[unknown] = n_keys + 1
        found.surprise[unknown] = np.log1p(model.n_events) + np.log1p(n_keys)
        return encoded, found


def _encode(sequences: Sequences, vocabulary: Vocabulary) -> Encoded:
    """Return whole sequences as strings: nothing limits their length."""
    return in_order(sequences, vocabulary, int(sequences.lengths.max(initial=0)) + 2)


def _fingerprint(*parts: Grams) -> str:
    """Name training data, so that a checkpoint of other data is not resumed."""
    digest = hashlib.sha256()
    for part in parts:
        for array in vars(part).values():
            digest.update(array.tobytes())
    return digest.hexdigest()
