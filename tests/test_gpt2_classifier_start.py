import json

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, GPT2Config, PreTrainedTokenizerFast
from transformers.models.gpt2 import GPT2LMHeadModel

import oddlog
from known_gpt2_classifier import TINY, draw, fit, sessions
from oddlog.artifact import load_arrays
from oddlog.detectors.gpt2_classifier import GPT2Classifier, GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.inputs import MARK, train_tokenizer
from oddlog.detectors.gpt2_classifier.start import (
    EMBEDDING,
    find_start,
    first_network,
    make_reader,
)
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig
from oddlog.encode import N_MARKS, UNKNOWN
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.pipeline import make_config
from oddlog.run import Run

RUN = Run(device="cpu")
UNTRAINED = {"layers": 1, "heads": 2, "width": 8, "context": 16, "epochs": 1, "reads": "order"}


@pytest.fixture(scope="module")
def loggpt(tmp_path_factory):
    """Return the folder of a LogGPT that knows the templates 0, 1, 2, the likeliest first."""
    folder = tmp_path_factory.mktemp("loggpt")
    detector = LogGPT(LogGPTConfig(**UNTRAINED))
    normals = Sequences.from_ids([[0, 1, 1, 1, 2], [0, 1, 1, 2]] * 5)
    detector.fit(normals, normals, RUN)
    detector.save(folder)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Return the folder of a tiny random GPT-2 with its tokenizer."""
    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(["open file\n", " E12 E8 E0 E1 E2"], 300)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=MARK).save_pretrained(folder)
    torch.manual_seed(3)
    sizes = {"n_positions": 32, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_inner": 12}
    config = GPT2Config(
        vocab_size=320, activation_function="relu", bos_token_id=None, eos_token_id=0, **sizes
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def begin(config, train=None):
    """Return the reader and the network that a training would begin with."""
    start = find_start(config)
    reader = make_reader(train or draw(10), config, start)
    return start, reader, first_network(reader, 2, config, start, RUN)


def settings(**given):
    return GPT2ClassifierConfig(**(TINY | given))


def weights_of(network):
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def test_without_a_start_weights_are_random_at_the_sizes_asked_for():
    start, reader, network = begin(settings(width=12))
    assert start is None
    assert weights_of(network)[EMBEDDING].shape == (reader.n_tokens, 12)


def test_the_weights_of_loggpt_are_taken_over(loggpt):
    _, _, network = begin(settings(start=str(loggpt), width=20, heads=1))
    stored, found = load_arrays(loggpt / "model.safetensors"), weights_of(network)
    own = stored.pop(EMBEDDING)
    assert found[EMBEDDING][: len(own)].tolist() == own.tolist()
    assert {name: found[name].tolist() for name in stored} == {
        name: array.tolist() for name, array in stored.items()
    }
    assert set(found) - set(stored) == {EMBEDDING, "score.weight"}


def test_the_tokens_of_loggpt_stay_and_a_new_template_begins_as_unknown(loggpt):
    _, reader, network = begin(settings(start=str(loggpt)))
    assert reader.known.tolist() == [1, 0, 2, 8]
    embedding = weights_of(network)[EMBEDDING]
    assert len(embedding) == N_MARKS + 4
    assert embedding[-1].tolist() == embedding[UNKNOWN].tolist()


def test_it_learns_from_where_loggpt_was(loggpt):
    detector = fit(start=str(loggpt), min_steps=250)
    test = draw(20, seed=2)
    scores = detector.score(test).sequence
    assert scores[test.anomalous].mean() > scores[~test.anomalous].mean() + 0.2


def test_no_checkpoint_of_another_start_is_resumed(loggpt, tmp_path):
    fit(min_steps=1, run=Run(device="cpu", checkpoints=tmp_path))
    again = Run(device="cpu", checkpoints=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="another log, seed or configuration"):
        fit(min_steps=1, start=str(loggpt), run=again)


def test_a_stored_classifier_does_not_need_its_start(loggpt, tmp_path):
    elsewhere = tmp_path / "loggpt"
    loggpt_copy(loggpt, elsewhere)
    detector = fit(min_steps=1, start=str(elsewhere))
    (tmp_path / "model").mkdir()
    detector.save(tmp_path / "model")
    (elsewhere / "model.safetensors").unlink()
    found = GPT2Classifier.load(tmp_path / "model", device="cpu").score(draw(3)).sequence
    assert found.tolist() == detector.score(draw(3)).sequence.tolist()


def loggpt_copy(folder, place):
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())


def test_loggpt_reads_no_text(loggpt):
    with pytest.raises(ConfigError, match="reads tokens of templates, not text"):
        find_start(settings(start=str(loggpt), reads="raw"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "model.safetensors").write_bytes(b"123"),
        lambda place: (place / "config.json").write_text('{"layers": 1}'),
        lambda place: (place / "vocab.json").write_text('{"templates": [1, 1]}'),
        lambda place: (place / "vocab.json").write_text('{"templates": [1, 2]}'),
    ],
)
def test_a_damaged_loggpt_is_refused(loggpt, tmp_path, damage):
    loggpt_copy(loggpt, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(ArtifactError):
        find_start(settings(start=str(tmp_path / "copy")))


def test_another_detectors_model_is_no_start(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 1, "detector": "ngram"}))
    with pytest.raises(ConfigError, match="its detector is 'ngram'; only loggpt"):
        find_start(settings(start=str(tmp_path)))


@pytest.mark.parametrize("reads", ["raw", "event_id_text"])
def test_a_pretrained_network_is_read_with_its_tokenizer(pretrained, reads):
    config = settings(start=str(pretrained), reads=reads)
    start, reader, network = begin(config)
    stored = Tokenizer.from_file(str(pretrained / "tokenizer.json"))
    assert reader.tokenizer.get_vocab() == stored.get_vocab()
    assert reader.mark == stored.token_to_id(MARK)
    assert weights_of(network)[EMBEDDING].tolist() == start.weights[EMBEDDING].tolist()
    assert (start.shape.inner, start.shape.activation, start.shape.places) == (12, "relu", 32)


def test_a_pretrained_network_gives_the_hidden_states_that_transformers_gives(pretrained):
    _, _, network = begin(settings(start=str(pretrained), reads="raw"))
    theirs = GPT2LMHeadModel.from_pretrained(pretrained).transformer.eval()
    tokens = torch.tensor([[5, 9, 200, 3]])
    with torch.no_grad():
        found = network.transformer(tokens), theirs(input_ids=tokens).last_hidden_state
    assert torch.allclose(*found, atol=1e-6)


def test_a_pretrained_network_with_an_activation_that_is_not_known_is_refused(tmp_path):
    sizes = {"n_positions": 32, "n_embd": 8, "n_layer": 1, "n_head": 2}
    GPT2Config(vocab_size=100, activation_function="mish", **sizes).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has the activation 'mish'; only these are known"):
        find_start(settings(start=str(tmp_path)))


def test_keys_get_embeddings_around_the_mean_of_the_pretrained_ones(pretrained):
    start, reader, network = begin(settings(start=str(pretrained)), long_vocabulary())
    own, found = start.weights[EMBEDDING], weights_of(network)[EMBEDDING]
    assert len(found) == reader.n_tokens
    assert found.mean(axis=0) == pytest.approx(own.mean(axis=0), abs=0.01)
    assert found.std(axis=0) == pytest.approx(own.std(axis=0), rel=0.3)


def long_vocabulary():
    ids = list(range(200))
    return sessions([ids, [*ids, 300]], ["", "disk"])


@pytest.mark.parametrize("reads", ["raw", "event_id_text", "event_id_token"])
def test_it_learns_from_where_a_pretrained_network_was(pretrained, reads):
    detector = fit(start=str(pretrained), reads=reads, context=64, min_steps=100)
    test = draw(20, seed=2)
    scores = detector.score(test).sequence
    assert scores[test.anomalous].mean() > scores[~test.anomalous].mean() + 0.2


def test_a_tokenizer_can_be_named_without_a_network(pretrained):
    _, reader, _ = begin(settings(tokenizer=str(pretrained), reads="raw"))
    stored = Tokenizer.from_file(str(pretrained / "tokenizer.json"))
    assert reader.tokenizer.get_vocab() == stored.get_vocab()


def test_a_network_with_fewer_tokens_than_its_tokenizer_is_refused(pretrained, tmp_path):
    loggpt_copy(pretrained, tmp_path / "copy")
    config = GPT2Config(vocab_size=100, n_positions=32, n_embd=8, n_layer=1, n_head=2)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"the tokenizer has \d+ tokens, its model 100"):
        begin(settings(start=str(tmp_path / "copy"), reads="raw"))


def test_a_network_of_another_kind_is_refused(tmp_path):
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is of the kind 'bert'; only GPT-2"):
        find_start(settings(start=str(tmp_path)))


def test_a_folder_that_holds_no_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match="no model of transformers") as raised:
        find_start(settings(start=str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_not_in_the_cache_is_answered_with_what_gets_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"`hf download gpt2` gets it, or --set") as raised:
        find_start(settings(start="gpt2", reads="raw"))
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Return an early log without faults, a later one with some and a new step, and their labels.

    The early one begins with lines of its own, so that its templates have other numbers.
    """
    folder = tmp_path_factory.mktemp("logs")
    early, late, labels = [], [], []
    for session in range(120):
        steps = ["cache warmed up", "open file", "read done", "close file"]
        early += [(1000 + session, step) for step in steps]
        odd = session % 3 == 0
        steps = ["open file", "disk is full" if odd else "read done", "close file"]
        late += [(5000 + session, step) for step in steps]
        labels.append((str(5000 + session), "anomaly" if odd else ""))
    for name, events in (("early", early), ("late", late)):
        lines = [
            f"2026-03-0{1 + (name == 'late')} {8 + i // 3600:02}:{i // 60 % 60:02}:{i % 60:02} "
            f"{text} for {session}\n"
            for i, (session, text) in enumerate(events)
        ]
        (folder / f"{name}.log").write_text("".join(lines))
    return folder, pl.DataFrame(labels, schema=["session", "label"], orient="row")


