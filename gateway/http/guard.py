"""Who may call this door from where: the name it was called by, and the page that a browser calls it for.

A server without keys on loopback is open to every web page that its user visits, unless it looks at two headers:
`host` (a name that somebody made resolve to this machine: DNS rebinding) and `origin` (a page from elsewhere). Programs
send no origin. See https://fetch.spec.whatwg.org/#origin-header.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final, final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import Forbidden, LeptonError, Reason
from gateway.http.problem import error_response
from gateway.settings import GatewaySettings

__all__ = ["Guard"]

_EVERY: Final = "*"
_METHODS: Final = "GET, POST, OPTIONS"
_HEADERS_IN: Final = (
    "authorization, content-type, idempotency-key, last-event-id, lepton-caller, traceparent, tracestate, "
    "x-request-id"
)
_HEADERS_OUT: Final = "x-request-id, lepton-trace-id, retry-after"
_PREFLIGHT_S: Final = "600"


@final
class Guard:
    """Refuses with HOST_NOT_ALLOWED and ORIGIN_NOT_ALLOWED, before routes and before a WebSocket's handshake; answers
    the preflights of pages that may call.
    """

    def __init__(self, app: ASGIApp, settings: GatewaySettings) -> None:
        self._app = app
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.origins)
        names = {"localhost", socket.gethostname().lower()}
        self._hosts = frozenset({*names, *(name.lower() for name in settings.hosts)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            host = self._host(headers)
            origin = self._foreign_origin(headers, host)
        except LeptonError as error:
            await error_response(error)(scope, receive, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and _is_preflight(scope, headers):
            await Response(status_code=204, headers=_preflight(origin))(scope, receive, send)
        else:
            await self._app(scope, receive, _allowing(send, origin))

    def _host(self, headers: Headers) -> str:
        named = headers.getlist("host")
        if len(named) == 1 and (_EVERY in self._hosts or self._is_ours(named[0])):
            return named[0]
        raise Forbidden(
            "this door answers to loopback names, IP addresses and the names in setting gateway.hosts, and the header "
            f"host says {named[0][:128]!r}"
            if named
            else "the request has no header host",
            reason=Reason.HOST_NOT_ALLOWED,
        )

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True  # rebinding needs a name

    def _foreign_origin(self, headers: Headers, host: str) -> str | None:
        """The page's origin when it is another one than ours, and may call."""
        origins = headers.getlist("origin")
        if not origins:
            return None
        origin = origins[0].lower()
        if len(origins) == 1 and origin.partition("://")[2] == host.lower():
            return None
        if len(origins) == 1 and (origin in self._origins or _EVERY in self._origins):
            return origins[0]
        raise Forbidden(
            f"a page of {origins[0][:128]!r} may not use this door; setting gateway.origins names those that may",
            reason=Reason.ORIGIN_NOT_ALLOWED,
        )


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _preflight(origin: str) -> dict[str, str]:
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": _HEADERS_IN,
        "access-control-max-age": _PREFLIGHT_S,
        "vary": "origin",
    }


def _allowing(send: Send, origin: str) -> Send:
    async def allowing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message.get("headers", ()),
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _HEADERS_OUT.encode()),
                (b"vary", b"origin"),
            ]
        await send(message)

    return allowing
