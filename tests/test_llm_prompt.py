"""What is shown to a chat model, what leaves the machine, and how its answers become scores."""

import json
import logging
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import oddlog
from chat_endpoint import completion, serve
from oddlog.config import build
from oddlog.detectors.llm_prompt import LLMPrompt, LLMPromptConfig
from oddlog.detectors.llm_prompt.prompt import learn_texts
from oddlog.errors import ArtifactError, ConfigError, EndpointError
from oddlog.events import Sequences
from oddlog.pipeline import make_config
from oddlog.run import Run

TEXTS = {
    0: "session of {} opened",
    1: "read {} bytes",
    2: "session closed",
    -1: "exception: cannot read /data/{}/{}",
}


@pytest.fixture
def endpoint():
    with serve() as running:
        yield running


@pytest.fixture
def make(endpoint):
    """Return a function that makes an unfitted detector for the endpoint."""
    return lambda **more: LLMPrompt(LLMPromptConfig(url=endpoint.url, model="m", **more))


def sessions(ids, labels=None):
    """Build sessions whose messages hold a user, a number and a path that are all their own."""
    sequences = Sequences.from_ids(ids, labels)
    flat = [template for session in ids for template in session]
    texts = [TEXTS[t].format(f"user{chr(97 + i % 26)}", i) for i, t in enumerate(flat)]
    texts = [t.replace("read user", "read ") for t in texts]
    return replace(sequences, events=sequences.events.with_columns(message=pl.Series(texts)))


TRAIN = sessions([[0, 1, 2]] * 6 + [[0, 1, 1, 2], [0, -1, 2], [0, -1]], [""] * 7 + ["bad"] * 2)
TEST = sessions([[0, 1, 2], [0, 1, 2], [0, -1, 2]])


@pytest.fixture
def fitted(make):
    detector = make()
    detector.fit(TRAIN, TRAIN, Run())
    return detector


def asked(endpoint):
    return [request["messages"][-1]["content"] for request in endpoint.requests]


def test_fitting_asks_nothing(fitted, endpoint):
    assert fitted.meter.n_requests == len(endpoint.requests) == 0


def test_each_distinct_window_is_asked_for_once(fitted, endpoint):
    fitted.score(TEST.take([0, 1, 0, 2, 1]))
    assert len(endpoint.requests) == 2


def test_scoring_again_asks_nothing_and_says_the_same(fitted, endpoint):
    first = fitted.score(TEST).sequence.tolist()
    endpoint.reply = lambda body: completion("normal", [], 0.01)
    assert fitted.score(TEST).sequence.tolist() == first
    assert len(endpoint.requests) == 2


def test_the_score_is_the_probability_in_the_reply(fitted):
    """Hand-computed: the endpoint's rule says .2 + .1/3 with no odd line, .99 - .5/2 with one."""
    expected = [0.2 + 0.1 / 3, 0.2 + 0.1 / 3, 0.74]
    assert fitted.score(TEST).sequence == pytest.approx(expected, abs=1e-6)


def test_what_varies_between_messages_of_a_template_does_not_leave(fitted, endpoint):
    fitted.score(TEST.take([0]))
    assert asked(endpoint) == [
        "[the session begins]\n1. session of <*> opened\n2. read <*> bytes\n3. session closed\n"
        "[the session ends]"
    ]


def test_a_message_of_unknown_template_leaves_with_its_masks_applied(fitted, endpoint):
    fitted.score(TEST.take([2]))
    assert "2. exception: cannot read <PATH>\n" in asked(endpoint)[0]


def test_no_message_as_it_was_logged_leaves_in_an_example(make, endpoint):
    detector = make(shots=2)
    detector.fit(TRAIN, TRAIN, Run())
    detector.score(TEST)
    sent = json.dumps(endpoint.requests)
    assert not [text for text in TRAIN.messages() if text in sent and text != "session closed"]
    assert "/data/" not in sent