def test_the_pipeline_takes_the_templates_of_the_start_over(logs, tmp_path):
    folder, labels = logs
    common = {"session_by": r"for (\d+)"}
    own = {name: UNTRAINED[name] for name in ("layers", "heads", "width", "context", "epochs")}
    early = oddlog.fit(
        [folder / "early.log"],
        make_config({"detector": "loggpt", **common, "loggpt": own | {"reads": "order"}}, "test"),
        model=tmp_path / "loggpt",
        run=RUN,
    )
    classifier = {"start": str(tmp_path / "loggpt"), "parts": 2, "min_steps": 60, "epochs": 1}
    classifier |= {"learning_rate": 0.03, "batch_size": 16}
    config = {"detector": "gpt2_classifier", **common, "gpt2_classifier": classifier}
    late = oddlog.fit(
        [folder / "late.log"],
        make_config(config, "test"),
        labels=labels,
        model=tmp_path / "late",
        run=RUN,
    )
    known = set(early.templates.ids())
    texts = {late.templates.text(i): i for i in late.templates.ids()}
    assert {early.templates.text(i): i for i in known}.items() <= texts.items()
    assert [text for text, i in texts.items() if i not in known] == ["disk is full for <SESSION>"]
    scores = oddlog.load(tmp_path / "late").score([folder / "late.log"], labels=labels)
    odd, ended = scores.sequences.anomalous, scores.sequences.ends
    found = scores.scores.sequence
    assert np.min(found[odd & ended]) > np.max(found[~odd & ended])


def test_templates_of_two_models_are_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 1, "detector": "loggpt"}))
    config = make_config(
        {
            "detector": "gpt2_classifier",
            "templates_from": str(tmp_path / "other"),
            "gpt2_classifier": {"start": str(tmp_path)},
        },
        "test",
    )
    with pytest.raises(ConfigError, match="leave templates_from out"):
        oddlog.fit([tmp_path / "a.log"], config)
