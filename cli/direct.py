"""One answer straight from a worker: the router picks, the stream does not go through it. When the worker is lost, the
router picks another one, which goes on where the first one was.

The reference for clients in other languages: docs/direct.md says the same in words.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from types import TracebackType
from typing import Final, Self, final

from cli.client import Answer, Client
from common.clock import Clock
from common.errors import Internal, LeptonError, Reason, Unavailable
from common.request.migration import (
    Break,
    MigrationLimits,
    Moves,
    break_of,
    decide_migration,
)
from common.request.record import GenerateRecord
from common.request.stream_fault import StreamFault
from common.rpc.caller import caller_metadata
from common.rpc.metadata import TICKET_KEY
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["DirectAnswer", "DirectClient"]

_SILENCE_S: Final = 10.0
"""A stream that has begun and says nothing for so long is given up."""


@final
class DirectClient:
    """Like `cli.client.Client`, for one or more routers of a cluster (or a worker, which picks itself). Use as
    `async with`; `silence_s` as in `DirectAnswer`.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        clock: Clock,
        *,
        caller: str = "",
        limits: MigrationLimits | None = None,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._routers = [Client(address) for address in addresses]
        self._clock = clock
        self._metadata = caller_metadata(caller)
        self._limits = limits or MigrationLimits()
        self._silence_s = silence_s
        self._workers: dict[str, Client] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._routers:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> DirectAnswer:
        """Begins a call. Leaving the iteration early needs `DirectAnswer.cancel`."""
        return DirectAnswer(
            self,
            request,
            self._clock,
            limits=self._limits,
            silence_s=self._silence_s,
            timeout_s=timeout_s,
        )

    async def list_models(self) -> list[types_pb2.ModelInfo]:
        """What can be asked now."""
        return await self._routers[0].list_models()

    async def pick(
        self, asked: inference_pb2.PickRequest, *, timeout_s: float | None
    ) -> inference_pb2.PickResponse:
        """Asks the first router that can be reached."""
        for client in self._routers:
            try:
                return await client.pick(asked, timeout_s=timeout_s, metadata=self._metadata)
            except Unavailable as error:
                if error.reason is not Reason.UNREACHABLE or client is self._routers[-1]:
                    raise
        raise AssertionError("no router")

    def start(
        self,
        picked: inference_pb2.PickResponse,
        request: inference_pb2.GenerateRequest,
        *,
        timeout_s: float | None,
    ) -> Answer:
        """Calls the worker that was picked."""
        metadata = (*self._metadata, (TICKET_KEY, picked.ticket))
        worker = self._workers.get(picked.address)
        if worker is None:
            worker = self._workers[picked.address] = Client(picked.address)
            self._stack.push_async_exit(worker)
        return worker.generate(request, timeout_s=timeout_s, metadata=metadata)


