"""A response of events by the hand of a clock: when it begins, when it is filled, and what an error then looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast, final

import pytest
from opentelemetry.trace import INVALID_SPAN, NoOpTracer
from prometheus_client import CollectorRegistry
from starlette.types import Message

from common.errors import LeptonError, Overloaded, Reason
from common.limits import Limits
from common.telemetry.instruments import GatewayInstruments
from gateway.frame import Frame
from gateway.http.call import HttpCall
from gateway.http.event_stream import Emit, EventStream
from gateway.settings import GatewaySettings
from tests.support.manual_clock import ManualClock

COMMENT: Final = b": still here\n\n"
FULL: Final = Overloaded("full", reason=Reason.QUEUE_FULL, retry_after_s=1.0)


@final
class Client:
    """What a client of one stream gets; it stays until the end."""

    def __init__(
        self, produce: Callable[[Emit], Awaitable[bytes]], clock: ManualClock, **settings: Any
    ) -> None:
        async def is_ready() -> bool:
            return True

        self.said: list[bytes] = []
        """Parts of the body."""
        self.status = 0
        self.takes_status = asyncio.Event()
        """Cleared: it does not get through yet."""
        self.takes_status.set()
        self._came = asyncio.Event()
        frame = Frame(
            upstream=cast("Any", None),
            settings=GatewaySettings(**settings),
            limits=Limits(),
            clock=clock,
            tracer=NoOpTracer(),
            instruments=GatewayInstruments(CollectorRegistry()),
            is_ready=is_ready,
        )
        self._response = EventStream(frame, produce, _told)

    async def listen(self) -> None:
        call = HttpCall(request_id="r", trace_id="0" * 32, span=INVALID_SPAN, send=self._send)
        scope = {"type": "http", "path": "/", "lepton.call": call}
        await self._response(scope, self._stay, self._send)

    async def until_said(self, num: int) -> None:
        async with asyncio.timeout(5):
            while len(self.said) < num:
                self._came.clear()
                await self._came.wait()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self.takes_status.wait()
            assert not self.status, "a second status"
            self.status = message["status"]
        else:
            assert self.status, "a body before its status"
            self.said.append(message["body"])
            self._came.set()

    async def _stay(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError


def _told(error: LeptonError) -> bytes:
    return error.reason.value.encode()


async def test_a_stream_without_its_first_event_begins_and_is_kept_alive() -> None:
    clock, first = ManualClock(), asyncio.Event()

    async def produce(emit: Emit) -> bytes:
        await first.wait()
        await emit(b"first")
        return b"last"

    client = Client(produce, clock, first_event_s_max=10, heartbeat_s=4)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.listen())
        for seconds in (4, 4):
            await clock.wait_for_sleepers(1)
            clock.advance(seconds)
        await clock.wait_for_sleepers(1)
        assert client.status == 0, "8 s: it may still be refused"
        for num, seconds in enumerate((2, 4, 4), 1):
            await clock.wait_for_sleepers(1)
            clock.advance(seconds)
            await client.until_said(num)
        first.set()
    assert client.status == 200
    assert client.said == [COMMENT] * 3 + [b"first", b"last"]


@pytest.mark.parametrize(("waited_s", "status"), [(9, 429), (10, 200)])
async def test_an_early_refusal_has_a_status_and_a_late_one_is_an_event(
    waited_s: float, status: int
) -> None:
    clock, refused = ManualClock(), asyncio.Event()

    async def produce(emit: Emit) -> bytes:
        await refused.wait()
        raise FULL

    client = Client(produce, clock, first_event_s_max=10, heartbeat_s=60)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.listen())
        await clock.wait_for_sleepers(1)
        clock.advance(waited_s)
        if status == 200:
            await client.until_said(1)
        refused.set()
    assert client.status == status
    if status == 200:
        assert client.said == [COMMENT, b"QUEUE_FULL"]
    else:
        assert b'"code":"queue_full"' in client.said[0]


async def test_one_silence_after_the_first_event_is_as_long_as_the_others() -> None:
    """However long the first event may take, a stream that has begun waits for no more than a heartbeat."""
    clock = ManualClock()

    async def produce(emit: Emit) -> bytes:
        await emit(b"first")
        await asyncio.Event().wait()
        return b""

    client = Client(produce, clock, first_event_s_max=60, heartbeat_s=4)
    listening = asyncio.ensure_future(client.listen())
    await client.until_said(1)
    await clock.wait_for_sleepers(1)
    clock.advance(4)
    await client.until_said(2)
    assert client.said == [b"first", COMMENT]
    listening.cancel()


async def test_there_is_one_status_whoever_speaks_first() -> None:
    """The heart, and two prompts of one request, while the connection still holds an earlier answer."""
    clock = ManualClock()

    async def produce(emit: Emit) -> bytes:
        await clock.sleep(10)
        async with asyncio.TaskGroup() as group:
            group.create_task(emit(b"a"))
            group.create_task(emit(b"b"))
        return b"last"

    client = Client(produce, clock, first_event_s_max=10, heartbeat_s=60)
    client.takes_status.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(client.listen())
        await clock.wait_for_sleepers(2)
        clock.advance(10)
        for _ in range(10):
            await asyncio.sleep(0)  # noqa: TID251 - everybody is at the door
        client.takes_status.set()
    assert sorted(client.said) == sorted([COMMENT, b"a", b"b", b"last"])
    assert client.said[-1] == b"last"
