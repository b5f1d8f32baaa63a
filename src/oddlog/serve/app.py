"""The HTTP face of a service: endpoints, errors, health, metrics, and what begins and ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp

from oddlog import __version__
from oddlog.errors import ConfigError
from oddlog.serve import alerting, dashboard, ingest
from oddlog.serve.access import Access, Guard
from oddlog.serve.inbox import FullError
from oddlog.serve.journal import JournalError
from oddlog.serve.lines import Limits, RefusedError
from oddlog.serve.metrics import CONTENT_TYPE, Metrics
from oddlog.serve.service import Service
from oddlog.serve.store import StoreError

TOLD = """Takes log lines from any collector, finds the odd ones, keeps alerts.

Authentication: `Authorization: Bearer TOKEN`, where the service was given a token."""
RETRY_S = 5


def create_app(
    service: Service,
    access: Access | None = None,
    *,
    limits: Limits | None = None,
    metrics: Metrics | None = None,
    streams: alerting.Streams | None = None,
) -> ASGIApp:
    """Return the ASGI application of a service, which begins and ends with it.

    Args:
        service: Not yet started.
        access: Who may ask what; everybody on this machine without it.
        limits: What one request may hold.
        metrics: What is told of requests; the service's ``latencies`` should be its ``took``.
        streams: Who follows the alerts; they are let go of when it is ``closing``.
    """
    told, streams, access = metrics or Metrics(), streams or alerting.Streams(), access or Access()

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        told.watch(service)
        yield
        streams.closing = True
        await to_thread.run_sync(service.stop)

    app = FastAPI(
        title="oddlog", version=__version__, description=TOLD, lifespan=life,
        docs_url=None, redoc_url=None,  # their pages load scripts from elsewhere
        max_body_size=(limits or Limits()).body_bytes,
    )  # fmt: skip
    door = ingest.Door(service, told, limits or Limits())
    app.include_router(ingest.routes(door))
    app.include_router(alerting.routes(service, streams))
    app.include_router(dashboard.routes(service, access))
    _add_health(app, service)
    _add_metrics(app, told)
    _add_errors(app, told)
    return Guard(app, access)


def _add_health(app: FastAPI, service: Service) -> None:
    def answer(trouble: str | None) -> JSONResponse:
        status = {"status": "ok"} if trouble is None else {"status": "unavailable"}
        return JSONResponse(status, 200 if trouble is None else 503)

    unavailable = {503: {"description": "Not now."}}

    @app.get("/healthz", tags=["operation"], responses=unavailable)  # type: ignore[arg-type]
    def healthz() -> JSONResponse:
        """Tell whether the service works; if not, it has to be started anew."""
        return answer(service.unhealthy())

    @app.get("/readyz", tags=["operation"], responses=unavailable)  # type: ignore[arg-type]
    def readyz() -> JSONResponse:
        """Tell whether lines should be sent here now."""
        return answer(service.unready())


def _add_metrics(app: FastAPI, told: Metrics) -> None:
    @app.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
    def metrics() -> Response:
        """Return counts and gauges in Prometheus's text format."""
        return Response(told.text(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI, told: Metrics) -> None:
    def answer(status: int, error: Exception, retry_s: int | None = None) -> JSONResponse:
        told.refused.labels(str(status)).inc()
        headers = None if retry_s is None else {"retry-after": str(retry_s)}
        return JSONResponse({"detail": str(error)}, status, headers)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return answer(error.status, error)

    @app.exception_handler(FullError)
    async def full(request: Request, error: FullError) -> JSONResponse:
        return answer(429, error, error.retry_s)

    @app.exception_handler(JournalError)
    @app.exception_handler(StoreError)
    async def unavailable(request: Request, error: Exception) -> JSONResponse:
        return answer(503, error, RETRY_S)

    @app.exception_handler(ConfigError)
    async def wrong(request: Request, error: ConfigError) -> JSONResponse:
        return answer(422, error)
