"""gRPC that no stub would send: an answer or an end for each, within its time, and nobody else notices."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from typing import Any, final

import grpc
import pytest

from common.errors import Reason
from common.limits import Limits
from common.rpc.status import from_rpc_error
from lepton.v1 import inference_pb2
from loadtest.clients import http2
from tests.support.demo_cluster import DemoCluster, demo_cluster
from tests.support.doors import Answered, doors_of
from tests.support.processes import until
from tests.support.worker import GENERATE

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASKED = inference_pb2.GenerateRequest(text="hello", stop={"max_tokens": 2}).SerializeToString()
GOAWAY, CONTINUATION, END_HEADERS = 7, 9, 0x4


@final
class _Peer(http2.Http2):
    """One connection that sends what it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: set[int] = set()
        """Streams that the server has ended."""
        self.said: dict[int, bytes] = {}
        """Header blocks of streams, as they came."""
        self.is_gone = asyncio.Event()

    def on_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        is_end = kind in {http2.HEADERS, http2.DATA} and flags & http2.END_STREAM
        if kind in {http2.HEADERS, CONTINUATION}:
            self.said[stream] = self.said.get(stream, b"") + payload
        if is_end or kind == http2.RST_STREAM:
            self.ended.add(stream)
        if kind == GOAWAY:
            self.is_gone.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone.set()

    def send(self, *frames: bytes) -> None:
        self.transport.write(b"".join(frames))


async def _connect(cluster: DemoCluster) -> _Peer:
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(_Peer, "127.0.0.1", cluster.router.port)
    peer.send(http2.PREFACE, http2.settings())
    return peer


def _headers(
    *more: tuple[bytes, bytes],
    path: bytes = GENERATE.encode(),
    kind: bytes = b"application/grpc",
) -> bytes:
    fields = [(b":path", path), (b":authority", b"x"), (b"te", b"trailers")]
    kinds = [(b"content-type", kind)] if kind else []
    return b"\x83\x86" + http2.header_block([*fields, *kinds, *more])


def _asks(block: bytes, payload: bytes, stream: int = 1) -> bytes:
    head = http2.frame(http2.HEADERS, END_HEADERS, stream, block)
    return head + http2.frame(http2.DATA, http2.END_STREAM, stream, payload)


WHOLE = http2.message(ASKED)
GZIP = (b"grpc-encoding", b"gzip")

