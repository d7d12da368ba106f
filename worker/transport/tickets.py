"""The tickets that clients bring from `Pick`: read, used once, and counted for the router that handed them out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from common.call_ticket import CLOCK_LEEWAY_S, CallTicket, CallTickets, ticket_invalid
from common.clock import Clock
from common.errors import Forbidden, Reason
from common.rpc.metadata import TICKET_KEY
from lepton.v1 import worker_pb2
from worker.transport.call_context import ServicerContext

__all__ = ["Ride", "TicketDesk"]

_USED_MAX: Final = 65_536
"""Tickets that are known to be used, until they expire; the oldest are forgotten first."""
_ROUTERS_MAX: Final = 1024
"""Routers for which tickets are counted; who was heard of longest ago is forgotten first."""


@final
class Ride:
    """A call with a ticket, while it runs."""

    __slots__ = ("_counts", "awaits_proof")

    def __init__(self, ticket: CallTicket | None, counts: worker_pb2.TicketCounts | None) -> None:
        self._counts = counts
        self.awaits_proof = ticket is not None and ticket.on_probation
        """Its router wants to know when it has produced something."""

    def prove(self) -> None:
        """It has."""
        self.awaits_proof = False
        if self._counts is not None:
            self._counts.proved += 1


@final
class TicketDesk:
    """Of the worker `worker_id`, on one event loop."""

    def __init__(self, *, worker_id: str, tickets: CallTickets, clock: Clock) -> None:
        self._worker_id = worker_id
        self._tickets = tickets
        self._clock = clock
        self._used: OrderedDict[tuple[str, int], float] = OrderedDict()
        """Router and number → when it expires."""
        self._counts: OrderedDict[str, worker_pb2.TicketCounts] = OrderedDict()

    def __repr__(self) -> str:
        return f"TicketDesk({len(self._used)} used, {len(self._counts)} routers)"

    def take(self, context: ServicerContext, caller: str) -> CallTicket | None:
        """The ticket of a call, which holds no more afterwards; None for calls without one.

        Raises `Forbidden(TICKET_INVALID, TICKET_EXPIRED)`.
        """
        shown = [v for k, v in context.invocation_metadata() or () if k == TICKET_KEY]
        if not shown:
            return None
        if len(shown) > 1 or not isinstance(shown[0], str):
            raise ticket_invalid("send exactly one, as text", field=TICKET_KEY)
        ticket = self._tickets.read(shown[0], caller, field=TICKET_KEY)
        if ticket.worker_id != self._worker_id:
            raise ticket_invalid(f"it is for worker {ticket.worker_id}", field=TICKET_KEY)
        self._use(ticket)
        return ticket

    @contextmanager
    def ride(self, ticket: CallTicket | None) -> Iterator[Ride]:
        """Counts a call from its beginning to its end; one that is left without an error is complete."""
        if ticket is None or not ticket.router_id:
            yield Ride(ticket, None)
            return
        counts = self._counts_for(ticket.router_id)
        counts.taken += 1
        try:
            yield Ride(ticket, counts)
            counts.completed += 1
        finally:
            counts.ended += 1

    def counts_of(self, router_id: str) -> worker_pb2.TicketCounts | None:
        """For a load report; None when no ticket of that router was used. To be read only."""
        return self._counts.get(router_id)

    def _use(self, ticket: CallTicket) -> None:
        now = self._clock.wall()
        until = ticket.expires_at + CLOCK_LEEWAY_S
        if now > until:
            raise Forbidden(
                f"this ticket expired {now - ticket.expires_at:.1f} s ago; take a new one with Pick",
                reason=Reason.TICKET_EXPIRED,
                field=TICKET_KEY,
            )
        key = (ticket.router_id, ticket.number)
        if key in self._used:
            raise ticket_invalid("it was used before", field=TICKET_KEY)
        while (self._used and next(iter(self._used.values())) < now) or len(
            self._used
        ) >= _USED_MAX:
            self._used.popitem(last=False)
        self._used[key] = until

    def _counts_for(self, router_id: str) -> worker_pb2.TicketCounts:
        counts = self._counts.setdefault(router_id, worker_pb2.TicketCounts())
        self._counts.move_to_end(router_id)
        if len(self._counts) > _ROUTERS_MAX:
            self._counts.popitem(last=False)
        return counts