def test_the_text_of_a_template_is_what_all_of_its_messages_share():
    """Hand-computed: the user differs in place 2; a longer message adds a wildcard."""
    texts = ["login of ann", "login of bob", "login of eve now", "up"]
    sequences = Sequences.from_ids([[4, 4, 4, 9]])
    events = sequences.events.with_columns(message=pl.Series(texts))
    found = learn_texts(replace(sequences, events=events), LLMPromptConfig())
    assert found == {4: "login of <*> <*>", 9: "up"}


def test_what_leaves_is_told_before_it_leaves(fitted, endpoint, caplog):
    seen = []
    endpoint.reply = lambda body: seen.extend(caplog.messages) or completion("normal", [], 0.1)
    with caplog.at_level(logging.WARNING):
        fitted.score(TEST)
    assert "sending 2 distinct windows to 127.0.0.1 (this machine), model m" in seen[0]
    assert "3 distinct texts of templates, 1 messages of unknown template" in seen[0]


def test_no_log_record_holds_a_word_of_the_log(fitted, caplog):
    with caplog.at_level(logging.INFO):
        fitted.score(TEST)
    assert not [m for m in caplog.messages if "exception" in m or "session" in m]


def test_tokens_and_cost_are_counted_and_told(make, caplog):
    detector = make(price_in=1000.0, price_out=10_000.0)
    detector.fit(TRAIN, TRAIN, Run())
    detector.score(TEST)
    assert "200 tokens in, 20 out, cost 0.4000" in caplog.messages[-1]
    assert detector.history[0]["cost"] == pytest.approx(0.4)


def test_uncounted_tokens_are_said_to_be_so(fitted, endpoint, caplog):
    endpoint.reply = lambda body: completion("normal", [], 0.1, usage=False)
    fitted.score(TEST)
    assert "did not count the tokens of 2" in caplog.messages[-1]


def test_a_reply_without_a_verdict_is_counted_and_scored_a_half(fitted, endpoint):
    endpoint.reply = lambda body: {"choices": [{"message": {"content": "I cannot tell."}}]}
    scores = fitted.score(TEST)
    assert scores.n_unjudged == 3
    assert scores.sequence.tolist() == [0.5] * 3
    assert not fitted.paper_rule(scores).any()


def test_a_long_window_is_asked_for_in_pieces_and_as_odd_as_the_oddest(make, endpoint):
    detector = make(max_messages=2)
    detector.fit(TRAIN, TRAIN, Run())
    long = sessions([[0, 1, 1, 1, 1, 1, 1, -1, 2]])
    scores = detector.score(long)
    assert scores.measures["n_pieces"].tolist() == [5]
    assert len(asked(endpoint)) == 4  # two of the middle pieces are the same
    assert scores.sequence == pytest.approx([0.74])
    assert [c.position for c in detector.explain(long)[0].culprits] == [7]


def test_the_lines_that_the_answer_names_are_the_culprits_in_its_order(fitted, endpoint):
    endpoint.reply = lambda body: completion("anomalous", [3, 2], 0.9)
    (found,) = fitted.explain(TEST.take([2]))
    assert [(c.position, round(c.score, 6)) for c in found.culprits] == [(2, 0.9), (1, 0.9)]


def test_examples_are_distinct_and_come_from_both_classes(make, endpoint):
    detector = make(shots=2)
    detector.fit(TRAIN, TRAIN, Run())
    detector.score(TEST.take([0]))
    system = endpoint.requests[0]["messages"][0]["content"]
    parts = system.split("\n\n")[1:-1]
    assert len(set(parts)) == 4
    assert [part.split(":\n")[0].split()[-1] for part in parts] == ["normal"] * 2 + [
        "anomalous"
    ] * 2


def test_the_seed_draws_the_examples(make):
    drawn = set()
    for seed in (0, 1, 2, 3, 0):
        detector = make(shots=1)
        detector.fit(TRAIN, TRAIN, Run(seed=seed))
        drawn.add(detector._learned.examples)
    assert 1 < len(drawn) < 5


def test_without_labels_normal_examples_alone_are_shown_and_that_is_told(make, caplog):
    detector = make(shots=1)
    detector.fit(TRAIN.without_labels(), TRAIN, Run())
    assert "no anomalous window to show" in caplog.text
    assert [k for k, _ in detector._learned.examples] == [0]


