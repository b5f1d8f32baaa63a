"""What LogLLM is made of: texts, prompt, network, draws, blame."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from known_logllm import SETTINGS
from oddlog.detectors.logllm import LogLLM, LogLLMConfig
from oddlog.detectors.logllm.bases import load_llama
from oddlog.detectors.logllm.culprits import blame
from oddlog.detectors.logllm.network import Tokenized
from oddlog.detectors.logllm.preprocess import preprocess
from oddlog.detectors.logllm.prompt import make_prompt
from oddlog.detectors.logllm.stages import (
    Batch,
    count_batches,
    cut_batch,
    draw,
    pad_left,
    phases,
)
from oddlog.detectors.logllm.texts import Lessons, draw_weights, learn_lessons, read_strings
from oddlog.distinct import Distinct, find_distinct
from oddlog.encode import Chunks
from oddlog.errors import ConfigError, FormatError
from oddlog.events import Sequences

CONFIG = LogLLMConfig(**SETTINGS)
CLASSES = ("", "disk_full", "network_down")


def strings_of(*strings) -> Distinct:
    sizes = np.array([len(string) for string in strings])
    chunks = Chunks(np.cumsum(sizes) - sizes, sizes, np.zeros(len(sizes), dtype=np.int64))
    return find_distinct(np.concatenate(strings).astype(np.int64), chunks)


def with_messages(messages, labels=(None,)):
    sequences = Sequences.from_ids([[0] * len(messages)] * len(labels), list(labels))
    texts = pl.Series("message", messages * len(labels), dtype=pl.String)
    events = sequences.events.with_columns(texts)
    return Sequences(events, *(getattr(sequences, name) for name in REST))


REST = ("rows", "offsets", "keys", "labels", "starts", "ends")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("loading....... done", "loading..  done"),
        ("cache enabled: true, False", "cache enabled: <*>, <*>"),
        ("twenty of thousand tents", "<*> of <*> tents"),
        ("on Monday and Tue", "on <*> and <*>"),
        ("since June 3 in March", "since <*> in March"),
        ("from 10.0.0.7:5010, 10.0.0.7", "from <*>, <*>"),
        ("mac aa:bb:cc:dd:ee:ff up", "mac <*> up"),
        ("gid ab:cd:ef:ab:cd:ef:ab:cd:ef:ab:cd:ef up", "gid <*> up"),
        ("open /var/log/x.log and C:\\win\\a.dll", "open <*> and <*>"),
        ("I/O error while read/write", "I/O error while read/write"),
        ("at lib/python/site", "at <*>"),
        ("code deadbeef abcdefabcd facade", "code <*> <*> facade"),
        ("mail to bob@host.org by ann@node", "mail to <*> by <*>"),
        ("Receiving block blk_-16 of eth0: x_7-y.z", "Receiving block <*> of <*> <*>"),
    ],
)
def test_variables_give_way_to_one_token(message, text):
    assert preprocess(pl.Series([message]))[0] == text


@settings(max_examples=10)  # each compiles the pattern anew
@given(st.lists(st.text(max_size=40), min_size=20))
def test_no_digit_is_left(messages):
    texts = preprocess(pl.Series(messages, dtype=pl.String))
    assert not texts.str.contains("[0-9]").any()


def test_messages_that_differ_in_variables_are_one_text():
    strings = read_strings(with_messages(["read 5", "read 7", "write 5"]), CONFIG)
    assert [strings.texts[code] for code in strings.codes] == ["read <*>", "read <*>", "write <*>"]


def test_an_event_without_message_is_a_word_and_its_number():
    sequences = Sequences.from_ids([[17, -3, 4]])
    strings = read_strings(sequences, CONFIG)
    words = [strings.texts[code] for code in strings.codes]
    assert words == ["event 17", "unknown event", "event 4"]


def test_an_event_with_neither_message_nor_template_is_refused():
    sequences = Sequences.from_ids([[1]])
    bare = Sequences(
        sequences.events.drop("template_id"), *(getattr(sequences, name) for name in REST)
    )
    with pytest.raises(FormatError, match="neither"):
        read_strings(bare, CONFIG)


@pytest.mark.parametrize(("keep", "read"), [("head", [0, 1, 2, 3]), ("ends", [0, 1, 8, 9])])
def test_of_a_longer_sequence_some_messages_are_read(keep, read):
    config = CONFIG.model_copy(update={"max_messages": 4, "keep": keep})
    strings = read_strings(Sequences.from_ids([list(range(10)), [1, 2]]), config)
    assert strings.positions.tolist() == [*read, 0, 1]
    assert strings.n_left_out.tolist() == [6, 0]


def test_lessons_count_each_pair_of_string_and_class():
    sequences = Sequences.from_ids([[1], [1], [2], [1], [3]], ["", "", "odd", "odd", "other"])
    lessons, n_foreign = learn_lessons(sequences, ("", "odd"), CONFIG)
    assert n_foreign == 1
    assert lessons.times.tolist() == [2, 1, 1]
    assert lessons.label.tolist() == [0, 1, 1]


def lessons_of(label, times) -> Lessons:
    lessons, _ = learn_lessons(Sequences.from_ids([[1]], [""]), ("",), CONFIG)
    return Lessons(lessons.strings, np.arange(len(label)), np.array(label), np.array(times, float))


def test_the_rarer_class_is_oversampled_to_its_share():
    config = CONFIG.model_copy(update={"weigh": "frequency", "beta": 0.3})
    weights = draw_weights(lessons_of([0, 0, 1, 2], [60, 10, 1, 2]), config)
    assert weights == pytest.approx([60, 10, 10, 20])  # 30 anomalous of 100
    weights = draw_weights(lessons_of([0, 1], [1, 70]), config)
    assert weights == pytest.approx([30, 70])


def test_a_class_that_is_frequent_enough_is_left_as_it_is():
    config = CONFIG.model_copy(update={"weigh": "frequency", "beta": 0.3})
    assert draw_weights(lessons_of([0, 1], [6, 4]), config).tolist() == [6, 4]


@pytest.mark.parametrize(("weigh", "weights"), [("distinct", [1, 1, 1]), ("root", [8, 2, 1])])
def test_what_occurs_often_may_count_less(weigh, weights):
    config = CONFIG.model_copy(update={"weigh": weigh, "beta": 0.0})
    assert draw_weights(lessons_of([0, 0, 1], [64, 4, 1]), config).tolist() == weights


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=20),
    st.integers(1, 50),
    st.integers(0, 1000),
)
def test_each_place_is_drawn_as_often_as_its_weight_says(weights, n, seed):
    drawn = draw(np.array(weights), n, np.random.default_rng(seed))
    asked = n * np.array(weights) / np.sum(weights)
    times = np.bincount(drawn, minlength=len(weights))
    assert (np.abs(times - asked) < 1 + 1e-6).all()
    assert len(drawn) == n


@pytest.mark.parametrize(
    ("n", "bounds", "batches"),
    [
        (8000, (0, None), [6, 50, 50, 100]),  # the first stage has 1,000 at most
        (8000, (0, 3200), [6, 20, 20, 40]),
        (16, (480, None), [3, 3, 3, 6]),
        (16, (0, None), [1, 1, 1, 1]),
    ],
)
def test_an_epoch_has_as_many_batches_as_sequences_within_bounds(n, bounds, batches):
    config = LogLLMConfig(least_sequences=bounds[0], most_sequences=bounds[1])
    assert [count_batches(n, config, phase) for phase in phases(config)] == batches


def test_strings_are_padded_on_the_left():
    codes, mask = pad_left(strings_of([5], [1, 2, 3]), np.array([0, 1]))
    assert codes.tolist() == [[0, 0, 5], [1, 2, 3]]
    assert mask.tolist() == [[False, False, True], [True, True, True]]


def test_pieces_of_a_batch_are_of_one_length_and_their_shares_add_up():
    codes, mask = pad_left(strings_of([5], [4], [1, 2, 3]), np.array([2, 0, 1]))
    pieces = list(cut_batch(Batch(codes, mask, torch.tensor([0, 1, 1])), 2))
    assert [piece.codes.shape for piece, _ in pieces] == [(2, 1), (1, 3)]
    assert sum(share for _, share in pieces) == pytest.approx(1)


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    return load_llama(CONFIG, torch.device("cpu")).tokenizer


def test_the_answers_part_at_the_word_of_the_class(tokenizer):
    prompt = make_prompt(tokenizer, ("", "fault"), {})
    assert tokenizer.decode(prompt.asked).endswith("? The sequence is")
    assert [tokenizer.decode([token]) for token in prompt.deciding] == ["normal", "anomalous"]


def test_an_answer_ends_with_the_end_of_the_text(tokenizer):
    prompt = make_prompt(tokenizer, ("", "fault"), {})
    assert [answer[-1] for answer in prompt.answers] == [tokenizer.eos_token_id] * 2


def test_with_more_classes_each_answers_with_its_name(tokenizer):
    prompt = make_prompt(tokenizer, CLASSES, {})
    words = [tokenizer.decode([token]) for token in prompt.deciding]
    assert words == ["normal", "disk", "network"]


def test_classes_whose_names_begin_alike_answer_with_letters(tokenizer):
    prompt = make_prompt(tokenizer, ("", "disk_full", "disk_down"), {})
    words = [tokenizer.decode([token]) for token in prompt.deciding]
    assert words == ["normal", "A", "B"]


def test_words_may_be_chosen(tokenizer):
    prompt = make_prompt(tokenizer, ("", "fault"), {"fault": "failed"})
    assert tokenizer.decode([prompt.deciding[1]]) == "failed"


def test_a_word_for_a_class_that_is_not_there_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="no class 'falt'"):
        make_prompt(tokenizer, ("", "fault"), {"falt": "failed"})


def test_chosen_words_that_are_the_same_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="same token"):
        make_prompt(tokenizer, ("", "fault"), {"fault": "normal"})


@pytest.fixture(scope="module")
def network(tiny_models):
    torch.manual_seed(0)
    return LogLLM(CONFIG)._build(CLASSES, "cpu").eval()


@pytest.fixture
def vectors():
    return torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0))


LENGTHS = torch.tensor([4, 2, 1])
MASK = torch.arange(4) >= 4 - LENGTHS[:, None]


def test_the_cached_prefix_changes_no_answer(network, vectors):
    cached = network.evidence(vectors, MASK, network.read_prefix())
    again = network.evidence(vectors, MASK, None)
    assert torch.allclose(cached, again, atol=1e-4)


def test_padding_changes_no_answer(network, vectors):
    together = network.evidence(vectors, MASK, network.read_prefix())
    for row, length in enumerate(LENGTHS.tolist()):
        own = vectors[row : row + 1, 4 - length :]
        mask = torch.ones((1, length), dtype=torch.bool)
        alone = network.evidence(own, mask, network.read_prefix())
        assert torch.allclose(alone[0], together[row], atol=1e-4)


def test_reading_a_batch_leaves_the_cached_prefix_as_it_was(network, vectors):
    prefix = network.read_prefix()
    network.evidence(vectors, MASK, prefix)
    assert prefix.get_seq_length() == len(network.prompt.before)


def test_the_loss_is_the_mean_surprise_of_the_answers_tokens(network, vectors):
    found = network.losses(vectors, MASK, torch.tensor([0, 1, 2]))
    prompt, embed = network.prompt, network.llama.get_input_embeddings()
    for row, length in enumerate(LENGTHS.tolist()):
        answer = torch.tensor(prompt.answers[row])
        parts = [torch.tensor(prompt.before), torch.tensor(prompt.question), answer]
        before, question, spoken = (embed(part) for part in parts)
        own = network.projector(vectors[row, 4 - length :])
        whole = torch.cat([before, own, question, spoken])[None]
        logits = network.llama(inputs_embeds=whole).logits[0, -len(answer) - 1 : -1]
        assert found[row].item() == pytest.approx(cross_entropy(logits, answer).item(), abs=1e-4)


def test_vectors_of_texts_begin_as_large_as_words(network, vectors):
    flat = vectors.reshape(-1, 16) + 5
    network.centre(flat)
    placed = network.projector(flat)
    words = network.llama.get_input_embeddings().weight
    assert placed.mean(dim=0).abs().max().item() < 1e-4
    assert placed.pow(2).mean().item() == pytest.approx(words.pow(2).mean().item(), rel=1e-3)


def test_equal_vectors_are_no_reason_to_divide_by_nothing(network):
    network.centre(torch.ones(2, 16))
    assert torch.isfinite(network.projector.weight).all()


@pytest.mark.parametrize("pool", ["pooler", "cls", "mean"])
def test_the_company_of_other_texts_does_not_change_a_vector(network, pool):
    tokens = torch.tensor([[2, 5, 6, 7], [2, 8, 0, 0]])
    mask = (tokens > 0).long()
    network.pool = pool
    texts = Tokenized(tokens, mask)
    together = network.embed(texts, torch.tensor([0, 1]))
    alone = network.embed(texts, torch.tensor([1]))
    assert torch.allclose(together[1], alone[0], atol=1e-5)
    assert torch.allclose(network.embed_all(texts), together, atol=1e-5)


def test_a_message_is_blamed_by_how_much_less_odd_the_string_is_without_it():
    def judge(distinct):  # 2 nats for each message 7
        return np.array(
            [
                2.0 * np.count_nonzero(distinct.tokens[a:b] == 7)
                for a, b in zip(distinct.offsets[:-1], distinct.offsets[1:], strict=True)
            ]
        )

    distinct = strings_of([1, 7, 2, 7], [1, 2])
    amounts = blame(distinct, judge)
    string = distinct.of_chunk[0]
    assert amounts[slice(*distinct.offsets[string : string + 2])].tolist() == [0, 2, 0, 2]


def test_where_no_message_alone_is_to_blame_all_share_it():
    amounts = blame(strings_of([1, 1, 2]), lambda distinct: np.full(len(distinct), 3.0))
    share = np.log1p(np.exp(3.0)) / 2
    assert amounts == pytest.approx([share / 2, share / 2, share])


def test_a_string_of_one_message_has_it_to_blame():
    amounts = blame(strings_of([4, 4]), lambda distinct: np.zeros(len(distinct)))
    assert amounts == pytest.approx([np.log(2) / 2] * 2)
