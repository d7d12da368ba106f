"""What a handler raises and what the caller gets, over real gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from common.errors import (
    Internal,
    InvalidRequest,
    LeptonError,
    Overloaded,
    Reason,
    Unavailable,
)
from common.rpc.channel import open_channel
from common.rpc.interceptors import (
    MESSAGE_BYTES_MAX,
    CallLogInterceptor,
    ErrorInterceptor,
    annotate,
)
from common.rpc.metadata import REQUEST_ID_KEY
from common.rpc.server import RpcServer, raw_unary_stream, raw_unary_unary
from common.rpc.status import DETAILS_KEY, TABLE, from_rpc_error
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S

STREAM = "/lepton.v1.InferenceService/Generate"
UNARY = "/lepton.v1.InferenceService/CountTokens"

Behaviour = Callable[[Any], Awaitable[None]]


class Handlers:
    """Does what the test says, after one message where there can be one."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = _nothing
        self.reached = asyncio.Event()

    async def stream(self, payload: bytes, context: Any) -> AsyncGenerator[bytes, None]:
        yield b"first"
        self.reached.set()
        await self.behaviour(context)
        yield b"second"

    async def unary(self, payload: bytes, context: Any) -> bytes:
        await self.behaviour(context)
        return b"answer"


async def _nothing(context: Any) -> None: ...


def _raises(error: BaseException) -> Behaviour:
    async def behaviour(context: Any) -> None:
        raise error

    return behaviour


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="handlers")
async def _handlers() -> Handlers:
    return Handlers()


@pytest.fixture(name="channel")
async def _channel(handlers: Handlers, clock: ManualClock) -> AsyncIterator[grpc.aio.Channel]:
    server = RpcServer(
        host="127.0.0.1",
        port=0,
        interceptors=[CallLogInterceptor(clock), ErrorInterceptor()],
        message_bytes_max=1 << 20,
    )
    server.add_service(
        "lepton.v1.InferenceService",
        {
            "Generate": raw_unary_stream(handlers.stream),
            "CountTokens": raw_unary_unary(handlers.unary),
        },
    )
    port = await server.start()
    async with open_channel(f"127.0.0.1:{port}", message_bytes_max=1 << 20) as channel:
        yield channel
    await server.stop(0)


@pytest.fixture(name="lines")
def _lines(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[dict[str, Any]]]:
    caplog.set_level(logging.DEBUG, "common.rpc")

    def lines(event: str) -> list[dict[str, Any]]:
        return [
            {**vars(record)["lepton_fields"], "level": record.levelname}
            for record in caplog.records
            if record.getMessage() == event
        ]

    return lines


async def _stream_to_its_end(
    channel: grpc.aio.Channel, **options: Any
) -> tuple[list[bytes], grpc.aio.AioRpcError]:
    messages: list[bytes] = []
    try:
        async for message in channel.unary_stream(STREAM)(b"", **options):
            messages.append(message)  # noqa: PERF401 - those before the error count
    except grpc.aio.AioRpcError as error:
        return messages, error
    raise AssertionError(f"ended without an error: {messages}")


async def _call_line(lines: Callable[[str], list[dict[str, Any]]]) -> dict[str, Any]:
    """The one line of the call; the server writes it after the client has its status."""
    async with asyncio.timeout(PATIENCE_S):
        while not lines("rpc.call"):  # noqa: ASYNC110 - the log has no event to wait for
            await asyncio.sleep(0.005)  # noqa: TID251
    (line,) = lines("rpc.call")
    return line


CLASSES = pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)


