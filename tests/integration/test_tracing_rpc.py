"""Spans of real calls: who hangs under whom, and how each end of a call is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from common.errors import Overloaded
from common.rpc.channel import open_channel
from common.rpc.interceptors import CallLogInterceptor, ErrorInterceptor
from common.rpc.metadata import REQUEST_ID_KEY, TRACE_ID_KEY
from common.rpc.server import RpcServer, raw_unary_stream, raw_unary_unary
from common.telemetry.interceptors import TracedChannel, TracingServerInterceptor
from common.telemetry.settings import TelemetrySettings
from common.telemetry.setup import OTLP_ENDPOINT, Telemetry, setup_telemetry
from lepton.v1 import inference_pb2
from lepton.v1.inference_pb2_grpc import InferenceServiceStub
from tests.support.otlp import OtlpSink
from tests.support.patience import PATIENCE_S

SERVICE = "lepton.v1.InferenceService"
STREAM = f"/{SERVICE}/Generate"
UNARY = f"/{SERVICE}/CountTokens"
BYTES_MAX = 1 << 20
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


class Spans:
    """A tracer whose ended spans can be awaited."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("test")

    @property
    def ended(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    async def wait(self, num: int) -> tuple[ReadableSpan, ...]:
        """CLIENT spans before SERVER spans before INTERNAL ones, once `num` have ended."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.ended) < num:  # noqa: ASYNC110 - spans end in callbacks of gRPC
                await asyncio.sleep(0.005)  # noqa: TID251
        order = (SpanKind.CLIENT, SpanKind.SERVER, SpanKind.INTERNAL)
        spans = sorted(self.ended, key=lambda span: order.index(span.kind))
        assert len(spans) == num
        return tuple(spans)


class Handlers:
    """Generate: "hang" waits after one message, "full" refuses after one, "broken" raises; else two messages."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self.seen: list[str] = []
        self.initial: tuple[tuple[str, str], ...] | None = None

    async def stream(self, payload: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        if self.initial is not None:
            await context.send_initial_metadata(self.initial)
        self._note()
        yield b"one"
        self._note()
        if payload == b"hang":
            await asyncio.Event().wait()
        if payload == b"full":
            raise Overloaded("full")
        if payload == b"broken":
            raise ValueError("inside")
        with self._spans.tracer.start_as_current_span("work"):
            yield b"two"
        self._note()

    async def unary(self, payload: bytes, context: Any) -> bytes:
        self._note()
        return b""

    def _note(self) -> None:
        self.seen.append(f"{get_current_span().get_span_context().span_id:016x}")


@pytest.fixture(name="spans")
async def _spans() -> Spans:
    return Spans()


@pytest.fixture(name="handlers")
async def _handlers(spans: Spans) -> Handlers:
    return Handlers(spans)


@pytest.fixture(name="port")
async def _port(spans: Spans, handlers: Handlers) -> AsyncIterator[int]:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        interceptors=[
            TracingServerInterceptor(spans.tracer),
            CallLogInterceptor(),
            ErrorInterceptor(),
        ],
        message_bytes_max=BYTES_MAX,
    )
    server.add_service(
        SERVICE,
        {
            "Generate": raw_unary_stream(handlers.stream),
            "CountTokens": raw_unary_unary(handlers.unary),
        },
    )
    server.add_service("lepton.v1.WorkerService", {"WatchLoad": raw_unary_stream(handlers.stream)})
    yield await server.start()
    await server.stop(0)


@pytest.fixture(name="channel")
async def _channel(port: int, spans: Spans) -> AsyncIterator[grpc.aio.Channel]:
    """Traced on both sides."""
    address = f"127.0.0.1:{port}"
    plain = open_channel(address, message_bytes_max=BYTES_MAX)
    async with TracedChannel(plain, spans.tracer, address=address) as channel:
        yield channel


@pytest.fixture(name="plain")
async def _plain(port: int) -> AsyncIterator[grpc.aio.Channel]:
    """A client without tracing."""
    async with open_channel(f"127.0.0.1:{port}", message_bytes_max=BYTES_MAX) as channel:
        yield channel


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.get_span_context()
    assert context
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def _parent(span: ReadableSpan) -> str | None:
    return f"{span.parent.span_id:016x}" if span.parent else None


def _code(span: ReadableSpan) -> Any:
    return (span.attributes or {}).get("rpc.response.status_code")


async def test_the_server_span_hangs_under_the_client_span(
    channel: grpc.aio.Channel, spans: Spans, port: int
) -> None:
    assert [m async for m in channel.unary_stream(STREAM)(b"")] == [b"one", b"two"]
    client, server, work = await spans.wait(3)
    assert _parent(client) is None
    assert _parent(server) == _ids(client)[1]
    assert _parent(work) == _ids(server)[1]
    assert len({_ids(span)[0] for span in (client, server, work)}) == 1
    assert client.name == server.name == "lepton.v1.InferenceService/Generate"
    assert dict(client.attributes or {}) == {
        "rpc.system.name": "grpc",
        "rpc.method": "lepton.v1.InferenceService/Generate",
        "server.address": "127.0.0.1",
        "server.port": port,
        "rpc.response.status_code": "OK",
    }
    attributes = dict(server.attributes or {})
    assert attributes.pop("client.port")
    assert attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": "lepton.v1.InferenceService/Generate",
        "client.address": "127.0.0.1",
        "rpc.response.status_code": "OK",
    }
    assert client.status.status_code is server.status.status_code is StatusCode.UNSET


