"""The way of a call through admission, choice, relay and retry, without a network and without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from common.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Reason,
    Unavailable,
)
from common.request.migration import MigrationLimits
from router.core.admission.gate import Admission
from router.core.admission.limits import AdmissionLimits
from router.core.call import Call, RoutingView
from router.core.dispatcher import Dispatcher, DispatchLimits
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.entry import Tracked
from router.core.policy.registry import make_policy
from router.core.pool import EndpointPool
from router.core.quarantine import QuarantineLimits
from router.core.retry import RetryLimits
from router.core.route import Route
from router.transport.generate_codec import ProtoGenerateCodec
from tests.support.admission import Unwatched
from tests.support.endpoints import make_endpoint
from tests.support.fake_worker import message_of
from tests.support.manual_clock import ManualClock

VIEW = RoutingView(model="tiny")
LOST = Unavailable("gone", reason=Reason.WORKER_LOST)
FIRST, SECOND = message_of("w1", 0), message_of("w1", 1)


class ScriptedStream:
    def __init__(self, steps: list[bytes | LeptonError | asyncio.Event], ended: list[str]) -> None:
        self._steps = steps
        self._ended = ended
        self.finished = b""
        self.was_taken = True

    async def read(self) -> bytes | None:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, LeptonError):
                raise step
            else:
                return step
        self.finished = b"done"
        return None

    def abandon(self, error: LeptonError) -> None:
        self._steps[:] = [error]

    def close(self) -> None:
        self._ended.append("closed")


class ScriptedReply:
    def __init__(self, stream: ScriptedStream) -> None:
        self._stream = stream
        self.abandon, self.close = stream.abandon, stream.close

    async def read(self) -> bytes:
        message = await self._stream.read()
        assert message is not None
        return message


class ScriptedClient:
    """Workers by id: what their next calls do; without a script they answer FIRST, SECOND."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[bytes | LeptonError | asyncio.Event]] = {}
        self.asked: list[str] = []
        self.ended: list[str] = []

    def generate(self, endpoint: Endpoint, payload: bytes, call: Call) -> ScriptedStream:
        self.asked.append(endpoint.id)
        steps = self.scripts.get(endpoint.id, [FIRST, SECOND])
        return ScriptedStream(list(steps), self.ended)

    def unary(self, endpoint: Endpoint, method: str, payload: bytes, call: Call) -> ScriptedReply:
        self.asked.append(endpoint.id)
        steps = self.scripts.get(endpoint.id, [method.encode()])
        return ScriptedReply(ScriptedStream(list(steps), self.ended))

    def let_go(self, endpoint: Endpoint, request: bytes, call: Call) -> None:
        raise AssertionError(endpoint.id)


class Watching(Unwatched):
    def __init__(self) -> None:
        self.choices: list[tuple[int, str | None]] = []

    @contextmanager
    def choosing(self, route: Route) -> Iterator[None]:
        yield
        self.choices.append((route.num_retries, route.endpoint.id if route.endpoint else None))


