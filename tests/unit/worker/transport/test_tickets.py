"""A worker takes a ticket once, in time, and counts its call for the router that handed it out."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import Any

import pytest
from pydantic import SecretStr

from common.call_ticket import CLOCK_LEEWAY_S, CallTicket, CallTickets
from common.errors import Forbidden, Reason
from common.rpc.metadata import TICKET_KEY
from tests.support.manual_clock import ManualClock
from worker.transport.tickets import TicketDesk

TICKETS = CallTickets(SecretStr("sesame"))


class Called:
    """The part of a context that is read."""

    def __init__(self, *texts: str | bytes) -> None:
        self._metadata = [(TICKET_KEY, text) for text in texts]

    def invocation_metadata(self) -> list[tuple[str, str | bytes]]:
        return self._metadata


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.desk = TicketDesk(worker_id="w1", tickets=TICKETS, clock=self.clock)
        self.ticket = CallTicket(
            router_id="r",
            number=1,
            worker_id="w1",
            incarnation="i",
            expires_at=self.clock.wall() + 3,
        )

    def take(self, *texts: str | bytes) -> CallTicket | None:
        context: Any = Called(*texts)
        return self.desk.take(context, "")

    def text(self, **changes: Any) -> str:
        return TICKETS.make(dataclasses.replace(self.ticket, **changes), "")

    def refusal(self, *texts: str | bytes) -> Reason:
        with pytest.raises(Forbidden) as refused:
            self.take(*texts)
        assert refused.value.field == TICKET_KEY
        return refused.value.reason


def test_a_ticket_holds_once() -> None:
    bench = Bench()
    assert bench.take() is None
    assert bench.take(bench.text()) == bench.ticket
    assert bench.refusal(bench.text()) is Reason.TICKET_INVALID
    assert bench.take(bench.text(router_id="another")) is not None
    assert bench.take(bench.text(number=2)) is not None


def test_a_ticket_holds_for_its_worker_and_as_one_text() -> None:
    bench = Bench()
    assert bench.refusal(bench.text(worker_id="w2")) is Reason.TICKET_INVALID
    assert bench.refusal(bench.text(), bench.text(number=2)) is Reason.TICKET_INVALID
    assert bench.refusal(b"bytes") is Reason.TICKET_INVALID


def test_a_ticket_expires_and_clocks_may_differ_a_little() -> None:
    bench = Bench()
    bench.clock.advance(3 + CLOCK_LEEWAY_S)
    assert bench.take(bench.text()) is not None
    bench.clock.advance(0.01)
    assert bench.refusal(bench.text(number=2)) is Reason.TICKET_EXPIRED
    assert bench.refusal(bench.text()) is Reason.TICKET_EXPIRED


def test_used_tickets_are_forgotten_when_they_have_expired() -> None:
    bench = Bench()
    for number in range(50):
        bench.clock.advance(1)
        bench.take(bench.text(number=number, expires_at=bench.clock.wall() + 3))
    assert repr(bench.desk) == "TicketDesk(6 used, 0 routers)"


def test_calls_are_counted_for_their_router_by_how_they_end() -> None:
    bench = Bench()
    probation = dataclasses.replace(bench.ticket, on_probation=True)
    with bench.desk.ride(bench.ticket) as ride:
        assert not ride.awaits_proof
    with suppress(ValueError), bench.desk.ride(probation) as ride:
        assert ride.awaits_proof
        ride.prove()
        assert not ride.awaits_proof
        raise ValueError("broke")
    with bench.desk.ride(None), bench.desk.ride(dataclasses.replace(bench.ticket, router_id="")):
        pass
    counts = bench.desk.counts_of("r")
    assert counts is not None
    assert (counts.taken, counts.ended, counts.completed, counts.proved) == (2, 2, 1, 1)
    assert bench.desk.counts_of("") is None
