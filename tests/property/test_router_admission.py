"""The admission line against a model that is too simple to be wrong, over random histories."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from common.errors import LeptonError, Overloaded, Reason
from router.core.admission.demand import Band, Demand
from router.core.admission.fair_band import FairBand
from router.core.admission.limits import AdmissionLimits
from router.core.admission.line import Line
from router.core.admission.waiter import Ticket, Waiter
from router.core.call import Call, Cost, RoutingView

LIMITS = AdmissionLimits(
    waiting_max=4,
    waiting_bytes_max=100,
    waiting_of_caller_max=3,
    callers_max=2,
    wait_s_max=5.0,
    ageing_s=1.0,
    quantum=10,
)
REFUSALS = {
    Reason.QUEUE_FULL,
    Reason.CALLER_QUEUE_FULL,
    Reason.QUEUE_TIMEOUT,
    Reason.WOULD_BE_LATE,
    Reason.DEADLINE_EXCEEDED,
}


class LineMachine(RuleBasedStateMachine):
    """Calls come, wait, go away, end well or badly; workers come and go; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.line = Line(LIMITS, capacity=2)
        self.tickets: list[Ticket] = []
        self.waiting: list[Waiter] = []
        self.withdrawn: list[Waiter] = []
        self.settled: dict[Waiter, int] = {}
        self.order: list[Waiter] = []

    @rule(
        caller=st.sampled_from(["", "a", "b", "c"]),
        band=st.sampled_from(Band),
        tokens=st.integers(1, 100),
        rows=st.integers(1, 3),
        num_bytes=st.integers(0, 60),
        deadline_s=st.sampled_from([0.0, 0.5, 3.0, 600.0, 600.0, 600.0]),
        patience_s=st.sampled_from([None, None, 0.0, 0.7]),
    )
    def arrive(
        self,
        caller: str,
        band: Band,
        tokens: int,
        rows: int,
        num_bytes: int,
        deadline_s: float,
        patience_s: float | None,
    ) -> None:
        demand = Demand(
            caller=caller,
            band=band,
            tokens=tokens,
            rows=rows,
            num_bytes=num_bytes,
            deadline=self.now + deadline_s,
            patience_s=patience_s,
        )
        was_free = self.line.rows < self.line.capacity and not self.waiting
        try:
            offered = self.line.offer(demand, self.now)
        except Overloaded as error:
            assert not was_free
            assert error.reason in REFUSALS
            assert error.retry_after_s is not None
            assert 0.05 <= error.retry_after_s <= 60
            return
        if isinstance(offered, Ticket):
            assert self.line.rows - rows < self.line.capacity
            self.tickets.append(offered)
            return
        assert not was_free
        waiter = offered
        waiter.on_settled = lambda: self.on_settled(waiter)
        self.waiting.append(waiter)

    def on_settled(self, waiter: Waiter) -> None:
        self.settled[waiter] = self.settled.get(waiter, 0) + 1
        self.waiting.remove(waiter)
        if isinstance(waiter.outcome, Ticket):
            assert self.line.rows - waiter.demand.rows < self.line.capacity
            assert self.now <= waiter.demand.deadline
            assert self.now - waiter.arrived_at <= LIMITS.wait_s_max
            elders = [
                other
                for other in self.waiting
                if other.caller == waiter.caller
                and other.band == waiter.band
                and other.number < waiter.number
            ]
            assert not elders, "first come, first served within a caller and band"
            assert all(other.band >= waiter.band for other in self.waiting), "bands are strict"
            self.tickets.append(waiter.outcome)
        else:
            assert isinstance(waiter.outcome, LeptonError)
            assert waiter.outcome.reason in REFUSALS

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), completed=st.booleans())
    def end(self, data: st.DataObject, completed: bool) -> None:
        ticket = self.tickets.pop(data.draw(st.integers(0, len(self.tickets) - 1)))
        self.line.release(ticket, self.now, completed=completed)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def client_goes(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting))
        self.line.withdraw(waiter)
        self.waiting.remove(waiter)
        self.withdrawn.append(waiter)

    @precondition(lambda self: self.settled)
    @rule()
    def client_goes_that_was_settled(self) -> None:
        before = len(self.line.room)
        self.line.withdraw(next(iter(self.settled)))
        assert len(self.line.room) == before

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.line.age(self.now)
        for waiter in self.waiting:
            waited_s = self.now - waiter.arrived_at
            assert waited_s <= LIMITS.wait_s_max
            assert self.now < waiter.demand.deadline
            if waiter.demand.patience_s is not None:
                assert waited_s <= waiter.demand.patience_s
            in_band_s = self.now - waiter.band_since
            assert waiter.band is Band.HIGH or in_band_s < LIMITS.ageing_s

    @rule(seconds=st.sampled_from([0.6, 6.0]))
    def tick_is_late(self, seconds: float) -> None:
        self.now += seconds

    @rule(rows=st.integers(0, 5))
    def workers_change(self, rows: int) -> None:
        self.line.capacity = rows
        self.line.advance(self.now)

    @invariant()
    def books_agree(self) -> None:
        assert sorted(w.number for w in self.line.room) == sorted(w.number for w in self.waiting)
        assert self.line.rows == sum(ticket.demand.rows for ticket in self.tickets)
        assert self.line.room.num_bytes == sum(w.demand.num_bytes for w in self.waiting)
        assert self.line.room.tokens == sum(w.demand.tokens for w in self.waiting)
        assert not self.waiting or self.line.rows >= self.line.capacity

    @invariant()
    def bounds_hold(self) -> None:
        assert len(self.waiting) <= LIMITS.waiting_max
        assert self.line.room.num_bytes <= LIMITS.waiting_bytes_max
        callers = [waiter.caller for waiter in self.waiting]
        assert len(set(callers) - {None}) <= LIMITS.callers_max
        assert all(callers.count(c) <= LIMITS.waiting_of_caller_max for c in callers)

    @invariant()
    def everybody_ends_once(self) -> None:
        assert all(num == 1 for num in self.settled.values())
        assert not self.settled.keys() & set(self.withdrawn)
        assert all(waiter.outcome is None for waiter in self.withdrawn)

    def teardown(self) -> None:
        for ticket in self.tickets:
            self.line.release(ticket, self.now, completed=False)
            self.tickets = [other for other in self.tickets if other is not ticket]
        self.line.capacity = 100
        self.line.advance(self.now)
        assert not self.waiting
        assert not self.line.room


