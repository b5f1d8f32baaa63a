import math

import numpy as np
import pytest
import torch

from known_logbert import TINY, sessions
from oddlog.detectors.logbert.config import LogBERTConfig
from oddlog.detectors.logbert.model import (
    Batch,
    Weighed,
    centre_of,
    cut_into_pieces,
    encode_strings,
    hide,
    judge,
    loss_of,
    mask_of,
    masked_task,
    new_network,
)
from oddlog.detectors.logbert.readers import COUNTS, ORDER, weigh
from oddlog.detectors.logbert.strings import N_COUNTS, count_strings
from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, HIDDEN, N_MARKS, PAD, UNKNOWN, Vocabulary
from oddlog.nn.device import seed_torch
from oddlog.nn.strings import in_order
from oddlog.nn.training import Stage, learning_rate_at

IDS = [[1, 2, 3, 1, 2], [3, 3, 1], [2], [1, 2, 3, 1, 2]]
KEYS = Vocabulary(np.array([1, 2, 3], dtype=np.int32))
ONE, TWO, THREE = range(N_MARKS, N_MARKS + 3)


@pytest.fixture(scope="module")
def network():
    """Return a network with random weights over three keys."""
    seed_torch(3)
    model = new_network(LogBERTConfig(**TINY), KEYS.size, 16, torch.device("cpu"), ordered=True)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad and weight.ndim > 1:
                weight.mul_(5)  # far from uniform
    return model


@pytest.fixture(scope="module")
def strings():
    """Return the three distinct strings of IDS."""
    return in_order(sessions(IDS), KEYS, 16).distinct


def whole(strings):
    n = len(strings)
    return Weighed(strings, np.ones(n, dtype=np.float32), np.arange(n))


@pytest.mark.parametrize("passes", [2, 3, 20])
def test_each_token_is_judged_with_every_other_of_its_pass_masked(network, strings, passes):
    found = judge(network, strings, passes)
    for first, last in zip(strings.offsets[:-1], strings.offsets[1:], strict=True):
        tokens = strings.tokens[first:last]
        for place in range(1, len(tokens)):
            masked = [i for i in range(1, len(tokens)) if i % passes == place % passes]
            inputs = tokens.copy()
            inputs[masked] = mask_of(network)
            with torch.inference_mode():
                outputs = encode_strings(network, torch.from_numpy(inputs)[None])
                logits = network.logits(outputs)[0, place, FIRST_CANDIDATE : mask_of(network)]
            wanted = -torch.log_softmax(logits, dim=0)[tokens[place] - FIRST_CANDIDATE].item()
            assert found.surprise[first + place] == pytest.approx(wanted, abs=1e-4)


def test_the_first_mark_is_never_judged(network, strings):
    assert (judge(network, strings, 2).surprise[strings.offsets[:-1]] == 0).all()


def test_what_is_likeliest_has_the_rank_nought(network, strings):
    found = judge(network, strings, 2, n_expected=2)
    asked = np.ones(len(strings.tokens), dtype=bool)
    asked[strings.offsets[:-1]] = False
    assert (found.likeliest[asked, 0] == strings.tokens[asked]).tolist() == (
        found.rank[asked] == 0
    ).tolist()
    assert (found.probability[asked, 0] >= found.probability[asked, 1]).all()


def test_an_unknown_event_is_seen_but_not_asked_for(network):
    unknown = in_order(sessions([[1, 99, 2]]), KEYS, 16).distinct
    assert judge(network, unknown, 2).surprise[2] == 0


def test_the_distance_is_the_mean_square_over_dimensions(network, strings):
    found = judge(network, strings, 2)
    centre = np.zeros(8, dtype=np.float32)
    assert found.distance(centre) == pytest.approx((found.hidden**2).mean(axis=1))


def test_the_centre_weighs_the_strings(network, strings):
    weights = np.array([0.0, 1.0, 0.0], dtype=np.float32)
    tokens = torch.from_numpy(strings.tokens[strings.offsets[1] : strings.offsets[2]])[None]
    chosen = torch.arange(tokens.shape[1]) % 20 == 0
    chosen[0] = False
    with torch.inference_mode():
        wanted = encode_strings(network, tokens.masked_fill(chosen, mask_of(network)))[0, 0]
    assert centre_of(network, strings, weights, 20).tolist() == pytest.approx(
        wanted.tolist(), abs=1e-6
    )


