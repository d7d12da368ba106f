"""A real server and real clients on loopback: bytes, statuses, health, reflection, drain."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from chaos.proxy import FaultProxy
from common.clock import SystemClock
from common.errors import Conflict, Reason
from common.rpc.channel import open_channel
from common.rpc.interceptors import ErrorInterceptor
from common.rpc.server import RpcServer, raw_unary_stream, raw_unary_unary
from lepton.v1 import inference_pb2
from lepton.v1.inference_pb2_grpc import InferenceServiceStub
from tests.support.patience import PATIENCE_S

SERVICE = "lepton.v1.InferenceService"
MESSAGE_BYTES_MAX = 64 << 10


class Echo:
    """Answers with what it got; `hold` makes Generate wait after its first message."""

    def __init__(self) -> None:
        self.hold = False
        self.started = asyncio.Event()
        self.released = asyncio.Event()
        self.closed = asyncio.Event()
        self.ended: list[str] = []
        self.payloads: list[bytes] = []

    async def generate(self, payload: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        self.payloads.append(payload)
        try:
            yield _delta("one")
            self.started.set()
            if self.hold:
                await self.released.wait()
            yield _delta("two")
            context.set_trailing_metadata((("lepton-finished-bin", b"\x01"),))
            self.ended.append("whole")
        finally:
            self.ended.append("closed")
            self.closed.set()

    async def count(self, payload: bytes, context: Any) -> bytes:
        request = inference_pb2.CountTokensRequest.FromString(payload)
        response = inference_pb2.CountTokensResponse(num_tokens=len(request.text))
        return response.SerializeToString()


def _delta(text: str) -> bytes:
    delta = inference_pb2.Delta(text=text)
    return inference_pb2.GenerateResponse(
        events=[inference_pb2.Event(delta=delta)]
    ).SerializeToString()


@pytest.fixture(name="echo")
async def _echo() -> Echo:
    return Echo()


@pytest.fixture(name="server")
async def _server(echo: Echo) -> AsyncIterator[RpcServer]:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        interceptors=[ErrorInterceptor()],
        message_bytes_max=MESSAGE_BYTES_MAX,
    )
    server.add_service(
        SERVICE,
        {
            "Generate": raw_unary_stream(echo.generate),
            "CountTokens": raw_unary_unary(echo.count),
        },
    )
    await server.start()
    yield server
    await server.stop(0)


@pytest.fixture(name="channel")
async def _channel(server: RpcServer) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(
        f"127.0.0.1:{server.port}", message_bytes_max=MESSAGE_BYTES_MAX
    ) as channel:
        yield channel


async def test_generated_stubs_and_raw_bytes_meet(channel: grpc.aio.Channel, echo: Echo) -> None:
    stub = InferenceServiceStub(channel)
    request = inference_pb2.GenerateRequest(model="m", text="hello")
    call = stub.Generate(request)
    texts = [message.events[0].delta.text async for message in call]
    assert texts == ["one", "two"]
    assert dict(await call.trailing_metadata()) == {"lepton-finished-bin": b"\x01"}
    assert echo.payloads == [request.SerializeToString()]
    counted = await stub.CountTokens(inference_pb2.CountTokensRequest(text="hello"))
    assert counted.num_tokens == 5


async def test_messages_pass_through_a_raw_client_unparsed(channel: grpc.aio.Channel) -> None:
    call = channel.unary_stream(f"/{SERVICE}/Generate")(b"\xff not a message")
    assert [message async for message in call] == [_delta("one"), _delta("two")]


async def test_a_message_over_the_limit_is_refused_and_the_next_call_works(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    call = channel.unary_stream(f"/{SERVICE}/Generate")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(b"x" * (MESSAGE_BYTES_MAX + 1)).read()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [m async for m in call(b"x" * 1000)] == [_delta("one"), _delta("two")]
    assert [len(payload) for payload in echo.payloads] == [1000]


async def test_garbage_on_the_port_hurts_nobody_else(
    server: RpcServer, channel: grpc.aio.Channel
) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 4096, preface + b"\xff" * 4096, preface):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(garbage)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            await reader.read()
        writer.close()
    assert len([m async for m in channel.unary_stream(f"/{SERVICE}/Generate")(b"")]) == 2


async def test_an_unknown_method_is_unimplemented(channel: grpc.aio.Channel) -> None:
    for method in (f"/{SERVICE}/Nothing", "/lepton.v1.Nothing/Generate"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(method)(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_used_port_is_a_conflict_that_says_what_to_do(server: RpcServer) -> None:
    second = RpcServer(host="127.0.0.1", port=server.port, message_bytes_max=1024)
    with pytest.raises(
        Conflict, match=rf"127\.0\.0\.1:{server.port} is already in use.*--port"
    ) as no:
        await second.start()
    assert no.value.reason is Reason.PORT_IN_USE
    await second.stop(0)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost", "::"])
async def test_a_port_that_somebody_has_on_loopback_is_used_for_every_host(host: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = RpcServer(host=host, port=port, message_bytes_max=1024)
        with pytest.raises(Conflict) as no:
            await server.start()
        await server.stop(0)
    assert no.value.reason is Reason.PORT_IN_USE


async def test_an_address_of_somebody_else_is_a_conflict() -> None:
    for host, port in (("192.0.2.1", 0), ("192.0.2.1", 5), ("no.such.host.invalid", 0)):
        server = RpcServer(host=host, port=port, message_bytes_max=1024)
        with pytest.raises(Conflict) as no:
            await server.start()
        await server.stop(0)
        assert no.value.reason is Reason.SETTING_INVALID


async def test_a_stopped_server_frees_its_port(echo: Echo) -> None:
    port = 0
    for _ in range(3):
        server = RpcServer(host="localhost", port=port, message_bytes_max=1024)
        server.add_service(SERVICE, {"CountTokens": raw_unary_unary(echo.count)})
        port = await server.start()
        assert server.port == port
        await server.stop(0)
        await server.stop(0)


async def test_children_may_share_a_port() -> None:
    servers = [RpcServer(host="127.0.0.1", port=0, message_bytes_max=1024, so_reuseport=True)]
    port = await servers[0].start()
    servers.append(
        RpcServer(host="127.0.0.1", port=port, message_bytes_max=1024, so_reuseport=True)
    )
    assert await servers[1].start() == port
    for server in servers:
        await server.stop(0)


async def test_health_follows_the_state_for_the_server_and_each_service(
    server: RpcServer, channel: grpc.aio.Channel
) -> None:
    health = health_pb2_grpc.HealthStub(channel)

    async def status(service: str) -> str:
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    services = ("", SERVICE, "grpc.health.v1.Health")
    assert [await status(s) for s in services] == ["NOT_SERVING"] * 3
    server.set_serving(True)
    assert [await status(s) for s in services] == ["SERVING"] * 3
    listed = await health.List(health_pb2.HealthListRequest())
    assert {listed.statuses[s].status for s in services} == {1}
    assert set(listed.statuses) == set(services)
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await status("lepton.v1.Nothing")
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_health_watch_sees_the_changes_and_its_end(
    server: RpcServer, channel: grpc.aio.Channel
) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    other = health.Watch(health_pb2.HealthCheckRequest(service="lepton.v1.Nothing"))
    status = health_pb2.HealthCheckResponse
    assert (await watch.read()).status == status.NOT_SERVING
    assert (await other.read()).status == status.SERVICE_UNKNOWN
    server.set_serving(True)
    assert (await watch.read()).status == status.SERVING
    server.set_serving(True)
    server.set_serving(False)
    assert (await watch.read()).status == status.NOT_SERVING
    other.cancel()
    await asyncio.wait_for(server.stop(600), PATIENCE_S)  # the open watch does not use up the grace
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_stop_lets_running_calls_finish(
    server: RpcServer, channel: grpc.aio.Channel, echo: Echo
) -> None:
    echo.hold = True
    call = channel.unary_stream(f"/{SERVICE}/Generate")(b"")
    first = await call.read()
    stopping = asyncio.ensure_future(server.stop(600))
    await asyncio.wait_for(_refused(server.port), PATIENCE_S)
    echo.released.set()
    rest = [message async for message in _rest(call)]
    assert [first, *rest] == [_delta("one"), _delta("two")]
    assert await call.code() is grpc.StatusCode.OK
    await asyncio.wait_for(stopping, PATIENCE_S)
    assert echo.ended == ["whole", "closed"]


async def test_stop_cancels_what_outlives_its_grace(
    server: RpcServer, channel: grpc.aio.Channel, echo: Echo
) -> None:
    echo.hold = True
    call = channel.unary_stream(f"/{SERVICE}/Generate")(b"")
    await call.read()
    await asyncio.wait_for(server.stop(0.05), PATIENCE_S)
    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await call.read()
    assert echo.ended == ["closed"]


async def test_a_client_that_leaves_closes_the_handler_at_once(
    channel: grpc.aio.Channel, echo: Echo
) -> None:
    echo.hold = True
    call = channel.unary_stream(f"/{SERVICE}/Generate")(b"")
    await call.read()
    await asyncio.wait_for(echo.started.wait(), PATIENCE_S)
    call.cancel()
    await asyncio.wait_for(echo.closed.wait(), PATIENCE_S)
    assert echo.ended == ["closed"]


async def test_a_client_that_leaves_while_we_write_closes_the_handler_at_once(
    channel: grpc.aio.Channel, server: RpcServer
) -> None:
    """The handler never waits itself: it is always inside `context.write`, held by flow control."""
    closed = asyncio.Event()

    async def flood(payload: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            closed.set()

    flooding = RpcServer(
        host="127.0.0.1", port=0, interceptors=[ErrorInterceptor()], message_bytes_max=1 << 20
    )
    flooding.add_service(SERVICE, {"Generate": raw_unary_stream(flood)})
    port = await flooding.start()
    async with open_channel(f"127.0.0.1:{port}", message_bytes_max=1 << 20) as other:
        call = other.unary_stream(f"/{SERVICE}/Generate")(b"")
        await call.read()
    await asyncio.wait_for(closed.wait(), PATIENCE_S)
    await flooding.stop(0)


async def _refused(port: int) -> None:
    """Returns when nobody listens on `port` any more."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        writer.close()
        await asyncio.sleep(0.01)  # noqa: TID251 - polling a socket


