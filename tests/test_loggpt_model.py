import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from known_loggpt import TINY, TRAIN, fit, rebuild, sessions, unigram
from oddlog.artifact import load_arrays, read_json
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig, model
from oddlog.detectors.loggpt.model import (
    Batch,
    cut_into_pieces,
    expect,
    hide_some,
    judge,
    language_model_task,
    new_network,
    next_event_loss,
    target_weights,
)
from oddlog.distinct import find_distinct
from oddlog.encode import BEGIN, END, HIDDEN, N_MARKS, PAD, UNKNOWN, Chunks, Vocabulary
from oddlog.errors import ArtifactError, ConfigError, NotFittedError
from oddlog.nn.device import load_parameters, seed_torch
from oddlog.run import Run

CPU = torch.device("cpu")
A, B, C = range(N_MARKS, N_MARKS + 3)  # the keys 10, 20, 30: p = 1/2, 1/4, 1/8; the end 1/8
LN2, LN4, LN8 = math.log(2), math.log(4), math.log(8)
NORMAL = [[1, 2, 3, 4], [1, 2, 2, 4], [1, 3, 4], [2, 2, 3, 4, 4, 1]] * 3
RUN = {"epochs": 4, "dropout": 0.3}


def distinct(*strings):
    sizes = np.array([len(string) for string in strings])
    return find_distinct(
        np.concatenate(strings), Chunks(np.cumsum(sizes) - sizes, sizes, np.zeros_like(sizes))
    )


