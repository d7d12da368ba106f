"""One RPC, two spans: CLIENT where it is asked, SERVER where it is answered, one trace.

The client span starts before the context is written into the metadata, so that the server span hangs below it. Both
spans end whatever becomes of the call: a cancelled one is recorded as CANCELLED, also when its caller just left.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, final
from urllib.parse import unquote

import grpc
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from common.rpc.context import InitialMetadataContext
from common.rpc.handlers import Behaviour, Continuation, wrap
from common.rpc.interceptors import code_of_cancelled, code_set_by
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.telemetry import names
from common.telemetry.trace_context import KEYS, context_from, metadata_of

__all__ = ["TracedChannel", "TracingServerInterceptor"]

_SERVER_ERRORS: Final = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""What the conventions call an error of the server; to a client everything but OK is one."""


@final
class TracingServerInterceptor(grpc.aio.ServerInterceptor):
    """A SERVER span per call, current inside the handler; its trace id goes back as `lepton-trace-id`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or not _is_traced(method):
            return handler

        async def around(inner: Behaviour, request: Any, context: Any) -> Any:
            span = self._start(method, context)
            token = otel_context.attach(set_span_in_context(span))
            traced = InitialMetadataContext(
                context, ((TRACE_ID_KEY, f"{span.get_span_context().trace_id:032x}"),)
            )
            code = grpc.StatusCode.OK
            try:
                response = await inner(request, traced)
                await traced.finish()
                code = code_set_by(context)
            except asyncio.CancelledError:
                code = code_of_cancelled(context)
                raise
            except grpc.aio.AbortError:
                code = code_set_by(context)
                raise
            except grpc.aio.BaseError as error:  # the client left before it had the answer
                code = code_of_cancelled(context)
                raise asyncio.CancelledError from error
            except BaseException as error:
                code = grpc.StatusCode.UNKNOWN
                span.record_exception(error)
                raise
            finally:
                otel_context.detach(token)
                _end(span, code, failed=code in _SERVER_ERRORS, message=_details_of(context))
            return response

        return wrap(handler, around)

    def _start(self, method: str, context: Any) -> Span:
        name = method.lstrip("/")
        attributes: dict[str, str | int] = {
            names.RPC_SYSTEM_NAME: "grpc",
            names.RPC_METHOD: name,
        }
        metadata = context.invocation_metadata() or ()
        for key, value in metadata:
            if key == REQUEST_ID_KEY:
                attributes[names.LEPTON_REQUEST_ID] = value
        host, port = _split_peer(context.peer())
        if host:
            attributes[names.CLIENT_ADDRESS] = host
        if port is not None:
            attributes[names.CLIENT_PORT] = port
        return self._tracer.start_span(
            name,
            context=context_from(metadata),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )


@final
class TracedChannel:
    """A channel with a CLIENT span per unary or server-streaming call; `address` (host:port of the server, where known)
    becomes an attribute. Everything else is the channel's own.

    It is no interceptor: gRPC runs those in a task of their own, and each message of a stream then takes a generator's
    step more on its way.
    """

    def __init__(self, channel: grpc.aio.Channel, tracer: Tracer, *, address: str = "") -> None:
        self._channel = channel
        self._tracer = tracer
        host, _, port = address.rpartition(":")
        self._server: dict[str, str | int] = {}
        if host:
            self._server[names.SERVER_ADDRESS] = host.strip("[]")
        if port.isdigit():
            self._server[names.SERVER_PORT] = int(port)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    async def __aenter__(self) -> TracedChannel:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._channel.__aexit__(*error)

    def unary_unary(self, method: str, **how: Any) -> Any:
        """See `grpc.aio.Channel.unary_unary`."""
        return self._traced(method, self._channel.unary_unary(method, **how))

    def unary_stream(self, method: str, **how: Any) -> Any:
        """See `grpc.aio.Channel.unary_stream`."""
        return self._traced(method, self._channel.unary_stream(method, **how))

    def _traced(self, method: str, start: Any) -> Any:
        if not _is_traced(method):
            return start
        name = method.lstrip("/")

        def begin(request: Any, *, metadata: Any = (), **how: Any) -> Any:
            span = self._tracer.start_span(
                name,
                kind=SpanKind.CLIENT,
                attributes={
                    names.RPC_SYSTEM_NAME: "grpc",
                    names.RPC_METHOD: name,
                    **self._server,
                },
            )
            try:
                call = start(request, metadata=_with_context(metadata, span), **how)
            except BaseException:
                _end(span, grpc.StatusCode.UNKNOWN, failed=True)
                raise
            call.add_done_callback(lambda ended: _end_client(span, ended))
            return call

        return begin


def _with_context(metadata: Any, span: Span) -> tuple[tuple[str, str | bytes], ...]:
    kept = (item for item in metadata or () if item[0] not in KEYS)
    return (*kept, *metadata_of(span).items())


def _end_client(span: Span, call: Any) -> None:
    """Called by gRPC when the call has its status, on the event loop, whoever still holds the call."""
    code: grpc.StatusCode = _result_of(call.code())
    message = _result_of(call.details()) or ""
    _end(span, code, failed=code is not grpc.StatusCode.OK, message=message)


def _result_of(done: Any) -> Any:
    """The result of a coroutine that has nothing to wait for; the call's status is there already."""
    try:
        done.send(None)
    except StopIteration as stop:
        return stop.value
    done.close()
    raise RuntimeError("the status of a finished call was not ready")


def _end(span: Span, code: grpc.StatusCode, *, failed: bool, message: str = "") -> None:
    span.set_attribute(names.RPC_RESPONSE_STATUS_CODE, code.name)
    if failed:
        span.set_attribute(names.ERROR_TYPE, code.name)
        span.set_status(Status(StatusCode.ERROR, message or code.name))
    span.end()


def _is_traced(method: str) -> bool:
    service = method.lstrip("/").rpartition("/")[0]
    return service not in names.UNTRACED_SERVICES and method not in names.UNTRACED_METHODS


def _details_of(context: Any) -> str:
    details = context.details()
    return details.decode("utf-8", "replace") if isinstance(details, bytes) else str(details or "")


def _split_peer(peer: str) -> tuple[str, int | None]:
    """`ipv4:127.0.0.1:5000` → ("127.0.0.1", 5000); `unix:/run/x` → ("/run/x", None)."""
    kind, _, rest = unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return rest, None
    host, _, port = rest.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else None
