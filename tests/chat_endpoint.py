"""A chat endpoint on the loopback interface that speaks real HTTP and judges by a rule.

What it answers is worked out from the request alone: events that hold one of its words are odd.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ODD = ("exception", "unreachable", "giving up")


@dataclass
class Endpoint:
    """A running server: where it is, what it was asked, and how it behaves.

    Attributes:
        url: Its base address.
        requests: Bodies received, in order.
        headers: The headers of each.
        failures: Responses given first, each once: (status, headers, JSON).
        reply: Makes the reply of a request; replace it to answer something else.
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    failures: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    reply: Any = None


def judged(body: dict[str, Any]) -> dict[str, Any]:
    """Return a completion: odd lines by ``ODD``, surer the more there are, by logprobs."""
    window = body["messages"][-1]["content"]
    events = re.findall(r"^(\d+)\. (.*)$", window, re.MULTILINE)
    odd = [int(number) for number, text in events if any(word in text for word in ODD)]
    sure = 0.99 - 0.5 / (1 + len(odd)) if odd else 0.2 + 0.1 / len(events)
    return completion("anomalous" if odd else "normal", odd[:3], sure)


def completion(word: str, lines: list[int], probability: float, usage: bool = True) -> Any:
    """Return a chat completion in schema form, its verdict beginning at a token of its own."""
    tokens = ['{"', "verdict", '":', ' "', word, f'", "lines": {json.dumps(lines)}', "}"]
    shares = {"anom": probability, "normal": 1 - probability}
    tops = [{"token": token, "logprob": math.log(p)} for token, p in shares.items()]
    tops.append({"token": "The", "logprob": -9.0})
    content = [{"token": t, "logprob": 0.0, "top_logprobs": []} for t in tokens]
    content[4]["top_logprobs"] = tops
    message = {"role": "assistant", "content": "".join(tokens)}
    found: dict[str, Any] = {"choices": [{"message": message, "logprobs": {"content": content}}]}
    return found | ({"usage": {"prompt_tokens": 100, "completion_tokens": 10}} if usage else {})


@contextmanager
def serve() -> Iterator[Endpoint]:
    """Run a server on a free port of the loopback interface."""
    endpoint = Endpoint(reply=judged)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests.append(body)
            endpoint.headers.append(dict(self.headers))
            known = self.path == "/v1/chat/completions"
            status, headers, value = (200, {}, None) if known else (404, {}, {"detail": "no page"})
            if endpoint.failures:
                status, headers, value = endpoint.failures.pop(0)
            self._answer(status, headers, endpoint.reply(body) if value is None else value)

        def _answer(self, status: int, headers: dict[str, str], value: Any) -> None:
            text = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, content in headers.items():
                self.send_header(name, content)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            thread.join()
