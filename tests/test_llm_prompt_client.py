"""Requests to a chat endpoint over real HTTP, and what is understood of its replies."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat_endpoint import completion, serve
from oddlog.detectors.llm_prompt.answers import (
    Answer,
    append_answers,
    read_answers,
    read_reply,
)
from oddlog.detectors.llm_prompt.client import Client
from oddlog.detectors.llm_prompt.config import LLMPromptConfig
from oddlog.errors import ConfigError, EndpointError

WORDS = ("normal", "anomalous")


@pytest.fixture
def endpoint():
    with serve() as running:
        yield running


@pytest.fixture
def ask(endpoint):
    """Return a function that asks with given settings, and the waits between its attempts."""
    waits = []

    def send(**more):
        config = LLMPromptConfig(url=endpoint.url, model="m", **more)
        with Client(config, "llm_prompt", sleep=waits.append) as client:
            return client.ask({"messages": [{"role": "user", "content": "1. ok"}]})

    return send, waits


def text_reply(text):
    return {"choices": [{"message": {"content": text}}]}


def test_a_full_endpoint_is_asked_again_after_longer_and_longer_waits(endpoint, ask):
    send, waits = ask
    endpoint.failures = [(503, {}, {}), (429, {}, {}), (500, {}, {})]
    reply, n_retries = send()
    assert (read_reply(reply, WORDS, 1).verdict, n_retries) == (0, 3)
    assert waits == [0.5, 1.0, 2.0]


def test_the_wait_that_an_endpoint_asks_for_is_kept(endpoint, ask):
    send, waits = ask
    endpoint.failures = [(429, {"Retry-After": "7"}, {})]
    send()
    assert waits == [7.0]


def test_a_wait_of_an_hour_is_told_instead_of_waited(endpoint, ask):
    send, waits = ask
    endpoint.failures = [(429, {"Retry-After": "3600"}, {})]
    with pytest.raises(EndpointError, match="3600 s: run again then"):
        send()
    assert waits == []


def test_what_fails_to_the_end_is_told_with_what_the_endpoint_said(endpoint, ask):
    endpoint.failures = [(500, {}, {"error": {"message": "out of memory"}})] * 3
    with pytest.raises(EndpointError, match="after 3 attempts: HTTP 500: out of memory"):
        ask[0](retries=2)


def test_a_refusal_is_not_repeated(endpoint, ask):
    endpoint.failures = [(400, {}, {"error": {"message": "no response_format"}})]
    with pytest.raises(EndpointError, match="HTTP 400: no response_format; answer=word"):
        ask[0]()
    assert len(endpoint.requests) == 1


def test_a_redirection_is_not_followed(endpoint, ask):
    endpoint.failures = [(307, {"Location": "http://127.0.0.1:1/elsewhere"}, {})]
    with pytest.raises(EndpointError, match="HTTP 307"):
        ask[0]()


def test_another_page_than_json_is_told(endpoint, ask):
    endpoint.failures = [(200, {}, b"<html>")]
    with pytest.raises(EndpointError, match="something else than JSON"):
        ask[0]()


def test_nobody_there_is_told():
    with serve() as gone:
        url = gone.url
    waits = []
    config = LLMPromptConfig(url=url, model="m", retries=1)
    with (
        Client(config, "llm_prompt", sleep=waits.append) as client,
        pytest.raises(EndpointError, match=r"after 2 attempts: ConnectError"),
    ):
        client.ask({})


def test_the_key_is_sent_from_the_environment(endpoint, ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sesame")
    ask[0](key_env="SOME_KEY")
    assert endpoint.headers[0]["Authorization"] == "Bearer sesame"


def test_a_key_that_is_not_there_is_told_before_anything_is_sent(endpoint, ask, monkeypatch):
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match="no SOME_KEY"):
        ask[0](key_env="SOME_KEY")
    assert endpoint.requests == []


def test_an_endpoint_that_repeats_the_key_does_not_make_it_seen(endpoint, ask, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sesame")
    endpoint.failures = [(401, {}, {"error": {"message": "wrong key sesame"}})]
    with pytest.raises(EndpointError, match="wrong key ") as told:
        ask[0](key_env="SOME_KEY")
    assert "sesame" not in str(told.value)


def test_what_an_endpoint_says_cannot_act_on_the_terminal(endpoint, ask):
    endpoint.failures = [(400, {}, {"error": {"message": "\x1b[2Jgone"}})]
    with pytest.raises(EndpointError, match=r"\\x1b\[2Jgone"):
        ask[0]()


def test_the_probability_is_that_of_one_word_against_the_other():
    """Hand-computed: .3 against .1 is three quarters; other tokens have no say."""
    reply = completion("anomalous", [], 0.75)
    tops = reply["choices"][0]["logprobs"]["content"][4]["top_logprobs"]
    tops[:] = [
        {"token": "anom", "logprob": math.log(0.3)},
        {"token": "The", "logprob": math.log(0.6)},
        {"token": "norm", "logprob": math.log(0.1)},
    ]
    assert read_reply(reply, WORDS, 1).anomalous == pytest.approx(0.75)


def test_several_tokens_that_begin_a_word_count_together():
    """Hand-computed: .1 + .2 against .1 + .1 is .6."""
    shown = {" an": 0.1, "Anomalous": 0.2, "n": 0.1, "normal": 0.1}
    tops = [{"token": token, "logprob": math.log(p)} for token, p in shown.items()]
    content = [{"token": "Anomalous", "logprob": -1, "top_logprobs": tops}]
    reply = text_reply("Anomalous.")
    reply["choices"][0]["logprobs"] = {"content": content}
    assert read_reply(reply, WORDS, 1).anomalous == pytest.approx(0.6)


def test_a_word_that_is_not_shown_counts_as_the_least_likely_that_is():
    """Hand-computed: .8 against .2."""
    tops = [{"token": t, "logprob": math.log(p)} for t, p in {"normal": 0.8, "x": 0.2}.items()]
    reply = text_reply("normal")
    content = [{"token": "normal", "logprob": 0, "top_logprobs": tops}]
    reply["choices"][0]["logprobs"] = {"content": content}
    assert read_reply(reply, WORDS, 1).anomalous == pytest.approx(0.2)


@pytest.mark.parametrize(("word", "expected"), [("normal", 0.0), ("anomalous", 1.0)])
def test_without_logprobs_the_verdict_is_the_probability(word, expected):
    reply = text_reply(json.dumps({"lines": [], "verdict": word}))
    assert read_reply(reply, WORDS, 1).anomalous == expected


@pytest.mark.parametrize(
    "text",
    ["anomalous", '"Anomalous"', " anomalous.\n", '```json\n{"verdict":\n"anomalous"}\n```'],
)
def test_a_verdict_is_understood_in_the_forms_that_models_give_it(text):
    assert read_reply(text_reply(text), WORDS, 1).verdict == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "The window looks normal to me.",
        "not anomalous",
        '{"verdict": "fine"}',
        '{"verdict": ["normal"]}',
        '{"verdict": "norm',
        '{"lines": [1]}',
        "normal or anomalous",
    ],
)
def test_what_is_no_verdict_is_not_taken_for_one(text):
    found = read_reply(text_reply(text), WORDS, 1)
    assert (found.verdict, found.anomalous) == (-1, 0.5)


def test_lines_that_were_not_shown_are_left_out():
    text = json.dumps({"verdict": "anomalous", "lines": [3, 0, 9, 3, "1", True, 2]})
    assert read_reply(text_reply(text), WORDS, 3).lines == (3, 2)


def test_letters_have_probabilities_of_their_own():
    """Hand-computed: .1, .3 and .1 of .5; other tokens have no say."""
    tops = [{"token": t, "logprob": math.log(p)} for t, p in {"A": 0.1, "B": 0.3, "C": 0.1}.items()]
    tops.append({"token": "The", "logprob": math.log(0.5)})
    reply = text_reply("B")
    content = [{"token": "B", "logprob": -1, "top_logprobs": tops}]
    reply["choices"][0]["logprobs"] = {"content": content}
    found = read_reply(reply, ("A", "B", "C"), 1)
    assert found.verdict == 1
    assert found.probs == pytest.approx((0.2, 0.6, 0.2))


def test_without_a_verdict_all_kinds_are_alike():
    assert read_reply(text_reply("D"), ("A", "B", "C"), 1).probs == (0.5, 0.25, 0.25)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["token", "logprob", "top_logprobs", "x"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=50)
@given(JSON, JSON, JSON)
def test_no_reply_whatever_is_an_error(whole, message, tokens):
    read_reply(whole, WORDS, 3)
    reply = {"choices": [{"message": message, "logprobs": {"content": tokens}}], "usage": whole}
    assert read_reply(reply, WORDS, 3).verdict == -1
    reply["choices"][0]["message"] = {"content": "normal"}
    assert read_reply(reply, WORDS, 3).verdict == 0


def test_answers_come_back_from_their_file(tmp_path):
    answer = Answer(verdict=1, probs=(0.125, 0.875), lines=(2, 1), tokens_in=7)
    append_answers(tmp_path / "deep" / "a.jsonl", [("k", answer)])
    assert read_answers(tmp_path / "deep" / "a.jsonl") == {"k": answer}


def test_the_last_line_of_a_killed_run_spoils_no_other(tmp_path):
    path, answer = tmp_path / "a.jsonl", Answer(verdict=0, probs=(0.9, 0.1))
    append_answers(path, [("first", answer)])
    with path.open("a") as file:
        file.write('{"key": "second", "verd')
    append_answers(path, [("third", answer)])
    assert read_answers(path) == {"first": answer, "third": answer}
