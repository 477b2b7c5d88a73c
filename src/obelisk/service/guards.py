"""What a request must pass before it is read: the host it names, the page it comes from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from obelisk.service.problems import ProblemError

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: https://tile.openstreetmap.org;"
        " connect-src 'self';"
        " manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), geolocation=(self), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware: refuses foreign hosts and origins, and sets the headers that keep a page to itself.

    A web page of somebody else may let its visitors' browsers call a service on their machine, by a name that it makes
    point there (DNS rebinding) or outright. So a request must name an IP address, ``localhost`` or one of ``hosts``,
    and one that a browser sends for a page must come from the service's own page, or from one of ``origins``.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], origins: Iterable[str]) -> None:
        self._app = app
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "").rstrip("/").lower()

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    sent.setdefault(name, value)
                if origin in self._origins:
                    sent["access-control-allow-origin"] = origin
                    sent["cross-origin-resource-policy"] = "cross-origin"
                    sent.add_vary_header("Origin")
            await send(message)

        problem = self._refuse(scope, headers, origin)
        app = problem.response() if problem else self._app
        if not problem and scope["method"] == "OPTIONS" and origin in self._origins:
            app = preflight_answer()
        await app(scope, receive, send_guarded)

    def _refuse(self, scope: Scope, headers: Headers, origin: str) -> ProblemError | None:
        """Return why a request is refused, or None."""
        host = headers.get("host", "").lower()
        if not self._may_name(host):
            fix = "start the service with `--allow-host NAME`, or call it by its address"
            return ProblemError(HTTPStatus.MISDIRECTED_REQUEST, "this service is not known by that name", fix=fix)
        foreign = origin and origin not in self._origins and urlsplit(origin).netloc != host
        site = headers.get("sec-fetch-site", "none")
        if not origin and site == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            foreign = True
        if foreign and (scope["method"] not in SAFE_METHODS or headers.get("sec-fetch-mode") == "cors"):
            fix = "start the service with `--allow-origin ORIGIN`"
            return ProblemError(HTTPStatus.FORBIDDEN, "pages of other sites may not call this service", fix=fix)
        return None

    def _may_name(self, host: str) -> bool:
        """Return whether clients may call the service by what they wrote into ``Host``."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def preflight_answer() -> ASGIApp:
    """Return the answer to a browser that asks whether a page of an allowed origin may call."""
    from starlette.responses import Response

    allowed = {
        "access-control-allow-methods": "GET, POST, DELETE, PATCH",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "600",
    }
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=allowed)