ODD = {
    "B44 no content-type": _asks(_headers(kind=b""), WHOLE),
    "B44 another content-type": _asks(_headers(kind=b"text/html"), WHOLE),
    "B44 a path out of the tree": _asks(_headers(path=b"/../../etc/passwd"), WHOLE),
    "B44 no path": _asks(_headers(path=b""), WHOLE),
    "B44 a key of gRPC's own": _asks(_headers((b"grpc-status", b"0")), WHOLE),
    "B44 a key in capitals": _asks(_headers((b"Lepton-Caller", b"x")), WHOLE),
    "B44 a binary key that is no base64": _asks(_headers((b"x-bin", b"!!!!")), WHOLE),
    "B44 a value with a line feed": _asks(_headers((b"x", b"a\nb")), WHOLE),
    "B44 two paths": _asks(_headers((b":path", b"/x")), WHOLE),
    "B45 a deadline of nothing": _asks(_headers((b"grpc-timeout", b"0n")), WHOLE),
    "B45 a deadline of a nanosecond": _asks(_headers((b"grpc-timeout", b"1n")), WHOLE),
    "B45 a negative deadline": _asks(_headers((b"grpc-timeout", b"-1S")), WHOLE),
    "B45 a deadline of 10,000 years": _asks(_headers((b"grpc-timeout", b"99999999H")), WHOLE),
    "B45 a deadline that is none": _asks(_headers((b"grpc-timeout", b"soon")), WHOLE),
    "B42 compressed, and nobody said how": _asks(_headers(), b"\x01" + WHOLE[1:]),
    "B42 an unknown coding": _asks(_headers((b"grpc-encoding", b"magic")), b"\x01" + WHOLE[1:]),
    "B42 no gzip": _asks(_headers(GZIP), b"\x01" + WHOLE[1:]),
    "B42 a flag that is none": _asks(_headers(), b"\x07" + WHOLE[1:]),
    "B40 a length of 4 GB": _asks(_headers(), b"\0\xff\xff\xff\xff" + ASKED),
    "B40 two messages": _asks(_headers(), WHOLE * 2),
    "B40 half a message, and reset": _asks(_headers(), WHOLE[:4])
    + http2.frame(http2.RST_STREAM, 0, 1, b"\0\0\0\x08"),
    "B43 a window of nothing": _asks(_headers(), WHOLE) + http2.window_update(1, 0),
    "B43 a window beyond all": _asks(_headers(), WHOLE) + http2.window_update(1, 2**31 - 1),
    "B43 data for nobody": http2.frame(http2.DATA, 0, 99, b"x") + _asks(_headers(), WHOLE),
    "B43 a table that grows": _asks(b"\x3f\xff\xff\xff\x7f" + _headers(), WHOLE),
    "B43 an index beyond the table": _asks(b"\xff\xff\xff\xff\x07" + _headers(), WHOLE),
    "B43 headers without an end": http2.frame(http2.HEADERS, 0, 1, _headers()) + http2.frame(http2.DATA, 0, 1, b""),
    "B43 an endless row of headers": http2.frame(http2.HEADERS, 0, 1, _headers())
    + http2.frame(CONTINUATION, 0, 1, http2.header_block([(b"x", b"y" * 100)] * 100)) * 200,
    "B43 a frame beyond the limit": http2.frame(http2.DATA, 0, 1, b"x" * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
async def test_odd_frames_end(cluster: DemoCluster, name: str) -> None:
    peer = await _connect(cluster)
    peer.send(ODD[name])
    await until(
        lambda: bool(peer.ended) or peer.is_gone.is_set() or "reset" in name,
        what="an answer or an end",
    )
    peer.transport.abort()


LATE, NONE = b"the message did not arrive within 0.2 s", b"the call ended without its message"
UNASKED = {
    "B40 a length that lies": (_asks(_headers(), b"\0\0\0\xff\xff" + ASKED), NONE),
    "B40 no message": (_asks(_headers(), b""), NONE),
    "B46 a message that never comes": (
        http2.frame(http2.HEADERS, END_HEADERS, 1, _headers()), LATE,
    ),
    "B46 half a message that never comes": (
        http2.frame(http2.HEADERS, END_HEADERS, 1, _headers()) + http2.frame(http2.DATA, 0, 1, WHOLE[:9]),
        LATE,
    ),
}  # fmt: skip
"""What gRPC's own server waits for until the client's deadline, or the end of its connection."""


@pytest.mark.parametrize("name", UNASKED)
async def test_a_call_without_its_message_ends(name: str) -> None:
    sent, words = UNASKED[name]
    async with demo_cluster(limits=Limits(message_s_max=0.2)) as cluster:
        peer = await _connect(cluster)
        peer.send(sent)
        await until(lambda: 1 in peer.ended, what="an end")
        assert words in peer.said[1]
        peer.send(_asks(_headers(), WHOLE, stream=3))
        await until(lambda: 3 in peer.ended, what="an answer to another stream")
        assert not cluster.worker.running.in_flight.num_calls
        peer.transport.abort()


async def test_a_stream_with_a_number_of_servers_takes_nothing(cluster: DemoCluster) -> None:
    """B43: clients have odd ones; gRPC lets it be."""
    peer = await _connect(cluster)
    peer.send(_asks(_headers(), WHOLE, stream=2), _asks(_headers(), WHOLE, stream=3))
    await until(lambda: 3 in peer.ended, what="an answer to another stream")
    assert not cluster.worker.running.in_flight.num_calls
    peer.transport.abort()


async def test_streams_that_are_opened_and_reset_at_once(cluster: DemoCluster) -> None:
    """B43, rapid reset: nothing is left of them, and others are answered meanwhile."""
    peer = await _connect(cluster)
    async with doors_of(cluster) as doors:
        for first in range(1, 8000, 800):
            for stream in range(first, first + 800, 2):
                reset = http2.frame(http2.RST_STREAM, 0, stream, b"\0\0\0\x08")
                peer.send(_asks(_headers(), WHOLE, stream), reset)
            answer = await doors.grpc({"text": "hello", "stop": {"max_tokens": 2}})
            assert isinstance(answer, Answered)
    peer.transport.abort()


@pytest.mark.parametrize("kind", ["settings", "ping", "window"])
async def test_floods_of_control_frames(cluster: DemoCluster, kind: str) -> None:
    flood = {
        "settings": http2.settings((4, 65_535)),
        "ping": http2.frame(6, 0, 0, b"12345678"),
        "window": http2.window_update(0, 1),
    }[kind]
    peer = await _connect(cluster)
    async with doors_of(cluster) as doors:
        for _ in range(20):
            if peer.is_gone.is_set():
                break
            peer.send(flood * 500)
            answer = await doors.grpc({"text": "hello", "stop": {"max_tokens": 1}})
            assert isinstance(answer, Answered)
    peer.transport.abort()


async def _refused(
    cluster: DemoCluster,
    payload: bytes,
    *,
    metadata: Sequence[tuple[str, str]] = (),
    compression: grpc.Compression | None = None,
    timeout_s: float = 20,
) -> grpc.aio.AioRpcError | None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{cluster.router.port}") as channel:
        call: Any = channel.unary_stream(GENERATE)(
            payload, timeout=timeout_s, metadata=tuple(metadata), compression=compression
        )
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return error
    return None


async def test_a_message_is_bounded_once_inflated(cluster: DemoCluster) -> None:
    """B42: 3 MB are refused with a reason, 64 MB before they exist."""
    large = inference_pb2.GenerateRequest(text="x" * 3_000_000).SerializeToString()
    error = await _refused(cluster, large, compression=grpc.Compression.Gzip)
    assert error is not None
    assert from_rpc_error(error).reason is Reason.FIELD_TOO_LARGE
    bomb = inference_pb2.GenerateRequest(text="x" * (64 << 20)).SerializeToString()
    assert len(gzip.compress(bomb)) < 1 << 17
    error = await _refused(cluster, bomb, compression=grpc.Compression.Gzip)
    assert error is not None
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "metadata",
    [
        [("x", "y" * 1_000_000)],
        [(f"x{i}", "y") for i in range(10_000)],
        [("lepton-caller", "a b")],
        [("lepton-caller", "x" * 2000)],
        [("tracestate", "a=" + "b" * 7000), ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")],
        [("lepton-request-id", "a b;c")],
    ],
    ids=["1 MB", "10,000 keys", "a space", "a long caller", "a long state", "an id that is none"],
)  # fmt: skip
async def test_metadata_are_bounded(cluster: DemoCluster, metadata: list[tuple[str, str]]) -> None:
    error = await _refused(cluster, ASKED, metadata=metadata)
    is_ours = metadata[0][0] in {"tracestate", "lepton-request-id"}
    assert (error is None) == is_ours, error
    if error is not None and metadata[0][0] == "lepton-caller":
        assert from_rpc_error(error).field == "lepton-caller"
    elif error is not None:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


BYTES = {
    "B40 groups in groups": b"\xa3\x06" * 100_000,
    "B40 groups, and back": b"\xa3\x06" * 100_000 + b"\xa4\x06" * 100_000,
    "B40 an end without a beginning": b"\xa4\x06",
    "B40 a packed length that lies": b"\x3a\x06\x0a\xff\xff\xff\x7f\x01",
    "B40 a number of 11 bytes": b"\x48" + b"\xff" * 11,
    "B40 a field of number 0": b"\x00\x01",
}


@pytest.mark.parametrize("name", BYTES)
async def test_bytes_that_are_no_message(cluster: DemoCluster, name: str) -> None:
    error = await _refused(cluster, BYTES[name])
    assert error is not None
    assert from_rpc_error(error).reason is Reason.MALFORMED_MESSAGE


async def test_fields_that_nobody_knows_are_let_be(cluster: DemoCluster) -> None:
    """As protobuf has it; their bytes count."""
    assert await _refused(cluster, ASKED + b"\x98\x3f\x01" * 100_000) is None
    error = await _refused(cluster, ASKED + b"\x98\x3f\x01" * 1_500_000)
    assert error is not None
    assert from_rpc_error(error).reason is Reason.FIELD_TOO_LARGE
