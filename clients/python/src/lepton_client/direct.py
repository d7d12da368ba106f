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
from lepton_client.moves import LOSSES_MAX, Break, Moves, break_of
from lepton_client.order import Order
from lepton_client.record import Record
from lepton_client.status import is_lost_connection, lost
from lepton_client.steps import Answered, Close, Ended, Failed, Give, Open, Read, Reply, Step

__all__ = ["SILENCE_S", "DirectCall"]

_TICKET_KEY: Final = "lepton-ticket"
SILENCE_S: Final = 10.0
"""A stream that has begun and says nothing for so long is given up, unless something else is said."""


@final
class DirectCall:
    """One call. `run` once."""

    def __init__(
        self,
        asking: Asking,
        request: inference_pb2.GenerateRequest,
        *,
        silence_s: float = SILENCE_S,
        losses_max: int = LOSSES_MAX,
    ) -> None:
        self._asking = asking
        self._silence_s = silence_s
        self._request = inference_pb2.GenerateRequest()
        self._request.CopyFrom(request)
        self._request.request_id = request.request_id or f"direct-{secrets.token_hex(8)}"
        output = request.output
        self._hides_ids = output.HasField("token_ids") and not output.token_ids
        self._moves = Moves(losses_max)
        self._order = Order(self._request)
        self._record = Record(max(1, request.sampling.n))
        self._failed_tickets: list[str] = []
        self._origin: inference_pb2.PickResponse | None = None
        """Where the part of the answer comes from that the client has."""
        self._continuation: inference_pb2.Continuation | None = None
        self._failure: LeptonError | None = None
        """What happened to the stream last; who declines to go on with it is not what happened."""
        self._ended: LeptonError | None = None
        """How the last attempt ended."""

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
        if self._ended is not None:
            self._asking.tell(picked.address, self._order.last_seq, self._ended)
        yield Open(
            address=picked.address,
            request=self._for_worker(picked),
            metadata=(*self._asking.metadata, (_TICKET_KEY, picked.ticket)),
            timeout_s=self._asking.deadline.left_s(),
        )
        # Before the first event nobody can say how long a prompt takes: there the connection's pings and the deadline
        # have to do.
        read, has_answered = Read(), False
        while True:
            reply = yield read
            if not isinstance(reply, Answered):
                break
            if not has_answered:
                read, has_answered = Read(silence_s=self._silence_s), True
                self._origin = picked
            try:
                events = self._order.take(reply.message.events)
            except Internal as fault:
                yield Close()
                return fault, True
            self._record.take(events)
            yield Give(tuple(map(_without_ids, events)) if self._hides_ids else events)
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
        how = break_of(error, has_answered=has_answered)
        if not self._moves.count(how) or self._asking.deadline.left_s() <= 0:
            raise self._failure if how is Break.REFUSAL and self._failure else error
        self._failed_tickets.append(picked.ticket)
        self._ended = error
        if how is Break.REFUSAL:
            return
        self._failure = error
        if self._origin is not None:
            self._continuation = self._record.continuation(
                attempt=self._moves.attempt, from_worker_id=picked.worker_id
            )


def _without_ids(event: inference_pb2.Event) -> inference_pb2.Event:
    if event.HasField("delta"):
        event.delta.ClearField("token_ids")
    return event


def _meant(reply: Ended | Failed | None, picked: inference_pb2.PickResponse) -> LeptonError:
    if isinstance(reply, Failed) and not is_lost_connection(reply.error):
        return reply.error
    how = f"is lost: {reply.error.message}" if isinstance(reply, Failed) else "stopped too early"
    return lost(f"worker {picked.worker_id} {how}")