KINDS = sessions([[0, 1, 2]] * 4 + [[0, -1, 2], [0, 2]], [""] * 4 + ["disk", "abort"])


def test_kinds_of_anomaly_are_letters_with_probabilities(make, endpoint):
    """Hand-computed: .5 normal, .3 abort and .2 disk, of .5 in all for A, B and C."""
    tops = [
        {"token": t, "logprob": math.log(p)} for t, p in {"A": 0.25, "B": 0.15, "C": 0.1}.items()
    ]
    token = {"token": "A", "logprob": -1, "top_logprobs": tops}
    choice = {"message": {"content": "A"}, "logprobs": {"content": [token]}}
    endpoint.reply = lambda body: {"choices": [choice]}
    detector = make(kinds=True, answer="word", shots=1)
    detector.fit(KINDS, KINDS, Run())
    scores = detector.score(TEST.take([0]))
    assert scores.class_names == ("", "abort", "disk")
    assert scores.class_probs == pytest.approx(np.array([[0.5, 0.3, 0.2]]))
    assert scores.sequence == pytest.approx([0.5])


def test_the_names_of_kinds_leave_only_if_asked_for_and_are_told(make, endpoint, caplog):
    for kinds in (False, True):
        detector = make(kinds=kinds, shots=1)
        detector.fit(KINDS, KINDS, Run())
        detector.score(TEST.take([0]))
        system = endpoint.requests[-1]["messages"][0]["content"]
        assert ("A for normal, B for abort, C for disk" in system) is kinds
        assert ("disk" in json.dumps(endpoint.requests[-1])) is kinds
    told = [message for message in caplog.messages if "sending" in message]
    assert ["names of 2 kinds of anomaly" in message for message in told] == [False, True]


def test_more_kinds_than_letters_are_refused(make):
    ids, labels = [[0, 1]] * 30, ["", *(f"kind{i}" for i in range(29))]
    with pytest.raises(ConfigError, match="kinds=false"):
        make(kinds=True).fit(sessions(ids, labels), TRAIN, Run())


def test_a_pipeline_can_be_fitted_without_labels(endpoint, tmp_path):
    log = tmp_path / "app.log"
    lines = [f"id{i // 3} step {i % 3} took {i} ms" for i in range(240)]
    log.write_text("\n".join(lines) + "\n")
    settings = {"detector": "llm_prompt", "session_by": "id[0-9]+", "format": "plain"}
    settings |= {"llm_prompt": {"url": endpoint.url, "model": "m"}}
    pipeline = oddlog.fit([log], make_config(settings, "test"), model=tmp_path / "model")
    n_asked = len(endpoint.requests)
    oddlog.load(tmp_path / "model").score([log])
    assert pipeline.manifest["history"][0]["n_requests"] == n_asked > 0


def test_a_word_can_be_asked_for_in_place_of_json(make, endpoint):
    endpoint.reply = lambda body: {"choices": [{"message": {"content": "anomalous"}}]}
    detector = make(answer="word", top_logprobs=0)
    detector.fit(TRAIN, TRAIN, Run())
    assert detector.score(TEST).sequence.tolist() == [1.0] * 3
    assert not {"response_format", "logprobs"} & set(endpoint.requests[0])


