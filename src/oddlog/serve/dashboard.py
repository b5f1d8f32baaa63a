"""The page for a person on call: alerts with their lines, what came lately, and the feedback.

It is written on the server, works without its script, and needs nothing from elsewhere. Every value
is escaped as in a report (``report.html``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, cast, get_args
from urllib.parse import parse_qs

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from oddlog.explain import telling
from oddlog.report.html import environment
from oddlog.serve.access import COOKIE, Access
from oddlog.serve.alerting import AlertId, FeedbackBody, Said, give
from oddlog.serve.charts import draw
from oddlog.serve.service import Service
from oddlog.serve.store import StoredAlert, Wanted

N_ALERTS, N_TEMPLATES, N_CULPRITS = 50, 12, 5
MAX_FORM = 4096
COOKIE_S = 30 * 86_400
Show = Literal["open", "real", "false_alarm", "snooze", "all"]
SNOOZES = {"an hour": 1, "a day": 24, "a week": 168}
ASSETS = {
    "style.css": ("text/css", (("oddlog.report", "style.css"), ("oddlog.serve", "dashboard.css"))),
    "icon.svg": ("image/svg+xml", (("oddlog.serve", "icon.svg"),)),
    "dashboard.js": ("text/javascript", (("oddlog.serve", "dashboard.js"),)),
}
"""What ``/assets/`` holds: media type, and the files that it is made of, by package."""


@dataclass(frozen=True)
class Line:
    """A line of an alert.

    Attributes:
        source: Its source.
        number: Its number there.
        text: As received; None where it is not kept.
        culprits: Records of what is odd about it; most lines have none.
    """

    source: str
    number: int
    text: str | None
    culprits: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Row:
    """An alert as the page shows it.

    Attributes:
        it: As stored.
        message: What the worst culprit says, or what there is to say instead.
        worst: The worst culprit's record, or None.
        lines: With the culprits' marked.
        apart: Culprits whose line is not among them.
    """

    it: StoredAlert
    message: str
    worst: Mapping[str, Any] | None
    lines: tuple[Line, ...]
    apart: tuple[Mapping[str, Any], ...]


def row(stored: StoredAlert) -> Row:
    """Return an alert with its lines and culprits put together."""
    record = stored.record
    told = [_marked(culprit) for culprit in telling(record["culprits"], N_CULPRITS)]
    lines = tuple(
        Line(
            source,
            number,
            text,
            tuple(c for c in told if (c["source"], c["line"]) == (source, number)),
        )
        for source, number, text in record["lines"]
    )
    shown = {id(culprit) for line in lines for culprit in line.culprits}
    return Row(
        it=stored,
        message=told[0]["message"] if told else record["note"] or stored.signature,
        worst=told[0] if told else None,
        lines=lines,
        apart=tuple(culprit for culprit in told if id(culprit) not in shown),
    )


def _marked(culprit: Mapping[str, Any]) -> dict[str, Any]:
    return {**culprit, "novel": culprit["template_id"] < 0}


def render(service: Service, show: Show, text: str, *, can_leave: bool) -> str:
    """Return the page.

    Args:
        service: What it shows.
        show: Which alerts.
        text: Alerts that hold this text; empty for all.
        can_leave: Whether there is somebody to log out.
    """
    now = service.clock()
    verdict = {"open": "none", "all": None}.get(show, show)
    found = service.store.alerts(Wanted(verdict=verdict, text=text or None), limit=N_ALERTS + 1)
    counts = service.store.counts()
    with service.worker.watching:
        threshold, templates = service.threshold, service.watcher.unknown_templates(N_TEMPLATES)
    minutes = service.worker.minutes.rows()
    stats = service.worker.stats
    return (
        environment("oddlog.serve", "oddlog.report")
        .get_template("dashboard.html.jinja")
        .render(
            rows=[row(stored) for stored in found[:N_ALERTS]],
            more=len(found) > N_ALERTS,
            shows=[(name, _count(counts, name)) for name in get_args(Show)],
            show=show,
            text=text,
            n_open=counts.get("none", 0),
            stats=stats,
            n_queued=service.inbox.n_lines,
            per_minute=_per_minute(minutes, now),
            charts=draw(minutes, now, threshold),
            threshold=threshold,
            templates=templates,
            unready=service.unready(),
            about=service.pipeline.about(),
            now=datetime.fromtimestamp(now, UTC),
            snoozes=SNOOZES,
            asset=asset_url,
            can_leave=can_leave,
            clock=_clock,
            revision=service.store.revision,
        )
    )


def routes(service: Service, access: Access) -> APIRouter:
    """Return the page's endpoints; they are not part of the API that OpenAPI describes."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", _page(service, access), methods=["GET"])
    router.add_api_route("/assets/{name}", _asset, methods=["GET"])
    router.add_api_route("/alerts/{alert_id}", _form(service), methods=["POST"])
    router.add_api_route("/login", _ask(access), methods=["GET"])
    router.add_api_route("/login", _login(access), methods=["POST"])
    router.add_api_route("/logout", _logout, methods=["POST"])
    return router