def network_of(folder):
    """Build the network of a saved detector."""
    config = LogGPTConfig(**read_json(folder / "config.json"))
    weights = load_arrays(folder / "model.safetensors")
    network = new_network(config, len(weights["transformer.wte.weight"]), CPU)
    load_parameters(network, weights)
    return network


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return the network that gives p = 1/8 to the end, 1/2, 1/4 and 1/8 to the keys."""
    folder = tmp_path_factory.mktemp("known")
    unigram(folder)
    return network_of(folder)


@pytest.fixture(scope="module")
def arbitrary(tmp_path_factory):
    """Return a network whose answers depend on the whole past."""
    folder = tmp_path_factory.mktemp("arbitrary")
    fit(NORMAL).save(folder)
    return network_of(folder)


def weights_of(detector, folder):
    folder.mkdir(exist_ok=True)
    detector.save(folder)
    return load_arrays(folder / "model.safetensors")


def test_only_candidates_with_a_past_are_judged(known):
    judged = judge(known, distinct([BEGIN, A], [A, B, UNKNOWN, END]))
    assert judged.known.tolist() == [False, True, False, True, False, True]
    assert judged.surprise == pytest.approx([0, LN2, 0, LN4, 0, LN8], rel=1e-5)


def test_a_chunk_is_judged_by_its_own_past_alone(arbitrary):
    string = [BEGIN, A, B, C, A, A, B]
    whole = judge(arbitrary, distinct(string)).surprise
    for size in range(2, len(string)):
        part = judge(arbitrary, distinct(string[:size])).surprise
        assert part == pytest.approx(whole[:size], abs=1e-5)


def test_a_long_session_is_judged_chunk_by_chunk(tmp_path):
    detector, long = fit(NORMAL), [1, 2, 3, 4] * 12
    found = detector.score(sessions([long])).measures
    detector.save(tmp_path)
    network, context = network_of(tmp_path), TINY["context"]
    keys = Vocabulary.from_json(read_json(tmp_path / "vocab.json")["templates"])
    string = [BEGIN, *keys.encode(np.array(long)).tolist(), END]
    wanted = []
    for place in range(1, len(string)):
        begin = max(0, -(-(place + 1 - context) // (context // 2))) * (context // 2)
        wanted.append(judge(network, distinct(string[begin : place + 1])).surprise[-1])
    assert found["surprise"] == pytest.approx(np.array(wanted[:-1]), abs=1e-5)
    assert found["end_surprise"] == pytest.approx(np.array(wanted[-1:]), abs=1e-5)


def test_what_is_expected_has_the_shares_by_which_it_is_judged(arbitrary):
    strings = distinct([BEGIN, A, B, END], [HIDDEN, C, C])
    judged = judge(arbitrary, strings)
    tokens, shares = expect(arbitrary, strings, 99)
    observed = (shares * (tokens == strings.tokens[:, None])).sum(axis=1)
    assert -np.log(observed[judged.known]) == pytest.approx(judged.surprise[judged.known], abs=1e-5)
    assert (np.diff(shares, axis=1) <= 0).all()
    assert shares[judged.known].sum(axis=1) == pytest.approx(1.0, abs=1e-5)


def test_of_a_first_token_nothing_is_expected(known):
    tokens, shares = expect(known, distinct([BEGIN, A]), 2)
    assert (tokens[0].tolist(), shares[0].tolist()) == ([0, 0], [0, 0])
    assert tokens[1].tolist() == [A, B]


def batch_of(tokens, weights=None):
    weights = torch.ones(tokens.shape) if weights is None else torch.tensor(weights)
    return Batch(tokens, tokens, weights)


def test_the_loss_is_the_mean_surprise_of_what_can_be_expected(known):
    tokens = torch.tensor([[BEGIN, A, B, END], [HIDDEN, C, UNKNOWN, PAD]])
    loss = next_event_loss(known, batch_of(tokens))
    assert loss.item() == pytest.approx((LN2 + LN4 + LN8 + LN8) / 4, rel=1e-5)


def test_each_token_counts_by_its_weight(known):
    tokens = torch.tensor([[BEGIN, A, B], [BEGIN, C, PAD]])
    loss = next_event_loss(known, batch_of(tokens, [[9.0, 2.0, 1.0], [9.0, 3.0, 9.0]]))
    assert loss.item() == pytest.approx((2 * LN2 + LN4 + 3 * LN8) / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("learn", "begin", "b", "a", "rest"),
    [("support", 1 / 3, 1, 1 / 2, 1), ("frequency", 12, 4, 16, 16)],
)
def test_a_continuation_counts_as_what_is_learned_says(learn, begin, b, a, rest):
    """36 strings share the first token, 4 go on with B, 32 with A, divided among two."""
    strings = [[BEGIN, B]] * 4 + [[BEGIN, A, END]] * 16 + [[BEGIN, A, B]] * 16
    found = target_weights(distinct(*strings), learn)
    assert found == pytest.approx([begin, b, begin, a, rest, begin, a, rest])
    assert found.dtype == np.float32


@pytest.mark.parametrize(("learn", "weight"), [("support", 1.0), ("frequency", 9.0)])
def test_what_is_validated_is_weighed_the_same_way(known, learn, weight):
    config = LogGPTConfig(**TINY, learn=learn)
    valid = distinct(*[[BEGIN, A, END]] * 9, [BEGIN, C, B, END])
    loss = language_model_task(known, valid, valid, config).validate()
    once, nine_times = LN8 + LN4 + LN8, LN2 + LN8
    assert loss == pytest.approx((once + weight * nine_times) / (3 + 2 * weight), rel=1e-5)


def test_an_epoch_shows_every_distinct_string_once_with_its_weights(known):
    train = distinct([BEGIN, A, END], [BEGIN, A, END], [BEGIN, B], *[[HIDDEN, A, B, C]] * 5)
    config = LogGPTConfig(
        **TINY | {"batch_size": 2, "learn": "frequency"}, unknown_rate=0.0, cut_rate=0.0
    )
    task = language_model_task(known, train, train, config)
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    shown = sorted(
        (tokens.tolist(), weights[1:].tolist())
        for batch in batches
        for tokens, weights in zip(batch.tokens, batch.weights, strict=True)
    )
    assert len(batches) == task.n_batches == 2
    assert [[token for token in tokens if token != PAD] for tokens, _ in shown] == [
        [HIDDEN, A, B, C],
        [BEGIN, A, END],
        [BEGIN, B],
    ]
    assert [max(weights) for _, weights in shown] == [5.0, 2.0, 1.0]


def test_without_shuffling_every_string_comes_as_often_as_it_occurs_in_the_order_of_the_log(known):
    strings = [[BEGIN, B], [BEGIN, A, END], [BEGIN, B], [BEGIN, A, END], [BEGIN, A, B]]
    train = distinct(*strings)
    plain = TINY | {"batch_size": 2, "learn": "frequency", "unknown_rate": 0.0, "cut_rate": 0.0}
    task = language_model_task(known, train, train, LogGPTConfig(**plain, shuffle=False))
    batches = list(task.batches(torch.Generator().manual_seed(0)))
    shown = [[token for token in row if token != PAD] for b in batches for row in b.tokens.tolist()]
    assert shown == strings
    assert len(batches) == task.n_batches == 3
    weights = torch.cat([batch.weights[:, 1:][batch.tokens[:, 1:] != PAD] for batch in batches])
    assert weights.tolist() == [1] * 8


def test_a_constant_rate_is_the_whole_rate_from_the_first_step(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "oddlog.detectors.loggpt.detector.run_stage",
        lambda network, stage, *_: seen.append((stage.schedule, stage.warmup)) or [],
    )
    fit(TRAIN, schedule="constant")
    fit(TRAIN)
    assert seen[0] == ("constant", 0.0)
    assert seen[1][1] > 0


@st.composite
def padded(draw):
    lists = draw(st.lists(st.lists(st.integers(A, C), min_size=1, max_size=6), min_size=1))
    longest = max(map(len, lists))
    tokens = torch.tensor([[BEGIN, *item] + [PAD] * (longest - len(item)) for item in lists])
    return batch_of(tokens, (tokens * 10 + torch.arange(longest + 1)).float().tolist())


def hidden(batch, cut_rate, unknown_rate, seed=0):
    config = LogGPTConfig(**TINY, cut_rate=cut_rate, unknown_rate=unknown_rate)
    return hide_some(batch, config, torch.Generator().manual_seed(seed))


@given(padded(), st.integers(0, 9))
def test_a_cut_string_is_a_tail_of_the_whole_behind_a_hidden_past(batch, seed):
    cut = hidden(batch, 0.9, 0.0, seed)
    assert cut.inputs.tolist() == cut.tokens.tolist()
    for before, after in zip(batch.tokens.tolist(), cut.tokens.tolist(), strict=True):
        rest = [token for token in after if token != PAD]
        whole = [token for token in before if token != PAD]
        assert len(rest) >= 2
        assert rest[1:] == whole[-len(rest) + 1 :]
        assert rest[0] == (BEGIN if len(rest) == len(whole) else HIDDEN)


@given(padded(), st.integers(0, 9))
def test_weights_stay_with_their_tokens_where_the_past_is_cut(batch, seed):
    cut = hidden(batch, 0.9, 0.0, seed)
    dropped = (batch.tokens != PAD).sum(dim=1) - (cut.tokens != PAD).sum(dim=1)
    for row, n in enumerate(dropped.tolist()):
        n_left = int((cut.tokens[row] != PAD).sum())
        wanted = batch.weights[row, n : n + n_left].tolist()
        assert cut.weights[row, :n_left].tolist() == wanted


@given(padded(), st.integers(0, 9))
def test_hidden_events_are_still_what_has_to_be_predicted(batch, seed):
    found = hidden(batch, 0.0, 0.5, seed)
    assert found.tokens.tolist() == batch.tokens.tolist()
    assert found.weights.tolist() == batch.weights.tolist()
    changed = found.inputs != batch.tokens
    assert (found.inputs[changed] == UNKNOWN).all()
    assert (batch.tokens[changed] >= A).all()


def test_about_the_stated_share_of_events_is_hidden_and_of_pasts_cut():
    tokens = torch.full((2000, 11), A)
    tokens[:, 0] = BEGIN
    found = hidden(batch_of(tokens), 0.3, 0.2)
    share = (found.inputs == UNKNOWN).sum() / (found.tokens == A).sum()
    assert share.item() == pytest.approx(0.2, abs=0.02)
    # of 10 places to cut at, the first leaves the past as it is
    assert (found.tokens[:, 0] == HIDDEN).float().mean().item() == pytest.approx(0.27, abs=0.03)


def test_without_rates_nothing_is_hidden():
    tokens = torch.tensor([[BEGIN, A, END], [HIDDEN, B, PAD]])
    found = hidden(batch_of(tokens), 0.0, 0.0)
    assert found.tokens.tolist() == found.inputs.tolist() == tokens.tolist()


def test_a_batch_within_the_bound_is_left_whole(monkeypatch):
    monkeypatch.setattr(model, "TRAINING_TOKENS", 12)
    batch = batch_of(torch.full((3, 4), END))
    assert cut_into_pieces(batch) == [(batch, 1.0)]


@pytest.mark.parametrize(("bound", "rows"), [(11, [2, 1]), (4, [1, 1, 1]), (1, [1, 1, 1])])
def test_a_larger_batch_is_cut_by_rows_within_the_bound(monkeypatch, bound, rows):
    monkeypatch.setattr(model, "TRAINING_TOKENS", bound)
    batch = batch_of(torch.arange(1, 13).reshape(3, 4))
    pieces = [piece for piece, _ in cut_into_pieces(batch)]
    assert [len(piece.tokens) for piece in pieces] == rows
    for name in ("tokens", "inputs", "weights"):
        joined = torch.cat([getattr(piece, name) for piece in pieces])
        assert torch.equal(joined, getattr(batch, name))


def test_a_batch_of_two_lengths_is_cut_where_padding_would_be_more_than_a_tenth():
    tokens = torch.full((12, 40), END)
    tokens[:6, 10:] = PAD
    (short, _), (long, _) = cut_into_pieces(batch_of(tokens))
    assert (short.tokens.shape, long.tokens.shape) == ((6, 10), (6, 40))


@given(padded(), st.integers(1, 40))
def test_the_losses_of_the_pieces_add_up_to_that_of_the_batch(known, batch, bound):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "TRAINING_TOKENS", bound)
        pieces = cut_into_pieces(batch)
    parts = [share * next_event_loss(known, piece).item() for piece, share in pieces]
    assert sum(parts) == pytest.approx(next_event_loss(known, batch).item(), rel=1e-4, abs=1e-5)


def first_weights(n_tokens):
    """Return the weights that a network of seed 0 starts with."""
    seed_torch(0)
    network = new_network(LogGPTConfig(**TINY), n_tokens, CPU)
    return {name: value.detach().numpy() for name, value in network.named_parameters()}


def test_every_trainable_parameter_moves(tmp_path):
    after = weights_of(fit(NORMAL, epochs=2, weight_decay=0.0), tmp_path)
    before = first_weights(len(after["transformer.wte.weight"]))
    assert before.keys() == after.keys()
    assert [name for name, value in before.items() if (value == after[name]).all()] == []


def test_marks_that_no_training_session_holds_are_learned_too(tmp_path):
    settings = {"epochs": 3, "weight_decay": 0.0, "unknown_rate": 0.3, "cut_rate": 0.5}
    after = weights_of(fit(NORMAL, **settings), tmp_path)["transformer.wte.weight"]
    moved = (first_weights(len(after))["transformer.wte.weight"] != after).any(axis=1)
    assert moved[[UNKNOWN, HIDDEN, BEGIN, END]].all()


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path):
    first, again, other = (
        weights_of(fit(NORMAL, run=Run(seed=seed, device="cpu")), tmp_path / name)
        for seed, name in ((3, "first"), (3, "again"), (4, "other"))
    )
    assert [name for name in first if (first[name] != again[name]).any()] == []
    assert (first["transformer.wte.weight"] != other["transformer.wte.weight"]).any()


@pytest.mark.parametrize(("max_steps", "n_epochs"), [(1, 1), (4, 4), (20, 6), (1000, 6)])
def test_epochs_end_where_the_steps_do(max_steps, n_epochs):
    # 8 distinct sequences make 2 batches
    train = [[1, 2, i] for i in range(8)]
    detector = fit(train, epochs=6, patience=6, max_steps=max_steps)
    assert len(detector.history) == n_epochs


def test_training_lowers_the_loss_and_keeps_its_history():
    detector = fit(NORMAL, epochs=12, patience=12)
    losses = [record["valid_loss"] for record in detector.history]
    assert len(losses) == 12
    assert min(losses) < losses[0]


def test_a_fit_killed_and_resumed_equals_an_unbroken_one(tmp_path):
    def kill(_, done, total):
        if done == total // 2 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(NORMAL, run=Run(device="cpu", checkpoints=tmp_path / "c", progress=kill), **RUN)
    resume = Run(device="cpu", checkpoints=tmp_path / "c", resume=True)
    again = weights_of(fit(NORMAL, run=resume, **RUN), tmp_path / "again")
    whole = weights_of(fit(NORMAL, **RUN), tmp_path / "whole")
    assert [name for name in whole if (whole[name] != again[name]).any()] == []


@pytest.mark.parametrize(
    ("train", "valid", "change"),
    [
        (NORMAL[1:], NORMAL, {"learn": "frequency"}),
        (NORMAL, NORMAL[:2], {}),
        (NORMAL, NORMAL, {"width": 16}),
        (NORMAL, NORMAL, {"cut_rate": 0.2}),
    ],
    ids=["training log", "validation log", "width", "rate"],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, train, valid, change):
    fit(NORMAL, NORMAL, run=Run(device="cpu", checkpoints=tmp_path), **RUN)
    resume = Run(device="cpu", checkpoints=tmp_path, resume=True)
    with pytest.raises(ConfigError, match="another log, seed or configuration"):
        fit(train, valid, run=resume, **RUN | change)


def test_a_training_log_without_a_known_template_is_refused():
    with pytest.raises(NotFittedError, match="nothing to learn from"):
        fit([[-1, -2]])


def test_a_training_window_in_which_nothing_is_known_does_no_harm(tmp_path):
    weights = weights_of(fit([[-1, -1], [1, 2, 3]], batch_size=1, epochs=3), tmp_path)
    assert all(np.isfinite(value).all() for value in weights.values())


def test_a_loaded_detector_scores_as_the_saved_one(tmp_path):
    detector, some = fit(NORMAL, top_k=2), sessions([[1, 2, 9, 4] * 9, [3]])
    detector.save(tmp_path)
    loaded = LogGPT.load(tmp_path, "cpu")
    before, after = detector.score(some), loaded.score(some)
    assert loaded.config == detector.config
    assert after.event.tolist() == before.event.tolist()
    assert {name: value.tolist() for name, value in after.measures.items()} == {
        name: value.tolist() for name, value in before.measures.items()
    }


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused(tmp_path, name):
    fit(TRAIN).save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        LogGPT.load(tmp_path, "cpu")


@pytest.mark.parametrize("name", ["config.json", "vocab.json", "model.safetensors"])
def test_a_file_cut_short_is_named(tmp_path, name):
    fit(TRAIN).save(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ArtifactError, match=f"{name}: "):
        LogGPT.load(tmp_path, "cpu")


@pytest.mark.parametrize(
    "vocab",
    [
        [],
        {},
        3,
        {"templates": [10, 20, 30]},
        {"templates": [10, 20], "n_training_events": 7},
        {"templates": [10, 10, 20], "n_training_events": 7},
        {"templates": [10, 20, 2**40], "n_training_events": 7},
        {"templates": [10, 20, 30], "n_training_events": "many"},
    ],
    ids=str,
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path, vocab):
    fit(TRAIN).save(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(ArtifactError, match="fit the model again"):
        LogGPT.load(tmp_path, "cpu")


@pytest.fixture(scope="module")
def with_two_readers(tmp_path_factory):
    """Return the folder of a detector of two readers, and what its vocab.json holds."""
    folder = tmp_path_factory.mktemp("two_readers")
    fit(TRAIN, reads="both", count_steps=1).save(folder)
    return folder, read_json(folder / "vocab.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_training_events", math.inf),
        ("judged_marks", []),
        ("judged_marks", [True, True]),
        ("judged_marks", [[True], [True, False]]),
        ("judged_marks", None),
        ("tails", []),
        ("tails", [{"start": 1.0, "scale": 1.0}]),
        ("tails", [{"start": 1.0, "scale": 1.0}, {"start": 1.0}]),
        ("tails", [{"start": 1.0, "scale": 1.0}, {"start": 1.0, "scale": 0.0}]),
        ("tails", [{"start": math.nan, "scale": 1.0}, {"start": 1.0, "scale": 1.0}]),
        ("tails", [{"start": 1.0, "scale": math.inf}, {"start": 1.0, "scale": 1.0}]),
        ("tails", [{"start": 1.0, "scale": "wide"}, {"start": 1.0, "scale": 1.0}]),
    ],
    ids=str,
)
def test_a_damaged_second_reader_is_refused(with_two_readers, name, value):
    folder, vocab = with_two_readers
    (folder / "vocab.json").write_text(json.dumps(vocab | {name: value}))
    with pytest.raises(ArtifactError, match="fit the model again"):
        LogGPT.load(folder, "cpu")


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="do not fit the network"):
        rebuild(fit(TRAIN), tmp_path, lambda weights: weights.pop("transformer.ln_f.bias"))


@pytest.mark.parametrize("config", [{"unheard": 1}, {"width": "wide"}, [1], None, 3], ids=str)
def test_settings_that_do_not_fit_are_refused(tmp_path, config):
    fit(TRAIN).save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="fit the model again"):
        LogGPT.load(tmp_path, "cpu")


def test_a_validation_log_without_a_target_is_refused():
    with pytest.raises(ConfigError, match="validation"):
        fit(TRAIN, valid=[])