def test_the_answer_is_constrained_and_nothing_is_drawn_by_chance(fitted, endpoint):
    fitted.score(TEST.take([0]))
    (request,) = endpoint.requests
    schema = request["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["verdict"]["enum"] == ["normal", "anomalous"]
    assert request["temperature"] == 0


def test_a_cache_serves_another_detector(make, endpoint, tmp_path):
    for _ in range(2):
        detector = make(cache=str(tmp_path / "answers.jsonl"))
        detector.fit(TRAIN, TRAIN, Run())
        detector.score(TEST)
    assert len(endpoint.requests) == 2


def test_a_cache_keeps_what_was_answered_before_a_failure(make, endpoint, tmp_path):
    detector = make(cache=str(tmp_path / "answers.jsonl"), concurrency=1, retries=0)
    detector.fit(TRAIN, TRAIN, Run())
    answers = iter([completion("normal", [], 0.1)])
    endpoint.reply = lambda body: next(answers, b"broken")
    with pytest.raises(EndpointError):
        detector.score(TEST)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 1


def test_no_file_of_answers_holds_a_word_of_the_log(make, tmp_path):
    detector = make(cache=str(tmp_path / "answers.jsonl"))
    detector.fit(TRAIN, TRAIN, Run())
    detector.score(TEST)
    (tmp_path / "model").mkdir()
    detector.save(tmp_path / "model")
    for path in (tmp_path / "answers.jsonl", tmp_path / "model" / "answers.json"):
        assert not [word for word in ("exception", "session") if word in path.read_text()]


def test_the_key_is_in_no_file_and_no_message(make, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SOME_KEY", "sesame")
    detector = make(key_env="SOME_KEY", cache=str(tmp_path / "answers.jsonl"))
    detector.fit(TRAIN, TRAIN, Run())
    with caplog.at_level(logging.DEBUG):
        detector.score(TEST)
    detector.save(tmp_path)
    assert "sesame" not in caplog.text
    assert not [path for path in tmp_path.iterdir() if "sesame" in path.read_text()]


def test_more_requests_than_allowed_are_refused_before_any_is_sent(make, endpoint):
    detector = make(max_requests=1)
    detector.fit(TRAIN, TRAIN, Run())
    with pytest.raises(ConfigError, match=r"2 requests.*max_requests = 1; nothing was sent"):
        detector.score(TEST)
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "no url and no model; .*--set llm_prompt.url=... and --set llm_prompt.model="),
        ({"url": "http://localhost:1/v1"}, "no model"),
    ],
)
def test_whom_to_ask_has_to_be_said(settings, told):
    with pytest.raises(ConfigError, match=told):
        LLMPrompt(LLMPromptConfig(**settings)).fit(TRAIN, TRAIN, Run())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": "localhost:8000"}, "begins with http"),
        ({"url": "https://me:secret@host/v1"}, "no user, key or query"),
        ({"url": "https://host/v1?key=1"}, "no user, key or query"),
        ({"url": "http://models.example/v1", "key_env": "K"}, "unencrypted to models.example"),
        ({"key": "sesame"}, "unknown setting 'key'; did you mean 'key_env'"),
    ],
)
def test_an_address_that_would_give_something_away_is_refused(settings, told):
    with pytest.raises(ConfigError, match=told):
        build(LLMPromptConfig, settings, "test")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_key_may_go_unencrypted_to_this_machine(host):
    assert LLMPromptConfig(url=f"http://{host}:8000/v1", key_env="K").is_local


def test_sequences_that_are_ids_alone_are_refused(make):
    ids_alone = replace(TRAIN, events=TRAIN.events.drop("message"))
    with pytest.raises(ConfigError, match="template ids alone"):
        make().fit(ids_alone, ids_alone, Run())


def test_a_saved_model_asks_nothing_that_it_was_told_before(fitted, endpoint, tmp_path):
    scores = fitted.score(TEST)
    fitted.save(tmp_path)
    loaded = LLMPrompt.load(tmp_path)
    assert np.array_equal(loaded.score(TEST).sequence, scores.sequence)
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize("name", ["config", "learned", "answers"])
@pytest.mark.parametrize("content", ["{", "[]", '{"answers": {"k": {"verdict": 2}}}'])
def test_a_damaged_model_is_refused(fitted, tmp_path, name, content):
    fitted.save(tmp_path)
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(ArtifactError, match=f"{name}.json"):
        LLMPrompt.load(tmp_path)


def test_answers_between_other_classes_are_refused(fitted, tmp_path):
    fitted.score(TEST)
    fitted.save(tmp_path)
    path = tmp_path / "learned.json"
    learned = json.loads(path.read_text()) | {"kinds": ["disk", "abort"]}
    path.write_text(json.dumps(learned))
    with pytest.raises(ArtifactError, match="other classes"):
        LLMPrompt.load(tmp_path)