class Bench:
    def __init__(self, *worker_ids: str, in_flight_max: int = 10, retries_max: int = 2) -> None:
        self.clock = ManualClock()
        self.pool = EndpointPool(
            self.clock, hold_down_s_max=60, abandon_s=5, remember_s=300, stream_silence_s_max=2
        )
        self.client = ScriptedClient()
        self.observer = Watching()
        self.dispatcher = Dispatcher(
            pool=self.pool,
            admission=Admission(
                pool=self.pool,
                limits=AdmissionLimits(in_flight_max=in_flight_max),
                observer=self.observer,
                clock=self.clock,
            ),
            policy=make_policy("least_loaded", Random(1)),
            worker=self.client,
            codec=ProtoGenerateCodec(),
            observer=self.observer,
            limits=DispatchLimits(
                wait_for_worker_s_max=5.0,
                retry=RetryLimits(retries_max=retries_max, budget_burst=3.0, budget_per_s=0.0),
                migration=MigrationLimits(migrations_max=0),
                quarantine=QuarantineLimits(quarantine_s=0),
            ),
            clock=self.clock,
        )
        self.route = Route(started_at=self.clock.now())
        self.written: list[bytes] = []
        if worker_ids:
            self.serve(*worker_ids)

    def serve(self, *worker_ids: str) -> None:
        """Registers and makes ready; later ids are busier, so that they come later."""
        endpoints = [make_endpoint(worker_id) for worker_id in worker_ids]
        self.pool.apply(endpoints, stale=False)
        for index, endpoint in enumerate(endpoints):
            load = Load(rows_max=8, running=index)
            self.pool.report(endpoint.id, endpoint.incarnation, load, draining=False)

    def call(self, *, within_s: float = 60.0) -> Call:
        return Call(request_id="r", deadline=self.clock.now() + within_s)

    async def write(self, message: bytes) -> None:
        self.written.append(message)

    async def generate(self, view: RoutingView = VIEW, *, within_s: float = 60.0) -> bytes:
        self.route = Route(started_at=self.clock.now())
        return await self.dispatcher.generate(
            b"request", view, self.call(within_s=within_s), self.write, self.route
        )

    async def idle_for(self, seconds: float) -> tuple[Tracked, ...]:
        """All workers say that they have nothing to do; returns what the last sweep found."""
        found: tuple[Tracked, ...] = ()
        for _ in range(round(seconds / 0.25)):
            for endpoint in self.pool.snapshot().models["tiny"]:
                self.pool.report(endpoint.id, endpoint.incarnation, Load(), draining=False)
            self.clock.advance(0.25)
            await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
            found = self.pool.sweep()
        return found

    def check(self) -> None:
        """Nothing is left behind."""
        self.pool.check_integrity()
        assert self.dispatcher.in_flight == 0
        assert self.dispatcher.idle.is_set()
        endpoints = [e for group in self.pool.snapshot().models.values() for e in group]
        assert all(endpoint.in_flight == 0 for endpoint in endpoints)


async def test_relays_messages_in_order_and_returns_the_end() -> None:
    bench = Bench("w1")
    assert await bench.generate() == b"done"
    assert bench.written == [FIRST, SECOND]
    assert bench.route.num_messages == 2
    assert bench.route.endpoint is not None
    assert bench.route.first_message_at is not None
    assert bench.client.ended == ["closed"]
    bench.check()


async def test_call_in_flight_is_counted_where_it_runs() -> None:
    bench = Bench("w1")
    gate = asyncio.Event()
    bench.client.scripts["w1"] = [gate, FIRST]
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.generate())
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        assert bench.pool.snapshot().models["tiny"][0].in_flight == 1
        assert bench.dispatcher.in_flight == 1
        gate.set()
    bench.check()


@pytest.mark.parametrize("error", [LOST, Internal("x"), Overloaded("full")])
async def test_failure_before_the_first_message_goes_to_another_worker(error: LeptonError) -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [error]
    assert await bench.generate() == b"done"
    assert bench.client.asked == ["w1", "w2"]
    assert bench.written == [FIRST, SECOND]
    assert bench.route.failures == [("w1", error.reason.value)]
    assert bench.observer.choices == [(0, "w1"), (1, "w2")]
    bench.check()


async def test_failure_after_the_first_message_is_told() -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [FIRST, LOST]
    with pytest.raises(Unavailable) as caught:
        await bench.generate()
    assert caught.value.reason is Reason.WORKER_LOST
    assert bench.client.asked == ["w1"]
    assert bench.written == [FIRST]
    bench.check()


async def test_error_of_the_request_is_not_retried() -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [InvalidRequest("bad")]
    with pytest.raises(InvalidRequest):
        await bench.generate()
    assert bench.client.asked == ["w1"]
    bench.check()


async def test_a_call_is_retried_at_most_retries_max_times() -> None:
    bench = Bench("w1", "w2", "w3", "w4")
    bench.client.scripts = {worker_id: [Internal("x")] for worker_id in ("w1", "w2", "w3", "w4")}
    with pytest.raises(Internal):
        await bench.generate()
    assert bench.client.asked == ["w1", "w2", "w3"]
    bench.check()


async def test_retries_end_with_the_budget() -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [Internal("x")]
    for _ in range(3):
        await bench.generate()
    with pytest.raises(Internal):
        await bench.generate()
    bench.check()