async def test_unary_calls_are_the_same(channel: grpc.aio.Channel, spans: Spans) -> None:
    assert await channel.unary_unary(UNARY)(b"") == b""
    client, server = await spans.wait(2)
    assert _parent(server) == _ids(client)[1]
    assert (_code(client), _code(server)) == ("OK", "OK")


async def test_generated_stubs_are_traced_too(channel: grpc.aio.Channel, spans: Spans) -> None:
    stub = InferenceServiceStub(channel)
    await stub.CountTokens(inference_pb2.CountTokensRequest(text="x"))
    client, server = await spans.wait(2)
    assert client.name == server.name == "lepton.v1.InferenceService/CountTokens"


async def test_the_callers_trace_goes_on(plain: grpc.aio.Channel, spans: Spans) -> None:
    metadata = (
        ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),
        ("tracestate", "vendor=1"),
        (REQUEST_ID_KEY, "r-1"),
    )
    await plain.unary_unary(UNARY)(b"", metadata=metadata)
    (server,) = await spans.wait(1)
    assert (_ids(server)[0], _parent(server)) == (TRACE_ID, PARENT_ID)
    context = server.get_span_context()
    assert context
    assert context.trace_state.get("vendor") == "1"
    assert (server.attributes or {})["lepton.request_id"] == "r-1"


@pytest.mark.parametrize(
    "traceparent",
    ["", "junk", f"00-{'0' * 32}-{PARENT_ID}-01", f"00-{TRACE_ID}-{PARENT_ID}", "x" * 5000],
)
async def test_a_broken_traceparent_begins_a_new_trace(
    traceparent: str, plain: grpc.aio.Channel, spans: Spans
) -> None:
    await plain.unary_unary(UNARY)(b"", metadata=(("traceparent", traceparent),))
    (server,) = await spans.wait(1)
    assert _parent(server) is None


async def test_the_span_is_current_inside_the_handler_all_the_time(
    channel: grpc.aio.Channel, spans: Spans, handlers: Handlers
) -> None:
    await asyncio.gather(*(_drain(channel) for _ in range(5)))
    ended = await spans.wait(15)
    servers = [_ids(span)[1] for span in ended if span.kind is SpanKind.SERVER]
    assert sorted(handlers.seen) == sorted(servers * 3)
    assert not get_current_span().get_span_context().is_valid


async def _drain(channel: grpc.aio.Channel, payload: bytes = b"") -> None:
    async for _ in channel.unary_stream(STREAM)(payload):
        pass


