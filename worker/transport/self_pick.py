"""`Pick` at a worker: it picks itself, so that a client need not know whether it asks a router."""

from __future__ import annotations

import secrets
from typing import Final, final

from common.call_ticket import CallTicket, CallTickets
from common.clock import Clock
from common.errors import Reason, Unavailable
from common.limits import Limits
from common.request.parse import parse_message
from common.request.pick import validate_pick
from common.request.validate import validate_generate
from common.rpc.metadata import REQUEST_ID_KEY
from lepton.v1 import inference_pb2
from worker.transport.call_context import ServicerContext, facts_of
from worker.transport.convert import check_model
from worker.transport.in_flight import InFlight
from worker.transport.worker_service import WorkerFacts

__all__ = ["SelfPick"]

_TICKET_S: Final = 5.0


@final
class SelfPick:
    """`address` (host:port) is set once it is known, before anybody calls."""

    def __init__(
        self,
        *,
        facts: WorkerFacts,
        limits: Limits,
        tickets: CallTickets,
        in_flight: InFlight,
        clock: Clock,
    ) -> None:
        self._facts = facts
        self._limits = limits
        self._tickets = tickets
        self._in_flight = in_flight
        self._clock = clock
        self.address = ""

    async def pick(self, payload: bytes, context: ServicerContext) -> bytes:
        """The worker itself, with a ticket. Errors: those of Generate that are known before anything is computed,
        `Forbidden(TICKET_INVALID)`.
        """
        asked = parse_message(inference_pb2.PickRequest, payload)
        facts = facts_of(context, request_id=asked.request.request_id)
        validate_pick(asked)
        validate_generate(asked.request, self._limits, may_continue=False)
        meant = asked.origin if asked.HasField("origin") else asked.request
        check_model(self._facts.model, meant.model, meant.revision)
        for text in asked.failed_tickets:
            self._tickets.read(text, facts.caller, field="failed_tickets")
        if self._in_flight.draining:
            raise Unavailable("this worker is draining; ask another", reason=Reason.DRAINING)
        await context.send_initial_metadata(((REQUEST_ID_KEY, facts.request_id),))
        ticket = CallTicket(
            router_id="",
            number=secrets.randbits(63),
            worker_id=self._facts.worker_id,
            incarnation=self._facts.incarnation,
            expires_at=self._clock.wall() + _TICKET_S,
        )
        return inference_pb2.PickResponse(
            worker_id=self._facts.worker_id,
            address=self.address,
            model=self._facts.model.name,
            revision=self._facts.model.revision,
            fingerprint=self._facts.model.fingerprint,
            ticket=self._tickets.make(ticket, facts.caller),
            ticket_ms=round(_TICKET_S * 1000),
        ).SerializeToString()
