import numpy as np
import pytest

from known_gpt2_classifier import sessions
from oddlog.detectors.gpt2_classifier.inputs import (
    KeyReader,
    TextReader,
    distinct_messages,
    encode_texts,
    id_texts,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from oddlog.encode import BEGIN, END, UNKNOWN, Vocabulary
from oddlog.errors import ArtifactError, ConfigError
from oddlog.events import Sequences

KNOWN = np.array([0, 1, 2, 8], dtype=np.int32)


@pytest.fixture(scope="module")
def of_ids():
    return TextReader(train_tokenizer(id_texts(KNOWN), 300), 0, KNOWN)


@pytest.fixture(scope="module")
def of_messages():
    texts = distinct_messages(sessions([[0, 1, 2]]))[0]
    return TextReader(train_tokenizer(texts, 300), 0, None)


def text_of(reader, tokens, index=0):
    own = tokens.tokens[tokens.offsets[index] : tokens.offsets[index + 1]]
    return reader.tokenizer.decode(own.tolist(), skip_special_tokens=True)


def test_keys_are_read_as_a_token_each_between_marks():
    reader = KeyReader(Vocabulary(np.array([7, 3], dtype=np.int32)))
    tokens = reader.read(Sequences.from_ids([[3, 7, 4]]))
    assert tokens.tokens.tolist() == [BEGIN, 6, 5, UNKNOWN, END]
    assert reader.novel(Sequences.from_ids([[3, 7, 4]])).tolist() == [False, False, True]


def test_ids_are_read_as_text(of_ids):
    tokens = of_ids.read(sessions([[8, 0], [1]]))
    assert [text_of(of_ids, tokens, i) for i in range(2)] == [" E8 E0", " E1"]


def test_an_event_of_unknown_template_has_no_text_but_is_known_to_be_there(of_ids):
    odd = sessions([[8, -3, 0], [5]])
    tokens = of_ids.read(odd)
    assert text_of(of_ids, tokens) == " E8 E0"
    assert tokens.lengths[1] == 1
    assert of_ids.novel(odd).tolist() == [False, True, False, True]


def test_messages_are_read_as_they_were_logged(of_messages):
    tokens = of_messages.read(sessions([[0, 8], [2]]))
    assert text_of(of_messages, tokens) == "open file\ndisk full\n"


def test_every_token_knows_its_event(of_messages):
    tokens = of_messages.read(sessions([[0, 8], [2]]))
    first = [int(np.flatnonzero(tokens.entries == event)[0]) for event in range(3)]
    assert tokens.entries[tokens.offsets[:-1]].tolist() == [-1, -1]
    assert sorted(first) == first
    assert first[2] == tokens.offsets[1] + 1


def test_pieces_joined_are_those_of_the_whole_text(of_messages):
    tokens = of_messages.read(sessions([[0, 1, 2]]))
    whole = of_messages.tokenizer.encode("open file\nread 5 bytes\nclose file\n")
    assert tokens.tokens[1:].tolist() == whole.ids


def test_events_that_read_the_same_are_of_one_kind(of_messages):
    kinds = of_messages.kinds(sessions([[0, 8, 0], [8]])).tolist()
    assert kinds == [0, 1, 0, 1]


def test_nothing_is_novel_to_who_reads_messages(of_messages):
    assert not of_messages.novel(sessions([[-1, 8]])).any()


def test_ids_without_messages_cannot_be_read_raw(of_messages):
    with pytest.raises(ConfigError, match="no messages, only template ids"):
        of_messages.read(Sequences.from_ids([[1, 2]]))


def test_no_sequences_are_read_as_none(of_ids):
    assert len(of_ids.read(sessions([])).lengths) == 0


def test_a_text_of_no_tokens_is_empty(of_ids):
    tokens, bounds = encode_texts(of_ids.tokenizer, ["", " E1"])
    assert (bounds[1], bounds[2]) == (0, len(tokens))


def test_any_byte_can_be_read(of_ids):
    tokens, _ = encode_texts(of_ids.tokenizer, ["\x00 ü \U0001f600"])
    assert of_ids.tokenizer.decode(tokens.tolist()) == "\x00 ü \U0001f600"


def test_training_a_tokenizer_twice_gives_the_same():
    texts = [f"took {n} ms at host {n % 7}" for n in range(300)]
    assert train_tokenizer(texts, 400).to_str() == train_tokenizer(texts, 400).to_str()


def test_a_stored_tokenizer_is_the_same(of_ids, tmp_path):
    save_tokenizer(tmp_path, of_ids.tokenizer)
    assert load_tokenizer(tmp_path).to_str() == of_ids.tokenizer.to_str()


@pytest.mark.parametrize("text", [None, "{}", "no json"])
def test_a_damaged_tokenizer_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
