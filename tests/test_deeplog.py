from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from oddlog.artifact import load_arrays, save_arrays
from oddlog.detectors.deeplog import DeepLog, DeepLogConfig
from oddlog.detectors.deeplog.model import (
    NextKey,
    grow,
    hide_some,
    judge,
    new_network,
    next_key_task,
    read,
    weights_of,
)
from oddlog.distinct import Grams, find_distinct
from oddlog.encode import BEGIN, END, FIRST_CANDIDATE, HIDDEN, N_MARKS, PAD, UNKNOWN, Chunks
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences
from oddlog.findings import END as END_OF_SESSION
from oddlog.nn.device import seed_torch
from oddlog.run import Run

SMALL = DeepLogConfig(window=3, width=8, epochs=30, batch_size=8, learning_rate=0.02)
CPU = torch.device("cpu")
N_TOKENS = N_MARKS + 4


def fitted(train, valid=None, config=SMALL):
    detector = DeepLog(config)
    parts = [Sequences.from_ids(ids) for ids in (train, valid or train)]
    detector.fit(*parts, Run(device="cpu"))
    return detector


@pytest.fixture(scope="module")
def walker():
    """Return a detector that has learned 1 2 3 4, and 1 2 4 one time in nine."""
    return fitted(
        [[1, 2, 3, 4]] * 40 + [[1, 2, 4]] * 5,
        config=SMALL.model_copy(update={"unknown_rate": 0.02, "cut_rate": 0.02, "epochs": 60}),
    )


def network_of(config=SMALL, n_tokens=N_TOKENS) -> NextKey:
    seed_torch(0)
    return new_network(config, n_tokens, CPU)


def lstm_by_hand(network, windows):
    """Return the logits after windows of one token, by the equations of an LSTM's gates."""
    lstm = network.lstm
    x = network.embedding.weight[windows[:, 0]]
    for layer in range(lstm.num_layers):
        gates = x @ getattr(lstm, f"weight_ih_l{layer}").T
        gates = gates + getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        i, _, g, o = gates.chunk(4, dim=1)  # the forget gate forgets nothing: the state is 0
        x = torch.sigmoid(o) * torch.tanh(torch.sigmoid(i) * torch.tanh(g))
    return x @ network.head.weight.T + network.head.bias


def test_the_network_is_a_stacked_lstm_with_a_softmax_on_its_last_output():
    network = network_of()
    windows = torch.tensor([[BEGIN], [6]])
    torch.testing.assert_close(network(windows), lstm_by_hand(network, windows))


def lists(strings):
    flat = np.array([token for string in strings for token in string], dtype=np.int64)
    sizes = np.array([len(string) for string in strings], dtype=np.int64)
    return find_distinct(flat, Chunks(np.cumsum(sizes) - sizes, sizes, np.zeros_like(sizes)))


def test_a_token_is_judged_by_the_window_before_it_filled_up_in_front():
    network = network_of()
    strings = lists([[BEGIN, 6, 7, 8, 5, END]])
    windows = [
        [PAD, PAD, BEGIN],
        [PAD, BEGIN, 6],
        [BEGIN, 6, 7],
        [6, 7, 8],
        [7, 8, 5],
    ]
    with torch.inference_mode():
        logits = network(torch.tensor(windows))
    targets = torch.tensor([6, 7, 8, 5, END]) - FIRST_CANDIDATE
    wanted = cross_entropy(logits, targets, reduction="none")
    found = read(network, strings, 3)
    assert found.surprise.tolist() == pytest.approx([0.0, *wanted.tolist()], rel=1e-5)
    ranks = (logits > logits.gather(1, targets[:, None])).sum(dim=1)
    assert found.rank.tolist() == [0, *ranks.tolist()]


