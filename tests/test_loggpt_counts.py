"""LogGPT's second reader: strings of counts, what it learns from them, and whom it blames."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from known_loggpt import sessions
from oddlog.detectors.loggpt import LogGPT, LogGPTConfig
from oddlog.detectors.loggpt.counting import count_weights
from oddlog.encode import BEGIN, END, ENTRY_OF_MARK, HIDDEN, UNKNOWN, Vocabulary
from oddlog.nn.strings import EXACT, counted, judged_marks
from oddlog.nn.suspects import Odd, Suspects, of_counts
from oddlog.nn.tail import PRIOR_WEIGHT, Tail
from oddlog.run import Run

VOCABULARY = Vocabulary(np.array([10, 20, 30], dtype=np.int32))  # tokens 5, 6, 7
A, B, C = 5, 6, 7
SMALL = {
    "layers": 1,
    "heads": 2,
    "width": 16,
    "context": 64,
    "epochs": 8,
    "batch_size": 16,
    "learning_rate": 0.01,
    "count_steps": 200,
}


def strings(ids, **marks):
    encoded = counted(sessions(ids, **marks), VOCABULARY, 64)
    tokens, offsets = encoded.tokens.tokens, encoded.tokens.offsets
    return [tokens[a:b].tolist() for a, b in pairwise(offsets)]


def test_a_window_is_read_as_its_sorted_keys_between_marks():
    assert strings([[30, 10, 10, 99], [20]]) == [
        [BEGIN, END, UNKNOWN, A, A, C, END],
        [BEGIN, END, B, END],
    ]


@pytest.mark.parametrize(
    ("starts", "ends", "marks"),
    [(True, False, [BEGIN, HIDDEN]), (False, True, [HIDDEN, END]), (False, False, [HIDDEN] * 2)],
)
def test_the_marks_say_what_the_window_holds(starts, ends, marks):
    assert strings([[10]], starts=starts, ends=ends) == [[*marks, A, END]]


def test_a_token_stands_for_an_occurrence_of_its_key():
    encoded = counted(sessions([[20], [30, 10, 30]]), VOCABULARY, 64)
    mark = ENTRY_OF_MARK
    assert encoded.tokens.entries.tolist() == [mark, mark, 0, mark, mark, mark, 2, 1, 3, mark]


@pytest.mark.parametrize(
    ("count", "n_tokens"),
    [(1, 1), (EXACT, EXACT), (EXACT + 1, EXACT + 1), (2 * EXACT, EXACT + 3), (16 * EXACT, 20)],
)
def test_high_counts_are_told_apart_by_a_factor(count, n_tokens):
    assert strings([[10] * count]) == [[BEGIN, END, *[A] * n_tokens, END]]


@given(st.lists(st.sampled_from([10, 20, 30, 99]), min_size=1, max_size=40), st.randoms())
def test_the_order_of_events_is_not_read(ids, random):
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert strings([shuffled]) == strings([ids])


def test_a_target_weighs_as_the_root_of_how_often_it_is_seen_and_marks_nothing():
    encoded = counted(sessions([[10]] * 4 + [[10, 20]] * 5), VOCABULARY, 64)
    weights = count_weights(encoded.distinct)
    # A follows the marks in both strings, 9 times; then the end 4 times, or B and the end 5 times.
    half = 1.5
    assert weights.tolist() == pytest.approx([0, 0, half, 2, 0, 0, half, 5**0.5, 5**0.5])


def joined(*parts):
    return type(parts[0]).concat(parts)


def test_only_whole_sessions_are_judged_where_there_are_any():
    whole, going_on = sessions([[10]] * 5), sessions([[10]] * 95, ends=False)
    assert judged_marks(joined(whole, going_on)).tolist() == [False, False, False, True]


def test_windows_that_are_no_sessions_are_judged_by_the_marks_they_usually_bear():
    few, windows = sessions([[10]], ends=False), sessions([[10]] * 40, starts=False, ends=False)
    assert judged_marks(joined(few, windows)).tolist() == [True, False, False, False]


def test_a_tail_is_the_mean_excess_above_the_highest_tenth():
    scores = np.concatenate([np.zeros(90), np.full(10, 3.0)])
    tail = Tail.of(scores)
    assert tail.start == pytest.approx(np.quantile(scores, 0.9))
    excess = 10 * (3.0 - tail.start)
    assert tail.scale == pytest.approx((excess + PRIOR_WEIGHT) / (10 + PRIOR_WEIGHT))


def test_nats_are_the_logarithm_of_the_share_above():
    tail = Tail(start=2.0, scale=0.5)
    assert tail.nats(np.array([2.0, 2.5])) == pytest.approx([np.log(10), np.log(10) + 1])


@pytest.mark.parametrize(
    ("start", "scale"), [(0.0, 0.0), (0.0, -1.0), (0.0, np.nan), (np.inf, 1.0), (np.nan, 1.0)]
)
def test_a_tail_that_no_scores_have_is_refused(start, scale):
    with pytest.raises(ValueError, match="no tail"):
        Tail(start, scale)


def test_a_tail_of_equal_scores_has_the_scale_of_one_nat():
    assert Tail.of(np.full(50, 7.0)) == Tail(7.0, 1.0)


def odd(encoded, expected):
    """Expect a token everywhere; the score of a token is its place."""
    n = len(encoded.tokens.tokens)
    return Odd(
        np.arange(n, dtype=float), np.full((n, 1), expected), np.ones((n, 1), dtype=np.float32)
    )


def blamed(ids, expected, judged=True):
    sequences = sessions([ids])
    encoded = counted(sequences, VOCABULARY, 64)
    found = of_counts(sequences, encoded, odd(encoded, expected), np.array([judged]))
    return dict(zip(encoded.tokens.tokens[2:].tolist(), found.position.tolist(), strict=False))


def test_an_event_too_many_is_blamed_itself():
    assert blamed([30, 10, 20], END)[B] == 2


def test_where_a_key_is_missing_no_event_is_blamed():
    assert blamed([30, 10], B) == {A: 1, C: 2, END: 2}


def test_a_window_that_is_not_judged_has_no_suspects():
    assert blamed([30, 10], B, judged=False) == {}


def suspects(scores):
    """Suspect each event of one window, and last that something is missing."""
    n = len(scores)
    return Suspects(
        np.zeros(n, dtype=np.int64),
        np.arange(n),
        np.array(scores),
        np.full((n, 1), A),
        np.ones((n, 1), dtype=np.float32),
    )


def named(order, counts):
    sequences = sessions([[10, 20]])
    both = suspects(order).and_counts(suspects(counts), sequences.lengths)
    (found,) = both.explain(sequences, VOCABULARY.template_of)
    return [(culprit.position, culprit.score) for culprit in found.culprits]


def test_an_event_that_both_readers_suspect_is_named_once_with_the_higher_score():
    assert named([1.0, 5.0, 0.5], [3.0, 2.0, 0.0]) == [(1, 5.0), (0, 3.0), (2, 0.5)]


def test_what_is_missing_is_missing_at_the_event_that_the_order_finds_odd():
    assert named([3.0, 1.0, 0.0], [0.0, 0.0, 9.0]) == [(0, 9.0), (2, 9.0), (1, 1.0)]


def test_what_is_missing_is_missing_at_the_end_where_no_event_is_odd():
    assert named([2.0, 1.0, 0.0], [0.0, 0.0, 9.0]) == [(2, 9.0), (0, 2.0), (1, 1.0)]


@pytest.fixture(scope="module")
def interleaved():
    """Fit on sessions of two writers that each write 10, 20, 30 once, in any interleaving."""
    rng = np.random.default_rng(0)

    def session():
        writers, out = [[10, 20, 30], [10, 20, 30]], []
        while any(writers):
            writer = writers[rng.integers(2)]
            if writer:
                out.append(writer.pop(0))
        return out

    normal = [session() for _ in range(120)]
    detector = LogGPT(LogGPTConfig(**SMALL))
    detector.fit(sessions(normal[:80]), sessions(normal[80:]), Run(device="cpu"))
    return detector


def test_an_event_too_many_is_odder_than_any_interleaving(interleaved):
    normal = sessions(
        [[10, 20, 30, 10, 20, 30], [10, 10, 20, 20, 30, 30], [10, 10, 20, 30, 20, 30]]
    )
    faulty = sessions([[10, 20, 10, 20, 20, 30, 30]])
    highest = interleaved.score(normal).sequence.max()
    assert interleaved.score(faulty).sequence[0] > highest + 1


def test_no_event_score_exceeds_that_of_its_sequence(interleaved):
    found = interleaved.score(sessions([[10, 20, 10, 20, 20, 30, 30], [30, 10]]))
    assert found.event[:7].max() <= found.sequence[0]
    assert found.event[7:].max() <= found.sequence[1]


def test_a_session_that_goes_on_is_not_judged_by_its_counts(interleaved):
    whole = sessions([[10, 10, 20]])
    going_on = replace(whole, ends=np.array([False]))
    assert interleaved.score(going_on).sequence[0] == interleaved.score(going_on).event.max()
    assert interleaved.score(whole).sequence[0] > interleaved.score(going_on).sequence[0] + 1


def test_windows_without_an_end_are_judged_where_training_has_no_others():
    ids = [[10, 20, 30, 10, 20, 30], [10, 20, 10, 20, 30, 30]] * 20
    train = sessions(ids, starts=False, ends=False)
    detector = LogGPT(LogGPTConfig(**SMALL))
    detector.fit(train, train, Run(device="cpu"))
    faulty = sessions([[10, 20, 30, 10, 20, 30, 30, 30]], starts=False, ends=False)
    found = detector.score(faulty)
    assert found.sequence[0] > found.event.max()


def test_training_lowers_the_loss_of_the_counts(interleaved):
    assert len(interleaved.counts_history) >= 1
    assert (
        interleaved.counts_history[-1]["valid_loss"] < interleaved.counts_history[0]["valid_loss"]
    )


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def learned(run=None, **settings):
    """Return what a short fit of both readers gives: weights and histories."""
    few = {"epochs": 4, "count_steps": 30, "batch_size": 4}
    ids = [[10, 20, 30][: 1 + i % 3] * (1 + i % 5) for i in range(20)]
    detector = LogGPT(LogGPTConfig(**(SMALL | few | settings)))
    detector.fit(sessions(ids), sessions(ids[::2]), run or Run(device="cpu"))
    weights = [w.tolist() for g in detector.graphs() for w in g.network.parameters()]
    return weights, detector.history, detector.counts_history, detector.reward_history


def test_readers_side_by_side_learn_what_they_learn_in_turn(two_threads):
    found = learned()
    torch.set_num_threads(1)
    assert found == learned()


@pytest.mark.parametrize("settings", [{"attention_dropout": 0.3}, {"reward": "topk_margin"}])
def test_with_two_threads_a_seed_gives_the_same_weights_again(two_threads, settings):
    assert learned(**settings) == learned(**settings)


@pytest.mark.parametrize("killed", ["language model", "counts"])
def test_readers_killed_side_by_side_resume_as_if_unbroken(two_threads, tmp_path, killed):
    def kill(stage, done, total):
        if stage == killed and done == total // 2 + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(Run(device="cpu", checkpoints=tmp_path, progress=kill))
    assert learned(Run(device="cpu", checkpoints=tmp_path, resume=True)) == learned()


def test_readers_that_learn_side_by_side_tell_of_the_language_model_first(two_threads):
    told = []
    learned(Run(device="cpu", epoch=lambda stage, *_: told.append(stage)))
    assert told[0] == "language model"
    assert set(told) == {"language model", "counts"}