async def test_log_lines_inside_a_call_know_the_trace(
    channel: grpc.aio.Channel, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    current: list[str] = []
    with caplog.at_level("INFO", "common.rpc"):
        caplog.handler.addFilter(lambda record: bool(current.append(_current_trace()) or record))
        await _drain(channel)
        client, *_ = await spans.wait(3)
    assert current
    assert set(current) == {_ids(client)[0]}


def _current_trace() -> str:
    return f"{get_current_span().get_span_context().trace_id:032x}"


async def test_the_trace_id_comes_back_beside_the_handlers_own_metadata(
    channel: grpc.aio.Channel, spans: Spans, handlers: Handlers
) -> None:
    handlers.initial = (("x-own", "1"),)
    call = channel.unary_stream(STREAM)(b"")
    initial = dict(await call.initial_metadata())
    await _rest(call)
    client, *_ = await spans.wait(3)
    assert initial == {TRACE_ID_KEY: _ids(client)[0], "x-own": "1"}


@pytest.mark.parametrize("payload", [b"", b"full", b"broken"])
async def test_the_trace_id_comes_back_whatever_the_end(
    payload: bytes, plain: grpc.aio.Channel, spans: Spans
) -> None:
    call = plain.unary_stream(STREAM)(payload)
    await _rest(call)
    unary = plain.unary_unary(UNARY)(b"")
    await unary
    ids = {dict(await c.initial_metadata())[TRACE_ID_KEY] for c in (call, unary)}
    ended = await spans.wait(2 + (payload == b""))
    assert ids == {_ids(span)[0] for span in ended}


async def _rest(call: Any) -> None:
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError:
        pass


@pytest.mark.parametrize(
    ("payload", "code", "server_failed"),
    [(b"full", "RESOURCE_EXHAUSTED", False), (b"broken", "INTERNAL", True)],
)
async def test_an_abort_is_recorded_with_its_code_and_reason(
    payload: bytes,
    code: str,
    server_failed: bool,
    channel: grpc.aio.Channel,
    spans: Spans,
) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await _drain(channel, payload)
    client, server = await spans.wait(2)
    assert (_code(client), _code(server)) == (code, code)
    assert client.status.status_code is StatusCode.ERROR
    assert (client.attributes or {})["error.type"] == code
    # To a server, a refusal that is the caller's affair is no error of its own.
    assert (server.status.status_code is StatusCode.ERROR) is server_failed
    assert ("error.type" in (server.attributes or {})) is server_failed
    reason = {"full": "QUEUE_FULL", "broken": "INTERNAL"}[payload.decode()]
    assert (server.attributes or {})["lepton.reason"] == reason


async def test_a_passed_deadline_is_recorded_on_both_sides(
    channel: grpc.aio.Channel, spans: Spans
) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in channel.unary_stream(STREAM)(b"hang", timeout=0.2):
            pass
    client, server = await spans.wait(2)
    assert (_code(client), _code(server)) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    assert client.status.status_code is server.status.status_code is StatusCode.ERROR


async def _cancel(channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream(STREAM)(b"hang")
    await call.read()
    call.cancel()


async def _cancel_and_leave_the_loop(channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream(STREAM)(b"hang")
    async for _ in call:
        call.cancel()
        break


async def _cancel_the_task(channel: grpc.aio.Channel) -> None:
    under_way = asyncio.Event()

    async def read() -> None:
        async for _ in channel.unary_stream(STREAM)(b"hang"):
            under_way.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        await under_way.wait()  # before that, the server need not have seen the call
        task.cancel()
    assert task.cancelled()


async def _close_the_channel(channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream(STREAM)(b"hang")
    await call.read()
    await channel.close()


@pytest.mark.parametrize(
    "leave",
    [_cancel, _cancel_and_leave_the_loop, _cancel_the_task, _close_the_channel],
    ids=lambda leave: leave.__name__.strip("_"),
)
async def test_a_call_that_is_left_is_recorded_as_cancelled_on_both_sides(
    leave: Callable[[grpc.aio.Channel], Any], channel: grpc.aio.Channel, spans: Spans
) -> None:
    await leave(channel)
    client, server = await spans.wait(2)
    assert (client.kind, server.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert (_code(client), _code(server)) == ("CANCELLED", "CANCELLED")
    assert client.status.status_code is StatusCode.ERROR
    assert server.status.status_code is StatusCode.UNSET


async def test_a_call_that_is_cancelled_before_it_began_ends_its_span(spans: Spans) -> None:
    plain = open_channel("127.0.0.1:9", message_bytes_max=1024)
    async with TracedChannel(plain, spans.tracer) as channel:
        for method in (channel.unary_stream(STREAM), channel.unary_unary(UNARY)):
            at_once = method(b"", wait_for_ready=True)
            at_once.cancel()
            later = method(b"", wait_for_ready=True)
            await asyncio.sleep(0)  # noqa: TID251 - the interceptor gets its turn
            later.cancel()
            for call in (at_once, later):
                with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                    await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else call.read())
    await asyncio.sleep(0)  # noqa: TID251 - callbacks of gRPC get their turn
    assert {_code(span) for span in spans.ended} <= {"CANCELLED"}


async def test_a_server_that_is_not_there_is_recorded_as_unavailable(spans: Spans) -> None:
    plain = open_channel("127.0.0.1:9", message_bytes_max=1024)
    async with TracedChannel(plain, spans.tracer) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(UNARY)(b"")
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_stream(STREAM)(b"").read()
    ended = await spans.wait(2)
    assert [_code(span) for span in ended] == ["UNAVAILABLE", "UNAVAILABLE"]


async def test_a_server_that_stops_ends_its_spans(spans: Spans, handlers: Handlers) -> None:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        interceptors=[TracingServerInterceptor(spans.tracer)],
        message_bytes_max=BYTES_MAX,
    )
    server.add_service(SERVICE, {"Generate": raw_unary_stream(handlers.stream)})
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}", message_bytes_max=BYTES_MAX) as channel:
        call = channel.unary_stream(STREAM)(b"hang")
        await call.read()
        await server.stop(0)
        (ended,) = await spans.wait(1)
    assert _code(ended) == "CANCELLED"


async def test_probes_tools_and_endless_streams_leave_no_spans(
    channel: grpc.aio.Channel, spans: Spans
) -> None:
    await channel.unary_unary("/grpc.health.v1.Health/Check")(b"")
    watch = channel.unary_stream("/lepton.v1.WorkerService/WatchLoad")(b"hang")
    assert await watch.read() == b"one"
    assert TRACE_ID_KEY not in dict(await watch.initial_metadata())
    watch.cancel()
    await channel.unary_unary(UNARY)(b"")
    assert {span.name for span in await spans.wait(2)} == {UNARY[1:]}


async def test_a_caller_that_does_not_sample_is_followed(
    plain: grpc.aio.Channel, spans: Spans, port: int
) -> None:
    await plain.unary_unary(UNARY)(
        b"", metadata=(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"),)
    )
    silent = TracerProvider(sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False)
    unsampled = open_channel(f"127.0.0.1:{port}", message_bytes_max=BYTES_MAX)
    async with TracedChannel(unsampled, silent.get_tracer("silent")) as channel:
        await _drain(channel)
    assert spans.ended == []


async def test_three_hops_are_one_trace_in_a_real_sink(spans: Spans) -> None:
    """client → router → worker, each with its own telemetry, as in real processes."""
    async with OtlpSink() as sink:
        made: list[Telemetry] = []

        def telemetry(service: str) -> Telemetry:
            made.append(
                setup_telemetry(
                    TelemetrySettings(flush_ms=20),
                    service=service,
                    instance_id=f"{service}-1",
                    env={OTLP_ENDPOINT: f"http://{sink.address}"},
                )
            )
            return made[-1]

        worker_side, router_side = telemetry("lepton-worker"), telemetry("lepton-router")
        worker = RpcServer(
            host="127.0.0.1",
            port=0,
            interceptors=[TracingServerInterceptor(worker_side.tracer)],
            message_bytes_max=BYTES_MAX,
        )
        worker.add_service(SERVICE, {"Generate": raw_unary_stream(Handlers(spans).stream)})
        worker_port = await worker.start()
        upstream = TracedChannel(
            open_channel(f"127.0.0.1:{worker_port}", message_bytes_max=BYTES_MAX),
            router_side.tracer,
        )

        async def relay(payload: bytes, context: Any) -> AsyncGenerator[bytes, None]:
            with router_side.tracer.start_as_current_span("lepton.route"):
                call = upstream.unary_stream(STREAM)(payload)
            async for message in call:
                yield message

        router = RpcServer(
            host="127.0.0.1",
            port=0,
            interceptors=[TracingServerInterceptor(router_side.tracer)],
            message_bytes_max=BYTES_MAX,
        )
        router.add_service(SERVICE, {"Generate": raw_unary_stream(relay)})
        router_port = await router.start()
        async with open_channel(f"127.0.0.1:{router_port}", message_bytes_max=BYTES_MAX) as channel:
            call = channel.unary_stream(STREAM)(
                b"", metadata=(("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"),)
            )
            assert [message async for message in call] == [b"one", b"two"]
        received = await sink.wait_for(lambda got: len(got) >= 4)
        await upstream.close()
        await router.stop(0)
        await worker.stop(0)
        for each in made:
            each.shutdown()
    assert {span.trace_id for span in received} == {TRACE_ID}
    by_id = {span.span_id: span for span in received}
    (leaf,) = [s for s in received if (s.service, s.kind) == ("lepton-worker", "server")]
    chain = [leaf]
    while chain[-1].parent_id in by_id:
        chain.append(by_id[chain[-1].parent_id])
    assert [(s.service, s.kind) for s in chain] == [
        ("lepton-worker", "server"),
        ("lepton-router", "client"),
        ("lepton-router", "internal"),
        ("lepton-router", "server"),
    ]
    assert chain[-1].parent_id == PARENT_ID
