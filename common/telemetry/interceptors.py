"""One RPC, two spans: CLIENT where it is asked, SERVER where it is answered, one trace.

The client span starts before the context is written into the metadata, so that the server span hangs below it. Both
spans end whatever becomes of the call: a cancelled one is recorded as CANCELLED, also when its caller just left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final, final
from urllib.parse import unquote

import grpc
from opentelemetry import context as otel_context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.rpc.context import InitialMetadataContext
from common.rpc.handlers import Behaviour, Continuation, wrap
from common.rpc.interceptors import code_of_cancelled, code_set_by
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.telemetry import names

__all__ = ["TracingServerInterceptor", "tracing_client_interceptors"]

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_CARRIED: Final = ("traceparent", "tracestate")

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
        carrier: dict[str, str] = {}
        for key, value in context.invocation_metadata() or ():
            if key in _CARRIED and isinstance(value, str):
                carrier[key] = value
            elif key == REQUEST_ID_KEY:
                attributes[names.LEPTON_REQUEST_ID] = value
        host, port = _split_peer(context.peer())
        if host:
            attributes[names.CLIENT_ADDRESS] = host
        if port is not None:
            attributes[names.CLIENT_PORT] = port
        return self._tracer.start_span(
            name,
            context=_PROPAGATOR.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        )


def tracing_client_interceptors(
    tracer: Tracer, *, address: str = ""
) -> list[grpc.aio.ClientInterceptor]:
    """Interceptors for a channel: a CLIENT span per unary or server-streaming call.

    `address` (host:port of the server, where known) becomes an attribute.
    """
    client = _ClientSpans(tracer, address)
    return [_UnaryUnary(client), _UnaryStream(client)]


@final
class _ClientSpans:
    def __init__(self, tracer: Tracer, address: str) -> None:
        self._tracer = tracer
        host, _, port = address.rpartition(":")
        self._server: dict[str, str | int] = {}
        if host:
            self._server[names.SERVER_ADDRESS] = host.strip("[]")
        if port.isdigit():
            self._server[names.SERVER_PORT] = int(port)

    async def call(
        self, continuation: Any, details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        raw: Any = details.method  # grpc.aio hands over bytes, whatever its types say
        method: str = raw.decode() if isinstance(raw, bytes) else raw
        if not _is_traced(method):
            return await continuation(details, request)
        name = method.lstrip("/")
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
            call = await continuation(_with_context(details, span), request)
        except asyncio.CancelledError:
            _end(span, grpc.StatusCode.CANCELLED, failed=True)
            raise
        except BaseException as error:
            code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
            _end(span, code or grpc.StatusCode.UNKNOWN, failed=True)
            raise
        call.add_done_callback(lambda ended: _end_client(span, ended))
        return call


@final
class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, spans: _ClientSpans) -> None:
        self._spans = spans

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._spans.call(continuation, client_call_details, request)


@final
class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, spans: _ClientSpans) -> None:
        self._spans = spans

    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        return await self._spans.call(continuation, client_call_details, request)


def _with_context(details: grpc.aio.ClientCallDetails, span: Span) -> grpc.aio.ClientCallDetails:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context=set_span_in_context(span))
    kept: Iterable[Any] = (item for item in details.metadata or () if item[0] not in _CARRIED)
    return grpc.aio.ClientCallDetails(
        details.method,
        details.timeout,
        grpc.aio.Metadata(*kept, *carrier.items()),
        details.credentials,
        details.wait_for_ready,
    )


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
