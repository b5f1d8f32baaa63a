"""A detector's networks as ONNX: to run them where there is no torch, or no Python.

What is written is the network alone. What becomes of its numbers, which windows it is shown, how
scores are calibrated, is the detector's; the JSON beside a graph says what tokens stand for.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, HIDDEN, PAD, UNKNOWN, Vocabulary
from oddlog.extras import import_extra

OPSET = 23
"""The newest that the last few releases of onnxruntime read."""
MARKS = {"PAD": PAD, "UNKNOWN": UNKNOWN, "HIDDEN": HIDDEN, "BEGIN": BEGIN, "END": END}
Axes = tuple[str | int, ...]
"""A tensor's sizes: numbers, or the names of those that vary."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A network with its inputs and outputs named.

    Attributes:
        name: Tells it from the detector's others.
        network: In evaluation mode; called with the inputs in their order, gives one output.
        inputs: The axes of each input, all of int64.
        output: Name and axes of the output, of float32.
        about: What the output is, for the JSON.
        longest: Largest size of an axis that is called "length".
        vocabulary: The templates that tokens stand for, None if they stand for pieces of text.
        marks: Tokens that stand for no template.
    """

    name: str
    network: nn.Module
    inputs: Mapping[str, Axes]
    output: tuple[str, Axes]
    about: str
    longest: int
    vocabulary: Vocabulary | None
    marks: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Describe inputs, output and marks."""
        name, axes = self.output
        return {
            "name": self.name,
            "about": self.about,
            "opset": OPSET,
            "inputs": [
                {"name": given, "dtype": "int64", "shape": list(sizes)}
                for given, sizes in self.inputs.items()
            ],
            "outputs": [{"name": name, "dtype": "float32", "shape": list(axes)}],
            "longest": self.longest,
            "first_candidate": FIRST_CANDIDATE,
            "marks": dict(self.marks),
        }


def write_onnx(graph: Graph, path: Path) -> None:
    """Write a network as one ONNX file.

    Raises:
        ConfigError: What writes it is not installed.
        RuntimeError: The network fixes a size that is to vary: a fault in its code.
    """
    for package in ("onnx", "onnxscript"):
        import_extra(package, "export", kind="command")
    given = {name: _dynamic(axes, graph.longest) for name, axes in graph.inputs.items()}
    # What the exporter tells of its own ways is of no use here, and comes as warnings and at INFO.
    told = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript")
    levels = [logger.level for logger in told]
    try:
        for logger in told:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                deepcopy(graph.network).cpu().eval(),
                tuple(_example(axes) for axes in graph.inputs.values()),
                input_names=list(graph.inputs),
                output_names=[graph.output[0]],
                opset_version=OPSET,
                dynamic_shapes=tuple(given.values()),
                verbose=False,
                dynamo=True,
            )
    finally:
        for logger, level in zip(told, levels, strict=True):
            logger.setLevel(level)
    assert program is not None  # noqa: S101 -- it is where dynamo is used
    sizes = [list(given.shape or ()) for given in program.model.graph.inputs]
    varying = [[not isinstance(size, int) for size in own] for own in sizes]
    wanted = [[isinstance(axis, str) for axis in axes] for axes in graph.inputs.values()]
    if varying != wanted:
        raise RuntimeError(f"{graph.name}: the exporter fixed sizes that vary: {sizes}")
    program.save(str(path), external_data=False)


def _dynamic(axes: Axes, longest: int) -> dict[int, Any]:
    sizes = {"batch": torch.export.Dim("batch"), "length": torch.export.Dim("length", max=longest)}
    return {place: sizes[axis] for place, axis in enumerate(axes) if isinstance(axis, str)}


def _example(axes: Axes) -> Tensor:
    """Return a tensor of ones, of which sizes that vary are small and differ."""
    sizes = {"batch": 3, "length": 4}
    return torch.ones(
        [sizes[axis] if isinstance(axis, str) else axis for axis in axes], dtype=torch.int64
    )