def test_what_is_likeliest_is_told_for_marks_and_unknown_templates_too():
    network = network_of()
    found = read(network, lists([[BEGIN, UNKNOWN, 6]]), 3, n_expected=2)
    with torch.inference_mode():
        best = torch.softmax(network(torch.tensor([[PAD, BEGIN, UNKNOWN]])), dim=1).topk(2)
    assert found.likeliest[2].tolist() == (best.indices[0] + FIRST_CANDIDATE).tolist()
    assert found.probability[2].tolist() == pytest.approx(best.values[0].tolist())
    assert (found.surprise[1], found.rank[1]) == (0.0, 0)


def test_no_more_is_expected_than_there_is():
    assert judge(network_of(), np.array([[PAD, BEGIN, 5]]), 99).likeliest.shape == (1, 5)


def test_what_follows_is_learned(walker):
    usual, odd = walker.score(Sequences.from_ids([[1, 2, 3, 4], [1, 3, 2, 4]])).sequence
    assert usual < 1.0
    assert odd > 3.0


def test_the_score_is_the_worst_events_surprise_with_the_end_as_one(walker):
    scores = walker.score(Sequences.from_ids([[1, 2, 3, 4, 4], [1, 2, 3]]))
    assert scores.sequence[0] == scores.event[:5].max()
    assert scores.sequence[1] == scores.measures["end_surprise"][1] > scores.event[5:].max()


def test_a_window_that_goes_on_is_not_judged_for_its_end(walker):
    stopped = Sequences.from_ids([[1, 2, 3]])
    goes_on = walker.score(replace(stopped, ends=np.array([False])))
    assert goes_on.sequence[0] < 1.0 < walker.score(stopped).sequence[0]
    assert goes_on.measures["end_surprise"].tolist() == [0.0]


def test_a_new_template_ranks_below_every_known_one(walker):
    scores = walker.score(Sequences.from_ids([[1, -1]]))
    n_events = 40 * 4 + 5 * 3
    assert scores.measures["rank"][1] == 5
    assert scores.event[1] == pytest.approx(np.log(n_events + 1) + np.log(5))


def test_the_papers_rule_asks_whether_any_event_is_outside_the_g_likeliest():
    detector = DeepLog(SMALL.model_copy(update={"top_g": 2}))
    scores = fitted([[1, 2, 3, 4]] * 9).score(Sequences.from_ids([[1, 2, 3, 4], [1, -1, 3]]))
    assert detector.paper_rule(scores).tolist() == [False, True]


def test_a_short_session_is_judged_as_any_other():
    detector = fitted([[1], [1]] * 9)
    assert detector.score(Sequences.from_ids([[1]])).sequence[0] < 0.5


def test_an_explanation_names_what_was_expected(walker):
    (found,) = walker.explain(Sequences.from_ids([[1, 2, 3]]))
    culprit = found.culprits[0]
    assert (culprit.row, culprit.position) == (2, 3)
    assert culprit.expected[0][0] == 4
    assert END_OF_SESSION in [template for template, _ in culprit.expected]


def test_equal_windows_count_once_or_as_often_as_they_occur():
    grams = Grams(np.array([[5, 6], [5, 7]]), np.array([3, 1]))
    support = weights_of(grams, SMALL)
    often = weights_of(grams, SMALL.model_copy(update={"learn": "frequency"}))
    assert (support.tolist(), often.tolist()) == ([1.0, 1.0], [1.5, 0.5])


def test_every_distinct_window_is_trained_on_once_an_epoch():
    rows = np.array([[BEGIN, 6, i] for i in range(FIRST_CANDIDATE, N_TOKENS)])
    grams = Grams(rows, np.ones(len(rows), dtype=np.int64))
    task = next_key_task(network_of(), grams, grams, SMALL.model_copy(update={"batch_size": 2}))
    drawn = list(task.batches(torch.Generator().manual_seed(1)))
    assert len(drawn) == task.n_batches == 3
    assert sorted(torch.cat([b.targets for b in drawn]).tolist()) == [0, 1, 2, 3, 4]