@final
class DirectAnswer:
    """As `cli.client.Answer`: iterate over its events, each of which comes once, in order of `seq`. A worker that says
    nothing for `silence_s` seconds in the middle of a stream is given up.
    """

    def __init__(
        self,
        client: DirectClient,
        request: inference_pb2.GenerateRequest,
        clock: Clock,
        *,
        limits: MigrationLimits,
        silence_s: float,
        timeout_s: float | None,
    ) -> None:
        self._client = client
        self._request = inference_pb2.GenerateRequest()
        self._request.CopyFrom(request)
        self._request.request_id = request.request_id or f"direct-{secrets.token_hex(8)}"
        output = request.output
        self._hides_ids = output.HasField("token_ids") and not output.token_ids
        self._clock = clock
        self._limits = limits
        self._silence_s = silence_s
        self._ends_at = None if timeout_s is None else clock.now() + timeout_s
        self._moves = Moves()
        self._failed: list[str] = []
        """Tickets, oldest first."""
        self._origin: inference_pb2.PickResponse | None = None
        """Where the part of the answer comes from that the client has."""
        self._record: GenerateRecord | None = None
        self._continued: bytes | None = None
        """The request to go on with, once the stream has begun and broken."""
        self._failure: LeptonError | None = None
        """What happened to the stream last."""
        self._has_answered = False
        """The worker of this attempt has sent something."""
        self._answer: Answer | None = None

    @property
    def trace_id(self) -> str:
        """Of the worker that brought the end."""
        return self._answer.trace_id if self._answer else ""

    @property
    def request_id(self) -> str:
        """The same for all workers."""
        return self._request.request_id

    async def __aiter__(self) -> AsyncIterator[inference_pb2.Event]:
        while True:
            picked = await self._pick()
            try:
                async with aclosing(self._attempt(picked)) as events:
                    async for event in events:
                        yield event
                return
            except LeptonError as error:
                if self._is_whole(picked, _meant(error, picked)):
                    return

    def cancel(self) -> None:
        """Ends the call; the worker stops computing."""
        if self._answer is not None:
            self._answer.cancel()

    # --- inside -------------------------------------------------------------------------------

    async def _pick(self) -> inference_pb2.PickResponse:
        asked = inference_pb2.PickRequest(request=self._request, failed_tickets=self._failed)
        if (origin := self._origin) is not None:
            asked.origin.worker_id = origin.worker_id
            asked.origin.model = origin.model
            asked.origin.revision = origin.revision
            asked.origin.fingerprint = origin.fingerprint
        return await self._client.pick(asked, timeout_s=self._left_s())

    async def _attempt(
        self, picked: inference_pb2.PickResponse
    ) -> AsyncGenerator[inference_pb2.Event, None]:
        """The events of one worker. Raises when they are not the rest of the answer."""
        record = self._record if self._origin is not None else None
        if record is None:
            record = self._record = GenerateRecord(self._for_worker(picked))
        self._has_answered = False
        request = inference_pb2.GenerateRequest.FromString(
            self._continued or self._for_worker(picked)
        )
        self._answer = self._client.start(picked, request, timeout_s=self._left_s())
        events = aiter(self._answer)
        try:
            while True:
                try:
                    # Before the first event nobody can say how long a prompt takes: there the pings of the connection
                    # and the deadline have to do.
                    async with asyncio.timeout(self._silence_s if self._has_answered else None):
                        event = await anext(events)
                except StopAsyncIteration:
                    break
                except TimeoutError:
                    raise _lost(picked, f"said nothing for {self._silence_s:g} s") from None
                self._has_answered = True
                self._origin = picked
                _take(record, event)
                yield self._shown(event)
        finally:
            self._answer.cancel()
        if record.finished is None:
            raise _lost(picked, "ended the stream before its end")

    def _for_worker(self, picked: inference_pb2.PickResponse) -> bytes:
        """The client's request, as the worker of one model and revision takes it, with the ids that a move needs."""
        meant = inference_pb2.GenerateRequest(model=picked.model, revision=picked.revision)
        meant.output.token_ids = True
        # Messages merge by concatenation: of a field that comes twice, the last one holds.
        return self._request.SerializeToString() + meant.SerializeToString()

    def _is_whole(self, picked: inference_pb2.PickResponse, error: LeptonError) -> bool:
        """Whether the answer was complete when the worker was lost. If not, the next attempt may go on elsewhere when
        this returns; raises otherwise.
        """
        record, moves = self._record, self._moves
        if record is not None and record.finished is not None:
            return True
        how = break_of(error, asked_to_go_on=not self._has_answered)
        left_s = self._left_s()
        migration = decide_migration(
            how,
            moves=moves,
            remaining_s=float("inf") if left_s is None else left_s,
            limits=self._limits,
        )
        if not migration.allowed:
            # Who declined to help is not what happened to the stream.
            raise self._failure if how is Break.REFUSAL and self._failure else error
        self._failed.append(picked.ticket)
        moves.count(how)
        if how is Break.REFUSAL:
            return False
        self._failure = error
        if record is not None and self._origin is not None:
            self._continued = record.continue_request(
                revision=self._origin.revision,
                attempt=moves.attempt,
                from_worker_id=picked.worker_id,
            )
        return False

    def _shown(self, event: inference_pb2.Event) -> inference_pb2.Event:
        if self._hides_ids and event.HasField("delta"):
            event.delta.ClearField("token_ids")
        return event

    def _left_s(self) -> float | None:
        return None if self._ends_at is None else max(0.0, self._ends_at - self._clock.now())


def _take(record: GenerateRecord, event: inference_pb2.Event) -> None:
    try:
        record.take_event(event)
    except StreamFault as fault:
        raise Internal(
            f"the worker broke the rules of a stream: {fault}", reason=Reason.STREAM_FAULT
        ) from fault


def _meant(error: LeptonError, picked: inference_pb2.PickResponse) -> LeptonError:
    """A worker that cannot be reached, or tears down a call that we did not end, is lost."""
    if error.reason in {Reason.UNREACHABLE, Reason.CLIENT_GONE}:
        return _lost(picked, "cannot be reached or closed the connection")
    return error


def _lost(picked: inference_pb2.PickResponse, what: str) -> Unavailable:
    return Unavailable(f"worker {picked.worker_id} {what}", reason=Reason.WORKER_LOST)