TestLine = LineMachine.TestCase
TestLine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

sizes = st.lists(st.integers(1, 500), min_size=1, max_size=40)


def waiter_of(caller: str, tokens: int, number: int) -> Waiter:
    return Waiter(
        demand=Demand(caller=caller, tokens=tokens, deadline=1e9),
        number=number,
        caller=caller,
        arrived_at=0.0,
        band=Band.NORMAL,
        band_since=0.0,
        until=1e9,
    )


@given(quantum=st.integers(1, 300), shares=st.lists(sizes, min_size=2, max_size=5))
@settings(deadline=None)
def test_nobody_who_waits_gets_more_than_a_quantum_and_two_calls_ahead(
    quantum: int, shares: list[list[int]]
) -> None:
    band = FairBand(quantum)
    number = 0
    for index, share in enumerate(shares):
        for tokens in share:
            band.add(waiter_of(str(index), tokens, number := number + 1))
    served = dict.fromkeys(map(str, range(len(shares))), 0)
    largest = max(map(max, shares))
    while all(band.tokens_of(caller) for caller in served):
        waiter = band.take()
        assert waiter.caller is not None
        served[waiter.caller] += waiter.demand.tokens
        assert max(served.values()) - min(served.values()) <= quantum + 2 * largest
    while len(band):
        band.take()
    assert band.tokens == 0


calls = st.lists(
    st.tuples(st.integers(0, 4000), st.floats(0, 1), st.integers(1, 100)), min_size=1, max_size=40
)
"""Bytes of the prompt, share of them that is cached, tokens of the answer."""


@given(quantum=st.integers(1, 300), shares=st.lists(calls, min_size=2, max_size=4))
@settings(deadline=None)
def test_shares_are_fair_in_what_is_computed(
    quantum: int, shares: list[list[tuple[int, float, int]]]
) -> None:
    """Whoever has much in the caches is served more of it, and pays for the rest as everybody does."""
    band = FairBand(quantum)
    computed: dict[Waiter, float] = {}
    for caller, share in enumerate(shares):
        for prompt_bytes, cached, answer in share:
            known_bytes = int(prompt_bytes * cached)
            view = RoutingView(
                model="m", caller=str(caller), cost=Cost(tokens=prompt_bytes // 4 + answer)
            )
            demand = Demand.of(view, Call(request_id="r", deadline=1e9), known_bytes=known_bytes)
            waiter = replace(waiter_of(str(caller), 1, len(computed)), demand=demand)
            computed[waiter] = (prompt_bytes - known_bytes) / 4 + answer
            band.add(waiter)
    served = dict.fromkeys(map(str, range(len(shares))), 0.0)
    largest = max(computed.values())
    num_served = 0
    while all(band.tokens_of(caller) for caller in served):
        waiter = band.take()
        assert waiter.caller is not None
        served[waiter.caller] += computed[waiter]
        num_served += 1
        rounding = 2 * num_served  # a token up or down for each call
        assert max(served.values()) - min(served.values()) <= quantum + 2 * largest + rounding


def test_charging_for_all_of_the_prompt_is_not() -> None:
    """The negative control: of two that always wait, the one with a cached document gets a hundredth."""

    def share_of_cached(known_bytes: int) -> float:
        band = FairBand(100)
        for number in range(1000):
            for caller, prompt, known in (("cached", 10_000, known_bytes), ("other", 0, 0)):
                demand = Demand.of(
                    RoutingView(model="m", caller=caller, cost=Cost(tokens=prompt + 100)),
                    Call(request_id="r", deadline=1e9),
                    known_bytes=known,
                )
                band.add(replace(waiter_of(caller, 1, 2 * number), demand=demand))
        taken = [band.take().caller for _ in range(500)]  # each computes 100 tokens
        return taken.count("cached") / len(taken)

    assert share_of_cached(0) < 0.02
    assert 0.49 < share_of_cached(40_000) < 0.51


def test_who_moves_up_goes_before_younger_calls_of_the_same_caller() -> None:
    band = FairBand(10)
    for number in (2, 4, 1, 3):
        band.add(waiter_of("a", 10, number))
    assert [band.take().number for _ in range(4)] == [1, 2, 3, 4]


def test_first_come_first_served_breaks_the_fairness_bound() -> None:
    """The negative control: in order of arrival a flood is served before who came after it."""
    band = FairBand(10)
    for number in range(50):
        band.add(waiter_of("one name for all", 10, number))
    band.add(waiter_of("one name for all", 10, 50))
    assert [band.take().number for _ in range(51)][-1] == 50


@pytest.mark.parametrize("tokens", [1, 1_000_000])
def test_order_is_found_at_once_however_large_calls_are(tokens: int) -> None:
    band = FairBand(1)
    for number in range(200):
        band.add(waiter_of(str(number), tokens, number))
    assert [band.take().number for _ in range(200)] == list(range(200))
