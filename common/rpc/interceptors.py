"""Server interceptors without policy: errors become statuses, calls become one log line.

Order in `RpcServer`, outer to inner: `TracingServerInterceptor`, `CallLogInterceptor`, `ErrorInterceptor`. So the log
line knows the trace, and both see the status that the client sees.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Never, final

import grpc
from opentelemetry.trace import format_trace_id, get_current_span

from common.clock import Clock, SystemClock
from common.errors import Internal, LeptonError, Reason
from common.logs import get_logger
from common.rpc.caller import caller_as_said
from common.rpc.handlers import Behaviour, Continuation, wrap
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.rpc.status import DETAILS_KEY, codes_of, details_of
from common.telemetry.names import LEPTON_REASON, UNTRACED_METHODS, UNTRACED_SERVICES

__all__ = [
    "CallLogInterceptor",
    "ErrorInterceptor",
    "annotate",
    "annotating",
    "code_of_cancelled",
    "code_set_by",
]

MESSAGE_BYTES_MAX: Final = 1024
"""Longest error message on the wire. It travels three times in one header block, and peers refuse blocks over 8 KB."""

ABORT_S_MAX: Final = 2.0
"""Longest that a failed call waits for its client to take the status, seconds; then gRPC alone waits."""

_DEADLINE_SLACK_S: Final = 0.05
"""A client resets the stream at its deadline, which reaches us a little before our own timer."""

_annotations: ContextVar[dict[str, object] | None] = ContextVar("rpc_annotations", default=None)

log = get_logger(__name__)


def annotate(**fields: object) -> None:
    """Adds fields to the log line of the call that runs now; without one it does nothing."""
    found = _annotations.get()
    if found is not None:
        found.update(fields)


@contextmanager
def annotating(fields: dict[str, object]) -> Iterator[None]:
    """Within the block `annotate` adds to `fields`: the log line of a call, whatever door it came through."""
    token = _annotations.set(fields)
    try:
        yield
    finally:
        _annotations.reset(token)


@final
class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps exceptions of handlers to statuses.

    `LeptonError` → its code, message and `grpc-status-details-bin`; trailing metadata that the handler set stays. Any
    other exception → logged with its stack, and `INTERNAL` that tells nothing but the trace id. Cancellation passes.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or _is_foreign(handler_call_details.method):
            return handler
        method = handler_call_details.method

        async def around(inner: Behaviour, request: Any, context: Any) -> Any:
            try:
                try:
                    return await inner(request, context)
                except LeptonError as error:
                    refusal = error
                except grpc.aio.BaseError:
                    raise
                except Exception:
                    log.exception("rpc.handler_failed", method=method)
                    refusal = _internal()
                await _abort(context, refusal)
            except grpc.aio.AbortError:
                raise
            except grpc.aio.BaseError as error:
                # The client is gone, and a write or an abort noticed it before gRPC cancelled us.
                log.debug("rpc.peer_gone", method=method, error=str(error))
                raise asyncio.CancelledError from error

        return wrap(handler, around)


@final
class CallLogInterceptor(grpc.aio.ServerInterceptor):
    """One line per call, `rpc.call`: method, code, duration, peer, caller, request id, and what `annotate` added."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or _is_foreign(handler_call_details.method):
            return handler
        method = handler_call_details.method

        async def around(inner: Behaviour, request: Any, context: Any) -> Any:
            began = self._clock.now()
            fields: dict[str, object] = {
                "peer": context.peer()
            }  # gRPC forgets it when a call ends early
            metadata = context.invocation_metadata() or ()
            for key, value in metadata:
                if key == REQUEST_ID_KEY:
                    fields["request_id"] = value
            if caller := caller_as_said(metadata):
                fields["caller"] = caller
            code = grpc.StatusCode.OK
            try:
                with annotating(fields):
                    response = await inner(request, context)
                code = code_set_by(context)
            except asyncio.CancelledError:
                code = code_of_cancelled(context)
                raise
            except grpc.aio.AbortError:
                code = code_set_by(context)
                raise
            except BaseException:
                code = grpc.StatusCode.UNKNOWN  # nothing inside maps errors: gRPC will say UNKNOWN
                raise
            finally:
                _write(method, code, self._clock.now() - began, fields)
            return response

        return wrap(handler, around)


_OUR_FAULT: Final = frozenset(
    {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
)


def _write(method: str, code: grpc.StatusCode, seconds: float, fields: dict[str, object]) -> None:
    line = {
        "method": method.lstrip("/"),
        "code": code.name,
        "duration_ms": round(seconds * 1e3, 3),
        **fields,
    }
    if method in UNTRACED_METHODS:
        log.debug("rpc.call", **line)
    elif code in _OUR_FAULT:
        log.warning("rpc.call", **line)
    else:
        log.info("rpc.call", **line)


def code_of_cancelled(context: Any) -> grpc.StatusCode:
    """Why gRPC cancelled a handler: its deadline passed, or the client went away."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= _DEADLINE_SLACK_S:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def code_set_by(context: Any) -> grpc.StatusCode:
    """The code that a handler or an abort left in the context; gRPC keeps 0 or None while nobody set one."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    for known in grpc.StatusCode:
        if known.value[0] == code:
            return known
    return grpc.StatusCode.OK


def _is_foreign(method: str) -> bool:
    return method.lstrip("/").rpartition("/")[0] in UNTRACED_SERVICES


def _internal() -> Internal:
    trace_id = format_trace_id(get_current_span().get_span_context().trace_id)
    return Internal(
        f"something broke on our side; the log of this process says what (trace {trace_id})",
        reason=Reason.INTERNAL,
    )


async def _abort(context: Any, error: LeptonError) -> Never:
    short = copy.copy(error)
    short.message = _cut(error.message)
    annotate(reason=error.reason.value, error=short.message)
    get_current_span().set_attribute(LEPTON_REASON, error.reason.value)
    trailing = (*(context.trailing_metadata() or ()), *_ids(), (DETAILS_KEY, details_of(short)))
    try:
        async with asyncio.timeout(ABORT_S_MAX):
            await context.abort(codes_of(short).grpc, short.message, trailing)
    except TimeoutError:
        # It waits behind messages that the client does not take, and goes on waiting without us.
        raise asyncio.CancelledError from None
    raise AssertionError("abort returns by raising")


def _ids() -> list[tuple[str, str]]:
    """What to ask us about. Also in the initial metadata, but gRPC may drop those when a call ends at once."""
    ids = []
    if request_id := (_annotations.get() or {}).get("request_id"):
        ids.append((REQUEST_ID_KEY, str(request_id)))
    span_context = get_current_span().get_span_context()
    if span_context.is_valid:
        ids.append((TRACE_ID_KEY, format_trace_id(span_context.trace_id)))
    return ids


def _cut(message: str) -> str:
    data = message.encode("utf-8", "replace")
    if len(data) <= MESSAGE_BYTES_MAX:
        return data.decode("utf-8")
    return data[: MESSAGE_BYTES_MAX - 3].decode("utf-8", "ignore") + "…"
