"""One client call as a conversation with one worker after another: a stream, or a single answer."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Protocol, TypeVar, final

from common.clock import Clock
from common.errors import Reason, Unavailable
from router.core.call import Call
from router.core.endpoint import Endpoint
from router.core.entry import Tracked
from router.core.ports import GenerateCodec, WorkerClient, Write
from router.core.route import Route
from router.core.transcript import Transcript

__all__ = ["Exchange", "Proved", "StreamExchange", "UnaryExchange"]

T_co = TypeVar("T_co", covariant=True)

Proved = Callable[[], None]
"""Called when a worker has produced something new for the call, at most once per attempt."""


class Exchange(Protocol[T_co]):
    """What the dispatcher needs of a call in order to serve it. Used by one task."""

    @property
    def has_begun(self) -> bool:
        """Whether the client has a part of the answer."""
        ...

    @property
    def has_answered(self) -> bool:
        """Whether the worker of the last attempt has sent anything."""
        ...

    @property
    def was_taken(self) -> bool:
        """Whether the call has reached the worker of the last attempt, as far as is known."""
        ...

    async def run(self, endpoint: Endpoint, tracked: Tracked, proved: Proved | None) -> T_co:
        """One attempt. Raises the worker's error as `LeptonError`, `Internal(STREAM_FAULT)` when it broke the rules of
        the stream. `proved` is given for calls on probation.
        """
        ...

    def go_on(self, origin: Endpoint, *, attempt: int) -> T_co | None:
        """Makes the next attempt go on where the last one, on `origin`, stopped; only when `has_begun`.

        Returns the result when nothing is left to do. Raises `Internal` when a worker broke the rules of the stream,
        `Unavailable(WORKER_LOST)` when the stream's beginning is not known.
        """
        ...

    def fingerprint(self) -> bytes:
        """See `GenerateCodec.fingerprint`."""
        ...


@final
class StreamExchange:
    """Generate: relays messages as they come; the result is the serialised `Finished`."""

    def __init__(
        self,
        payload: bytes,
        call: Call,
        write: Write,
        route: Route,
        *,
        worker: WorkerClient,
        codec: GenerateCodec,
        clock: Clock,
        transcript_bytes_max: int,
        continues: bool,
    ) -> None:
        """`continues`: another worker may go on with the stream, for which the router needs its token ids."""
        strips = call.hides_token_ids and continues
        self._payload = codec.with_token_ids(payload) if strips else payload
        self._call = call
        self._client_write = write
        self._write = self._write_without_ids if strips else write
        self._route = route
        self._worker = worker
        self._codec = codec
        self._clock = clock
        self._transcript = Transcript(
            codec.new_record(self._payload, is_resumed=call.is_resumed),
            bytes_max=transcript_bytes_max,
        )
        route.stream_faults = self._transcript.faults
        self._num_before = 0
        """Messages of earlier attempts."""
        self._num_written = 0
        self._lost_at: float | None = None
        self.was_taken = False
        """See `Exchange.was_taken`."""

    @property
    def has_begun(self) -> bool:
        """See `Exchange.has_begun`."""
        return self._transcript.num_messages > 0

    @property
    def has_answered(self) -> bool:
        """See `Exchange.has_answered`."""
        return self._transcript.num_messages > self._num_before

    async def run(self, endpoint: Endpoint, tracked: Tracked, proved: Proved | None) -> bytes:
        """See `Exchange.run`. What writing to the client raises passes through."""
        stream = self._worker.generate(endpoint, self._payload, self._call)
        tracked.on_abandon, tracked.progress = stream.abandon, self._progress
        read, add, write = stream.read, self._transcript.add, self._write
        self._num_before = self._num_written = self._transcript.num_messages
        try:
            message = await read()
            if message is not None:
                self._note_first()
            while message is not None and proved is not None:
                add(message)
                await write(message)
                self._num_written += 1
                if self._codec.has_output(message):
                    proved()
                    proved = None
                message = await read()
            # The road of every token: nothing here that can be done once per stream.
            while message is not None:
                add(message)  # before the write: from here on it counts as sent
                await write(message)
                self._num_written += 1
                message = await read()
        finally:
            self._route.num_messages = self._transcript.num_messages
            self.was_taken = stream.was_taken
            stream.close()
        return stream.finished

    def go_on(self, origin: Endpoint, *, attempt: int) -> bytes | None:
        """See `Exchange.go_on`."""
        if self._lost_at is None:
            self._lost_at = self._clock.now()
        record = self._transcript.read()
        if record.finished is not None:
            return record.finished
        payload = record.continue_request(
            revision=origin.revision, attempt=attempt, from_worker_id=origin.id
        )
        if payload is None:
            raise Unavailable(
                "the worker is lost, and the stream cannot go on elsewhere: this router has not seen its beginning",
                reason=Reason.WORKER_LOST,
            )
        self._payload = payload
        if request := record.abort_request():
            # A worker that only froze would take the closed connection for that of a client who will be back.
            self._worker.let_go(origin, request, self._call)
        return None

    def fingerprint(self) -> bytes:
        """See `GenerateCodec.fingerprint`."""
        return self._codec.fingerprint(self._payload)

    def _progress(self) -> int | None:
        num_messages = self._transcript.num_messages
        return num_messages - self._num_before if num_messages == self._num_written else None

    def _note_first(self) -> None:
        now = self._clock.now()
        if self._route.first_message_at is None:
            self._route.first_message_at = now
        if self._lost_at is not None:
            self._route.gaps_s.append(now - self._lost_at)
            self._lost_at = None

    async def _write_without_ids(self, message: bytes) -> None:
        await self._client_write(self._codec.without_token_ids(message))


@final
class UnaryExchange:
    """A call with one response message, which is the result."""

    has_begun = False
    has_answered = False
    was_taken = True

    def __init__(self, method: str, payload: bytes, call: Call, *, worker: WorkerClient) -> None:
        self._method = method
        self._payload = payload
        self._call = call
        self._worker = worker

    async def run(self, endpoint: Endpoint, tracked: Tracked, proved: Proved | None) -> bytes:
        """See `Exchange.run`."""
        reply = self._worker.unary(endpoint, self._method, self._payload, self._call)
        tracked.on_abandon = reply.abandon
        try:
            return await reply.read()
        finally:
            reply.close()

    def go_on(self, origin: Endpoint, *, attempt: int) -> bytes | None:
        """Never called: an answer of one message is there or not."""
        raise AssertionError(self._method)

    def fingerprint(self) -> bytes:
        """See `Exchange.fingerprint`."""
        return blake2b(self._payload, person=self._method.encode()[:16], digest_size=16).digest()