def test_the_loss_is_masked_prediction_and_the_distance(network):
    tokens = torch.tensor([[BEGIN, ONE, TWO, END], [HIDDEN, THREE, ONE, PAD]])
    masked = torch.tensor([[False, True, False, True], [False, False, True, False]])
    inputs = tokens.masked_fill(masked, mask_of(network))
    centre, weights = torch.full((8,), 0.5), torch.tensor([1.0, 3.0])
    with torch.inference_mode():
        outputs = encode_strings(network, inputs)
        logits = network.logits(outputs)[..., FIRST_CANDIDATE : mask_of(network)]
        surprise = -torch.log_softmax(logits, dim=-1)
        found = loss_of(network, Batch(tokens, inputs, masked, weights), centre, 0.1).item()
    each = [surprise[0, 1, ONE - END], surprise[0, 3, 0], surprise[1, 2, ONE - END]]
    predicted = (each[0] + each[1] + 3 * each[2]) / 5
    distance = ((outputs[:, 0] - 0.5) ** 2).mean(dim=1)
    assert found == pytest.approx((predicted + 0.1 * (distance[0] + 3 * distance[1]) / 4).item())


def test_the_pieces_of_a_batch_have_its_gradient(network, monkeypatch):
    monkeypatch.setattr("oddlog.detectors.logbert.model.TRAINING_TOKENS", 4)
    tokens = torch.tensor([[BEGIN, ONE, TWO, END]] * 3)
    masked = torch.tensor([[False, True, False, True]] * 3)
    batch = Batch(tokens, tokens.masked_fill(masked, 8), masked, torch.ones(3))
    pieces = cut_into_pieces(batch)
    centre = torch.zeros(8)
    parts = sum(share * loss_of(network, piece, centre, 0.1) for piece, share in pieces)
    assert len(pieces) == 3
    assert parts.item() == pytest.approx(loss_of(network, batch, centre, 0.1).item(), rel=1e-5)


def test_pieces_of_unequal_length_have_the_gradient_of_their_batch(network, monkeypatch):
    monkeypatch.setattr("oddlog.detectors.logbert.model.TRAINING_TOKENS", 4)
    tokens = torch.tensor([[BEGIN, ONE, TWO, END], [BEGIN, TWO, PAD, PAD], [BEGIN, ONE, END, PAD]])
    masked = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
    batch = Batch(tokens, tokens.masked_fill(masked, 8), masked, torch.tensor([1.0, 2.0, 4.0]))
    centre = torch.full((8,), 0.5)
    pieces = cut_into_pieces(batch)
    parts = sum(share * loss_of(network, piece, centre, 0.7) for piece, share in pieces)
    assert [len(piece.tokens) for piece, _ in pieces] == [1, 1, 1]
    assert parts.item() == pytest.approx(loss_of(network, batch, centre, 0.7).item(), rel=1e-5)


def hidden(config, n=400):
    tokens = torch.tensor([[BEGIN, ONE, TWO, THREE, END, PAD]] * n)
    return (tokens, *hide(tokens, config, mask=8, generator=torch.Generator().manual_seed(0)))


def test_a_share_of_the_keys_is_masked_and_never_a_mark_or_filler():
    config = LogBERTConfig(mask_share=0.3, unknown_rate=0.0, cut_rate=0.0)
    _, tokens, inputs, masked = hidden(config)
    assert masked[:, 1:5].float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert not masked[:, [0, 5]].any()
    assert (inputs[masked] == 8).all()
    assert (inputs[~masked] == tokens[~masked]).all()


def test_some_masked_keys_are_shown_as_they_are_or_as_others():
    config = LogBERTConfig(mask_share=0.9, unknown_rate=0.0, cut_rate=0.0, replace="mixed")
    _, tokens, inputs, masked = hidden(config, n=2000)
    shown = inputs[masked]
    assert (shown == 8).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (shown == tokens[masked]).float().mean().item() == pytest.approx(0.1 + 0.025, abs=0.02)
    assert ((shown >= FIRST_CANDIDATE) & (shown <= 8)).all()


