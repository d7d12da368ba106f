"""Resumable calls under any order of events: listeners that come, read, leave, calls that grow, end, expire.

Whoever listens sees the `seq`s from where it began, one after another, without gap or repetition, whatever anybody else
does; nobody's pace holds up the generation; memory stays under its bounds, and in the end nothing is left.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from common.errors import Cancelled, InvalidRequest, LeptonError, NotFound, Overloaded, Reason
from lepton.v1 import inference_pb2
from tests.support.manual_clock import ManualClock
from worker.transport.in_flight import InFlight
from worker.transport.resumable_calls import Append, ReplayLimits, ResumableCalls
from worker.transport.running_call import RunningCall

LIMITS = ReplayLimits(calls_max=4, bytes_max=600, bytes_total_max=1500)
MESSAGE_MAX = 300
"""A little more than the largest message costs."""


class Generation:
    """One call, driven by hand."""

    def __init__(self, call: RunningCall) -> None:
        self.call = call
        self.append: Append | None = None
        self.over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.was_cancelled = False

    async def run(self, append: Append) -> bytes:
        self.append = append
        try:
            return await self.over
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


class Listener:
    def __init__(
        self, generation: Generation, seq: int, where: AbstractContextManager[None]
    ) -> None:
        self.generation = generation
        self.seq = seq
        self.where = where


class ResumableCallsMachine(RuleBasedStateMachine):
    generations: Bundle[Generation] = Bundle("generations")
    listeners: Bundle[Listener] = Bundle("listeners")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.in_flight = InFlight()
        self.num = 0
        self.all: list[Generation] = []
        self.open: list[Listener] = []
        self.run(self._begin())

    async def _begin(self) -> None:
        self.calls = await ResumableCalls(LIMITS, self.in_flight, self.clock).__aenter__()

    def run(self, coroutine: Any) -> Any:
        """Runs it, and then whatever has become ready."""

        async def settled() -> Any:
            result = await coroutine
            for _ in range(4):
                await self.clock.sleep(0)
            return result

        return self.runner.run(settled())

    @rule(
        target=generations,
        linger_s=st.integers(1, 5),
        keep_s=st.integers(1, 5),
        first_seq=st.sampled_from([0, 7]),
        is_known=st.booleans(),
    )
    def start(self, linger_s: int, keep_s: int, first_seq: int, is_known: bool) -> Any:
        async def begin() -> Generation | None:
            self.num += 1
            call = RunningCall(
                call_id=self.num.to_bytes(16, "big"),
                caller="alice",
                fingerprint=b"f",
                ring=self.calls.new_ring(first_seq=first_seq),
                key=None,
                linger_s=linger_s,
                keep_s=keep_s,
            )
            call.is_known = is_known
            generation = Generation(call)
            try:
                self.calls.start(call, generation.run)
            except Overloaded:
                num_running = sum(not g.call.has_ended for g in self.all)
                num_heard = sum(g.call.num_listeners > 0 for g in self.all)
                assert num_running + num_heard >= LIMITS.calls_max
                return None
            self.all.append(generation)
            return generation

        generation = self.run(begin())
        return multiple() if generation is None else generation

    @rule(
        generation=generations,
        sizes=st.lists(st.integers(1, 3), min_size=1, max_size=8),
        length=st.integers(0, 40),
    )
    def generate(self, generation: Generation, sizes: list[int], length: int) -> None:
        """Messages of so many events each."""
        if generation.append is None or generation.call.has_ended:
            return
        for size in sizes:
            first = generation.call.ring.next_seq
            events = [
                inference_pb2.Event(seq=first + i, delta=inference_pb2.Delta(text="x" * length))
                for i in range(size)
            ]
            data = inference_pb2.GenerateResponse(events=events).SerializeToString()
            generation.append(data, next_seq=first + size)

    @rule(generation=generations, well=st.booleans())
    def end(self, generation: Generation, well: bool) -> None:
        async def over() -> None:
            if generation.over.done():
                return
            if well:
                generation.over.set_result(b"finished")
            else:
                generation.over.set_exception(InvalidRequest("wrong"))

        self.run(over())

    @rule(target=listeners, generation=generations, back=st.integers(-1, 12))
    def listen(self, generation: Generation, back: int) -> Any:
        found = self.calls.find(generation.call.call_id, "alice")
        assert self.calls.find(generation.call.call_id, "bob") is None
        if found is None:
            return multiple()
        assert found is generation.call
        ring = found.ring
        seq = max(0, ring.next_seq - back)
        try:
            found.check_seq(seq)
        except NotFound as error:
            assert error.reason is Reason.RESUME_EXPIRED
            assert seq < ring.first_seq
            return multiple()
        except InvalidRequest:
            assert seq > ring.next_seq
            return multiple()

        async def enter() -> Listener:
            where = self.calls.listening(found)
            where.__enter__()
            return Listener(generation, seq, where)

        listener = self.run(enter())
        self.open.append(listener)
        return listener

    @rule(listener=listeners)
    def read(self, listener: Listener) -> None:
        if listener not in self.open:
            return
        call = listener.generation.call
        if listener.seq == call.ring.next_seq and not call.has_ended:
            return  # it would wait

        async def read() -> tuple[bytes, int] | None:
            return await call.read(listener.seq)

        was_dropped = listener.seq < call.ring.first_seq
        try:
            found = self.run(read())
        except LeptonError as error:
            if was_dropped:
                assert isinstance(error, Cancelled)
                assert error.reason is Reason.SLOW_READER
            else:
                assert call.has_failed
                assert listener.seq == call.ring.next_seq
            self._leave(listener)
            return
        assert not was_dropped
        if found is None:
            assert call.finished == b"finished"
            assert listener.seq == call.ring.next_seq
            return
        data, after = found
        seqs = [event.seq for event in inference_pb2.GenerateResponse.FromString(data).events]
        assert seqs == list(range(listener.seq, after))
        assert seqs, "a message without events"
        listener.seq = after

    @rule(listener=consumes(listeners))
    def leave(self, listener: Listener) -> None:
        if listener in self.open:
            self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        async def out() -> None:
            listener.where.__exit__(None, None, None)

        self.open.remove(listener)
        self.run(out())

    @rule(generation=generations)
    def abort(self, generation: Generation) -> None:
        async def abort() -> None:
            self.calls.abort(generation.call)

        was_running = not generation.call.has_ended
        was_begun = generation.append is not None
        self.run(abort())
        assert self.calls.find(generation.call.call_id, "alice") is None
        if was_running and was_begun:
            assert generation.was_cancelled

    @rule(generation=generations)
    def let_go(self, generation: Generation) -> None:
        async def let_go() -> None:
            self.calls.let_go(generation.call)

        had_ended = generation.call.has_ended
        known = self.calls.find(generation.call.call_id, "alice") is not None
        self.run(let_go())
        knows = self.calls.find(generation.call.call_id, "alice") is not None
        if had_ended or generation.call.num_listeners:
            assert knows is known
            assert generation.call.has_ended is had_ended
        else:
            assert not knows
            assert generation.call.has_ended

    @rule(seconds=st.integers(1, 4))
    def wait(self, seconds: int) -> None:
        async def advance() -> None:
            self.clock.advance(seconds)

        before = [g for g in self.all if not g.call.has_ended and g.call.num_listeners]
        self.run(advance())
        assert not any(g.call.has_ended for g in before), "somebody listened, and it ended"

    @invariant()
    def everything_is_bounded(self) -> None:
        assert self.calls.num_calls <= LIMITS.calls_max
        heard = sum(g.call.num_listeners > 0 for g in self.all)
        assert self.calls.num_bytes <= LIMITS.bytes_total_max + MESSAGE_MAX * (1 + heard)
        for generation in self.all:
            assert generation.call.ring.num_bytes <= LIMITS.bytes_max
            call = generation.call
            if self.calls.find(call.call_id, "alice") is None:
                assert call.has_ended, "forgotten, and still computing"
                assert not call.ring.num_bytes or call.num_listeners
            else:
                assert call.is_known or call.num_listeners, "kept for nobody"

    def teardown(self) -> None:
        for listener in list(self.open):
            self._leave(listener)

        async def expire() -> None:
            for _ in range(3):
                self.clock.advance(10)
                for _ in range(6):
                    await self.clock.sleep(0)

        self.run(expire())
        assert (self.calls.num_calls, self.calls.num_bytes) == (0, 0)
        assert all(g.call.has_ended for g in self.all)
        self.run(self.calls.__aexit__(None, None, None))
        assert self.clock.num_sleepers == 0
        self.run(self.in_flight.empty(0.0))
        self.runner.close()


TestResumableCalls = ResumableCallsMachine.TestCase
TestResumableCalls.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
