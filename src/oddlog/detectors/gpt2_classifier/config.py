"""Settings of the GPT-2 classifier, and the preset of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oddlog.artifact import MANIFEST
from oddlog.config import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

PAPER: Mapping[str, Any] = {
    "reads": "event_id_text",
    "start": "gpt2",
    "long": "cut",
    "context": 512,
    "loss": "focal",
    "alpha": 0.25,
    "gamma": 2.0,
    "weigh": "count",
    "epochs": 1,
    "min_steps": 1,
    "max_steps": 10**9,
    "parts": 1,
    "batch_size": 16,
    "learning_rate": 5e-5,
    "schedule": "linear",
    "weight_decay": 0.01,
    "keep": "last",
    "unknown_rate": 0.0,
    "unmarked_rate": 0.0,
}
"""One epoch of every session with focal loss from pretrained weights. The paper names GPT-2, event
ids, focal loss and the single epoch; the numbers are the customary ones, as it has none."""


class GPT2ClassifierConfig(Config):
    """Settings of the GPT-2 classifier; how ours were chosen is in docs/diary.md."""

    preset: Literal["ours", "paper"] = "ours"
    """Where settings that are not given come from: the defaults here, or ``PAPER``."""
    reads: Literal["event_id_token", "event_id_text", "raw"] = "event_id_token"
    """What a sequence is to the network: a token for each event's template, the template's number
    as text, or the messages as they were logged; see ``inputs``."""
    start: str = ""
    """Where the weights come from: nowhere (random), the folder of an oddlog model whose detector
    is ``loggpt``, a folder that transformers wrote, or a name on its hub."""
    download: bool = False
    """Whether a name on the hub may be downloaded; otherwise it has to be in the local cache."""
    tokenizer: str = ""
    """Folder or hub name of a tokenizer for text, where there is no ``start`` with its own; by
    default one is trained on the training part."""
    pieces: Annotated[int, Field(ge=257)] = 2000
    """Tokens of a tokenizer that is trained here, at most."""
    long: Literal["chunks", "cut"] = "chunks"
    """What is longer than the context is read in overlapping chunks, or cut to its beginning; how
    many sequences were cut is logged."""
    layers: PositiveInt = 2
    heads: PositiveInt = 6
    width: PositiveInt = 60
    """Sizes of a network that starts from random weights; another keeps its own."""
    context: Annotated[int, Field(ge=4)] = 512
    """Tokens read at once, at most; fewer where ``start`` has fewer places."""
    dropout: Share = 0.1
    """Of embeddings and of what a layer adds; attention has none."""
    loss: Literal["cross_entropy", "weighted", "focal"] = "focal"
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] | Literal["balanced"] = 0.5
    """Focal loss: weight of the anomalies, that of the normals being 1 - alpha; "balanced" to weigh
    each class by how rarely it is shown. With .5 the odds are not tilted: with the customary .25
    the best threshold on validation was .40."""
    gamma: NotNegative = 2.0
    """Focal loss: how fast what is right already loses weight."""
    class_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Further factors by the class's name, "normal" for the normals; 1 for those not named."""
    weigh: Literal["count", "root", "log", "distinct"] = "root"
    """How often an epoch shows an input that n training sequences share: n times, the square root
    of n, log2 (1 + n), once."""
    epochs: PositiveInt = 20
    min_steps: PositiveInt = 600
    max_steps: PositiveInt = 6000
    """Steps are those of ``epochs``, but at least and at most so many."""
    parts: PositiveInt = 8
    """How often the validation loss is looked at."""
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 2e-3
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: NotNegative = 0.01
    clip: NotNegative = 1.0
    keep: Literal["best", "last"] = "best"
    """The weights with the best validation loss, or the last ones."""
    unknown_rate: Share = 0.02
    """Share of training events shown as unknown, so that an unknown template says nothing to the
    network by itself (``classes.novelty_risk`` has what it means). Not for ``raw``."""
    unmarked_rate: Share = 0.05
    """Share of training sequences shown without their begin mark, or without their end mark, as a
    live window may be. Only for ``event_id_token``."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "paper":
            return {**PAPER, **values}
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> GPT2ClassifierConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        if self.min_steps > self.max_steps:
            raise ValueError(f"min_steps {self.min_steps} is more than max_steps {self.max_steps}")
        if self.tokenizer and self.reads == "event_id_token":
            raise ValueError("a tokenizer is for text: set reads to event_id_text or raw")
        if self.tokenizer and self.start:
            raise ValueError("a network that is started from has a tokenizer of its own")
        return self

    @property
    def templates_from(self) -> Path | None:
        """The oddlog model folder whose template ids the network's tokens stand for, if any."""
        folder = Path(self.start)
        return folder if self.start and (folder / MANIFEST).is_file() else None
