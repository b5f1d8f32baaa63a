import math
from dataclasses import replace

import pytest
import torch

from known_loggpt import TINY
from oddlog.detectors.loggpt import LogGPTConfig
from oddlog.detectors.loggpt.config import PPOConfig
from oddlog.detectors.loggpt.model import candidate_logits, new_network
from oddlog.detectors.loggpt.ppo import (
    Players,
    advantages,
    clipped_surrogate,
    divergence,
    freeze,
    ppo_batches,
    ppo_loss,
    returns_to_go,
    rewards,
    roll_out,
    to_draw,
)
from oddlog.distinct import find_distinct
from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, N_MARKS, PAD, UNKNOWN, Chunks
from oddlog.nn.device import seed_torch

A, B, C = range(N_MARKS, N_MARKS + 3)
LN2 = math.log(2)
EIGHTHS = torch.tensor([1 / 8, 1 / 2, 1 / 4, 1 / 8]).log()  # the end, A, B, C
CONFIG = PPOConfig(prompts=2, samples=3, inner_epochs=2)
STRINGS = torch.tensor([[BEGIN, A, B, C, A, END]] * 3 + [[BEGIN, C, A, END, PAD, PAD]] * 3)


@pytest.fixture
def players():
    seed_torch(1)
    network = new_network(LogGPTConfig(**TINY), N_MARKS + 3, torch.device("cpu"))
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.3 * torch.randn(weights.shape))
    return Players(network, freeze(network), 2, CONFIG)


def rolled(players, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return roll_out(players, STRINGS, to_draw(STRINGS, 0.4, 99), generator)


def test_prompts_are_a_share_of_each_string_and_never_all_of_it():
    assert to_draw(STRINGS, 0.5, 99)[[0, 3]].tolist() == [
        [False, False, False, True, True, True],
        [False, False, True, True, False, False],
    ]
    assert to_draw(STRINGS, 0.0, 99).sum(dim=1)[[0, 3]].tolist() == [5, 3]
    assert to_draw(STRINGS, 0.999, 99).sum(dim=1)[[0, 3]].tolist() == [1, 1]


def test_no_more_is_drawn_than_the_horizon_allows():
    drawn = to_draw(STRINGS, 0.0, 2)
    assert drawn[[0, 3]].int().tolist() == [[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 0, 0]]


def test_the_true_key_is_rewarded_if_it_is_among_the_k_likeliest():
    found = rewards(EIGHTHS.repeat(5, 1), torch.tensor([A, B, C, END, UNKNOWN]), 2)
    assert found.tolist() == [1, 1, -1, -1, 0]


def test_returns_are_discounted_sums_of_what_comes():
    found = returns_to_go(torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 1.0]]), 0.5)
    assert found.tolist() == [[0.75, -0.5, 1.0], [0.25, 0.5, 1.0]]


def test_an_advantage_is_over_the_other_samples_of_the_same_prompt():
    returns = torch.tensor([[0.0, 1.0], [0.0, 3.0], [9.0, 5.0], [9.0, 5.0]])
    drawn = torch.ones(4, 2, dtype=torch.bool)
    # differences -1 and 1 in two of eight places: their root mean square is 1/2
    found = advantages(returns, drawn, 2)
    assert found.tolist() == pytest.approx([0, -2, 0, 2, 0, 0, 0, 0], abs=1e-4)


def test_where_samples_agree_there_is_no_advantage():
    drawn = torch.ones(2, 2, dtype=torch.bool)
    assert advantages(torch.ones(2, 2), drawn, 2).tolist() == [0, 0, 0, 0]


def test_a_ratio_is_rewarded_within_its_bounds_only():
    rho = torch.tensor([1.5, 1.5, 0.5, 0.5]).log()
    gain = torch.tensor([1.0, -1.0, 1.0, -1.0])
    found = clipped_surrogate(rho, torch.zeros(4), gain, 0.2)
    assert found.tolist() == pytest.approx([1.2, -1.5, 0.5, -0.8])


