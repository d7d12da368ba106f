"""Errors as HTTP responses, in the shape that OpenAI's clients read. Doors with another dialect make their own."""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
from opentelemetry.trace import get_current_span
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from common.errors import Internal, InvalidRequest, LeptonError, NotFound, Reason, Unsupported
from common.logs import get_logger
from common.rpc.interceptors import annotate
from common.rpc.status import codes_of
from common.telemetry.names import LEPTON_REASON
from gateway.http.call import call_of

__all__ = [
    "answer_error",
    "answer_http_exception",
    "answer_unexpected",
    "error_response",
    "explained",
    "internal",
    "noted",
]

MESSAGE_CHARS_MAX: Final = 2048
"""Longest message in a body."""

_TYPES: Final = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
    499: "cancelled_error",
    500: "server_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
"""HTTP status → OpenAI's `type`; statuses below 500 that are not here are requests that must change."""

log = get_logger(__name__)


def explained(error: LeptonError) -> dict[str, Any]:
    """The object under `error` of a body or of an event in a stream. `code` is our reason in lower case."""
    status = codes_of(error).http
    message = error.message.encode("utf-8", "replace").decode("utf-8")
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[: MESSAGE_CHARS_MAX - 1] + "…"
    told: dict[str, Any] = {
        "message": message,
        "type": "invalid_request_error"
        if isinstance(error, Unsupported)
        else _TYPES.get(status, "invalid_request_error"),
        "param": error.field,
        "code": error.reason.value.lower(),
    }
    if error.retry_after_s is not None:
        told["retry_after_s"] = error.retry_after_s
    return told


def error_response(error: LeptonError, *, headers: dict[str, str] | None = None) -> Response:
    """The whole response of a call that was refused or failed before its answer began."""
    noted(error)
    sent = dict(headers or {})
    if error.retry_after_s is not None:
        sent["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
        sent["retry-after-ms"] = str(math.ceil(error.retry_after_s * 1e3))
    if not error.retryable:
        sent["x-should-retry"] = "false"  # OpenAI's clients would try a 409 again
    body = msgspec.json.encode({"error": explained(error)})
    return Response(body, codes_of(error).http, sent, media_type="application/json")


def noted(error: LeptonError) -> None:
    """Writes an error into the log line and the span of the call."""
    annotate(reason=error.reason.value, error=error.message[:MESSAGE_CHARS_MAX])
    get_current_span().set_attribute(LEPTON_REASON, error.reason.value)


def internal(error: BaseException, scope: Scope) -> Internal:
    """What a caller is told of a fault of ours, which goes into the log with its stack."""
    try:
        raise error
    except BaseException:
        log.exception("http.handler_failed", path=scope["path"])
    return Internal(
        "something broke on our side; the log of this process says what "
        f"(trace {call_of(scope).trace_id})",
        reason=Reason.INTERNAL,
    )


async def answer_error(request: Request, error: Exception) -> Response:
    """Exception handler for `LeptonError`."""
    assert isinstance(error, LeptonError)  # noqa: S101
    return error_response(error)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Exception handler for whatever nobody expected."""
    return error_response(internal(error, request.scope))


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Exception handler for what the router of paths raises."""
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 405:
        taken = Headers(error.headers).get("allow", "other methods")
        refused: LeptonError = InvalidRequest(
            f"this path takes {taken}, not {request.method}", reason=Reason.METHOD_NOT_ALLOWED
        )
    elif error.status_code == 404:
        meant = _meant(request)
        refused = NotFound(
            f"there is nothing at this path; {meant}/docs lists what there is",
            reason=Reason.ROUTE_NOT_FOUND,
        )
    else:
        refused = InvalidRequest(str(error.detail), reason=Reason.MALFORMED_MESSAGE)
    return error_response(refused, headers=dict(error.headers or {}))


def _meant(request: Request) -> str:
    """A base URL that lacks its /v1, or has it twice, is the usual reason for a 404."""
    path = request.url.path
    known = {getattr(route, "path", None) for route in request.app.routes}
    for likely in (f"/v1{path}", path.removeprefix("/v1")):
        if likely != path and likely in known:
            return f"{likely} is there, and "
    return ""
