"""The endpoints that show alerts and take what people say of them, and the stream of changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from oddlog.serve.ingest import finite
from oddlog.serve.service import Service
from oddlog.serve.store import StoredAlert, Wanted

MAX_ALERTS, MAX_STREAMS = 500, 100
POLL_S, HEARTBEAT_S = 0.5, 15.0
FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
Said = Literal["real", "false_alarm", "snooze", "none"]
Text = Annotated[str | None, Query(max_length=500)]
After = Annotated[
    int | None,
    Query(ge=0, le=1 << 62, description="Revision to go on after; that of now without it."),
]
LastEventId = Annotated[int | None, Header(ge=0, le=1 << 62)]
AlertId = Annotated[str, Path(min_length=1, max_length=64)]
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"description": "No alert has this id."}}
NO_JSON: dict[int | str, dict[str, Any]] = {400: {"description": "The body is no text."}}


class AlertLine(BaseModel):
    """A line of the window."""

    source: str
    line: int
    text: str | None


class AlertView(BaseModel):
    """An alert: what was found, where, since when, and what was said of it."""

    id: str
    revision: int = Field(description="Rises with every change of any alert.")
    raised: datetime
    updated: datetime
    source: str
    session: str
    kind: str | None
    signature: str
    score: float | None
    p_value: float
    threshold: float | None
    count: int = Field(description="Windows that were odd in this way.")
    first_time: datetime | None
    last_time: datetime | None
    n_events: int
    early: bool = Field(description="Raised before its window had ended.")
    note: str
    verdict: Said
    until: datetime | None
    lines: list[AlertLine]
    culprits: list[dict[str, Any]] = Field(description="Worst first, as of `oddlog score`.")


class AlertPage(BaseModel):
    """Alerts, those that changed last first."""

    alerts: list[AlertView]
    next: int | None = Field(description="`before` of the next page; null at the end.")


class FeedbackBody(BaseModel):
    """What a person says of an alert; "none" takes back what was said."""

    verdict: Said
    until: datetime | None = Field(None, description="End of a snooze; a day from now without it.")


def view(stored: StoredAlert) -> AlertView:
    """Return an alert as it is shown to a program."""
    record = finite(stored.record)
    names = ("threshold", "first_time", "last_time", "n_events", "early", "note", "culprits")
    lines = [AlertLine(source=s, line=n, text=text) for s, n, text in record["lines"]]
    return AlertView(
        id=stored.id,
        revision=stored.revision,
        raised=_datetime(stored.raised),
        updated=_datetime(stored.updated),
        source=stored.source,
        session=stored.session,
        kind=stored.kind,
        signature=stored.signature,
        score=finite(stored.score),
        p_value=stored.p_value,
        count=stored.count,
        verdict=_said(stored.verdict),
        until=None if stored.until is None else _datetime(stored.until),
        lines=lines,
        **{name: record[name] for name in names},
    )


@dataclass
class Streams:
    """How many clients follow the alerts, and whether the service ends."""

    n_open: int = 0
    closing: bool = False


def routes(service: Service, streams: Streams) -> APIRouter:
    """Return the endpoints of alerts."""
    router = APIRouter(prefix="/v1/alerts", tags=["alerts"])
    router.add_api_route("", _list(service), methods=["GET"], summary="Alerts, with filters")
    router.add_api_route(
        "/stream", _stream(service, streams), methods=["GET"], response_class=StreamingResponse,
        summary="Alerts as they are raised or change, as server-sent events",
        responses={200: {"content": {"text/event-stream": {}}}, 503: {"description": "Too many."}},
    )  # fmt: skip
    router.add_api_route(
        "/{alert_id}", _one(service), methods=["GET"], summary="One alert", responses=UNKNOWN
    )
    router.add_api_route(
        "/{alert_id}/feedback", _feedback(service), methods=["POST"], responses=UNKNOWN | NO_JSON,
        summary="Say that an alert is real or a false alarm, snooze it, or take it back",
    )  # fmt: skip
    return router


def _list(service: Service) -> Callable[..., AlertPage]:
    def alerts(  # noqa: PLR0913 -- a query's parameters are its filters
        since: Annotated[datetime | None, Query(description="Raised at or after.")] = None,
        until: Annotated[datetime | None, Query(description="Raised before.")] = None,
        source: Text = None,
        session: Text = None,
        kind: Text = None,
        signature: Text = None,
        verdict: Said | None = None,
        text: Annotated[
            str | None, Query(max_length=500, description="In anything that is shown.")
        ] = None,
        before: Annotated[
            int | None, Query(ge=0, le=1 << 62, description="`next` of the page before.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_ALERTS)] = 100,
    ) -> AlertPage:
        """Return alerts, those that changed last first."""
        wanted = Wanted(
            since=_seconds(since),
            until=_seconds(until),
            source=source,
            session=session,
            kind=kind,
            signature=signature,
            verdict=verdict,
            text=text,
            before=before,
        )
        found = service.store.alerts(wanted, limit=limit)
        after = found[-1].revision if len(found) == limit else None
        return AlertPage(alerts=[view(stored) for stored in found], next=after)

    return alerts


def _one(service: Service) -> Callable[..., AlertView]:
    def alert(alert_id: AlertId) -> AlertView:
        """Return an alert."""
        return view(_found(service.store.alert(alert_id)))

    return alert


def _feedback(service: Service) -> Callable[..., AlertView]:
    def feedback(alert_id: AlertId, said: FeedbackBody) -> AlertView:
        """Keep what a person says of an alert, and return the alert as it is then."""
        return view(_found(give(service, alert_id, said)))

    return feedback


def give(service: Service, alert_id: str, said: FeedbackBody) -> StoredAlert | None:
    """Pass on what a person says of an alert; None where there is none of that id."""
    if said.verdict == "none":
        return service.feedback(alert_id, None)
    until = None
    if said.verdict == "snooze":
        tomorrow = datetime.fromtimestamp(service.clock(), UTC) + timedelta(days=1)
        until = _seconds(said.until or tomorrow)
    return service.feedback(alert_id, said.verdict, until)


def _stream(
    service: Service, streams: Streams
) -> Callable[..., Coroutine[Any, Any, StreamingResponse]]:
    async def stream(after: After = None, last_event_id: LastEventId = None) -> StreamingResponse:
        """Follow the alerts: an event `alert` for each that is raised or changes."""
        if streams.n_open >= MAX_STREAMS:
            raise HTTPException(503, "too many clients follow the alerts")
        begin = last_event_id if last_event_id is not None else after
        if begin is None:
            begin = await to_thread.run_sync(lambda: service.store.revision)
        return StreamingResponse(_events(service, streams, begin), media_type="text/event-stream")

    return stream


async def _events(service: Service, streams: Streams, after: int) -> AsyncIterator[str]:
    """Yield what changes, and now and then a comment, so that nobody in between hangs up."""
    streams.n_open += 1
    seen, silent_s = -1, 0.0
    try:
        yield ": oddlog\n\n"
        while not streams.closing:
            if service.changes != seen:
                seen = service.changes
                for stored in await to_thread.run_sync(service.store.changed, after):
                    after, silent_s, seen = stored.revision, 0.0, -1
                    shown = json.dumps(view(stored).model_dump(mode="json"), ensure_ascii=False)
                    yield f"id: {after}\nevent: alert\ndata: {shown}\n\n"
                continue
            await asyncio.sleep(POLL_S)
            silent_s += POLL_S
            if silent_s >= HEARTBEAT_S:
                silent_s = 0.0
                yield ": still here\n\n"
    finally:
        streams.n_open -= 1


def _found(stored: StoredAlert | None) -> StoredAlert:
    if stored is None:
        raise HTTPException(404, "no alert has this id")
    return stored


def _said(verdict: str) -> Said:
    return verdict if verdict in ("real", "false_alarm", "snooze") else "none"  # pyright: ignore


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _seconds(time: datetime | None) -> float | None:
    """Return a time in seconds since 1970, UTC where it names no zone, within what can be shown."""
    if time is None:
        return None
    zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
    return min(max(zoned, FIRST), LAST).timestamp()