def test_the_divergence_is_in_nats_and_zero_between_equals():
    p = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    q = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    wanted = 0.5 * LN2 + 0.5 * math.log(2 / 3)
    assert divergence(p, q).tolist() == pytest.approx([wanted, 0.0], abs=1e-6)


def test_before_the_first_step_the_loss_is_minus_the_mean_advantage(players):
    rollouts = rolled(players)
    given = torch.arange(len(rollouts.advantage), dtype=torch.float)
    loss = ppo_loss(players.policy, replace(rollouts, advantage=given), CONFIG)
    assert loss.item() == pytest.approx(-given.mean().item(), rel=1e-5)


def test_a_policy_twice_as_sure_as_the_one_that_drew_gains_up_to_the_bound(players):
    rollouts = rolled(players)
    ones = torch.ones_like(rollouts.advantage)
    before = replace(rollouts, log_p=rollouts.log_p - LN2, advantage=ones)
    assert ppo_loss(players.policy, before, CONFIG).item() == pytest.approx(-1.2, rel=1e-5)


def test_the_loss_grows_with_the_distance_from_the_frozen_network(players):
    rollouts = rolled(players)
    still = replace(rollouts, advantage=torch.zeros_like(rollouts.advantage))
    with torch.no_grad():
        players.policy.transformer.wte.weight.mul_(1.5)
    near, far = (
        ppo_loss(players.policy, still, CONFIG.model_copy(update={"kl": kl})).item()
        for kl in (0.1, 0.2)
    )
    assert far == pytest.approx(2 * near, rel=1e-5)
    assert near > 0


def test_what_was_drawn_is_judged_as_whole_strings_are(players):
    rollouts = rolled(players)
    logits = candidate_logits(
        players.policy, rollouts.tokens[:, :-1], torch.ones_like(rollouts.drawn[:, 1:])
    ).view(6, 5, 4)
    row, column = rollouts.drawn.nonzero()[0].tolist()
    logits = logits[row, column - 1].clone()
    logits[0] = -torch.inf  # the first drawn place is not the last of its string
    log_p = torch.log_softmax(logits, dim=-1)[rollouts.tokens[row, column] - FIRST_CANDIDATE]
    assert rollouts.log_p[0].item() == pytest.approx(log_p.item(), abs=1e-5)


def train_strings():
    strings = [[BEGIN, A, B, C, A, END], [BEGIN, C, A, END], [BEGIN, B, END], [BEGIN, A, A, END]]
    sizes = torch.tensor([len(string) for string in strings]).numpy()
    flat = torch.tensor(sum(strings, [])).numpy()  # noqa: RUF017 -- four short lists
    return find_distinct(flat, Chunks(sizes.cumsum() - sizes, sizes, 0 * sizes))


def test_each_batch_of_continuations_comes_as_often_as_there_are_inner_epochs(players):
    seen = list(ppo_batches(players, train_strings(), torch.Generator().manual_seed(0)))
    assert [batch is seen[0] for batch in seen] == [True, True, False, False]
    assert seen[0].tokens.shape[0] == CONFIG.prompts * CONFIG.samples


def test_a_batch_is_drawn_by_the_policy_of_its_time(players):
    batches = ppo_batches(players, train_strings(), torch.Generator().manual_seed(0))
    first = next(batches)
    with torch.no_grad():
        players.policy.transformer.wte.weight.zero_()
    next(batches)
    third = next(batches)
    uniform = torch.where(third.may_end, math.log(1 / 4), math.log(1 / 3))
    assert third.log_p.tolist() == pytest.approx(uniform.tolist(), abs=1e-5)
    assert len(set(first.log_p.tolist())) > 2


def test_dropout_is_off_while_the_policy_learns(players):
    players.policy.train()
    next(ppo_batches(players, train_strings(), torch.Generator().manual_seed(0)))
    assert not players.policy.training


def test_a_frozen_network_does_not_learn(players):
    assert [p for p in players.frozen.parameters() if p.requires_grad] == []
    assert all(p.requires_grad for p in players.policy.parameters())