async def test_lost_worker_gets_nothing_new_until_it_speaks_again() -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [LOST]
    await bench.generate()
    assert bench.pool.snapshot().models["tiny"][0].state is EndpointState.LOST
    await bench.generate()
    assert bench.client.asked == ["w1", "w2", "w2"]


async def test_overload_everywhere_is_told_at_once() -> None:
    """Waiting would only make the queue longer."""
    bench = Bench("w1", "w2")
    bench.client.scripts = {"w1": [Overloaded("full")], "w2": [Overloaded("full")]}
    with pytest.raises(Overloaded):
        await bench.generate()
    assert bench.client.asked == ["w1", "w2"]
    assert bench.clock.num_sleepers == 0


async def test_only_worker_lost_waits_for_its_successor() -> None:
    bench = Bench("w1")
    bench.client.scripts["w1"] = [LOST]
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(bench.generate())
        await bench.clock.wait_for_sleepers(1)
        bench.client.scripts.clear()
        restarted = make_endpoint("w1", incarnation="w1-2")
        bench.pool.apply([restarted], stale=False)
        bench.pool.report("w1", "w1-2", Load(), draining=False)
    assert answer.result() == b"done"
    bench.check()


async def test_only_worker_lost_and_no_successor_tells_the_loss() -> None:
    bench = Bench("w1")
    bench.client.scripts["w1"] = [LOST]
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(expect(Unavailable, bench.generate))
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(5)
    assert failing.result().reason is Reason.WORKER_LOST
    bench.check()


async def expect(cls: type[LeptonError], what: Callable[[], object]) -> LeptonError:
    with pytest.raises(cls) as caught:
        await what()  # type: ignore[misc]
    return caught.value


async def test_known_model_without_a_ready_worker_waits_and_then_goes_on() -> None:
    bench = Bench()
    bench.pool.apply([make_endpoint("w1")], stale=False)
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(bench.generate())
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(2)
        bench.pool.report("w1", "w1-1", Load(), draining=False)
    assert answer.result() == b"done"
    assert bench.route.waited_s == pytest.approx(2)
    bench.check()


async def test_wait_for_a_worker_is_bounded() -> None:
    bench = Bench()
    bench.pool.apply([make_endpoint("w1")], stale=False)
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(expect(Unavailable, bench.generate))
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(5)
    error = failing.result()
    assert error.reason is Reason.NO_WORKER
    assert error.retry_after_s
    assert "w1 is connecting" in error.message
    bench.check()


async def test_wait_for_a_worker_ends_with_the_deadline() -> None:
    bench = Bench()
    bench.pool.apply([make_endpoint("w1")], stale=False)
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(expect(DeadlineExceeded, lambda: bench.generate(within_s=1.0)))
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(1)
    assert failing.done()
    bench.check()


async def test_deadline_that_has_passed_reaches_no_worker() -> None:
    bench = Bench("w1")
    with pytest.raises(DeadlineExceeded):
        await bench.generate(within_s=0.0)
    assert bench.client.asked == []
    bench.check()


async def test_model_that_lost_its_last_worker_is_unavailable_and_not_unknown() -> None:
    bench = Bench("w1")
    bench.pool.apply([make_endpoint("w9", model="other")], stale=False)
    bench.pool.lost("w1", "w1-1")
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(expect(Unavailable, bench.generate))
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(5)
    assert failing.result().reason is Reason.NO_WORKER


async def test_unknown_model_is_refused_at_once_with_what_is_served() -> None:
    bench = Bench("w1")
    with pytest.raises(NotFound, match="served: 'tiny'"):
        await bench.generate(RoutingView(model="huge"))
    bench.check()


async def test_router_that_has_heard_nothing_yet_waits_and_says_so() -> None:
    bench = Bench()
    async with asyncio.TaskGroup() as group:
        failing = group.create_task(expect(Unavailable, bench.generate))
        await bench.clock.wait_for_sleepers(1)
        bench.clock.advance(5)
    assert failing.result().reason is Reason.STARTING


