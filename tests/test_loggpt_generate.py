import numpy as np
import pytest
import torch

from known_loggpt import TINY, unigram
from oddlog.artifact import load_arrays, read_json
from oddlog.detectors.loggpt import LogGPTConfig
from oddlog.detectors.loggpt.generate import beam_sample, continue_strings, ends_of, without_end
from oddlog.detectors.loggpt.model import candidate_logits, new_network
from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, N_MARKS, PAD
from oddlog.nn.device import load_parameters, seed_torch

CPU = torch.device("cpu")
A, B, C = range(N_MARKS, N_MARKS + 3)
STRINGS = torch.tensor([[BEGIN, A, B, C, A, END], [BEGIN, C, A, END, PAD, PAD]])
TAILS = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0]], dtype=torch.bool)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Return the network that gives p = 1/8 to the end, 1/2, 1/4 and 1/8 to A, B, C."""
    folder = tmp_path_factory.mktemp("known")
    unigram(folder)
    network = new_network(LogGPTConfig(**read_json(folder / "config.json")), N_MARKS + 3, CPU)
    load_parameters(network, load_arrays(folder / "model.safetensors"))
    return network


@pytest.fixture(scope="module")
def arbitrary():
    """Return a network whose answers depend on the whole past."""
    seed_torch(5)
    network = new_network(LogGPTConfig(**TINY | {"layers": 2}), N_MARKS + 3, CPU)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.5 * torch.randn(weights.shape))
    return network


def draw(network, strings=STRINGS, drawn=TAILS, seed=0):
    return continue_strings(network, strings, drawn, torch.Generator().manual_seed(seed))


def test_prompts_stay_and_only_candidates_are_drawn(arbitrary):
    found = draw(arbitrary)
    assert (found[~TAILS] == STRINGS[~TAILS]).all()
    assert (found[TAILS] >= FIRST_CANDIDATE).all()


def test_the_end_is_drawn_in_no_place_but_the_last(known):
    found = draw(known, STRINGS.repeat(500, 1), TAILS.repeat(500, 1))
    last = ends_of(STRINGS.repeat(500, 1))
    assert (found[~last] != END).all()
    assert (found[last] == END).float().mean().item() == pytest.approx(1 / 8, abs=0.04)


def test_tokens_are_drawn_as_often_as_they_are_likely(known):
    found = draw(known, STRINGS[:1].repeat(3000, 1), TAILS[:1].repeat(3000, 1))[:, 2:5]
    shares = [(found == token).float().mean().item() for token in (A, B, C)]
    assert shares == pytest.approx([4 / 7, 2 / 7, 1 / 7], abs=0.02)


def test_behind_a_horizon_nothing_is_left(arbitrary):
    short = TAILS.clone()
    short[:, 4:] = False
    found = draw(arbitrary, drawn=short)
    assert found[:, 4:].tolist() == [[PAD, PAD], [PAD, PAD]]
    assert (found[short] >= FIRST_CANDIDATE).all()


def test_nothing_to_draw_leaves_the_strings_as_they_are(arbitrary):
    assert draw(arbitrary, drawn=torch.zeros_like(TAILS)).tolist() == STRINGS.tolist()


def test_kept_keys_and_values_draw_what_whole_passes_draw(arbitrary):
    strings, drawn = STRINGS.repeat(20, 1), TAILS.repeat(20, 1)
    generator = torch.Generator().manual_seed(3)
    tokens, closing = strings.clone(), ends_of(strings)
    for column in range(1, strings.shape[1]):
        wanted = torch.zeros_like(drawn[:, :column])
        wanted[:, -1] = True
        logits = candidate_logits(arbitrary, tokens[:, :column], wanted)
        logits = without_end(logits, closing[:, column])
        uniform = torch.rand(logits.shape, generator=generator).clamp(min=1e-20)
        new = (logits - torch.log(-torch.log(uniform))).argmax(dim=-1) + FIRST_CANDIDATE
        tokens[:, column] = torch.where(drawn[:, column], new, tokens[:, column])
    assert draw(arbitrary, strings, drawn, seed=3).tolist() == tokens.tolist()


def test_the_same_seed_draws_the_same_and_another_one_another(known):
    strings, drawn = STRINGS.repeat(20, 1), TAILS.repeat(20, 1)
    first = draw(known, strings, drawn, seed=1).tolist()
    assert first == draw(known, strings, drawn, seed=1).tolist()
    assert first != draw(known, strings, drawn, seed=2).tolist()


def test_the_last_token_of_a_padded_row_is_its_end():
    assert ends_of(STRINGS).nonzero().tolist() == [[0, 5], [1, 3]]


def test_beams_continue_a_prompt_to_the_length_asked(arbitrary):
    seed_torch(0)
    found = beam_sample(arbitrary, torch.tensor([BEGIN, A]), 9, beams=2)
    assert found.shape == (9,)
    assert found[:2].tolist() == [BEGIN, A]


def test_beams_find_what_is_likely(known):
    seed_torch(0)
    drawn = [beam_sample(known, torch.tensor([BEGIN]), 9, beams=4)[1:].numpy() for _ in range(20)]
    assert np.mean(np.concatenate(drawn) == A) > 0.6
    assert (np.concatenate(drawn) >= FIRST_CANDIDATE).all()
