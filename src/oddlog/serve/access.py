"""Who may ask: a bearer token, a browser that was shown it, and no other page's scripts.

Every request passes ``Guard``. A page elsewhere could make a browser on this machine ask a service
on 127.0.0.1; so the ``Host`` has to be one that the service answers to (which stops a name that was
bound anew), and what changes something has to come from the service's own page, or from no page.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oddlog.errors import ConfigError

COOKIE = "oddlog"
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/login"})
ASSETS = "/assets/"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
MIN_TOKEN = 16
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


@dataclass(frozen=True)
class Access:
    """Who may ask what.

    Attributes:
        token: What a client has to show, or None: everybody who reaches the service may ask.
        hosts: Names under which the service answers; empty for any.
        secure: It is reached over TLS, so that its cookie is for TLS alone.
    """

    token: str | None = field(default=None, repr=False)
    hosts: frozenset[str] = LOCAL_HOSTS
    secure: bool = False

    def allows(self, shown: str | None) -> bool:
        """Tell whether a token is the right one, in a time that does not tell how wrong it is."""
        if self.token is None:
            return True
        return shown is not None and hmac.compare_digest(_digest(shown), _digest(self.token))

    @property
    def cookie(self) -> str:
        """What a browser that was shown the token keeps: it proves it, and does not hold it."""
        return hmac.new((self.token or "").encode(), b"oddlog browser", hashlib.sha256).hexdigest()

    def allows_cookie(self, shown: str | None) -> bool:
        """Tell whether a browser was shown the token."""
        return shown is not None and hmac.compare_digest(_digest(shown), _digest(self.cookie))


def read_token(text: str, where: str) -> str:
    """Return the token that a file holds.

    Raises:
        ConfigError: It is too short to keep anybody out, or more than one word.
    """
    token = text.strip()
    if len(token) < MIN_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise ConfigError(
            f"{where}: a token is one word of at least {MIN_TOKEN} ASCII characters; "
            "make one with: openssl rand -hex 32"
        )
    return token


class Guard:
    """Lets through what may pass, as ASGI middleware, and adds the headers of every answer.

    Args:
        app: What is guarded.
        access: Who may ask what.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name for name, _ in message["headers"]}
                message["headers"] += [pair for pair in HEADERS if pair[0] not in have]
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if self._access.hosts and _name(host) not in self._access.hosts:
            return _refused(421, "not a name of this service; see --allow-host")
        origin = headers.get("origin")
        if scope["method"] not in SAFE_METHODS and origin and origin.partition("://")[2] != host:
            return _refused(403, "asked for by another page")
        path = scope["path"]
        if path in OPEN_PATHS or path.startswith(ASSETS) or self._known(headers):
            return None
        if path == "/" and scope["method"] == "GET":
            return RedirectResponse("/login", 303)
        return _refused(401, "show the token: Authorization: Bearer ...")

    def _known(self, headers: Mapping[str, str]) -> bool:
        if self._access.token is None:
            return True
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._access.allows(shown.strip())
        return self._access.allows_cookie(_cookie(headers.get("cookie", "")))


def _digest(text: str) -> bytes:
    """Return a digest, so that what is compared is always of one length."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _name(host: str) -> str:
    """Return the name in a ``Host`` header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _cookie(header: str) -> str | None:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return found.value if found else None


def _refused(status: int, detail: str) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"detail": detail}, status, headers)
