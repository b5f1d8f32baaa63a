import json
from dataclasses import replace

import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import oddlog
from oddlog.cli import app
from oddlog.detectors import DETECTORS, Exportable, detector_class
from oddlog.errors import ConfigError, NotFittedError
from oddlog.events import Sequences
from oddlog.nn.export import write_onnx
from oddlog.pipeline import export, fit, make_config
from oddlog.run import Run

TINY = {"layers": 1, "heads": 2, "width": 8, "context": 16, "epochs": 1}
SESSIONS = [[3, 1, 4, 1, 5], [3, 4, 1, 5], [3, 1, 1, 4, 5]] * 4


def fitted(folder, detector, **settings):
    """Fit a small log of four templates, and return the pipeline as it is stored."""
    steps = ["open the door", "walk", "feed a small cat", "shut it all up again"]
    lines = [f"session s{i} {step}" for i in range(60) for step in steps[: 4 - i % 2]]
    (folder / "app.log").write_text("\n".join(lines) + "\n")
    given = {"detector": detector, "session_by": r"session (\S+)", detector: settings}
    fit([folder / "app.log"], make_config(given, "test"), model=folder / "model")
    return oddlog.load(folder / "model", "cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a pipeline with two networks, what was written of it, and the JSON."""
    folder = tmp_path_factory.mktemp("exported")
    pipeline = fitted(folder, "loggpt", **TINY, count_steps=2)
    files = export(pipeline, folder / "out" / "net.onnx")
    return pipeline, files, json.loads(files[-1].read_text())


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def agree(graph, path, *inputs):
    """Return whether the file gives what the network gives."""
    with torch.inference_mode():
        wanted = graph.network(*(torch.from_numpy(given) for given in inputs)).numpy()
    found = run(path, **dict(zip(graph.inputs, inputs, strict=True)))
    return found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-4


def test_a_file_for_each_network_and_a_description_are_written(exported):
    _, files, about = exported
    assert [file.name for file in files] == ["net.onnx", "net.counts.onnx", "net.json"]
    assert [network["file"] for network in about["networks"]] == ["net.onnx", "net.counts.onnx"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 16), (7, 5)], ids=str)
def test_strings_of_any_number_and_length_get_the_networks_own_logits(exported, shape):
    pipeline, files, _ = exported
    graphs = pipeline.detector.graphs()
    tokens = np.random.default_rng(0).integers(0, graphs[0].vocabulary.size, shape)
    assert all(agree(graph, file, tokens) for graph, file in zip(graphs, files, strict=False))


def test_the_description_is_enough_to_score_a_session(exported):
    pipeline, files, about = exported
    marks, first = about["networks"][0]["marks"], about["networks"][0]["first_candidate"]
    token_of = {row["template_id"]: row["token"] for row in about["templates"]}
    ids = [row["template_id"] for row in about["templates"]][:3]
    string = [marks["BEGIN"], *(token_of[i] for i in ids), marks["END"]]
    logits = run(files[0], tokens=np.array([string[:-1]]))[0]
    surprise = np.logaddexp.reduce(logits, axis=1) - logits[range(4), np.array(string[1:]) - first]
    found = pipeline.detector.score(Sequences.from_ids([ids])).measures
    wanted = [*found["surprise"], *found["end_surprise"]]
    assert surprise.tolist() == pytest.approx(wanted, abs=1e-4)


def test_the_description_has_the_text_of_each_template(exported):
    pipeline, _, about = exported
    texts = {row["text"] for row in about["templates"]}
    assert texts == {pipeline.templates.text(row["template_id"]) for row in about["templates"]}
    assert any("open the door" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "shapes"),
    [
        ("logbert", TINY | {"inner": 12, "count_steps": 1}, [(5, 7)]),
        ("deeplog", {"epochs": 1, "window": 6, "width": 8}, [(5, 6)]),
        ("gpt2_classifier", TINY | {"max_steps": 2, "min_steps": 1}, [(5, 7), (5,)]),
    ],
)
def test_other_networks_are_exported_too(tmp_path, name, settings, shapes):
    cls = detector_class(name)
    detector = cls(cls.Config(**settings))
    labels = [None if cls.learns_from == "normal" else ["", "odd"][i % 2] for i in range(12)]
    sequences = Sequences.from_ids(SESSIONS)
    if cls.learns_from == "labelled":
        sequences = replace(sequences, labels=pl.Series(labels))
    detector.fit(sequences, sequences, Run(device="cpu"))
    graph = detector.graphs()[0]
    write_onnx(graph, tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    assert agree(graph, tmp_path / "net.onnx", *(rng.integers(1, 7, shape) for shape in shapes))


def test_every_detector_with_a_network_of_its_own_can_be_exported():
    names = set(DETECTORS) - {"logllm"}  # a network of others, and seconds to import
    able = {name for name in names if issubclass(detector_class(name), Exportable)}
    assert able == {"loggpt", "logbert", "deeplog", "gpt2_classifier"}


def test_a_network_that_has_not_learned_is_not_exported():
    with pytest.raises(NotFittedError):
        detector_class("loggpt")().graphs()


def test_a_rule_has_no_network_to_export(tmp_path):
    pipeline = fitted(tmp_path, "key_set")
    with pytest.raises(ConfigError, match="key_set has no network that could be exported"):
        export(pipeline, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_another_ending_than_that_of_onnx_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["export", "--model", str(tmp_path), "--out", "net.pt"])
    assert isinstance(done.exception, ConfigError)
    assert "use .onnx" in str(done.exception)
