"""A real OTLP collector for tests: a gRPC server on loopback that keeps the spans it is sent.

It lives in threads of its own, so an exporter that blocks the event loop still reaches it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from tests.support.patience import PATIENCE_S

__all__ = ["OtlpSink", "SinkSpan"]

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
_STATUSES = ("unset", "ok", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSpan:
    """One span as it came over the wire."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    status: str
    start_unix_ns: int
    end_unix_ns: int
    attributes: dict[str, Any]
    links: tuple[str, ...]
    """Span ids."""
    resource: dict[str, Any]

    @property
    def service(self) -> str:
        return str(self.resource.get("service.name", ""))

    @property
    def instance(self) -> str:
        return str(self.resource.get("service.instance.id", ""))


class OtlpSink:
    """`async with OtlpSink() as sink`: `sink.address` for OTEL_EXPORTER_OTLP_ENDPOINT, then `sink.wait_for`."""

    def __init__(self) -> None:
        self._spans: list[SinkSpan] = []
        self._server: grpc.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self.address = ""

    @property
    def spans(self) -> list[SinkSpan]:
        """What came so far."""
        return list(self._spans)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = grpc.server(ThreadPoolExecutor(4, thread_name_prefix="otlp-sink"))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
            _Servicer(self._receive), self._server
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        self.address = f"127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await asyncio.to_thread(self._server.stop(0).wait)

    async def wait_for(
        self, predicate: Callable[[list[SinkSpan]], bool], *, within_s: float = PATIENCE_S
    ) -> list[SinkSpan]:
        """The spans, once `predicate` holds for them; AssertionError with what is there after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                while not predicate(spans := self.spans):
                    self._arrived.clear()
                    if len(self._spans) == len(spans):
                        await self._arrived.wait()
        except TimeoutError:
            there = [(s.service, s.name, s.kind) for s in self.spans]
            raise AssertionError(f"not within {within_s:g} s; the sink has {there}") from None
        return spans

    def _receive(self, spans: list[SinkSpan]) -> None:
        self._spans.extend(spans)
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived.set)


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receive: Callable[[list[SinkSpan]], None]) -> None:
        self._receive = receive

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive(
            [
                _read(span, _plain(of_resource.resource.attributes))
                for of_resource in request.resource_spans
                for of_scope in of_resource.scope_spans
                for span in of_scope.spans
            ]
        )
        return trace_service_pb2.ExportTraceServiceResponse()


def _read(span: Any, resource: dict[str, Any]) -> SinkSpan:
    return SinkSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=_KINDS[span.kind],
        status=_STATUSES[span.status.code],
        start_unix_ns=span.start_time_unix_nano,
        end_unix_ns=span.end_time_unix_nano,
        attributes=_plain(span.attributes),
        links=tuple(link.span_id.hex() for link in span.links),
        resource=resource,
    )


def _plain(attributes: Any) -> dict[str, Any]:
    return {item.key: _value(item.value) for item in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None