async def test_one_more_than_allowed_is_refused_with_a_hint() -> None:
    bench = Bench("w1", in_flight_max=1)
    gate = asyncio.Event()
    bench.client.scripts["w1"] = [gate, FIRST]
    async with asyncio.TaskGroup() as group:
        group.create_task(bench.generate())
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        error = await expect(Overloaded, bench.generate)
        assert error.reason is Reason.QUEUE_FULL
        assert error.retry_after_s
        gate.set()
    bench.check()


async def test_draining_refuses_new_calls_and_finishes_running_ones() -> None:
    bench = Bench("w1")
    gate = asyncio.Event()
    bench.client.scripts["w1"] = [gate, FIRST]
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.generate())
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        bench.dispatcher.refuse_new()
        assert (await expect(Unavailable, bench.generate)).reason is Reason.DRAINING
        assert not bench.dispatcher.idle.is_set()
        gate.set()
    assert running.result() == b"done"
    assert repr(bench.dispatcher).startswith("Dispatcher(Admission(in_flight=0, refusing")
    bench.check()


async def test_cancelled_call_closes_its_stream_and_counts_nothing() -> None:
    bench = Bench("w1")
    bench.client.scripts["w1"] = [FIRST, asyncio.Event()]
    task = asyncio.get_running_loop().create_task(bench.generate())
    await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
    assert bench.written == [FIRST]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.client.ended == ["closed"]
    bench.check()


async def test_failure_of_the_client_side_is_not_blamed_on_the_worker() -> None:
    bench = Bench("w1", "w2")

    async def broken(message: bytes) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await bench.dispatcher.generate(b"", VIEW, bench.call(), broken, bench.route)
    assert bench.client.asked == ["w1"]
    assert bench.pool.snapshot().models["tiny"][0].state is EndpointState.READY
    bench.check()


async def test_call_on_an_abandoned_worker_goes_elsewhere() -> None:
    bench = Bench("w1", "w2")
    gate = asyncio.Event()
    bench.client.scripts["w1"] = [gate]
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(bench.generate())
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        bench.pool.lost("w1", "w1-1")
        bench.clock.advance(5)
        bench.pool.report("w2", "w2-1", Load(rows_max=8), draining=False)
        for tracked in bench.pool.sweep():
            tracked.abandon()
        gate.set()
    assert answer.result() == b"done"
    assert bench.client.asked == ["w1", "w2"]
    bench.check()


async def test_slow_client_is_not_taken_for_a_silent_worker() -> None:
    bench = Bench("w1")
    gate, has_written = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes) -> None:
        await bench.write(message)
        has_written.set()
        await gate.wait()

    bench.client.scripts["w1"] = [FIRST, asyncio.Event()]
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(
            bench.dispatcher.generate(b"request", VIEW, bench.call(), slow, bench.route)
        )
        await has_written.wait()
        assert await bench.idle_for(10) == ()
        gate.set()
        (silent,) = await bench.idle_for(3)
        assert silent.is_silent
        answer.cancel()
    bench.check()


async def test_unary_calls_take_the_same_way() -> None:
    bench = Bench("w1", "w2")
    bench.client.scripts["w1"] = [LOST]
    answer = await bench.dispatcher.unary("Tokenize", b"", VIEW, bench.call(), bench.route)
    assert answer == b"Tokenize"
    assert bench.client.asked == ["w1", "w2"]
    bench.check()


async def test_unary_calls_on_an_abandoned_worker_go_elsewhere() -> None:
    bench = Bench("w1", "w2")
    gate = asyncio.Event()
    bench.client.scripts["w1"] = [gate]
    async with asyncio.TaskGroup() as group:
        answer = group.create_task(
            bench.dispatcher.unary("Tokenize", b"", VIEW, bench.call(), bench.route)
        )
        await asyncio.sleep(0)  # noqa: TID251 - one turn of the loop
        bench.pool.lost("w1", "w1-1")
        bench.clock.advance(5)
        bench.pool.report("w2", "w2-1", Load(rows_max=8), draining=False)
        for tracked in bench.pool.sweep():
            tracked.abandon()
        gate.set()
    assert answer.result() == b"Tokenize"
    assert bench.client.asked == ["w1", "w2"]
    assert bench.client.ended == ["closed", "closed"]
    bench.check()
