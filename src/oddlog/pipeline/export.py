"""A fitted pipeline's networks as ONNX files, and what their tokens are as JSON beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddlog.artifact import write_json
from oddlog.detectors import Exportable
from oddlog.encode import N_MARKS
from oddlog.errors import ConfigError
from oddlog.pipeline.model import Pipeline

if TYPE_CHECKING:
    from oddlog.nn.export import Graph


def export(pipeline: Pipeline, path: str | Path) -> list[Path]:
    """Write the networks of a fitted pipeline, to be run without oddlog.

    Args:
        pipeline: The pipeline.
        path: Name of the ONNX file. A detector's second network is written beside it, with its own
            name before the ending; so is a JSON file that tells of inputs, outputs and tokens.

    Returns:
        The files, the JSON last.

    Raises:
        ConfigError: The detector has no network, or what exports it is not installed.
    """
    path = Path(path)
    detector = pipeline.detector
    if not isinstance(detector, Exportable):
        raise ConfigError(
            f"{detector.name} has no network that could be exported; the model folder holds all "
            "that it knows, as JSON and safetensors"
        )
    from oddlog.nn.export import write_onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    graphs = detector.graphs()
    first, *others = graphs
    files = [path, *(path.with_suffix(f".{graph.name}{path.suffix}") for graph in others)]
    for graph, file in zip(graphs, files, strict=True):
        write_onnx(graph, file)
    described = path.with_suffix(".json")
    write_json(
        described,
        {
            "detector": detector.name,
            "oddlog": pipeline.manifest.get("oddlog"),
            "fingerprint": pipeline.fingerprint,
            "networks": [
                {"file": file.name, **graph.to_json()}
                for graph, file in zip(graphs, files, strict=True)
            ],
            "templates": _templates(first, pipeline),
        },
    )
    return [*files, described]


def _templates(graph: Graph, pipeline: Pipeline) -> list[dict[str, Any]]:
    """Return the template behind each token that is no mark."""
    if graph.vocabulary is None:
        return []
    ids = graph.vocabulary.to_json()
    return [
        {"token": token, "template_id": template, "text": pipeline.templates.text(template)}
        for token, template in enumerate(ids, N_MARKS)
    ]