async def _rest(call: Any) -> AsyncIterator[bytes]:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


# ---- reflection: what grpcurl and buf curl stand on --------------------------------------------------------


async def _reflect(channel: grpc.aio.Channel, version: str = "v1alpha", **ask: str) -> Any:
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(**ask))
    answer = await call.read()
    await call.done_writing()
    return answer


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_and_describes(channel: grpc.aio.Channel, version: str) -> None:
    listed = await _reflect(channel, version, list_services="")
    assert {service.name for service in listed.list_services_response.service} == {
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for symbol in (SERVICE, f"{SERVICE}.Generate", "lepton.v1.GenerateRequest"):
        described = await _reflect(channel, version, file_containing_symbol=symbol)
        assert described.file_descriptor_response.file_descriptor_proto
    for symbol in ("lepton.v1.Nothing", f"{SERVICE}.Nothing", "", "."):
        unknown = await _reflect(channel, version, file_containing_symbol=symbol)
        assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


BUF = Path(sys.executable).parent / "buf"


async def _buf_curl(*arguments: str) -> str:
    if shutil.which(BUF) is None:
        pytest.skip("the buf binary is not installed")
    process = await asyncio.create_subprocess_exec(
        str(BUF), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_buf_curl_lists_and_calls(server: RpcServer) -> None:
    url = f"http://127.0.0.1:{server.port}"
    assert SERVICE in await _buf_curl("--list-services", url)
    assert f"{SERVICE}/Generate" in await _buf_curl("--list-methods", url)
    request = json.dumps({"model": "m", "text": "hello"})
    answer = await _buf_curl("--data", request, f"{url}/{SERVICE}/Generate")
    assert '"text": "one"' in answer
    assert '"text": "two"' in answer


async def test_a_client_that_vanished_without_a_word_ends_its_call() -> None:
    ended = asyncio.Event()

    async def stream(_payload: bytes, _context: Any) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await SystemClock().sleep(0.05)
        finally:
            ended.set()

    server = RpcServer(host="127.0.0.1", port=0, message_bytes_max=1 << 20, peer_silence_s_max=1.0)
    server.add_service("lepton.test.Vanish", {"Stream": raw_unary_stream(stream)})
    port = await server.start()
    async with FaultProxy(f"127.0.0.1:{port}", SystemClock()) as proxy:
        channel = grpc.aio.insecure_channel(proxy.address)
        call: Any = channel.unary_stream("/lepton.test.Vanish/Stream")(b"")
        assert await call.read() == b"x"
        proxy.black_hole()
        await asyncio.wait_for(ended.wait(), 20)  # gRPC's own patience is a minute
        proxy.reset()
        call.cancel()
        await channel.close()
    await server.stop(0)
