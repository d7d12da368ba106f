"""The gate around calls: who waits, how it ends, what is left behind. On a clock that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.errors import DeadlineExceeded, LeptonError, Overloaded, Reason, Unavailable
from router.core.admission.demand import Band
from router.core.admission.gate import Admission
from router.core.admission.limits import AdmissionLimits
from router.core.call import Call, Cost, RoutingView
from router.core.endpoint import Load
from router.core.pool import EndpointPool
from router.core.route import Route
from tests.support.admission import Unwatched
from tests.support.endpoints import make_endpoint
from tests.support.manual_clock import ManualClock


class Watching(Unwatched):
    def __init__(self) -> None:
        self.refusals: list[Reason] = []
        self.num_admitted = 0

    def admitted(self, route: Route, view: RoutingView) -> None:
        self.num_admitted += 1

    def refused(self, error: LeptonError) -> None:
        self.refusals.append(error.reason)


class Bench:
    """One worker with two rows and one call of look-ahead: three tickets."""

    def __init__(self, **limits: Any) -> None:
        self.clock = ManualClock()
        self.pool = EndpointPool(self.clock, hold_down_s_max=60, abandon_s=5, remember_s=300)
        self.observer = Watching()
        self.admission = Admission(
            pool=self.pool,
            limits=AdmissionLimits(**limits),
            observer=self.observer,
            clock=self.clock,
            known_bytes=lambda _, endpoints: self.known_bytes if endpoints else 0,
        )
        self.known_bytes = 0
        self.finish = asyncio.Event()
        self.routes: list[Route] = []

    def serve(self, worker_id: str = "w1") -> None:
        self.pool.apply([make_endpoint(worker_id)], stale=False)

    def report(self, **load: Any) -> None:
        report = Load(**{"rows_max": 2, "received_at": self.clock.now()} | load)
        self.pool.report("w1", "w1-1", report, draining=False)

    async def call(self, *, within_s: float = 60.0, model: str = "tiny", **view: Any) -> str:
        route = Route(started_at=self.clock.now())
        self.routes.append(route)
        call = Call(request_id="r", deadline=self.clock.now() + within_s)
        async with self.admission.admitted(RoutingView(model=model, **view), call, route):
            await self.finish.wait()
        return "done"

    def num_waiting(self) -> int:
        return sum(self.admission.num_waiting(band) for band in Band)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[asyncio.TaskGroup]:
    """The gate looked after; nothing may be left behind."""
    async with asyncio.TaskGroup() as group:
        tending = group.create_task(bench.admission.run())
        yield group
        tending.cancel()
    assert bench.admission.in_flight == 0
    assert bench.admission.idle.is_set()
    assert bench.num_waiting() == 0


async def turns(num: int = 10) -> None:
    for _ in range(num):
        await asyncio.sleep(0)  # noqa: TID251 - turns of the loop, no time


async def later(bench: Bench, seconds: float) -> None:
    """Time passes and the gate notices."""
    await bench.clock.wait_for_sleepers(1)
    bench.clock.advance(seconds)
    await turns()


def outcome(task: asyncio.Task[str]) -> LeptonError:
    error = task.exception()
    assert isinstance(error, LeptonError)
    return error


async def test_free_row_costs_no_turn_of_the_loop() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    entering = bench.admission.admitted(
        RoutingView(model="tiny"),
        Call(request_id="r", deadline=bench.clock.now() + 1),
        Route(started_at=0.0),
    )
    with pytest.raises(StopIteration):  # a coroutine that has ended without ever waiting
        entering.__aenter__().send(None)  # type: ignore[attr-defined]
    await entering.__aexit__(None, None, None)
    assert bench.admission.idle.is_set()


async def test_calls_beyond_the_rows_wait_and_go_on_in_order() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        calls = [group.create_task(bench.call()) for _ in range(5)]
        await turns()
        assert (bench.observer.num_admitted, bench.num_waiting()) == (3, 2)
        bench.finish.set()
        await turns()
        assert [call.result() for call in calls] == ["done"] * 5


async def test_what_is_cached_is_no_work() -> None:
    """A caller with a cached document is not put behind one whose calls are as short as what is left of it."""
    bench = Bench(quantum=100)
    bench.serve()
    bench.report()
    order: list[str] = []

    async def call(caller: str, tokens: int) -> None:
        route = Route(started_at=bench.clock.now())
        view = RoutingView(model="tiny", caller=caller, cost=Cost(tokens=tokens))
        made = Call(request_id="r", deadline=bench.clock.now() + 60)
        async with bench.admission.admitted(view, made, route):
            order.append(caller)
            await bench.finish.wait()

    async with running(bench) as group:
        for _ in range(3):
            group.create_task(bench.call())
        await turns()
        for _ in range(3):
            bench.known_bytes = 40_000
            group.create_task(call("cached", 10_100))
            await turns()
            bench.known_bytes = 0
            group.create_task(call("other", 100))
            await turns()
        bench.finish.set()
    assert order == ["cached", "other"] * 3


async def test_tokenizing_needs_no_row_and_never_waits() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(4):
            group.create_task(bench.call())
        group.create_task(bench.call(task="", cost=Cost(rows=0)))
        await turns()
        assert bench.num_waiting() == 1
        assert bench.admission.in_flight == 5
        bench.finish.set()


async def test_client_that_goes_away_while_it_waits_leaves_its_place_at_once() -> None:
    bench = Bench(waiting_max=1)
    bench.serve()
    bench.report()
    async with running(bench) as group:
        calls = [group.create_task(bench.call()) for _ in range(4)]
        await turns()
        calls[3].cancel()
        await turns(2)
        assert bench.num_waiting() == 0
        last = group.create_task(bench.call())
        await turns()
        assert bench.num_waiting() == 1
        bench.finish.set()
        await turns()
        assert last.result() == "done"


async def test_client_that_goes_away_in_the_moment_of_its_turn_gives_the_row_back() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        calls = [group.create_task(bench.call()) for _ in range(5)]
        await turns()
        calls[0].cancel()
        await turns(1)  # the first one leaves; the fourth has its ticket but has not run yet
        calls[3].cancel()
        await turns()
        assert bench.num_waiting() == 0
        assert calls[3].cancelled()
        assert bench.observer.num_admitted == 4
        bench.finish.set()


async def test_deadline_while_waiting() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(3):
            group.create_task(bench.call())
        waits = asyncio.ensure_future(bench.call(within_s=1.0))
        await turns()
        await later(bench, 1.0)
        assert isinstance(outcome(waits), DeadlineExceeded)
        bench.finish.set()


async def test_longest_wait_and_patience() -> None:
    bench = Bench(wait_s_max=2.0)
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(3):
            group.create_task(bench.call())
        await turns()
        waits = asyncio.ensure_future(bench.call())
        impatient = asyncio.ensure_future(bench.call(queue_s_max=0.5))
        at_once = asyncio.ensure_future(bench.call(queue_s_max=0.0))
        await turns()
        assert outcome(at_once).reason is Reason.QUEUE_TIMEOUT
        await later(bench, 0.6)
        assert outcome(impatient).reason is Reason.QUEUE_TIMEOUT
        assert not waits.done()
        await later(bench, 1.5)
        assert outcome(waits).reason is Reason.WOULD_BE_LATE
        assert outcome(waits).retry_after_s
        assert bench.routes[3].queued_s == pytest.approx(2.1)
        bench.finish.set()
    assert bench.observer.refusals == [Reason.QUEUE_TIMEOUT] * 2 + [Reason.WOULD_BE_LATE]


async def test_drain_tells_those_who_wait() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        calls = [group.create_task(bench.call()) for _ in range(3)]
        waits = asyncio.ensure_future(bench.call())
        await turns()
        bench.admission.refuse_new()
        with pytest.raises(Unavailable) as caught:
            await bench.call()
        assert caught.value.reason is Reason.DRAINING
        await turns()
        assert outcome(waits).reason is Reason.DRAINING
        assert not bench.admission.idle.is_set()
        bench.finish.set()
        await turns()
        assert [call.result() for call in calls] == ["done"] * 3


async def test_new_worker_takes_those_who_wait() -> None:
    bench = Bench()
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(6):
            group.create_task(bench.call())
        await turns()
        assert bench.num_waiting() == 3
        bench.pool.apply([make_endpoint("w1"), make_endpoint("w2")], stale=False)
        report = Load(rows_max=2, received_at=bench.clock.now())
        bench.pool.report("w2", "w2-1", report, draining=False)
        await turns()
        assert bench.num_waiting() == 0
        bench.finish.set()


async def test_rows_that_another_router_holds_are_not_given_out_but_for_the_look_ahead() -> None:
    bench = Bench()
    bench.serve()
    bench.report(running=2, waiting=3)
    async with running(bench) as group:
        for _ in range(3):
            group.create_task(bench.call())
        await turns()
        assert bench.observer.num_admitted == 1
        bench.report(running=2, in_flight_of_router=1)
        await later(bench, 0.06)
        assert bench.observer.num_admitted == 2
        # A report that is old says nothing about the others any more.
        await later(bench, 1.5)
        assert bench.observer.num_admitted == 3
        bench.finish.set()


async def test_without_a_ready_worker_some_go_on_and_the_others_are_told_why_they_waited() -> None:
    bench = Bench(blind_max=2, no_worker_s_max=1.0)
    bench.serve()
    async with running(bench) as group:
        for _ in range(2):
            group.create_task(bench.call())
        waits = asyncio.ensure_future(bench.call())
        await turns()
        assert bench.observer.num_admitted == 2
        await later(bench, 1.0)
        assert outcome(waits).reason is Reason.NO_WORKER
        bench.finish.set()


async def test_model_that_nobody_serves_leaves_no_trace() -> None:
    bench = Bench(blind_max=1)
    bench.serve()
    async with running(bench) as group:
        for number in range(100):
            group.create_task(bench.call(model=f"invented-{number}"))
        await turns()
        assert bench.admission.in_flight == 100
        assert "invented" not in repr(bench.admission)
        bench.finish.set()


async def test_models_do_not_wait_for_each_other() -> None:
    bench = Bench()
    bench.pool.apply([make_endpoint("w1"), make_endpoint("w2", model="other")], stale=False)
    bench.report()
    report = Load(rows_max=2, received_at=bench.clock.now())
    bench.pool.report("w2", "w2-1", report, draining=False)
    async with running(bench) as group:
        for _ in range(10):
            group.create_task(bench.call())
        await turns()
        group.create_task(bench.call(model="other"))
        await turns()
        assert bench.observer.num_admitted == 4
        bench.finish.set()


async def test_bound_of_calls_in_flight_counts_those_who_wait() -> None:
    bench = Bench(in_flight_max=4)
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(4):
            group.create_task(bench.call())
        await turns()
        with pytest.raises(Overloaded) as caught:
            await bench.call()
        assert caught.value.reason is Reason.QUEUE_FULL
        bench.finish.set()
    assert bench.observer.refusals == [Reason.QUEUE_FULL]


async def test_full_line_displaces_whom_it_would_serve_last() -> None:
    bench = Bench(waiting_max=2, waiting_of_caller_max=2)
    bench.serve()
    bench.report()
    async with running(bench) as group:
        for _ in range(3):
            group.create_task(bench.call())
        await turns()
        first = group.create_task(bench.call(caller="a"))
        second = asyncio.ensure_future(bench.call(caller="a"))
        await turns()
        with pytest.raises(Overloaded) as caught:
            await bench.call(caller="a", priority=1)
        assert caught.value.reason is Reason.CALLER_QUEUE_FULL
        with pytest.raises(Overloaded) as caught:
            await bench.call(caller="b", priority=-1)
        assert caught.value.reason is Reason.QUEUE_FULL
        other = group.create_task(bench.call(caller="b"))
        await turns()
        assert outcome(second).reason is Reason.QUEUE_FULL
        bench.finish.set()
        await turns()
        assert (first.result(), other.result()) == ("done", "done")