@CLASSES
async def test_every_error_arrives_as_what_it_was(
    cls: type[LeptonError], channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    sent = cls("what, where, what next — ü", field="sampling.top_p", retry_after_s=1.25)
    handlers.behaviour = _raises(sent)
    messages, failure = await _stream_to_its_end(channel)
    assert messages == [b"first"]
    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await channel.unary_unary(UNARY)(b"")
    for error in (failure, unary.value):
        assert error.code() is TABLE[cls].grpc
        got = from_rpc_error(error)
        assert type(got) is cls
        assert (got.message, got.reason, got.field, got.retry_after_s) == (
            sent.message,
            sent.reason,
            sent.field,
            sent.retry_after_s,
        )


async def test_the_details_are_those_of_the_standard(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    handlers.behaviour = _raises(InvalidRequest("no", field="stop.max_tokens", retry_after_s=0.5))
    _, error = await _stream_to_its_end(channel)
    status = status_pb2.Status.FromString(dict(error.trailing_metadata() or ())[DETAILS_KEY])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    kinds = [detail.TypeName() for detail in status.details]
    assert kinds == ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("lepton", "FIELD_MALFORMED")


async def test_trailing_metadata_of_the_handler_stays_beside_the_details(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    async def behaviour(context: Any) -> None:
        context.set_trailing_metadata((("x-own", "kept"), ("x-own-bin", b"\x00\xff")))
        raise Overloaded("full")

    handlers.behaviour = behaviour
    _, error = await _stream_to_its_end(channel)
    trailing = dict(error.trailing_metadata() or ())
    assert (trailing["x-own"], trailing["x-own-bin"]) == ("kept", b"\x00\xff")
    assert from_rpc_error(error).reason is Reason.QUEUE_FULL


async def test_a_message_of_any_size_fits_into_the_headers(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    for text in ("x" * 1_000_000, "☃" * 300_000, "\x00\r\n\x1b" * 10_000, "\ud800"):
        handlers.behaviour = _raises(InvalidRequest(text, field="chat"))
        _, error = await _stream_to_its_end(channel)
        got = from_rpc_error(error)
        assert (got.reason, got.field) == (Reason.FIELD_MALFORMED, "chat")
        assert 0 < len(got.message.encode()) <= MESSAGE_BYTES_MAX


async def test_an_unknown_exception_tells_nothing_of_the_inside(
    channel: grpc.aio.Channel,
    handlers: Handlers,
    lines: Callable[[str], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers.behaviour = _raises(ValueError("the password is swordfish"))
    _, error = await _stream_to_its_end(channel)
    assert isinstance(got := from_rpc_error(error), Internal)
    assert got.reason is Reason.INTERNAL
    assert "swordfish" not in str(error)
    assert [line["method"] for line in lines("rpc.handler_failed")] == [STREAM]
    assert "swordfish" in caplog.text
    call = await _call_line(lines)
    assert (call["code"], call["level"], call["reason"]) == ("INTERNAL", "WARNING", "INTERNAL")


async def test_an_error_group_of_a_task_group_is_an_internal_error(
    channel: grpc.aio.Channel, handlers: Handlers
) -> None:
    handlers.behaviour = _raises(ExceptionGroup("several", [ValueError("a"), Unavailable("b")]))
    _, error = await _stream_to_its_end(channel)
    assert error.code() is grpc.StatusCode.INTERNAL


async def test_a_handler_may_abort_itself(
    channel: grpc.aio.Channel, handlers: Handlers, lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def behaviour(context: Any) -> None:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "own words", (("x-own", "1"),))

    handlers.behaviour = behaviour
    messages, error = await _stream_to_its_end(channel)
    assert (messages, error.code(), error.details()) == (
        [b"first"],
        grpc.StatusCode.ALREADY_EXISTS,
        "own words",
    )
    assert (await _call_line(lines))["code"] == "ALREADY_EXISTS"
    assert lines("rpc.handler_failed") == []


async def test_a_handler_may_set_a_code_without_an_exception(
    channel: grpc.aio.Channel, handlers: Handlers, lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def behaviour(context: Any) -> None:
        context.set_code(grpc.StatusCode.DATA_LOSS)
        context.set_details("lost")

    handlers.behaviour = behaviour
    messages, error = await _stream_to_its_end(channel)
    assert (messages, error.code()) == ([b"first", b"second"], grpc.StatusCode.DATA_LOSS)
    assert (await _call_line(lines))["code"] == "DATA_LOSS"


async def _forever(context: Any) -> None:
    await asyncio.Event().wait()


async def test_a_cancelled_call_is_no_error(
    channel: grpc.aio.Channel, handlers: Handlers, lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    handlers.behaviour = _forever
    call = channel.unary_stream(STREAM)(b"")
    await call.read()
    call.cancel()
    line = await _call_line(lines)
    assert (line["code"], line["level"]) == ("CANCELLED", "INFO")
    assert lines("rpc.handler_failed") == []


async def test_a_passed_deadline_is_told_from_a_cancelled_call(
    channel: grpc.aio.Channel, handlers: Handlers, lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    handlers.behaviour = _forever
    _, error = await _stream_to_its_end(channel, timeout=0.2)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    line = await _call_line(lines)
    assert (line["code"], line["level"]) == ("DEADLINE_EXCEEDED", "INFO")
    assert line["peer"].startswith("ipv4:127.0.0.1:")


async def test_a_call_is_one_line_with_what_the_handler_adds(
    channel: grpc.aio.Channel,
    handlers: Handlers,
    clock: ManualClock,
    lines: Callable[[str], list[dict[str, Any]]],
) -> None:
    async def behaviour(context: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_annotate_elsewhere())
        clock.advance(0.25)

    handlers.behaviour = behaviour
    await channel.unary_unary(UNARY)(b"", metadata=((REQUEST_ID_KEY, "r-1"),))
    line = await _call_line(lines)
    assert line.pop("peer").startswith("ipv4:127.0.0.1:")
    assert line == {
        "level": "INFO",
        "method": UNARY[1:],
        "code": "OK",
        "duration_ms": 250.0,
        "request_id": "r-1",
        "model": "demo",
    }


async def _annotate_elsewhere() -> None:
    annotate(model="demo")


def test_annotating_outside_of_a_call_does_nothing() -> None:
    annotate(model="demo")


async def _turns_cancellation_into_an_error(context: Any) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise Unavailable("too late to say") from None


@pytest.mark.parametrize("deadline_s", [None, 0.2])
async def test_an_error_that_comes_after_the_caller_left_is_told_to_nobody(
    deadline_s: float | None,
    channel: grpc.aio.Channel,
    handlers: Handlers,
    lines: Callable[[str], list[dict[str, Any]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    handlers.behaviour = _turns_cancellation_into_an_error
    call = channel.unary_stream(STREAM)(b"", timeout=deadline_s)
    await call.read()
    if deadline_s is None:
        call.cancel()
    line = await _call_line(lines)
    assert line["code"] == ("CANCELLED" if deadline_s is None else "DEADLINE_EXCEEDED")
    assert lines("rpc.handler_failed") == []
    assert [r for r in caplog.records if r.levelname in {"WARNING", "ERROR"}] == []
