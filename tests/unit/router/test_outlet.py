"""The way of a stream to its client: unchanged while it reads, merged while it lags, cut off when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import Cancelled, Reason, Unavailable
from lepton.v1 import inference_pb2
from router.transport.outlet import OutletLimits, Outlets
from tests.support.manual_clock import ManualClock

LIMITS = OutletLimits(stream_bytes_max=10, total_bytes_max=1000, silence_s_max=30.0)


class Client:
    """Takes a message whenever the test says so; always, when `reads`."""

    def __init__(self, *, reads: bool = False) -> None:
        self.got: list[bytes] = []
        self.error: Exception | None = None
        self._may = asyncio.Semaphore(0)
        self._reads = reads

    async def send(self, message: bytes) -> None:
        if not self._reads:
            await self._may.acquire()
        if self.error is not None:
            raise self.error
        self.got.append(message)

    async def take(self) -> None:
        """One message leaves, and everybody gets to know."""
        self._may.release()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)  # noqa: TID251 - lets the loop turn


@asynccontextmanager
async def watched(outlets: Outlets) -> AsyncIterator[None]:
    """With somebody who looks for readers that take nothing."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outlets.run())
        try:
            yield
        finally:
            task.cancel()


async def test_reader_that_keeps_up_gets_every_message_as_it_came() -> None:
    client = Client(reads=True)
    messages = [b"a", b"bc", b"def"]
    async with Outlets(LIMITS, ManualClock()).open(client.send) as outlet:
        for message in messages:
            await outlet.write(message)
            await settle()
        assert client.got == messages
        assert client.got[2] is messages[2]  # not even copied


async def test_messages_that_pile_up_leave_as_one() -> None:
    client, outlets = Client(), Outlets(LIMITS, ManualClock())
    async with outlets.open(client.send) as outlet:
        await outlet.write(b"a")
        await settle()  # "a" is on its way now
        for message in (b"b", b"c", b"d"):
            await outlet.write(message)
        assert outlets.waiting_bytes == 3
        await client.take()
        await client.take()
        assert client.got == [b"a", b"bcd"]
        assert outlets.waiting_bytes == 0


async def test_writer_waits_when_too_much_is_waiting() -> None:
    client, outlets = Client(), Outlets(LIMITS, ManualClock())
    async with asyncio.TaskGroup() as group, outlets.open(client.send) as outlet:
        await outlet.write(b"a")
        await settle()
        await outlet.write(b"123456")
        writing = group.create_task(outlet.write(b"78901"))
        await settle()
        assert not writing.done()
        assert outlets.waiting_bytes == 6
        await client.take()
        assert writing.done()
        await client.take()
        await client.take()
        assert client.got == [b"a", b"123456", b"78901"]


async def test_message_larger_than_the_bound_waits_alone() -> None:
    client = Client()
    async with Outlets(LIMITS, ManualClock()).open(client.send) as outlet:
        await outlet.write(b"a")
        await settle()
        await outlet.write(b"x" * 100)
        await client.take()
        await client.take()
        assert client.got == [b"a", b"x" * 100]


async def test_all_streams_together_are_bounded_too() -> None:
    """When the room for all is used up, a stream has one message waiting and no more."""
    limits = OutletLimits(stream_bytes_max=10, total_bytes_max=4, silence_s_max=30.0)
    one, other, outlets = Client(), Client(), Outlets(limits, ManualClock())
    async with asyncio.TaskGroup() as group:
        async with outlets.open(one.send) as first, outlets.open(other.send) as second:
            for outlet in (first, second):
                await outlet.write(b"a")
            await settle()
            await first.write(b"1234")
            await second.write(b"b")
            writing = group.create_task(second.write(b"c"))
            await settle()
            assert not writing.done()
            await one.take()
            await one.take()
            await other.take()
            assert writing.done()
            for _ in range(2):
                await other.take()
        assert other.got == [b"a", b"b", b"c"]
        assert outlets.waiting_bytes == 0


async def test_reader_that_takes_nothing_is_cut_off() -> None:
    clock, cuts = ManualClock(), []
    outlets = Outlets(LIMITS, clock, on_cut=lambda: cuts.append(1))

    async def stream() -> None:
        async with outlets.open(Client().send) as outlet:
            await outlet.write(b"a")
            await clock.wait_for_sleepers(1)
            await settle()
            clock.advance(29.0)
            await settle()
            await outlet.write(b"b")
            await clock.wait_for_sleepers(1)
            clock.advance(6.0)
            await settle()
            await outlet.write(b"c")

    async with watched(outlets):
        with pytest.raises(Cancelled) as caught:
            await stream()
    assert caught.value.reason is Reason.SLOW_READER
    assert cuts == [1]
    assert outlets.waiting_bytes == 0


