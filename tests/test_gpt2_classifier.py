import json
import logging

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers.models.gpt2 import GPT2Config, GPT2ForSequenceClassification

from known_gpt2_classifier import draw, fit, sessions
from oddlog.detectors.gpt2_classifier import GPT2Classifier, GPT2ClassifierConfig
from oddlog.detectors.gpt2_classifier.config import PAPER
from oddlog.detectors.gpt2_classifier.model import (
    Batch,
    Shape,
    Taught,
    class_logits,
    class_loss,
    classifier_task,
    cut_into_pieces,
    hide_some,
    make_stage,
    new_network,
    probabilities,
)
from oddlog.encode import BEGIN, END, HIDDEN, UNKNOWN, Tokens
from oddlog.errors import ArtifactError, ConfigError, LabelsError, NotFittedError
from oddlog.events import Sequences
from oddlog.nn.strings import Encoded
from oddlog.run import Run

FORMS = ["event_id_token", "event_id_text", "raw"]
SMALL = Shape(layers=1, heads=2, width=8, places=16, inner=16)
NOTHING_HIDDEN = GPT2ClassifierConfig(unknown_rate=0.0, unmarked_rate=0.0)


def strings(rows):
    lengths = [len(row) for row in rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.concatenate(rows).astype(np.int64)
    return Encoded.of(Tokens(flat, offsets, np.arange(len(flat))), 4)


@pytest.fixture(scope="module")
def fitted():
    return fit(min_steps=200)


@pytest.fixture(scope="module")
def of_kinds():
    kinds = ("disk", "net")
    return fit(draw(60, kinds=kinds), draw(10, seed=1, kinds=kinds), min_steps=120)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return new_network(SMALL, 12, 2, 0.0)


@pytest.fixture(scope="module", params=FORMS)
def of_form(request):
    return fit(reads=request.param, context=64, min_steps=150)


def test_each_form_of_input_tells_faults_from_normals(of_form):
    test = draw(20, seed=2)
    flags = of_form.paper_rule(of_form.score(test))
    assert flags.tolist() == test.anomalous.tolist()


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted"])
def test_the_other_losses_tell_faults_from_normals(loss):
    detector = fit(loss=loss)
    test = draw(20, seed=2)
    assert detector.paper_rule(detector.score(test)).tolist() == test.anomalous.tolist()


def test_kinds_of_anomaly_have_probabilities_of_their_own(of_kinds):
    scores = of_kinds.score(sessions([[0, 1, 2], [0, 8, 1, 2], [0, 1, 9, 2]]))
    assert scores.class_names == ("", "disk", "net")
    assert scores.class_probs is not None
    assert scores.class_probs.argmax(axis=1).tolist() == [0, 1, 2]
    assert scores.class_probs.sum(axis=1) == pytest.approx(np.ones(3))
    assert scores.sequence == pytest.approx(1 - scores.class_probs[:, 0], abs=1e-6)


def test_an_unknown_template_makes_a_session_as_risky_as_in_validation():
    odd = [[0, 5, 1, 2]] * 8
    valid = Sequences.concat([draw(10, seed=1), sessions(odd, ["disk"] * 7 + [""])])
    detector = fit(valid=valid)
    scores = detector.score(sessions([[0, 1, 2], *odd[:1]])).sequence
    assert scores[1] >= 8 / 10
    assert scores[0] < 0.5


def test_the_network_reads_the_head_where_transformers_does(network):
    sizes = network.transformer.sizes
    config = GPT2Config(
        vocab_size=sizes.n_tokens,
        n_positions=sizes.places,
        n_embd=sizes.width,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_inner=sizes.inner,
        bos_token_id=None,
        eos_token_id=None,
        num_labels=network.score.out_features,
        pad_token_id=0,
    )
    reference = GPT2ForSequenceClassification(config).eval()
    reference.load_state_dict(network.state_dict())
    tokens = torch.tensor([[5, 6, 7, 0], [5, 8, 9, 10]])
    with torch.no_grad():
        theirs = reference(input_ids=tokens).logits
        ours = class_logits(network, tokens, torch.tensor([3, 4]))
    assert ours.tolist() == [pytest.approx(row, abs=1e-6) for row in theirs.tolist()]


def test_padding_changes_no_probability_and_bears_no_loss(network):
    alone = probabilities(network, strings([[5, 6]]).distinct)
    padded = probabilities(network, strings([[5, 6], [5, 6, 7, 8]]).distinct)
    assert padded[0] == pytest.approx(alone[0], abs=1e-6)
    targets = torch.tensor([[1.0, 0.0]])
    losses = [
        class_loss(network, Batch(torch.tensor([row]), torch.tensor([2]), targets), 2.0).item()
        for row in ([5, 6], [5, 6, 0, 0], [5, 6, 7, 9])
    ]
    assert losses[1:] == pytest.approx(losses[:1] * 2, abs=1e-6)


def test_pieces_of_a_batch_add_up_to_its_gradient(network, monkeypatch):
    monkeypatch.setattr("oddlog.detectors.gpt2_classifier.model.TRAINING_CELLS", 8 * 4 * 2)
    tokens = torch.randint(5, 12, (5, 4), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, torch.tensor([4, 2, 4, 3, 1]), torch.rand(5, 2))
    pieces = cut_into_pieces(batch, 8)
    whole = class_loss(network, batch, 2.0).item()
    parts = [share * class_loss(network, piece, 2.0).item() for piece, share in pieces]
    assert len(pieces) == 3
    assert sum(parts) == pytest.approx(whole)


def test_each_distinct_string_is_taught_once_with_its_classes():
    taught = Taught.of(strings([[5, 6], [5, 6], [7], [5, 6]]), np.array([0, 1, 1, 0]), 2)
    assert taught.times.tolist() == [[0, 1], [2, 1]]  # the shorter first


def test_every_chunk_of_a_long_sequence_bears_a_share_of_its_label():
    taught = Taught.of(strings([[5, 6, 7, 8, 5, 9], [5]]), np.array([1, 0]), 2)
    assert taught.strings.lengths.tolist() == [1, 4, 4]
    assert taught.times.tolist() == [[1, 0], [0, 0.5], [0, 0.5]]


@pytest.mark.parametrize(
    ("weigh", "times"), [("count", 3), ("root", np.sqrt(3)), ("log", 2), ("distinct", 1)]
)
def test_a_string_is_shown_as_often_as_asked_with_the_shares_of_its_classes(weigh, times):
    taught = Taught.of(strings([[5], [5], [5]]), np.array([0, 1, 0]), 2)
    assert taught.shown(weigh) == pytest.approx([times])
    assert taught.shares()[0] == pytest.approx([2 / 3, 1 / 3])


def test_an_epoch_shows_each_string_as_often_as_it_should(network):
    taught = Taught.of(strings([[5]] * 16 + [[6, 7]] * 2 + [[8, 9, 5]]), np.zeros(19, int), 2)
    config = GPT2ClassifierConfig(batch_size=3, weigh="root", unknown_rate=0, unmarked_rate=0)
    task = classifier_task(network, (taught, taught), np.ones(2), 2000, config)
    shown = [n for batch in task.batches(torch.Generator()) for n in batch.lengths.tolist()]
    counts = np.bincount(shown)[1:]
    assert counts / counts[2] == pytest.approx([4, np.sqrt(2), 1], rel=0.1)


def test_some_events_are_shown_as_unknown_and_some_marks_not_at_all():
    n = 2000
    tokens = torch.tensor([[BEGIN, 5, 6, END, 0]]).repeat(n, 1)
    batch = Batch(tokens, torch.full((n,), 4), torch.ones(n, 2))
    config = GPT2ClassifierConfig(unknown_rate=0.3, unmarked_rate=0.1)
    shown = hide_some(batch, config, torch.Generator().manual_seed(0))
    assert (shown.tokens[:, 1:3] == UNKNOWN).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (shown.tokens[:, 0] == HIDDEN).float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert (shown.lengths == 3).float().mean().item() == pytest.approx(0.1, abs=0.03)
    assert (shown.tokens[:, 3] == END).all()


def test_with_rates_of_zero_everything_is_shown():
    batch = Batch(torch.tensor([[BEGIN, 5, END]]), torch.tensor([3]), torch.ones(1, 2))
    shown = hide_some(batch, NOTHING_HIDDEN, torch.Generator().manual_seed(0))
    assert (shown.tokens.tolist(), shown.lengths.tolist()) == (batch.tokens.tolist(), [3])


@pytest.mark.parametrize(
    ("n_shown", "settings", "parts_and_batches"),
    [
        (1000, {"epochs": 3, "batch_size": 10, "min_steps": 1}, (8, 38)),
        (5, {"epochs": 3, "batch_size": 10, "min_steps": 64}, (8, 8)),
        (10**6, {"epochs": 3, "batch_size": 10, "max_steps": 1600}, (8, 200)),
        (1001, {"preset": "paper"}, (1, 63)),
    ],
    ids=["passes", "at least", "at most", "one epoch of the paper"],
)
def test_the_training_has_as_many_steps_as_asked(n_shown, settings, parts_and_batches):
    stage, n_batches = make_stage(n_shown, GPT2ClassifierConfig(**settings))
    assert (stage.epochs, n_batches) == parts_and_batches


def test_a_sign_in_the_middle_of_a_long_sequence_is_seen(fitted):
    usual = [0, *[1] * 100, 2]
    odd = [*usual[:50], 8, *usual[50:]]
    scores = fitted.score(sessions([usual, odd])).sequence
    assert scores[1] > 0.5
    assert scores[1] > scores[0]


def test_cut_sequences_are_read_to_the_context_and_counted(caplog):
    detector = fit(long="cut", min_steps=1)
    usual = [0, *[1] * 100, 2]
    late = [*usual[:-2], 8, *usual[-2:]]
    with caplog.at_level(logging.WARNING):
        scores = detector.score(sessions([usual, late, [0, 1, 2]])).sequence
    assert scores[0] == scores[1]
    assert "2 of 3 sequences are longer than 16 tokens and were cut" in caplog.text


def test_the_planted_event_is_the_culprit(of_form):
    explanations = of_form.explain(sessions([[0, 1, 8, 1, 2], [0, 8, 1, 2]]))
    assert [found.culprits[0].position for found in explanations] == [2, 1]


def test_a_late_sign_of_a_long_session_is_the_culprit(fitted):
    ids = [0, *[1] * 100, 8, 1, 2]
    assert fitted.explain(sessions([[0, 1, 2], ids]))[1].culprits[0].position == 101


@pytest.mark.parametrize("reads", ["event_id_token", "raw"])
def test_a_run_that_was_stopped_goes_on_to_the_same_scores(tmp_path, reads):
    class StoppedError(Exception):
        pass

    def stop(stage, done, total):
        if done > total // 2:
            raise StoppedError

    short = {"reads": reads, "min_steps": 8}
    unbroken = fit(**short)
    place = tmp_path / "checkpoints"
    with pytest.raises(StoppedError):
        fit(**short, run=Run(device="cpu", checkpoints=place, progress=stop))
    seen = []
    again = Run(
        device="cpu", checkpoints=place, resume=True, progress=lambda _, done, __: seen.append(done)
    )
    resumed = fit(**short, run=again)
    assert min(seen) > 2  # the first of four parts was not run again
    test = draw(20, seed=2)
    assert resumed.score(test).sequence.tolist() == unbroken.score(test).sequence.tolist()
    assert resumed.history == unbroken.history


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    fit(min_steps=1, run=Run(device="cpu", checkpoints=tmp_path))
    with pytest.raises(ConfigError, match="another log, seed or configuration"):
        fit(min_steps=1, gamma=1.0, run=Run(device="cpu", checkpoints=tmp_path, resume=True))


def test_messages_are_scored_in_parts_as_at_once(monkeypatch):
    detector = fit(reads="raw", context=64, min_steps=1)
    test = draw(20, seed=2)
    whole = detector.score(test).sequence
    monkeypatch.setattr("oddlog.detectors.gpt2_classifier.detector.EVENTS_AT_ONCE", 30)
    assert detector.score(test).sequence == pytest.approx(whole, abs=1e-5)
    assert [e.key for e in detector.explain(test)] == test.keys.to_list()


def test_showing_every_session_learns_too():
    detector = fit(weigh="count")
    test = draw(20, seed=2)
    assert detector.paper_rule(detector.score(test)).tolist() == test.anomalous.tolist()


def test_without_validation_labels_the_last_weights_are_kept(caplog):
    blind = draw(10, seed=1).without_labels()
    with caplog.at_level(logging.WARNING):
        detector = fit(valid=blind, min_steps=4)
    assert "no validation sequence with a label of training" in caplog.text
    assert len(detector.history) == 4


def test_labels_of_both_kinds_are_needed():
    with pytest.raises(LabelsError, match="gpt2_classifier learns from labels"):
        fit(train=sessions([[0, 1]], [""]))


def test_what_was_saved_is_loaded(tmp_path, of_form):
    of_form.save(tmp_path)
    test = draw(5, seed=2)
    found = GPT2Classifier.load(tmp_path, device="cpu").score(test).sequence
    assert found.tolist() == of_form.score(test).sequence.tolist()


def test_what_is_not_fitted_has_nothing_to_save(tmp_path):
    with pytest.raises(NotFittedError):
        GPT2Classifier().save(tmp_path)


def change(name, key, value):
    def damage(folder):
        stored = json.loads((folder / name).read_text())
        stored[key] = value
        (folder / name).write_text(json.dumps(stored))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        change("classes.json", "names", ["disk", ""]),
        change("classes.json", "names", ["", "disk", "net"]),
        change("classes.json", "risk", 7),
        change("classes.json", "mark", 10**9),
        change("classes.json", "templates", None),
        change("classes.json", "templates", [1, 1]),
        change("network.json", "width", 10**12),
        change("network.json", "layers", 10**9),
        change("network.json", "heads", 3),
        change("config.json", "reads", "tea leaves"),
        lambda folder: (folder / "network.json").write_text("[]"),
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"1234567890"),
        lambda folder: (folder / "classes.json").unlink(),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path_factory, tmp_path, damage, stored):
    for path in stored.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage(tmp_path)
    with pytest.raises(ArtifactError):
        GPT2Classifier.load(tmp_path, device="cpu")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    fit(reads="event_id_text", min_steps=1, parts=1).save(folder)
    return folder


def test_the_paper_is_one_epoch_with_focal_loss():
    config = GPT2ClassifierConfig(preset="paper")
    assert {name: getattr(config, name) for name in PAPER} == PAPER
    assert (config.alpha, config.gamma, config.epochs, config.parts) == (0.25, 2.0, 1, 1)


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 10, "heads": 3},
        {"min_steps": 10, "max_steps": 5},
        {"tokenizer": "gpt2"},
        {"tokenizer": "gpt2", "start": "gpt2", "reads": "raw"},
        {"alpha": 1.5},
    ],
)
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        GPT2ClassifierConfig(**settings)