def test_a_large_log_is_validated_before_it_is_through():
    rows = np.array([[BEGIN, 6, 5]] * 100)
    grams = Grams(rows, np.ones(100, dtype=np.int64))
    config = SMALL.model_copy(update={"batch_size": 1, "max_steps": 50})
    task = next_key_task(network_of(), grams, grams, config)
    assert len(list(task.batches(torch.Generator()))) == task.n_batches == 5


def test_a_cut_window_begins_with_a_hidden_past():
    windows = torch.tensor([[PAD, BEGIN, 6, 7, 8]]).repeat(200, 1)
    config = SMALL.model_copy(update={"cut_rate": 0.5, "unknown_rate": 0.0})
    shown = hide_some(windows, config, torch.Generator().manual_seed(0)).unique(dim=0).tolist()
    assert sorted(shown) == sorted(
        [
            [PAD, BEGIN, 6, 7, 8],
            [PAD, HIDDEN, 6, 7, 8],
            [PAD, PAD, HIDDEN, 7, 8],
            [PAD, PAD, PAD, HIDDEN, 8],
            [PAD, PAD, PAD, PAD, HIDDEN],
        ]
    )


def test_only_events_are_shown_as_unknown():
    windows = torch.tensor([[PAD, BEGIN, HIDDEN, 6, 7]]).repeat(50, 1)
    config = SMALL.model_copy(update={"cut_rate": 0.0, "unknown_rate": 0.9})
    shown = hide_some(windows, config, torch.Generator().manual_seed(0))
    assert (shown[:, :3] == windows[:, :3]).all()
    assert (shown[:, 3:] == UNKNOWN).any()


def test_further_tokens_leave_the_old_ones_as_they_were():
    small, large = network_of(), grow(network_of(), SMALL, N_TOKENS + 2)
    windows = torch.tensor([[BEGIN, 6, 7]])
    assert large(windows)[:, :-2].tolist() == small(windows).tolist()
    assert large(torch.tensor([[N_TOKENS, 6, 7]])).equal(large(torch.tensor([[UNKNOWN, 6, 7]])))


def test_training_without_a_known_template_is_refused():
    with pytest.raises(ConfigError, match="deeplog: nothing to learn from"):
        fitted([[-1, -2]], [[1]])


def test_validation_without_a_known_template_is_refused():
    with pytest.raises(ConfigError, match="validation"):
        DeepLog(SMALL).fit(Sequences.from_ids([[1, 2]]), Sequences.from_ids([]), Run(device="cpu"))


@pytest.mark.parametrize(
    ("file", "lost"), [("model", "head.bias"), ("windows", "counts")], ids=["network", "windows"]
)
def test_a_damaged_folder_is_refused(walker, tmp_path, file, lost):
    walker.save(tmp_path)
    path = tmp_path / f"{file}.safetensors"
    arrays = load_arrays(path)
    del arrays[lost]
    save_arrays(path, arrays)
    with pytest.raises(ArtifactError, match="fit the model again"):
        DeepLog.load(tmp_path, device="cpu")


def test_an_interrupted_training_gives_the_weights_of_an_unbroken_one(tmp_path):
    class StopError(Exception):
        pass

    def stop(name, done, total):
        if done >= total // 2:
            raise StopError

    train = Sequences.from_ids([[1, 2, 3, 4], [1, 2, 4], [2, 3]])
    config = SMALL.model_copy(update={"epochs": 6, "batch_size": 2, "patience": 6})
    whole, broken = DeepLog(config), DeepLog(config)
    whole.fit(train, train, Run(device="cpu"))
    with pytest.raises(StopError):
        broken.fit(train, train, Run(device="cpu", checkpoints=tmp_path, progress=stop))
    broken.fit(train, train, Run(device="cpu", checkpoints=tmp_path, resume=True))
    assert broken.score(train).sequence.tolist() == whole.score(train).sequence.tolist()