async def test_reader_that_takes_something_now_and_then_is_not_cut_off() -> None:
    clock, client = ManualClock(), Client()
    outlets = Outlets(LIMITS, clock)
    async with watched(outlets):
        async with outlets.open(client.send) as outlet:
            for _ in range(5):
                await outlet.write(b"a")
                await settle()
                await clock.wait_for_sleepers(1)
                clock.advance(25.0)
                await settle()
                await client.take()
        assert client.got == [b"a"] * 5


async def test_nobody_watching_cuts_nobody_off() -> None:
    """The control: the cut-off comes from `run`, not from anything else."""
    clock, client = ManualClock(), Client()
    async with Outlets(LIMITS, clock).open(client.send) as outlet:
        await outlet.write(b"a")
        await settle()
        clock.advance(3600.0)
        await settle()
        await outlet.write(b"b")
        await client.take()
        await client.take()
    assert client.got == [b"a", b"b"]


async def test_writer_that_waits_is_told_of_the_cut() -> None:
    clock = ManualClock()
    outlets = Outlets(LIMITS, clock)

    async def stream() -> None:
        async with outlets.open(Client().send) as outlet:
            await outlet.write(b"a")
            await settle()
            await outlet.write(b"1234567890")
            writing = asyncio.ensure_future(outlet.write(b"more"))
            await clock.wait_for_sleepers(1)
            await settle()
            assert not writing.done()
            clock.advance(33.0)
            await settle()
            assert writing.done()
            await writing

    async with watched(outlets):
        with pytest.raises(Cancelled):
            await stream()


async def test_client_that_leaves_fails_the_next_write() -> None:
    client = Client()
    client.error = ConnectionError("gone")

    async def stream() -> None:
        async with Outlets(LIMITS, ManualClock()).open(client.send) as outlet:
            await outlet.write(b"a")
            await client.take()
            await outlet.write(b"b")

    with pytest.raises(ConnectionError, match="gone"):
        await stream()


async def test_failure_of_the_worker_comes_after_what_it_sent() -> None:
    client = Client(reads=True)
    with suppress(Unavailable):
        async with Outlets(LIMITS, ManualClock()).open(client.send) as outlet:
            await outlet.write(b"a")
            raise Unavailable("the worker is lost")
    assert client.got == [b"a"]


async def test_cancelled_call_sends_nothing_more() -> None:
    client, outlets = Client(), Outlets(LIMITS, ManualClock())
    with suppress(asyncio.CancelledError):
        async with outlets.open(client.send) as outlet:
            await outlet.write(b"a")
            await settle()
            await outlet.write(b"b")
            raise asyncio.CancelledError
    await client.take()
    assert client.got == []
    assert outlets.waiting_bytes == 0
    assert repr(outlets) == "Outlets(0 open, 0 bytes waiting)"


EVENTS = st.builds(
    lambda seq, text, ids: inference_pb2.Event(
        seq=seq, delta=inference_pb2.Delta(text=text, token_ids=ids)
    ),
    st.integers(0, 2**40),
    st.text(max_size=8),
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
)
MESSAGES = st.lists(
    st.builds(
        lambda events: inference_pb2.GenerateResponse(events=events), st.lists(EVENTS, max_size=3)
    ),
    max_size=12,
)


@given(messages=MESSAGES, takes=st.lists(st.integers(0, 12), max_size=4))
async def test_client_gets_the_same_events_however_it_lags(
    messages: list[inference_pb2.GenerateResponse], takes: list[int]
) -> None:
    """Whatever was merged with what, what arrives parses to the same events in the same order."""
    client = Client()
    limits = OutletLimits(stream_bytes_max=1000, total_bytes_max=10_000, silence_s_max=30.0)
    async with (
        asyncio.TaskGroup() as group,
        Outlets(limits, ManualClock()).open(client.send) as outlet,
    ):
        for index, message in enumerate(messages):
            await outlet.write(message.SerializeToString())
            if index in takes:
                await client.take()
        for _ in messages:
            group.create_task(client.take())
    got = [
        event
        for message in client.got
        for event in inference_pb2.GenerateResponse.FromString(message).events
    ]
    assert got == [event for message in messages for event in message.events]
