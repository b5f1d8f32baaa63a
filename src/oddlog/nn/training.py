"""The one training loop: epochs, early stopping, best weights restored, resumable to the bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from oddlog.errors import ArtifactError, ConfigError
from oddlog.nn.device import seed_torch
from oddlog.run import Run

Batch = TypeVar("Batch")
TENTHS = 10


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Names the stage in progress and the checkpoint file.
        epochs: Largest number of epochs.
        patience: Epochs without a better validation loss before stopping.
        min_gain: Share by which a loss has to be lower to count as better for ``patience``.
        forgives: Whether a better epoch sets the count of the worse ones back to 0.
        keep: Whether to end with the weights of the "best" epoch or of the "last".
        learning_rate: Peak of AdamW's rate: reached after ``warmup`` of all steps, then a half
            cosine down to a tenth, or kept where ``schedule`` is "constant", or falling to 0 as a
            line where it is "linear", with the square root of the step where it is "noam", or by
            the factor ``gamma`` after each tenth of the steps where it is "exponential".
        clip: Largest norm of the gradient; 0 to leave it as it is.
    """

    name: str
    epochs: int
    learning_rate: float
    patience: int = 5
    weight_decay: float = 0.01
    warmup: float = 0.05
    schedule: str = "cosine"
    clip: float = 1.0
    min_gain: float = 0.0
    forgives: bool = True
    keep: Literal["best", "last"] = "best"
    gamma: float = 1.0


def whole(batch: Batch) -> Iterable[tuple[Batch, float]]:
    """Leave a batch in one piece."""
    return [(batch, 1.0)]


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """What a stage trains on.

    Attributes:
        n_batches: Number of batches in an epoch.
        batches: Called with the epoch's own generator, yields its batches.
        loss: Mean loss of one batch, a scalar with gradient.
        validate: Validation loss of the model in evaluation mode.
        pieces: Cuts a batch that is too large for memory: pieces, each with its share of the
            batch's loss. Their gradients are summed, so that the step is that of the whole batch.
    """

    n_batches: int
    batches: Callable[[torch.Generator], Iterable[Batch]]
    loss: Callable[[Batch], Tensor]
    validate: Callable[[], float]
    pieces: Callable[[Batch], Iterable[tuple[Batch, float]]] = whole


@dataclass
class _State:
    """Where a stage is: what a checkpoint holds beside the tensors."""

    epoch: int = 0
    best_loss: float = math.inf
    best_epoch: int = -1
    n_worse: int = 0
    history: list[dict[str, float]] | None = None


def run_stage(
    model: nn.Module, stage: Stage, task: Task[Any], run: Run, fingerprint: str = ""
) -> list[dict[str, float]]:
    """Train ``model`` in place and leave it with the weights of its best epoch, or of its last.

    An epoch depends on nothing but the weights, the optimiser and (seed, epoch), so that a run
    continued from a checkpoint gives the same weights as an unbroken one.

    Parameters that require no gradient stay as they are, and are in no checkpoint.

    Args:
        model: The network, on its device.
        stage: How to train.
        task: What to train on.
        run: Seed, checkpoint folder and progress.
        fingerprint: Names data and settings; a checkpoint of another one is refused.

    Returns:
        One record per epoch: epoch, train_loss, valid_loss.

    Raises:
        ConfigError: The checkpoint to resume from belongs to another run, or training diverged.
    """
    optimizer = torch.optim.AdamW(
        _trained(model).values(),
        lr=stage.learning_rate,
        weight_decay=stage.weight_decay,
        fused=True,
    )
    best = _weights(model)
    state = _State(history=[])
    path = run.checkpoints / f"{stage.name}.safetensors" if run.checkpoints else None
    identity = f"{json.dumps(asdict(stage), sort_keys=True)} seed={run.seed} {fingerprint}"
    if run.resume and path and path.exists():
        state = _load_checkpoint(path, model, optimizer, best, identity)
    while state.epoch < stage.epochs and state.n_worse < stage.patience:
        train_loss = _train_epoch(model, stage, task, optimizer, state.epoch, run)
        model.eval()
        with torch.no_grad():
            valid_loss = task.validate()
        if not math.isfinite(valid_loss):
            raise ConfigError(
                f"{stage.name}: the loss is {valid_loss} after epoch {state.epoch}: training "
                "diverged; lower learning_rate"
            )
        _record(state, stage, train_loss, valid_loss)
        if state.best_epoch == state.epoch - 1 or stage.keep == "last":
            best = _weights(model)
        if path:
            _save_checkpoint(path, model, optimizer, best, state, identity)
        run.epoch(stage.name, state.epoch, stage.epochs, valid_loss)
    _restore(model, best)
    model.eval()
    run.progress(stage.name, stage.epochs * task.n_batches, stage.epochs * task.n_batches)
    return state.history or []