def test_keys_that_are_shown_are_sometimes_unknown_but_the_end_is_not():
    config = LogBERTConfig(mask_share=0.2, unknown_rate=0.5, cut_rate=0.0)
    _, tokens, inputs, masked = hidden(config)
    keys = ~masked & (tokens > END)
    assert (inputs[keys] == UNKNOWN).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert (inputs[~masked & (tokens == END)] == END).all()


def test_a_string_without_its_beginning_says_so():
    _, tokens, _, _ = hidden(LogBERTConfig(cut_rate=0.5))
    cut = tokens[:, 0] == HIDDEN
    assert 0.2 < cut.float().mean().item() < 0.5  # one cut in four drops nothing
    assert ((tokens[cut] == END).sum(dim=1) == 1).all()
    assert (tokens[~cut] == torch.tensor([BEGIN, ONE, TWO, THREE, END, PAD])).all()


def test_positions_are_sinusoids_that_do_not_learn(network):
    weight = network.bert.embeddings.position_embeddings.weight
    assert not weight.requires_grad
    assert weight[3, :2].tolist() == pytest.approx([math.sin(3), math.cos(3)])


def test_equal_sequences_count_once_or_as_often_as_they_occur(strings):
    support = weigh(strings, LogBERTConfig(), ORDER)
    frequency = weigh(strings, LogBERTConfig(learn="frequency"), ORDER)
    counts = weigh(strings, LogBERTConfig(), COUNTS)
    assert (sorted(support.weights), len(support.members)) == ([1, 1, 1], 3)
    assert (sorted(frequency.weights), len(frequency.members)) == ([1, 1, 2], 4)
    assert sorted(counts.weights) == pytest.approx([1, 1, math.sqrt(2)])


@pytest.mark.parametrize(("epoch_batches", "wanted"), [(0, 2), (7, 7)])
def test_an_epoch_is_one_round_or_so_many_batches(network, strings, epoch_batches, wanted):
    config = LogBERTConfig(**(TINY | {"epoch_batches": epoch_batches, "batch_size": 2}))
    task = masked_task(network, whole(strings), whole(strings), config)
    shown = list(task.batches(torch.Generator().manual_seed(0)))
    assert (task.n_batches, len(shown)) == (wanted, wanted)
    network.eval()


def test_the_released_schedule_rises_for_ten_thousand_steps_and_falls_with_the_root():
    stage = Stage("noam", epochs=1, learning_rate=2.0, schedule="noam", warmup=0.25)
    rates = [learning_rate_at(stage, step, 40_000) for step in (4_999, 9_999, 39_999)]
    assert rates == pytest.approx([1.0, 2.0, 1.0])


def counts_of(ids, **marks):
    strings = count_strings(sessions(ids, **marks), KEYS, 512)
    return strings.tokens.reshape(len(strings), -1)[strings.of_chunk].tolist()


def test_a_count_string_has_a_place_for_every_template():
    assert counts_of([[3, 1, 1], [2]]) == [
        [BEGIN, BEGIN, N_MARKS + 2, N_MARKS, N_MARKS + 1],
        [BEGIN, BEGIN, N_MARKS, N_MARKS + 1, N_MARKS],
    ]


def test_a_count_string_says_whether_beginning_and_end_are_there():
    assert counts_of([[1]], starts=False)[0][:2] == [HIDDEN, BEGIN]
    assert counts_of([[1]], ends=False)[0][:2] == [BEGIN, HIDDEN]


def test_the_order_and_unknown_templates_are_not_in_a_count_string():
    assert counts_of([[1, 2, 99], [2, 1]]) == counts_of([[2, 1], [1, 2]])


def test_high_counts_are_told_apart_by_a_factor():
    (eight,), (nine,), (ten,), (sixteen,) = (counts_of([[1] * n]) for n in (8, 9, 10, 16))
    assert [row[2] - N_MARKS for row in (eight, nine, ten, sixteen)] == [8, 9, 9, 11]


def test_the_highest_counts_share_a_token():
    (many,) = counts_of([[1] * 1000])
    assert N_MARKS < many[2] < N_MARKS + N_COUNTS


def test_with_little_context_the_most_frequent_templates_have_places():
    strings = count_strings(sessions([[1, 2, 3]]), KEYS, 4)
    assert strings.tokens.tolist() == [BEGIN, BEGIN, N_MARKS + 1, N_MARKS + 1]
