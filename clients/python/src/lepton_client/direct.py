"""A Generate straight from workers: a router picks, the stream does not go through it; when the worker is lost, the
next pick goes on where it was. Pure (see `steps`); docs/direct.md of the cluster says the same in words.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator
from typing import Final, final

from lepton.v1 import inference_pb2
from lepton_client.asking import Asking, ask_unary
from lepton_client.errors import Internal, LeptonError
from lepton_client.moves import Break, Moves, break_of
from lepton_client.order import Order
from lepton_client.record import Record
from lepton_client.status import is_lost_connection, lost
from lepton_client.steps import Answered, Close, Ended, Failed, Give, Open, Read, Reply, Step

__all__ = ["DirectCall"]

_TICKET_KEY: Final = "lepton-ticket"
_SILENCE_S: Final = 10.0
"""A stream that has begun and says nothing for so long is given up."""


@final
class DirectCall:
    """One call. `run` once."""

    def __init__(self, asking: Asking, request: inference_pb2.GenerateRequest) -> None:
        self._asking = asking
        self._request = inference_pb2.GenerateRequest()
        self._request.CopyFrom(request)
        self._request.request_id = request.request_id or f"direct-{secrets.token_hex(8)}"
        output = request.output
        self._hides_ids = output.HasField("token_ids") and not output.token_ids
        self._moves = Moves()
        self._order = Order(self._request)
        self._record = Record(max(1, request.sampling.n))
        self._failed_tickets: list[str] = []
        self._origin: inference_pb2.PickResponse | None = None
        """Where the part of the answer comes from that the client has."""
        self._continuation: inference_pb2.Continuation | None = None
        self._failure: LeptonError | None = None
        """What happened to the stream last; who declines to go on with it is not what happened."""

    def run(self) -> Generator[Step, Reply, None]:
        """The events of the answer, given once each. Raises `LeptonError`."""
        while True:
            picked = yield from self._pick()
            error, has_answered = yield from self._attempt(picked)
            if self._order.is_finished:
                return
            self._move(picked, error, has_answered=has_answered)

    @property
    def abort(self) -> None:
        """Leaving the stream ends the call."""
        return

    # --- inside -------------------------------------------------------------------------------

    def _pick(self) -> Generator[Step, Reply, inference_pb2.PickResponse]:
        asked = inference_pb2.PickRequest(
            request=self._request, failed_tickets=self._failed_tickets
        )
        if (origin := self._origin) is not None:
            asked.origin.worker_id = origin.worker_id
            asked.origin.model = origin.model
            asked.origin.revision = origin.revision
            asked.origin.fingerprint = origin.fingerprint
        picked: inference_pb2.PickResponse = yield from ask_unary(self._asking, "Pick", asked)
        return picked

    def _attempt(
        self, picked: inference_pb2.PickResponse
    ) -> Generator[Step, Reply, tuple[LeptonError, bool]]:
        """Gives the events of one worker. Returns how it ended, and whether it has sent anything."""
        yield Open(
            address=picked.address,
            request=self._for_worker(picked),
            metadata=(*self._asking.metadata, (_TICKET_KEY, picked.ticket)),
            timeout_s=self._asking.deadline.left_s(),
        )
        has_answered = False
        while True:
            # Before the first event nobody can say how long a prompt takes: there the connection's pings and the
            # deadline have to do.
            reply = yield Read(silence_s=_SILENCE_S if has_answered else None)
            if not isinstance(reply, Answered):
                break
            has_answered = True
            self._origin = picked
            try:
                events = self._order.take(reply.message.events)
            except Internal as fault:
                yield Close()
                return fault, True
            self._record.take(events)
            yield Give(tuple(map(self._shown, events)))
        return _meant(reply, picked), has_answered

    def _for_worker(self, picked: inference_pb2.PickResponse) -> inference_pb2.GenerateRequest:
        """The request for the worker of one model and revision, with the ids that a move needs."""
        asked = inference_pb2.GenerateRequest()
        asked.CopyFrom(self._request)
        asked.model, asked.revision = picked.model, picked.revision
        asked.output.token_ids = True
        if self._continuation is not None:
            asked.continuation.CopyFrom(self._continuation)
        return asked

    def _move(
        self, picked: inference_pb2.PickResponse, error: LeptonError, *, has_answered: bool
    ) -> None:
        """Returns when the next worker may go on; raises otherwise."""
        asked_to_go_on = self._continuation is not None and not has_answered
        how = break_of(error, asked_to_go_on=asked_to_go_on)
        if not self._moves.count(how) or self._asking.deadline.left_s() <= 0:
            raise self._failure if how is Break.REFUSAL and self._failure else error
        self._failed_tickets.append(picked.ticket)
        if how is Break.REFUSAL:
            return
        self._failure = error
        if self._origin is not None:
            self._continuation = self._record.continuation(
                attempt=self._moves.attempt, from_worker_id=picked.worker_id
            )

    def _shown(self, event: inference_pb2.Event) -> inference_pb2.Event:
        if self._hides_ids and event.HasField("delta"):
            event.delta.ClearField("token_ids")
        return event


def _meant(reply: Ended | Failed | None, picked: inference_pb2.PickResponse) -> LeptonError:
    if isinstance(reply, Failed) and not is_lost_connection(reply.error):
        return reply.error
    how = f"is lost: {reply.error.message}" if isinstance(reply, Failed) else "stopped too early"
    return lost(f"worker {picked.worker_id} {how}")
