"""LogBERT's settings, and the presets of the paper and of the released code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oddlog.config import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

PAPER: Mapping[str, Any] = {
    "reads": "order",
    "layers": 2,
    "heads": 5,
    "width": 50,
    "inner": 256,
    "attention_dropout": 0.1,
    "epochs": 200,
    "epoch_batches": 0,
    "batch_size": 32,
    "learning_rate": 6.25e-4,
    "schedule": "noam",
    "weight_decay": 0.0,
    "clip": 0.0,
    "patience": 10,
    "mask_share": 0.5,
    "learn": "frequency",
    "unknown_rate": 0.0,
    "cut_rate": 0.0,
    "end_mark": False,
    "rule": "drawn",
    "top_g": 6,
    "misses": 1,
}
"""What the paper states; the number of heads, the rate and the patience are the released code's."""
CODE: Mapping[str, Any] = {
    **PAPER,
    "layers": 4,
    "heads": 4,
    "width": 256,
    "inner": 512,
    "mask_share": 0.65,
    "replace": "mixed",
    "misses": 0.5,
}
"""What the released code does on HDFS; there g is 6 on HDFS and 15 on Blue Gene/L and Thunderbird,
with half of the keys masked, and the share of misses is searched on the test."""
NOAM_STEPS = 10_000
"""Steps for which the released code's rate rises; then it falls by one over the square root."""


class LogBERTConfig(Config):
    """Settings of LogBERT."""

    preset: Literal["ours", "paper", "code"] = "ours"
    """Where settings that are not given come from: the defaults here, ``PAPER`` or ``CODE``."""
    reads: Literal["order", "both"] = "both"
    """One network that reads events in their order, as in the paper, or a second one beside it that
    reads how often each occurs; see ``strings``."""
    count_steps: PositiveInt = 1000
    """Training steps of the second reader."""
    layers: PositiveInt = 2
    heads: PositiveInt = 4
    width: PositiveInt = 64
    inner: PositiveInt = 256
    """Width of the feed-forward layers."""
    context: Annotated[int, Field(ge=8)] = 512
    dropout: Share = 0.1
    attention_dropout: Share = 0.0
    """The paper's networks have .1 there; with any, torch computes attention without its fused
    kernel, and a training step takes up to twice the time."""
    epochs: PositiveInt = 30
    epoch_batches: Annotated[int, Field(ge=0)] = 100
    """Batches in an epoch: a small log is shown several times in it, a large one in part. 0: every
    sequence once."""
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    schedule: Literal["cosine", "noam"] = "cosine"
    weight_decay: NotNegative = 0.01
    clip: NotNegative = 1.0
    """Largest norm of a gradient; 0 for no limit."""
    patience: PositiveInt = 15
    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    """Share of keys masked in training (the paper's m)."""
    replace: Literal["mask", "mixed"] = "mask"
    """What stands in a masked key's place: the mask, or, as in BERT, a random token or the key
    itself one time in ten each."""
    passes: Annotated[int, Field(ge=2)] = 4
    """Passes of scoring; one masks every ``passes``-th key, so that each is masked in one."""
    alpha: NotNegative = 0.1
    """Weight of the distance to the centre, a mean over dimensions as in the released code."""
    learn: Literal["support", "frequency"] = "support"
    """Whether equal sequences count once, or as often as they occur (the paper)."""
    unknown_rate: Share = 0.1
    """Share of training events shown as unknown, so that the neighbours of a new template can be
    judged."""
    cut_rate: Share = 0.1
    """Share of training sequences shown without their beginning, as a live window may be."""
    end_mark: bool = True
    """Whether the end of a session is a key to be predicted, where the window holds it."""
    rule: Literal["every", "drawn"] = "every"
    """What the paper's rule is applied to: every key, masked once, or one random draw of masked
    keys (the paper)."""
    top_g: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0.0, lt=1.0)] = 6
    """g of the paper's rule: a number of keys, or a share of the training keys (rounded down)."""
    misses: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0.0, lt=1.0)] = 1
    """r of the paper's rule: a sequence with more misses than this number (the paper), or than this
    share of the masked keys (the released code), is anomalous."""
    n_expected: PositiveInt = 3
    """How many expected templates an explanation names."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        presets = {"paper": PAPER, "code": CODE}
        if isinstance(values, Mapping) and values.get("preset") in presets:
            return {**presets[values["preset"]], **values}
        return values

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LogBERTConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self