def _page(service: Service, access: Access) -> Callable[..., HTMLResponse]:
    def page(show: Show = "open", q: Annotated[str, Query(max_length=200)] = "") -> HTMLResponse:
        return HTMLResponse(render(service, show, q, can_leave=access.token is not None))

    return page


def _form(service: Service) -> Callable[..., Any]:
    async def feedback(request: Request, alert_id: AlertId) -> Response:
        form = await _read_form(request)
        verdict = form.get("verdict", "")
        if verdict not in get_args(Said):
            raise HTTPException(422, "no such verdict")
        said = FeedbackBody(verdict=cast("Said", verdict), until=None)
        if verdict == "snooze":
            hours = SNOOZES.get(form.get("for", ""), 24)
            until = datetime.fromtimestamp(service.clock(), UTC) + timedelta(hours=hours)
            said = said.model_copy(update={"until": until})
        if await to_thread.run_sync(give, service, alert_id, said) is None:
            raise HTTPException(404, "no alert has this id")
        return RedirectResponse(f"/#a-{alert_id}", 303)

    return feedback


def _ask(access: Access) -> Callable[..., Response]:
    def ask() -> Response:
        if access.token is None:
            return RedirectResponse("/", 303)
        return _login_page(wrong=False)

    return ask


def _login(access: Access) -> Callable[..., Any]:
    async def login(request: Request) -> Response:
        form = await _read_form(request)
        if not access.allows(form.get("token", "").strip()):
            return _login_page(wrong=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, access.cookie, max_age=COOKIE_S, httponly=True, samesite="strict",
            secure=access.secure,
        )  # fmt: skip
        return answer

    return login


def _logout() -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _login_page(*, wrong: bool) -> HTMLResponse:
    template = environment("oddlog.serve", "oddlog.report").get_template("login.html.jinja")
    return HTMLResponse(template.render(wrong=wrong, asset=asset_url), 401 if wrong else 200)


async def _read_form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "too large a form")
    fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}


def _asset(name: str) -> Response:
    if name not in ASSETS:
        raise HTTPException(404, "no such file")
    headers = {"cache-control": "max-age=31536000, immutable"}
    return Response(_content(name), media_type=ASSETS[name][0], headers=headers)


def asset_url(name: str) -> str:
    """Return where an asset is; the address changes with its content."""
    return f"/assets/{name}?{hashlib.sha256(_content(name)).hexdigest()[:12]}"


@cache
def _content(name: str) -> bytes:
    parts = [
        files(package).joinpath("page", file).read_bytes() for package, file in ASSETS[name][1]
    ]
    return b"\n".join(parts)


def _count(counts: Mapping[str, int], show: str) -> int:
    return (
        sum(counts.values()) if show == "all" else counts.get({"open": "none"}.get(show, show), 0)
    )


def _per_minute(minutes: Sequence[Any], now: float) -> float:
    """Return lines a minute over the last five whole minutes."""
    last = int(now // 60)
    return sum(m.n_lines for m in minutes if last - 5 <= m.minute < last) / 5


def _clock(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