def _record(state: _State, stage: Stage, train_loss: float, valid_loss: float) -> None:
    assert state.history is not None  # noqa: S101 -- set wherever a state is made
    state.history.append({"epoch": state.epoch, "train_loss": train_loss, "valid_loss": valid_loss})
    gained = valid_loss < state.best_loss * (1 - stage.min_gain)
    if not gained:
        state.n_worse += 1
    elif stage.forgives:
        state.n_worse = 0
    if valid_loss < state.best_loss:
        state.best_loss, state.best_epoch = valid_loss, state.epoch
    state.epoch += 1


def _train_epoch(
    model: nn.Module,
    stage: Stage,
    task: Task[Any],
    optimizer: torch.optim.Optimizer,
    epoch: int,
    run: Run,
) -> float:
    model.train()
    generator = seed_torch(run.seed, epoch)
    trained = list(_trained(model).values())
    total = 0.0
    for number, batch in enumerate(task.batches(generator)):
        step = epoch * task.n_batches + number
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(stage, step, stage.epochs * task.n_batches)
        optimizer.zero_grad(set_to_none=True)
        for piece, share in task.pieces(batch):
            loss = share * task.loss(piece)
            loss.backward()
            total += loss.item()
        if stage.clip:
            nn.utils.clip_grad_norm_(trained, stage.clip)
        optimizer.step()
        run.progress(stage.name, step + 1, stage.epochs * task.n_batches)
    return total / max(task.n_batches, 1)


def learning_rate_at(stage: Stage, step: int, n_steps: int) -> float:
    """Return the learning rate of a step, counted from 0, in a stage of ``n_steps``."""
    n_warmup = int(stage.warmup * n_steps)
    if step < n_warmup:
        return stage.learning_rate * (step + 1) / n_warmup
    if stage.schedule == "constant":
        return stage.learning_rate
    if stage.schedule == "noam":
        return stage.learning_rate * math.sqrt(n_warmup / (step + 1))
    if stage.schedule == "exponential":
        return stage.learning_rate * stage.gamma ** (TENTHS * step // n_steps)
    done = (step - n_warmup) / max(1, n_steps - n_warmup)
    if stage.schedule == "linear":
        return stage.learning_rate * (1 - done)
    return stage.learning_rate * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * done)))


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, each shared one once."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Copy the parameters that training changes."""
    return {name: value.detach().clone() for name, value in _trained(model).items()}


def _restore(model: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in _trained(model).items():
            value.copy_(weights[name])


def _save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    state: _State,
    identity: str,
) -> None:
    """Write everything in one file, so that a kill leaves the old checkpoint or the new one."""
    tensors = {f"model.{name}": value for name, value in _weights(model).items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.tmp")
    told = {"state": json.dumps(asdict(state)), "identity": identity}
    try:
        save_file({n: v.contiguous().cpu() for n, v in tensors.items()}, staging, metadata=told)
    except SafetensorError as error:
        staging.unlink(missing_ok=True)
        raise ArtifactError(f"{path}: cannot write the checkpoint: {error}") from None
    staging.replace(path)


def _load_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor],
    identity: str,
) -> _State:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: damaged checkpoint: {error}; remove it") from None
    if metadata.get("identity") != identity:
        raise ConfigError(
            f"{path}: this checkpoint belongs to another log, seed or configuration; "
            "remove it, or fit without --resume"
        )
    _restore(model, _under(tensors, "model."))
    for name, value in _under(tensors, "best.").items():
        best[name].copy_(value)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under(tensors, "optimizer.").items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
    return _State(**json.loads(metadata["state"]))


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
