import math

import numpy as np
import pytest
import torch

from oddlog.detectors.loggpt import reference
from oddlog.detectors.loggpt.config import ReferenceConfig
from oddlog.detectors.loggpt.reference import (
    reference_loss,
    sequence_loss,
    sequences_in_order,
)
from oddlog.distinct import find_distinct
from oddlog.encode import BEGIN, END, N_MARKS, Chunks

A, B, C = range(N_MARKS, N_MARKS + 3)
LN2 = math.log(2)
EIGHTHS = torch.tensor([1 / 8, 1 / 2, 1 / 4, 1 / 8]).log()  # the end, A, B, C


def loss_of(targets, k):
    return reference_loss(EIGHTHS.repeat(len(targets), 1), torch.tensor(targets), k).item()


def test_hits_and_misses_are_summed_before_they_weigh_the_whole_sequence():
    assert loss_of([1, 2, 1], 2) == pytest.approx(3 * 4 * LN2)  # three hits, 1 + 2 + 1 bits
    assert loss_of([1, 2, 3], 2) == pytest.approx(1 * 6 * LN2)  # two hits, a miss


def test_where_misses_prevail_true_keys_are_made_less_likely():
    assert loss_of([1, 3, 0], 2) == pytest.approx(-1 * 7 * LN2)
    logits = EIGHTHS.repeat(2, 1).requires_grad_()
    reference_loss(logits, torch.tensor([3, 3]), 2).backward()
    assert (logits.grad[:, 3] > 0).all()  # a step against the gradient lowers them


@pytest.mark.parametrize(("n", "n_prompt"), [(3, 1), (4, 2), (9, 2), (15, 3), (20, 4), (100, 20)])
def test_a_prompt_is_a_fifth_but_leaves_two_tokens_to_draw(monkeypatch, n, n_prompt):
    seen = []

    def stop(_, prompt, length, beams):
        seen.append((len(prompt), length, beams))
        raise KeyboardInterrupt

    monkeypatch.setattr(reference, "beam_sample", stop)
    with pytest.raises(KeyboardInterrupt):
        sequence_loss(None, torch.full((n,), A), 2, ReferenceConfig())
    assert seen == [(n_prompt, n, 20)]


def test_true_keys_are_judged_under_what_was_drawn(monkeypatch):
    string = torch.tensor([BEGIN, A, B, C, END])
    drawn = torch.tensor([BEGIN, A, C, C, C])
    shown = []

    def logits(_, inputs, wanted):
        shown.append(inputs.tolist())
        return EIGHTHS.repeat(int(wanted.sum()), 1)

    monkeypatch.setattr(reference, "beam_sample", lambda *_: drawn)
    monkeypatch.setattr(reference, "candidate_logits", logits)
    loss = sequence_loss(None, string, 2, ReferenceConfig())
    assert shown == [[[BEGIN, A, C, C]]]
    assert loss.item() == pytest.approx((1 + 1 - 1 - 1) * (1 + 2 + 3 + 3) * LN2)


def test_every_string_comes_in_the_order_of_the_log_as_often_as_it_occurs():
    strings = [[BEGIN, B, END], [BEGIN, A, A, END], [BEGIN, B], [BEGIN, B, END]]
    sizes = np.array([len(string) for string in strings])
    flat = np.concatenate(strings)
    train = find_distinct(flat, Chunks(np.cumsum(sizes) - sizes, sizes, 0 * sizes))
    found = [string.tolist() for string in sequences_in_order(train, torch.device("cpu"))]
    assert found == [strings[0], strings[1], strings[3]]  # one has no room for a prompt
