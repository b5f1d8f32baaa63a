"""The endpoints that take lines: OTLP, Loki, plain lines, and a batch to be judged at once."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from oddlog.serve import loki, otlp, plain, schemas
from oddlog.serve.bodies import too_large, unpack
from oddlog.serve.inbox import FullError
from oddlog.serve.lines import TOO_LARGE, UNSUPPORTED, Limits, Received, RefusedError
from oddlog.serve.metrics import Metrics
from oddlog.serve.service import Service

PROTOBUF = ("application/x-protobuf", "application/protobuf")
JSON = "application/json"
JSON_LINES = ("application/x-ndjson", "application/jsonl", "application/json-lines", JSON)
TEXT = ("text/plain", "")
PLAIN = {TEXT[0]: schemas.TEXT, JSON_LINES[0]: schemas.TEXT}
MAX_SCORED = 20_000
MAX_VERDICTS = 1_000
N_READERS = 2  # bodies that are read at once; each may hold ``Limits.unpacked_bytes``
Read = Callable[[bytes, Limits], Received]
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not what its content type says; nothing was taken."},
    401: {"description": "The token is missing or wrong."},
    413: {"description": "Larger than the limits, or too many lines; nothing was taken."},
    415: {"description": "A content type or encoding that is not known."},
    429: {"description": "No room now; try again after the seconds in Retry-After."},
    503: {"description": "The lines could not be written down; try again later."},
}


class Taken(BaseModel):
    """What became of the lines of a request."""

    accepted: int
    cut: int


class Verdicts(BaseModel):
    """The verdict on a batch: records as of ``oddlog score --explain``."""

    n_verdicts: int
    verdicts: list[dict[str, Any]]


@dataclass
class Door:
    """Where bodies come in, and how much of them may be in memory.

    Attributes:
        service: What takes the lines.
        metrics: What is told of it.
        limits: What one request may hold.
        room_bytes: What all bodies that are being received may hold together.
    """

    service: Service
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    room_bytes: int = 256 << 20
    n_bytes: int = 0
    readers: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(N_READERS))

    async def receive(self, request: Request, read: Read, encoding: str | None = None) -> Received:
        """Return the lines of a request.

        Raises:
            RefusedError: Malformed, or larger than the limits.
            FullError: Too much is being received just now.
        """
        body = bytearray()
        try:
            async for chunk in request.stream():
                self.n_bytes += len(chunk)
                body += chunk
                if len(body) > self.limits.body_bytes:
                    raise too_large(self.limits.body_bytes)
                if self.n_bytes > self.room_bytes:
                    raise FullError("too much is being received just now", 1)
            how = encoding or request.headers.get("content-encoding")
            work = partial(self._read, bytes(body), how, read)
            return await to_thread.run_sync(work, limiter=self.readers)
        finally:
            self.n_bytes -= len(body)

    def _read(self, body: bytes, encoding: str | None, read: Read) -> Received:
        return read(unpack(body, encoding, self.limits.unpacked_bytes), self.limits)

    async def take(self, request: Request, read: Read, encoding: str | None = None) -> Taken:
        """Take the lines of a request; once this returns they survive a crash."""
        received = await self.receive(request, read, encoding)
        n = await asyncio.wrap_future(self.service.submit(received.table))
        self.metrics.accepted.labels(request.url.path).inc(n)
        self.metrics.cut.inc(received.n_cut)
        return Taken(accepted=n, cut=received.n_cut)


def routes(door: Door) -> APIRouter:
    """Return the endpoints that take lines."""
    router = APIRouter(tags=["lines"])
    router.add_api_route(
        "/v1/logs", _otlp(door), methods=["POST"], summary="OpenTelemetry logs, OTLP/HTTP",
        responses=REFUSALS, openapi_extra=schemas.body_of({PROTOBUF[0]: schemas.BYTES,
        JSON: schemas.OTLP}), response_class=Response,
    )  # fmt: skip
    router.add_api_route(
        "/loki/api/v1/push", _loki(door), methods=["POST"], summary="Loki's push", status_code=204,
        responses=REFUSALS, openapi_extra=schemas.body_of({PROTOBUF[0]: schemas.BYTES,
        JSON: schemas.LOKI}), response_class=Response,
    )  # fmt: skip
    router.add_api_route(
        "/v1/lines", _lines(door), methods=["POST"], summary="Plain text, or JSON lines",
        responses=REFUSALS, openapi_extra=schemas.body_of(PLAIN),
    )  # fmt: skip
    router.add_api_route(
        "/v1/score", _score(door), methods=["POST"], summary="A batch, and its verdict at once",
        responses=REFUSALS, openapi_extra=schemas.body_of(PLAIN),
    )  # fmt: skip
    return router


def _otlp(door: Door) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def logs(request: Request) -> Response:
        """Take logs as an OpenTelemetry exporter sends them."""
        kind = _content_type(request)
        if kind in PROTOBUF:
            taken = await door.take(request, otlp.read_protobuf)
            return Response(otlp.answer_protobuf(taken.cut), media_type=PROTOBUF[0])
        if kind != JSON:
            raise _unsupported(kind, PROTOBUF[0], JSON)
        taken = await door.take(request, otlp.read_json)
        return Response(otlp.answer_json(taken.cut), media_type=JSON)

    return logs


def _loki(door: Door) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def push(request: Request) -> Response:
        """Take streams as promtail sends them: protobuf in snappy, or JSON."""
        kind = _content_type(request)
        if kind in PROTOBUF:
            await door.take(request, loki.read_protobuf, "snappy")
        elif kind == JSON:
            await door.take(request, loki.read_json)
        else:
            raise _unsupported(kind, PROTOBUF[0], JSON)
        return Response(status_code=204)

    return push


Every = Annotated[
    bool, Query(description="All sequences in their order, not only the flagged ones.")
]
Source = Annotated[str, Query(max_length=200, description="Source of lines that name none.")]


def _lines(door: Door) -> Callable[..., Coroutine[Any, Any, Taken]]:
    async def lines(request: Request, source: Source = "http") -> Taken:
        """Take lines of text, or JSON lines: a text or an object with a field ``line``."""
        return await door.take(request, _plain(request, source))

    return lines


def _score(door: Door) -> Callable[..., Coroutine[Any, Any, Response]]:
    async def score(request: Request, source: Source = "http", every: Every = False) -> Response:
        """Judge a batch of lines by itself; nothing of it is kept."""
        received = await door.receive(request, _plain(request, source))
        if received.table.height > MAX_SCORED:
            raise RefusedError(
                f"{received.table.height:,} lines; at most {MAX_SCORED:,} are judged at once: "
                "use `oddlog score` for more",
                TOO_LARGE,
            )
        work = partial(door.service.score, received.table, every=every)
        records = await to_thread.run_sync(work, limiter=door.readers)
        shown = {"n_verdicts": len(records), "verdicts": finite(records[:MAX_VERDICTS])}
        return Response(json.dumps(shown, ensure_ascii=False, default=str), media_type=JSON)

    return score


def _plain(request: Request, source: str) -> Read:
    kind = _content_type(request)
    if kind in TEXT:
        return partial(plain.read_text, source=source)
    if kind in JSON_LINES:
        return partial(plain.read_json_lines, source=source)
    raise _unsupported(kind, TEXT[0], JSON_LINES[0])


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _unsupported(kind: str, *known: str) -> RefusedError:
    return RefusedError(f"Content-Type {kind[:80]!r}: send {' or '.join(known)}", UNSUPPORTED)


def finite(value: Any) -> Any:
    """Return plain values that JSON can carry: a number that is none becomes null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
