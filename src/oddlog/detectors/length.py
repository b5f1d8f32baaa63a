"""Length: how many events a sequence has, compared with the lengths that training held.

Source: the "sequence length" detector of Landauer, Skopik & Wurzenberger, "A critical review of
common log data sets used for evaluation of sequence-based anomaly detection techniques" (FSE 2024).

Equations, for a sequence of T events and the lengths L of training sequences::

    too long      e(T) = -log((1 + #{L >= T}) / (n + 1)) + log(max(T / max L, 1))
    too short     s(T) = -log((1 + #{L <= T}) / (n + 1)) + log(max(min L / T, 1))
    event score   e(t) at the t-th event, which rises with t
    score         max(e(T), s(T)); e(T) alone where a sequence may not be short
    paper's rule  T > max L, or T < min L where it may be

Deviations and choices: the paper's score is the bare rule; here it is how rare so large or so small
a length is, in nats, and beyond what training held the distance on a log scale besides, so that
sequences can be ranked. Only a whole session is short: one that goes on will be longer, and of one
without its beginning there was more (``judged_marks``: where training has hardly any whole ones,
as with windows of time, windows as it has them are judged); s(T) and min L are of such sequences.
Which templates a sequence holds plays no part, and an unknown one is an event as any other. No
sequence gets a default score.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import END, Culprit, Explanation, Scores
from oddlog.nn.strings import judged_marks, marks_of
from oddlog.run import Run

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class LengthConfig(settings.Config):
    """Settings of the length rule: there are none."""


@dataclass(frozen=True, eq=False)
class Lengths:
    """What training left.

    Attributes:
        longest: (n,) int64, rising: the lengths of all training sequences.
        whole: (k,) int64, rising: of those that might have been short.
        judged: (4,) bool, with which marks (``marks_of``) a sequence may be short.
    """

    longest: Ints
    whole: Ints
    judged: NDArray[np.bool_]

    @classmethod
    def of(cls, train: Sequences, judged: NDArray[np.bool_]) -> Lengths:
        """Sort the lengths of training sequences."""
        lengths = train.lengths
        return cls(np.sort(lengths), np.sort(lengths[judged[marks_of(train)]]), judged)

    def joined(self, other: Lengths) -> Lengths:
        """Return the lengths of both."""
        longest = np.sort(np.concatenate([self.longest, other.longest]))
        return Lengths(longest, np.sort(np.concatenate([self.whole, other.whole])), self.judged)

    def shorter(self, lengths: Ints) -> Floats:
        """Return the share of training sequences that are shorter than each length."""
        return np.searchsorted(self.longest, lengths) / len(self.longest)

    def too_long(self, lengths: Ints) -> Floats:
        """Return e of each length, at least 1; see the module."""
        n = len(self.longest)
        reached = n - np.searchsorted(self.longest, lengths)
        return _rarity(reached, n) + np.log(np.maximum(lengths / self.longest[-1], 1))

    def too_short(self, sequences: Sequences) -> Floats:
        """Return s of each sequence, 0 where it may not be short."""
        lengths, n = sequences.lengths, len(self.whole)
        reached = np.searchsorted(self.whole, lengths, side="right")
        least = self.whole[0] if n else 0
        found = _rarity(reached, n) + np.log(np.maximum(least / lengths, 1))
        return np.where(self.judged[marks_of(sequences)], found, 0.0)


def _rarity(reached: Ints, n: int) -> Floats:
    return -np.log((1 + reached) / (n + 1))


class Length:
    """Compare the length of a sequence with the lengths of training sequences."""

    name: ClassVar[str] = "length"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = True
    Config: ClassVar[type[settings.Config]] = LengthConfig

    def __init__(self, config: LengthConfig) -> None:
        self.config = config
        self._lengths: Lengths | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Remember the lengths of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence.
        """
        if not len(train):
            raise ConfigError("length: nothing to learn from: no training sequence; give more log")
        self._lengths = Lengths.of(train, judged_marks(train))

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that remembers the lengths of ``train`` as well.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        old = self._fitted()
        adapted = type(self)(self.config)
        adapted._lengths = old.joined(Lengths.of(train, old.judged))
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by how rare it is to be so long, or so short.

        ``measures`` holds ``too_long`` and ``too_short`` in nats and ``outside``, whether training
        has nothing as long or as short, (n,) each.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model, lengths = self._fitted(), sequences.lengths
        within = np.arange(len(sequences.rows)) - np.repeat(sequences.offsets[:-1], lengths)
        too_long, too_short = model.too_long(lengths), model.too_short(sequences)
        may_be_short = model.judged[marks_of(sequences)]
        least = model.whole[0] if len(model.whole) else 0
        return Scores(
            sequence=np.maximum(too_long, too_short).astype(np.float32),
            event=model.too_long(within + 1).astype(np.float32),
            measures={
                "too_long": too_long,
                "too_short": too_short,
                "outside": (lengths > model.longest[-1]) | (may_be_short & (lengths < least)),
            },
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether a sequence is longer or shorter than any of training."""
        return scores.measures["outside"]

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name the first event too many, or the place after the last one where more should come.

        Within the lengths of training the last event is the one that makes a sequence rarely long.
        ``expected`` holds the end of the session, with the share of training that had ended before.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model, lengths = self._fitted(), sequences.lengths
        number = np.minimum(lengths, model.longest[-1] + 1)  # of the first event too many, from 1
        is_short = model.too_short(sequences) > model.too_long(lengths)
        score = np.where(is_short, model.too_short(sequences), model.too_long(number))
        position = np.where(is_short, lengths, number - 1)
        place = sequences.offsets[:-1] + np.minimum(position, lengths - 1)
        row, ended = sequences.rows[place], model.shorter(number)
        return [
            Explanation(
                key=key,
                culprits=(
                    Culprit(
                        row=int(row[i]),
                        position=int(position[i]),
                        score=float(score[i]),
                        expected=() if is_short[i] else ((END, float(ended[i])),),
                    ),
                ),
            )
            for i, key in enumerate(sequences.keys)
        ]

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the lengths as ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        model = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        save_arrays(folder / "model.safetensors", vars(model))

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(LengthConfig, read_json(where), str(where))
        try:
            model = Lengths(**load_arrays(folder / "model.safetensors"))
            if not len(model.longest) or model.judged.shape != (4,):
                raise ValueError("no lengths")
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._lengths = model
        return detector

    def _fitted(self) -> Lengths:
        if self._lengths is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._lengths
