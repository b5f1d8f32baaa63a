import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from known_loggpt import KEYS, N_TRAIN, TINY, TRAIN, fit, memoryless, rebuild, sessions, unigram
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig
from oddlog.encode import BEGIN, FIRST_CANDIDATE, HIDDEN
from oddlog.findings import END, Scores

CYCLE = [1, 2, 3, 4, 5] * 2
ids = st.lists(st.sampled_from([1, 2, 3, 4, 5, 6, -1]), min_size=1, max_size=9)
LN2, LN4, LN8 = math.log(2), math.log(4), math.log(8)


@pytest.fixture(scope="module")
def eighths(tmp_path_factory):
    """Return the detector that gives p = 1/8 to the end, 1/2 to 10, 1/4 to 20, 1/8 to 30."""
    return unigram(tmp_path_factory.mktemp("eighths"))


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Return the detector that hardly ever expects the end."""
    shares = {"end": 1e-4, 10: 4.0, 20: 2.0, 30: 1.0}
    return unigram(tmp_path_factory.mktemp("endless"), shares)


@pytest.fixture(scope="module")
def untrained():
    """Return a detector of one epoch: its answers are arbitrary, but depend on the whole past."""
    return fit([CYCLE, [6, 5, 4, 3, 2, 1], [2, 2, 3]])


@pytest.fixture(scope="module")
def cyclist():
    """Return a detector that has learned two rounds of 1 2 3 4 5."""
    cycle = [[1, 2, 3, 4, 5], CYCLE]
    return fit(cycle, epochs=150, patience=150, learning_rate=0.03, dropout=0.0)


def worst_by_hand(ranks, surprises):
    return max(r + s / (1 + s) for r, s in zip(ranks, surprises, strict=True))


def test_ranks_and_surprises_are_those_of_the_known_shares(eighths):
    measures = eighths.score(sessions([[10, 20, 30], [30]])).measures
    assert measures["rank"].tolist() == [0, 1, 2, 2]
    assert measures["surprise"] == pytest.approx([LN2, LN4, LN8, LN8], rel=1e-5)
    assert measures["end_rank"].tolist() == [2, 2]
    assert measures["end_surprise"] == pytest.approx([LN8, LN8], rel=1e-5)


def test_a_score_is_the_rank_and_a_part_of_one_for_the_surprise(eighths):
    scores = eighths.score(sessions([[10, 20]], ends=False))
    assert scores.event == pytest.approx([LN2 / (1 + LN2), 1 + LN4 / (1 + LN4)], rel=1e-5)


def test_a_sequence_is_scored_by_its_worst_event(eighths):
    found = eighths.score(sessions([[10, 20, 10], [10]], ends=False)).sequence
    assert found == pytest.approx([1 + LN4 / (1 + LN4), LN2 / (1 + LN2)], rel=1e-5)


def test_the_end_counts_as_an_event(eighths):
    found = eighths.score(sessions([[10, 20]])).sequence
    assert found == pytest.approx([worst_by_hand([0, 1, 2], [LN2, LN4, LN8])], rel=1e-5)


def test_scores_by_surprise_are_in_nats(tmp_path):
    detector = unigram(tmp_path, sequence_score="surprise")
    scores = detector.score(sessions([[10, 20, 10], [20]], ends=False))
    assert scores.event == pytest.approx([LN2, LN4, LN2, LN4], rel=1e-5)
    assert scores.sequence == pytest.approx([LN4, LN4], rel=1e-5)


def test_an_unknown_template_ranks_below_every_candidate(eighths):
    measures = eighths.score(sessions([[77, -3, 30]])).measures
    assert measures["rank"].tolist() == [4, 4, 2]
    assert measures["worst_rank"].tolist() == [4]


def test_an_unknown_template_surprises_as_one_of_all_after_a_log_without_it(eighths):
    surprise = eighths.score(sessions([[77]])).measures["surprise"]
    assert surprise == pytest.approx([math.log(N_TRAIN + 1) + math.log(len(KEYS) + 1)])


def test_a_window_that_does_not_hold_its_end_is_not_judged_for_stopping(endless):
    scores = endless.score(sessions([[10], [10, 10]], ends=False))
    assert scores.measures["end_rank"].tolist() == [0, 0]
    assert scores.measures["end_surprise"].tolist() == [0, 0]
    assert scores.measures["worst_rank"].tolist() == [0, 0]
    assert scores.sequence.max() < 1


def test_a_session_that_stops_where_no_end_is_expected_is_judged_by_its_end(endless):
    scores = endless.score(sessions([[10]]))
    assert scores.event.max() < 1
    assert scores.measures["worst_rank"].tolist() == [3]
    assert scores.sequence[0] > 3


def test_a_session_that_stops_early_is_flagged_by_its_end(cyclist):
    whole, cut, live = (
        cyclist.score(sessions([item], ends=ends))
        for item, ends in ((CYCLE, True), ([1, 2, 3], True), ([1, 2, 3], False))
    )
    assert cut.measures["end_rank"][0] > whole.measures["end_rank"][0] == 0
    assert cut.event.max() < 1
    assert cut.sequence[0] >= 1 > live.sequence[0]


def test_what_follows_the_begin_mark_is_not_what_follows_a_hidden_past(cyclist):
    inside = sessions([[4, 5, 1, 2]], starts=False, ends=False)
    as_if_begun = sessions([[4, 5, 1, 2]], ends=False)
    hidden, begun = (cyclist.score(s).measures["surprise"] for s in (inside, as_if_begun))
    assert begun[0] > hidden[0] + 1


@pytest.mark.parametrize(("starts", "share"), [(True, 1 / 7), (False, 2 / 5)])
def test_the_first_event_is_judged_from_the_mark_of_its_window(tmp_path, starts, share):
    def change(weights):
        for name, array in weights.items():
            array[:] = 1.0 if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.0
        wte = weights["transformer.wte.weight"]
        wte[HIDDEN, :2], wte[BEGIN, :2] = (1.0, -1.0), (-1.0, 1.0)  # 2 and -2 after the norm
        wte[FIRST_CANDIDATE + 1, 0] = LN2 / 2  # 10 weighs 2 or 1/2, three others weigh 1

    detector = rebuild(fit(TRAIN), tmp_path, change)
    found = detector.score(sessions([[10]], starts=starts, ends=False)).measures["surprise"]
    assert found == pytest.approx([-math.log(share)], rel=1e-3)


def test_a_session_of_one_event_is_judged(eighths):
    scores = eighths.score(sessions([[10]]))
    assert (scores.sequence.shape, scores.event.shape) == ((1,), (1,))


def test_chunks_score_as_one_pass_where_nothing_but_the_last_token_matters(untrained, tmp_path):
    long = sessions([[*CYCLE, 6] * 5, [3], CYCLE])
    whole = memoryless(untrained, tmp_path / "64", 64).score(long)
    for context in (4, 7, 16):
        pieces = memoryless(untrained, tmp_path / f"{context}", context).score(long)
        assert pieces.event == pytest.approx(whole.event, abs=1e-5)
        assert pieces.sequence == pytest.approx(whole.sequence, abs=1e-5)
        end = whole.measures["end_surprise"]
        assert pieces.measures["end_surprise"] == pytest.approx(end, abs=1e-5)


def test_a_long_session_begins_as_its_first_context_alone(untrained):
    long = [*CYCLE, 6] * 5
    n_fit = TINY["context"] - 1  # the first mark takes one place
    whole = untrained.score(sessions([long])).event
    alone = untrained.score(sessions([long[:n_fit]], ends=False)).event
    assert whole[:n_fit] == pytest.approx(alone, abs=1e-5)


def test_the_end_of_a_long_session_is_judged_too(endless):
    scores = endless.score(sessions([[10] * 100]))
    assert scores.measures["end_rank"].tolist() == [3]


@settings(max_examples=15)
@given(st.lists(ids, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_scores_depend_neither_on_company_nor_on_order(untrained, lists, random):
    order = random.sample(range(len(lists)), len(lists))
    together = untrained.score(sessions([lists[i] for i in order]))
    bounds = np.cumsum([0] + [len(lists[i]) for i in order])
    for place, i in enumerate(order):
        alone = untrained.score(sessions([lists[i]]))
        assert together.sequence[place] == pytest.approx(alone.sequence[0], abs=1e-5)
        event = together.event[bounds[place] : bounds[place + 1]]
        assert event == pytest.approx(alone.event, abs=1e-5)


def test_scores_of_many_batches_are_those_of_one(untrained, monkeypatch):
    some = sessions([CYCLE[:n] + [6] * m for n in range(1, 8) for m in range(4)])
    wanted = untrained.score(some)
    monkeypatch.setattr("oddlog.detectors.loggpt.model.SCORING_TOKENS", 20)
    found = untrained.score(some)
    assert found.event == pytest.approx(wanted.event, abs=1e-5)
    assert found.sequence == pytest.approx(wanted.sequence, abs=1e-5)


@settings(max_examples=15)
@given(ids, st.integers(1, 8))
def test_what_comes_later_changes_no_event_score(untrained, events, n):
    whole = untrained.score(sessions([events])).event
    live = untrained.score(sessions([events[:n]], ends=False)).event
    assert live == pytest.approx(whole[:n], abs=1e-5)


def test_every_tensor_of_scoring_is_made_on_the_networks_device(untrained):
    """Where a device is not named, this one holds no numbers: using such a tensor would fail."""
    some = sessions([[*CYCLE, 6] * 5, [3, -1]])
    wanted, explained = untrained.score(some), untrained.explain(some)
    with torch.device("meta"):
        assert untrained.score(some).sequence.tolist() == wanted.sequence.tolist()
        assert untrained.explain(some) == explained


@pytest.mark.parametrize(
    ("top_k", "n_keys", "k"),
    [(0.5, 3, 1), (0.5, 5, 2), (0.5, 6, 3), (0.1, 3, 1), (0.99, 3, 2), (2, 3, 2), (7, 3, 7)],
)
def test_k_is_a_number_or_a_share_of_the_keys_rounded_down(top_k, n_keys, k):
    detector = fit([list(range(n_keys))], top_k=top_k)
    assert detector.top_k == k


def test_the_papers_rule_is_the_worst_rank_reaching_k():
    detector = LogGPT(LogGPTConfig(top_k=2))
    scores = Scores(np.zeros(4), measures={"worst_rank": np.array([0, 1, 2, 3])})
    assert detector.paper_rule(scores).tolist() == [False, False, True, True]


def test_the_papers_rule_flags_by_the_end_too(endless):
    scores = endless.score(sessions([[10, 10]]))
    assert endless.paper_rule(scores).tolist() == [True]
    live = endless.score(sessions([[10, 10]], ends=False))
    assert endless.paper_rule(live).tolist() == [False]


def test_what_was_learned_is_expected_everywhere(cyclist):
    ranks = cyclist.score(sessions([[1, 2, 3, 4, 5], CYCLE])).measures["rank"].tolist()
    assert ranks.pop(10) <= 1  # after the first round it may as well end
    assert ranks == [0] * 14


def test_the_planted_event_comes_first_with_what_was_expected(cyclist):
    odd = sessions([[1, 2, 3, 4, 5], [1, 2, 3, 4, 2]], ends=False)
    first = cyclist.explain(odd)[1].culprits[0]
    assert (first.row, first.position) == (9, 4)
    assert first.expected[0][0] == 5
    assert first.expected[0][1] > 0.8
    assert first.score == cyclist.score(odd).event[9]


def test_a_session_that_stopped_early_has_its_end_as_culprit(cyclist):
    two = sessions([[1, 2, 3, 4, 5], [1, 2, 3]])
    first = cyclist.explain(two)[1].culprits[0]
    assert (first.position, first.row) == (3, 7)
    assert first.expected[0][0] == 4
    assert first.score == pytest.approx(cyclist.score(two).sequence[1])


def test_expected_templates_come_likeliest_first_with_their_shares(eighths):
    culprit = eighths.explain(sessions([[10, 77]], ends=False))[0].culprits[0]
    assert culprit.position == 1
    assert [template for template, _ in culprit.expected[:2]] == [10, 20]
    assert [share for _, share in culprit.expected] == pytest.approx([1 / 2, 1 / 4, 1 / 8])


def test_no_more_is_expected_than_there_is(tmp_path):
    detector = unigram(tmp_path, n_expected=50)
    culprit = detector.explain(sessions([[10]]))[0].culprits[0]
    assert {template for template, _ in culprit.expected} == {10, 20, 30, END}
    assert sum(share for _, share in culprit.expected) == pytest.approx(1.0)


def test_culprits_are_the_worst_few(eighths):
    culprits = eighths.explain(sessions([[30, 10, 20, 77, 10, 30, 10]], ends=False))[0].culprits
    assert [culprit.position for culprit in culprits] == [3, 0, 5, 2, 1]


def test_culprits_of_a_long_session_have_their_places_in_it(cyclist):
    odd = [*CYCLE * 5, 77, 1]
    first = cyclist.explain(sessions([[2], odd], ends=False))[1].culprits[0]
    assert (first.position, first.row) == (50, 51)


def test_no_sequences_have_no_explanations(eighths):
    assert eighths.explain(sessions([])) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 60, "heads": 7}, "width 60 is no multiple of heads 7"),
        ({"context": 3}, "context"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"top_k": 0.0}, "top_k"),
        ({"layers": 0}, "layers"),
        ({"dropout": 1.0}, "dropout"),
        ({"learn": "all"}, "learn"),
        ({"schedule": "linear"}, "schedule"),
        ({"sequence_score": "mean"}, "sequence_score"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_settings_that_make_no_network_are_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        LogGPTConfig(**change)


def test_the_defaults_are_the_papers_network_but_for_its_depth():
    config = LogGPTConfig()
    assert (config.heads, config.width, config.top_k) == (6, 60, 0.5)
