"""LogGPT's settings and the paper's preset."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oddlog.config import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class LogGPTConfig(Config):
    """Settings of LogGPT.

    Network and K follow the paper (6 layers, 6 heads, width 60, K = half of the training keys);
    batch, rate and early stopping are ours.
    """

    layers: PositiveInt = 6
    heads: PositiveInt = 6
    width: PositiveInt = 60
    context: Annotated[int, Field(ge=4)] = 512
    dropout: Share = 0.1
    epochs: PositiveInt = 45
    max_steps: PositiveInt = 4000
    """Fewer epochs where an epoch has many batches, so that a large log is no longer to learn."""
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01
    patience: PositiveInt = 15
    learn: Literal["support", "frequency"] = "support"
    """What can follow a past, or how often each continuation does (the paper); see
    ``model.target_weights``."""
    unknown_rate: Share = 0.1
    """Share of training events shown as unknown: what follows a new template is learned, and single
    sequences are not learned by heart."""
    cut_rate: Share = 0.1
    """Share of training sequences shown without their beginning, as a live window may be."""
    sequence_score: Literal["rank", "surprise"] = "surprise"
    """What the worst event is the worst by; ranks are told apart by surprise where they tie.
    Surprise won on validation normals against synthetic corruptions of them (docs/diary.md)."""
    top_k: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """K of the paper's rule: a number of keys, or a share of the training keys (rounded down)."""
    n_expected: PositiveInt = 3
    """How many expected templates an explanation names."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LogGPTConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    @property
    def overlap(self) -> int:
        """Tokens that neighbouring chunks of a long sequence share: half of the context."""
        return self.context // 2
