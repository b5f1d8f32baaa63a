"""New event: an event of a template that training never held is odd, and nothing else is.

Source: the "new event" detector of Landauer, Skopik & Wurzenberger, "A critical review of common
log data sets used for evaluation of sequence-based anomaly detection techniques" (FSE 2024).

Equations, for a sequence x_1 .. x_T and the set V of templates in training::

    event score   e_t = 1 if x_t is not in V, else 0
    score         sum of e_t
    rule          any e_t = 1, that is score > 0

Deviation: the paper's score is the bare rule; here it is the number of unseen events, so that
sequences can be ranked, and the rule is the same. A template with a negative id was not known when
templates were mined and is never in V, even if it occurs in training. Its cost is one look-up per
event, and no sequence is too short, too long or too strange for it: none gets a default score.

It earns its place as the shortcut that a sequence model has to beat: on Blue Gene/L it alone
reaches F1 .99.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from oddlog import config as settings
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.encode import training_templates
from oddlog.errors import ArtifactError, NotFittedError
from oddlog.events import Sequences
from oddlog.findings import Culprit, Explanation, Scores
from oddlog.run import Run


class NewEventConfig(settings.Config):
    """Settings of the new-event rule: there are none."""


class NewEvent:
    """Count the events whose template training never held."""

    name: ClassVar[str] = "new_event"
    learns_from: ClassVar[Literal["normal", "labelled"]] = "normal"
    causal: ClassVar[bool] = True
    memory: ClassVar[int] = 0
    Config: ClassVar[type[settings.Config]] = NewEventConfig

    def __init__(self, config: NewEventConfig) -> None:
        self.config = config
        self._vocabulary: NDArray[np.int32] | None = None

    def fit(self, train: Sequences, valid: Sequences, run: Run) -> None:
        """Remember the templates of ``train``; ``valid`` and ``run`` have no use here.

        Raises:
            ConfigError: ``train`` holds no sequence, or no known template.
        """
        self._vocabulary = training_templates(train, self.name)

    def adapt(self, train: Sequences, valid: Sequences, run: Run) -> Self:
        """Return a detector that knows the templates of ``train`` as well.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        ids = train.template_ids()
        adapted = type(self)(self.config)
        adapted._vocabulary = np.union1d(self._fitted(), ids[ids >= 0]).astype(np.int32)
        return adapted

    def score(self, sequences: Sequences) -> Scores:
        """Score by the number of unseen events.

        ``measures["n_unseen"]`` is that number as (n,) int64; event scores are 1.0 or 0.0.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        unseen = self._unseen(sequences)
        n_unseen = np.bincount(sequences.owners[unseen], minlength=len(sequences))
        return Scores(
            sequence=n_unseen.astype(np.float32),
            event=unseen.astype(np.float32),
            measures={"n_unseen": n_unseen},
        )

    def paper_rule(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (n,) whether the sequence holds any unseen template."""
        return scores.measures["n_unseen"] > 0

    def explain(self, sequences: Sequences) -> list[Explanation]:
        """Name each unseen event, in order; what was expected instead, the rule cannot say.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        places = np.flatnonzero(self._unseen(sequences))
        bounds = np.searchsorted(places, sequences.offsets)
        return [
            Explanation(
                key=key,
                culprits=tuple(
                    Culprit(row=int(sequences.rows[place]), position=int(place - first), score=1.0)
                    for place in places[bounds[i] : bounds[i + 1]]
                ),
            )
            for i, (key, first) in enumerate(
                zip(sequences.keys, sequences.offsets[:-1], strict=True)
            )
        ]

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the known templates as ``model.safetensors``.

        Raises:
            NotFittedError: Called before ``fit`` or ``load``.
        """
        vocabulary = self._fitted()
        write_json(folder / "config.json", self.config.model_dump())
        save_arrays(folder / "model.safetensors", {"vocabulary": vocabulary})

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """Read what ``save`` wrote; the device makes no difference.

        Raises:
            ArtifactError: The folder is missing or damaged.
        """
        where = folder / "config.json"
        config = settings.build_stored(NewEventConfig, read_json(where), str(where))
        arrays = load_arrays(folder / "model.safetensors")
        try:
            vocabulary = arrays["vocabulary"]
        except KeyError as error:
            raise ArtifactError(f"{folder}: damaged: {error}; fit the model again") from None
        detector = cls(config)
        detector._vocabulary = vocabulary
        return detector

    def _unseen(self, sequences: Sequences) -> NDArray[np.bool_]:
        return ~np.isin(sequences.template_ids(), self._fitted())

    def _fitted(self) -> NDArray[np.int32]:
        if self._vocabulary is None:
            raise NotFittedError(f"{self.name}: not fitted; call fit or load first")
        return self._vocabulary
