"""Tickets between the wire and the core: what a client shows of earlier ones, and the new one that it gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from common.call_ticket import CallTicket, CallTickets
from common.clock import Clock
from lepton.v1 import inference_pb2
from router.core.handout import Handout
from router.core.journey import Origin

__all__ = ["TicketOffice", "origin_of"]


@final
class TicketOffice:
    """Of the router `router_id`, whose tickets hold for `ticket_s` seconds."""

    def __init__(
        self, *, router_id: str, tickets: CallTickets, ticket_s: float, clock: Clock
    ) -> None:
        self._router_id = router_id
        self._tickets = tickets
        self._ticket_s = ticket_s
        self._clock = clock

    def read_failed(self, asked: inference_pb2.PickRequest, caller: str) -> list[CallTicket]:
        """The earlier tickets of a valid request, of any router. Raises `Forbidden(TICKET_INVALID)`."""
        return [
            self._tickets.read(text, caller, field="failed_tickets")
            for text in asked.failed_tickets
        ]

    def own(self, tickets: Sequence[CallTicket]) -> list[int]:
        """The numbers of those that were handed out here."""
        return [ticket.number for ticket in tickets if ticket.router_id == self._router_id]

    def hand_out(self, handout: Handout, caller: str) -> inference_pb2.PickResponse:
        """What the client is told."""
        endpoint = handout.endpoint
        ticket = CallTicket(
            router_id=self._router_id,
            number=handout.number,
            worker_id=endpoint.id,
            incarnation=endpoint.incarnation,
            expires_at=self._clock.wall() + self._ticket_s,
            on_probation=handout.on_proved is not None,
        )
        return inference_pb2.PickResponse(
            worker_id=endpoint.id,
            address=endpoint.address,
            model=endpoint.model,
            revision=endpoint.revision,
            fingerprint=endpoint.fingerprint,
            ticket=self._tickets.make(ticket, caller),
            ticket_ms=round(self._ticket_s * 1000),
        )


def origin_of(asked: inference_pb2.PickRequest) -> Origin | None:
    """Where the stream of a valid request has begun, if it has."""
    if not asked.HasField("origin"):
        return None
    origin = asked.origin
    return Origin(
        worker_id=origin.worker_id,
        model=origin.model,
        revision=origin.revision,
        fingerprint=origin.fingerprint,
    )
