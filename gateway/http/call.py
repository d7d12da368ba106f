"""Around every request: a span, the ids that go back, one log line, the counts. Nothing here decides anything."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import Final, final

from opentelemetry import context as otel_context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.logs import get_logger
from common.request.request_id import is_request_id
from common.rpc.caller import caller_as_said
from common.rpc.interceptors import annotating
from common.telemetry import names
from common.telemetry.trace_context import context_from
from gateway.frame import Frame
from gateway.http.metadata import metadata_of

__all__ = ["CallMiddleware", "HttpCall", "call_of"]

REQUEST_ID_HEADER: Final = "x-request-id"
TRACE_ID_HEADER: Final = "lepton-trace-id"
CLIENT_GONE: Final = 499
"""What the log says of a request whose client left; nobody gets it."""

_STATE: Final = "lepton.call"
_PROBES: Final = frozenset({"/livez", "/readyz", "/health", "/api/cluster"})
"""Asked every second by machines and by the page: neither traced nor logged."""

UNMATCHED: Final = "none"
"""Label of requests that met no route: paths are the caller's, and each would cost memory forever."""

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "WEBSOCKET"}
)

log = get_logger(__name__)


@final
@dataclass(slots=True, kw_only=True)
class HttpCall:
    """One request or one WebSocket, as its door knows it."""

    request_id: str
    """The client's `x-request-id` where it is one, else made. A name, never a key."""
    trace_id: str
    """32 hex digits."""
    span: Span
    """Current while the door works."""
    send: Send
    """Straight to the connection. Once a response has begun, its body may go this way: every layer between would cost
    each token something, and they only look at beginnings."""
    status: int = 0
    """Of the response; 0 before it begins."""


def call_of(scope: Scope) -> HttpCall:
    """The call that a scope belongs to."""
    call: HttpCall = scope[_STATE]
    return call


@final
class CallMiddleware:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, frame: Frame) -> None:
        self._app = app
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            return  # there is no lifespan
        headers = Headers(scope=scope)
        span = self._start(scope, headers)
        call = HttpCall(
            request_id=_request_id(headers),
            trace_id=f"{span.get_span_context().trace_id:032x}",
            span=span,
            send=send,
        )
        scope[_STATE] = call
        span.set_attribute(names.LEPTON_REQUEST_ID, call.request_id)
        began = self._frame.clock.now()
        token = otel_context.attach(set_span_in_context(span))
        fields: dict[str, object] = {"request_id": call.request_id, "peer": _peer(scope)}
        if caller := caller_as_said(metadata_of(headers)):
            fields["caller"] = caller
        try:
            with annotating(fields):
                await self._app(scope, receive, _telling(send, call))
        except asyncio.CancelledError:
            call.status = call.status or CLIENT_GONE
            raise
        finally:
            self._told(scope, call, self._frame.clock.now() - began, fields)
            otel_context.detach(token)

    def _start(self, scope: Scope, headers: Headers) -> Span:
        if scope["path"] in _PROBES:
            return INVALID_SPAN
        return self._frame.tracer.start_span(
            scope.get("method", "WEBSOCKET"),
            context=context_from(headers.items()),
            kind=SpanKind.SERVER,
            attributes={
                names.HTTP_REQUEST_METHOD: scope.get("method", "GET"),
                names.CLIENT_ADDRESS: (scope.get("client") or ("", 0))[0],
            },
            record_exception=False,
            set_status_on_exception=False,
        )

    def _told(
        self, scope: Scope, call: HttpCall, seconds: float, fields: dict[str, object]
    ) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope.get("method", "WEBSOCKET")
        call.span.update_name(f"{method} {route}")
        call.span.set_attribute(names.HTTP_ROUTE, route)
        call.span.set_attribute(names.HTTP_RESPONSE_STATUS_CODE, call.status)
        if call.status >= 500:
            call.span.set_attribute(names.ERROR_TYPE, str(call.status))
            call.span.set_status(Status(StatusCode.ERROR))
        line = {
            "method": method if method in _METHODS else "OTHER",
            "route": route,
            "status": call.status,
            "duration_ms": round(seconds * 1e3, 3),
            **fields,
        }
        if route in _PROBES:
            log.debug("http.call", **line)
        elif call.status == 500:
            log.warning("http.call", **line)
        else:
            log.info("http.call", **line)
        call.span.end()
        labels = {"route": route, "status": str(call.status)}
        self._frame.instruments.http_requests_total.labels(**labels).inc()


def _telling(send: Send, call: HttpCall) -> Send:
    """`send`, with the ids in the headers of the response."""
    ours = [
        (REQUEST_ID_HEADER.encode(), call.request_id.encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if call.span is not INVALID_SPAN:
        ours.append((TRACE_ID_HEADER.encode(), call.trace_id.encode()))

    async def telling(message: Message) -> None:
        kind = message["type"]
        if kind in {"http.response.start", "websocket.http.response.start"}:
            call.status = message["status"]
        elif kind == "websocket.accept":
            call.status = 101
        else:
            await send(message)
            return
        message["headers"] = [*message.get("headers", ()), *ours]
        await send(message)

    return telling


def _request_id(headers: Headers) -> str:
    given = headers.get(REQUEST_ID_HEADER, "")
    return given if is_request_id(given) else uuid.uuid4().hex


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""
