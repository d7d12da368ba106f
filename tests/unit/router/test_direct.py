"""Calls that are picked and not relayed: what the router does at each of their ends, without a network or waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from random import Random

import pytest

from common.errors import LeptonError, Overloaded, Quarantined, Reason
from router.core.call import Call, Cost, RoutingView
from router.core.direct import Wish
from router.core.endpoint import EndpointState, Load, TicketCounts
from router.core.handout import Fate, Handout
from router.core.handouts import Handouts
from router.core.quarantine import QuarantineLimits
from router.core.route import Route
from tests.unit.router.test_dispatcher import Bench

VIEW = RoutingView(model="tiny", cost=Cost(tokens=10, rows=1))
KEYS = {"w1": ("w1", "w1-1"), "w2": ("w2", "w2-1"), "w3": ("w3", "w3-1")}


class DirectBench(Bench):
    """Workers that report what the test says."""

    @property
    def direct(self):  # type: ignore[no-untyped-def]
        return self.dispatcher.direct

    async def pick(self, *failed: Handout, fingerprint: bytes = b"f") -> Handout:
        deadline = self.clock.now() + 60
        return await self.direct.pick(
            Wish(
                view=VIEW,
                call=Call(request_id="id", deadline=deadline),
                route=Route(started_at=self.clock.now()),
                fingerprint=lambda: fingerprint,
                tried=[handout.tracked.key for handout in failed],
                failed=[handout.number for handout in failed],
            )
        )

    def report(self, worker_id: str, counts: TicketCounts | None = None) -> None:
        counts = counts or TicketCounts()
        self.pool.report(*KEYS[worker_id], Load(rows_max=8, tickets=counts), draining=False)
        self.direct.handouts.reported(KEYS[worker_id], counts)

    def die(self, worker_id: str) -> None:
        self.pool.lost(*KEYS[worker_id])


@asynccontextmanager
async def bench(*worker_ids: str) -> AsyncIterator[DirectBench]:
    made = DirectBench(*worker_ids)
    made.dispatcher._quarantine._limits = QuarantineLimits(quarantine_s=600)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.direct.run())
        await asyncio.sleep(0)  # noqa: TID251 - a turn of the loop, so that it runs
        yield made
        running.cancel()
    made.direct.handouts.check_integrity()


async def test_call_is_in_the_books_from_its_ticket_to_its_end() -> None:
    async with bench("w1") as made:
        handout = await made.pick()
        assert made.dispatcher.in_flight == 1
        made.report("w1", TicketCounts(taken=1))
        made.clock.advance(50)
        made.direct.handouts.sweep({KEYS["w1"]})
        assert handout.fate is None, "it runs, however long"
        made.report("w1", TicketCounts(taken=1, ended=1, completed=1))
        await handout.closed.wait()
        assert handout.fate is Fate.COMPLETED
        assert made.dispatcher.in_flight == 0


async def test_call_whose_end_is_known_may_outlive_the_next_one_in_the_books() -> None:
    async with bench("w1") as made:
        handouts = made.direct.handouts
        (endpoint,) = made.pool.snapshot().models["tiny"]
        with (
            made.pool.track(endpoint) as tracked,
            handouts.open(endpoint, tracked, deadline=1e9) as first,
        ):
            handouts.reported(tracked.key, TicketCounts(taken=1, ended=1))
            assert first.fate is Fate.ENDED
            with handouts.open(endpoint, tracked, deadline=1e9):
                pass
        assert len(handouts) == 0


async def test_ticket_that_nobody_uses_comes_back() -> None:
    async with bench("w1") as made:
        handout = await made.pick()
        made.direct.handouts.sweep({KEYS["w1"]})
        assert handout.fate is None
        made.clock.advance(5)
        made.direct.handouts.sweep({KEYS["w1"]})
        await handout.closed.wait()
        assert handout.fate is Fate.UNUSED
        assert made.dispatcher.in_flight == 0


async def test_worker_that_left_properly_takes_its_calls_out_of_the_books() -> None:
    async with bench("w1") as made:
        handout = await made.pick()
        made.direct.handouts.sweep(set())
        assert handout.fate is Fate.GONE


async def test_client_that_comes_back_after_a_loss_does_not_wait_again() -> None:
    async with bench("w1", "w2") as made:
        picks = [await made.pick() for _ in range(10)]  # as many as may be in flight
        with pytest.raises(Overloaded):
            await made.pick()
        first = next(handout for handout in picks if handout.endpoint.id == "w1")
        made.die("w1")
        again = await made.pick(first)
        assert again.endpoint.id == "w2"
        assert first.fate is Fate.LOST
        assert first.closed.is_set()


async def test_client_is_not_believed_when_its_worker_lives() -> None:
    async with bench("w1", "w2") as made:
        first = await made.pick()
        returning = asyncio.ensure_future(made.pick(first))
        await made.clock.wait_for_sleepers(1)
        assert not returning.done(), "the worker's next word decides"
        made.report(first.endpoint.id, TicketCounts(taken=1))
        again = await returning
        assert again.endpoint.id != first.endpoint.id
        assert first.fate is None
        assert made.dispatcher.in_flight == 2
        assert made.dispatcher.num_suspects == 0
        states = {e.state for e in made.pool.snapshot().models["tiny"]}
        assert states == {EndpointState.READY}


async def test_who_was_accepted_once_does_not_come_back_for_ever() -> None:
    async with bench("w1") as made:
        handouts = Handouts(made.clock, Random(1), ticket_s=5, moves_max=2)
        (endpoint,) = made.pool.snapshot().models["tiny"]
        with made.pool.track(endpoint) as tracked, ExitStack() as stack:
            moves: int | None = 0
            for expected in (1, 2, None):
                opened = handouts.open(endpoint, tracked, deadline=1e9, num_moves=moves or 0)
                handout = stack.enter_context(opened)
                moves = handouts.redeem(handout.number)
                assert moves == expected
                assert handouts.redeem(handout.number) is None, "once"
        assert handouts.redeem(12345) is None


async def test_second_death_convicts_a_suspect_that_was_alone_on_probation() -> None:
    async with bench("w1", "w2", "w3") as made:
        first = await made.pick(fingerprint=b"poison")
        beside = await made.pick(fingerprint=b"innocent")
        assert {first.on_proved, beside.on_proved} == {None}
        made.report("w1", TicketCounts(taken=2))
        on_first = [h for h in (first, beside) if h.endpoint.id == first.endpoint.id]
        made.die(first.endpoint.id)
        second = await made.pick(first, fingerprint=b"poison")
        assert second.on_proved is not None, "on probation"
        made.die(second.endpoint.id)
        made.dispatcher._probation._verdict_s = 0.0
        with pytest.raises(Quarantined):
            await made.pick(first, second, fingerprint=b"poison")
        with pytest.raises(Quarantined):
            await made.pick(fingerprint=b"poison")
        assert (await made.pick(*on_first[1:], fingerprint=b"innocent")).fate is None


async def test_suspect_that_produces_something_is_cleared() -> None:
    async with bench("w1", "w2") as made:
        first = await made.pick()
        made.report(first.endpoint.id, TicketCounts(taken=1))
        made.die(first.endpoint.id)
        second = await made.pick(first)
        assert made.dispatcher.num_suspects == 1
        made.report(second.endpoint.id, TicketCounts(taken=1, proved=1))
        assert made.dispatcher.num_suspects == 0


async def test_unused_ticket_makes_nobody_a_suspect() -> None:
    async with bench("w1") as made:
        handout = await made.pick()
        made.die("w1")
        handout.tracked.abandon()
        await handout.closed.wait()
        assert made.dispatcher.num_suspects == 0
        assert not made.dispatcher._quarantine.is_watching


async def test_error_before_a_worker_is_found_reaches_the_client() -> None:
    async with bench("w1") as made:
        wish = Wish(
            view=replace(VIEW, model="nobody"),
            call=Call(request_id="id", deadline=made.clock.now() + 60),
            route=Route(started_at=made.clock.now()),
            fingerprint=lambda: b"f",
        )
        with pytest.raises(LeptonError) as caught:
            await made.direct.pick(wish)
        assert caught.value.reason is Reason.MODEL_NOT_FOUND
        assert made.dispatcher.in_flight == 0
