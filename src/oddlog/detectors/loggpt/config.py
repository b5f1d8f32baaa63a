"""LogGPT's settings, those of its second stage, and the preset of the released code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oddlog.config import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]
NotNegative = Annotated[float, Field(ge=0.0)]

PAPER: Mapping[str, Any] = {
    "layers": 6,
    "heads": 6,
    "width": 60,
    "context": 512,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "epochs": 100,
    "max_steps": 10**9,
    "batch_size": 16,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "weight_decay": 0.01,
    "clip": 0.0,
    "patience": 100,
    "keep": "last",
    "shuffle": False,
    "learn": "frequency",
    "unknown_rate": 0.0,
    "cut_rate": 0.0,
    "sequence_score": "rank",
    "first_event": False,
    "reads": "order",
}
"""What the released code trains and decides by; K is 7 on HDFS, 80 on Blue Gene/L, 690 on
Thunderbird there, and half of the training keys in the paper (``top_k``)."""

AFTER_FIRST_STAGE = ("reward", "reference", "ppo", "topk_margin", "top_k", "reads", "count_steps")
"""Settings on which the weights of the first stage do not depend: those of the second stage, of the
paper's rule and of the second reader."""


class ReferenceConfig(Config):
    """The second stage as it was released; see ``reference`` for its loss."""

    prompt_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    beams: Annotated[int, Field(ge=2)] = 20
    learning_rate: PositiveFloat = 1e-6
    episodes: PositiveInt = 20


class PPOConfig(Config):
    """The second stage as the paper states it; see ``ppo`` for the equations."""

    epochs: PositiveInt = 5
    max_steps: PositiveInt = 4000
    """Fewer prompts an epoch where there are many strings."""
    prompts: PositiveInt = 16
    """Prompts in a batch."""
    samples: Annotated[int, Field(ge=2)] = 4
    """Continuations drawn of each prompt; their mean return is the baseline of each."""
    inner_epochs: PositiveInt = 4
    """Steps made on each batch of continuations."""
    horizon: PositiveInt = 128
    """Events drawn behind a prompt, at most."""
    learning_rate: PositiveFloat = 1e-5
    clip: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """How far from 1 a probability ratio may move and still be rewarded for it."""
    kl: NotNegative = 0.1
    """Weight of the divergence from the network of the first stage."""
    discount: Annotated[float, Field(ge=0.0, le=1.0)] = 0.95


class MarginConfig(Config):
    """The second stage as a hinge on the K-th logit; see ``margin`` for the equation."""

    epochs: PositiveInt = 10
    max_steps: PositiveInt = 2000
    margin: NotNegative = 1.0
    """How far above the K-th other candidate the true one should be, in nats."""
    cross_entropy: NotNegative = 0.1
    """Weight of the first stage's loss beside the hinge."""
    learning_rate: PositiveFloat = 2e-4


class LogGPTConfig(Config):
    """Settings of LogGPT.

    Heads, width and K follow the paper (6 heads, width 60, K = half of the training keys); it has 6
    layers, which on logs were no better than 2 and took three times as long (docs/diary.md). Batch,
    rate and early stopping are ours.
    """

    preset: Literal["ours", "paper"] = "ours"
    """Where settings that are not given come from: the defaults here, or ``PAPER``."""
    reads: Literal["order", "both"] = "both"
    """One network that reads events in their order, as in the paper, or a second one beside it that
    reads how often each occurs; see ``counting``."""
    count_steps: PositiveInt = 1000
    """Training steps of the second reader."""
    layers: PositiveInt = 2
    heads: PositiveInt = 6
    width: PositiveInt = 60
    context: Annotated[int, Field(ge=4)] = 512
    dropout: Share = 0.1
    attention_dropout: Share = 0.0
    """The paper's networks have .1 there; with any, torch computes attention without its fused
    kernel, and a training step takes up to twice the time."""
    epochs: PositiveInt = 45
    max_steps: PositiveInt = 4000
    """Fewer epochs where an epoch has many batches, so that a large log is no longer to learn."""
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    """A cosine after a short warm-up, or one rate from the first step to the last."""
    weight_decay: NotNegative = 0.01
    clip: NotNegative = 1.0
    """Largest norm of a gradient; 0 for no limit."""
    patience: PositiveInt = 15
    keep: Literal["best", "last"] = "best"
    """Which epoch's weights are used: that of the best validation loss, or the last one."""
    shuffle: bool = True
    """Each distinct sequence once per epoch in an order drawn anew; if not, every sequence as often
    as it occurs, in the order of the log."""
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
    first_event: bool = True
    """Whether the paper's rule looks at the first event; the released code never does."""
    n_expected: PositiveInt = 3
    """How many expected templates an explanation names."""
    reward: Literal["none", "reference", "ppo", "topk_margin"] = "none"
    """The second stage: none, the released code's, the paper's, or a hinge on the same decision."""
    reference: ReferenceConfig = ReferenceConfig()
    ppo: PPOConfig = PPOConfig()
    topk_margin: MarginConfig = MarginConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "paper":
            return {**PAPER, **values}
        return values

    @model_validator(mode="after")
    def _heads_divide_width(self) -> LogGPTConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self

    def k_of(self, n_keys: int) -> int:
        """Return K of the paper's rule, at least 1, for a number of training keys."""
        if isinstance(self.top_k, int):
            return self.top_k
        return max(1, int(self.top_k * n_keys))
