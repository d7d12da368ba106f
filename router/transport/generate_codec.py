"""The router's reader of Generate messages: for streams that lost their worker, suspects, and hidden ids alone."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, final

from google.protobuf.message import DecodeError

from lepton.v1 import inference_pb2, types_pb2
from router.core.ports import StreamFault
from router.transport.event_order import seq_after

__all__ = ["GenerateRecord", "ProtoGenerateCodec"]

_NAMES: Final = (
    "request_id",
    "session_key",
    "idempotency_key",
    "resumable_ms",
    "resume",
    "continuation",
    "priority",
    "service_level",
)
"""What a request is called and how it is treated, not what is computed."""

_WITH_IDS: Final = inference_pb2.GenerateRequest(
    output=types_pb2.OutputOptions(token_ids=True)
).SerializeToString()


@final
class ProtoGenerateCodec:
    """`router.core.ports.GenerateCodec`; has no state."""

    def new_record(self, payload: bytes, *, is_resumed: bool) -> GenerateRecord:
        """See `GenerateCodec.new_record`."""
        return GenerateRecord(payload, first_seq=None if is_resumed else 0)

    def fingerprint(self, payload: bytes) -> bytes:
        """See `GenerateCodec.fingerprint`; 16 bytes. `payload` is a valid request."""
        request = inference_pb2.GenerateRequest.FromString(payload)
        for name in _NAMES:
            request.ClearField(name)
        request.output.ClearField("token_ids")
        request.DiscardUnknownFields()
        return blake2b(request.SerializeToString(deterministic=True), digest_size=16).digest()

    def has_output(self, message: bytes) -> bool:
        """See `GenerateCodec.has_output`."""
        try:
            response = inference_pb2.GenerateResponse.FromString(message)
        except DecodeError:
            return False
        return any(event.HasField("delta") for event in response.events)

    def with_token_ids(self, payload: bytes) -> bytes:
        """See `GenerateCodec.with_token_ids`."""
        return payload + _WITH_IDS  # messages merge by concatenation

    def without_token_ids(self, message: bytes) -> bytes:
        """See `GenerateCodec.without_token_ids`. What cannot be read is passed on as it is."""
        try:
            response = inference_pb2.GenerateResponse.FromString(message)
        except DecodeError:
            return message
        for event in response.events:
            if event.HasField("delta"):
                event.delta.ClearField("token_ids")
        return response.SerializeToString()


@final
class GenerateRecord:
    """`router.core.ports.StreamRecord`: ids in arrays of four bytes, ends, and the numbers of `Started`."""

    __slots__ = ("_ends", "_ids", "_next_seq", "_payload", "_started", "_token", "finished")

    def __init__(self, payload: bytes, *, first_seq: int | None) -> None:
        self._payload = payload
        self._next_seq = first_seq
        """None while any may come."""
        self._started: inference_pb2.Started | None = None
        self._ids: dict[int, array[int]] = {}
        """By choice."""
        self._token = ""
        """The resume token told last."""
        self._ends: dict[int, inference_pb2.ChoiceEnd] = {}
        self.finished: bytes | None = None
        """See `StreamRecord.finished`."""

    def __repr__(self) -> str:
        tokens = sum(map(len, self._ids.values()))
        return f"GenerateRecord({tokens} tokens, next_seq={self._next_seq})"

    def check(self, message: bytes) -> None:
        """See `StreamRecord.check`."""
        self._next_seq = seq_after(message, self._next_seq)

    def take(self, messages: Sequence[bytes]) -> None:
        """See `StreamRecord.take`."""
        try:
            response = inference_pb2.GenerateResponse.FromString(b"".join(messages))
        except DecodeError as error:
            raise StreamFault("unreadable", "a message is no GenerateResponse") from error
        for event in response.events:
            self._take(event)

    def continue_request(self, *, revision: str, attempt: int, from_worker_id: str) -> bytes | None:
        """See `StreamRecord.continue_request`."""
        started = self._started
        if started is None or self._next_seq is None:
            return None  # a resumed call that began in the middle
        continuation = inference_pb2.Continuation(
            choices=[
                inference_pb2.ContinuedChoice(
                    token_ids=self._ids.get(index, ()), end=self._ends.get(index)
                )
                for index in range(self._num_choices())
            ],
            next_seq=self._next_seq,
            seed=started.seed,
            prompt_tokens=started.prompt_tokens,
            cached_tokens=started.cached_tokens,
            attempt=attempt,
            from_worker_id=from_worker_id,
        )
        # The revision as well: another process may have taken the address.
        more = inference_pb2.GenerateRequest(revision=revision, continuation=continuation)
        return self._payload + more.SerializeToString()

    def abort_request(self) -> bytes:
        """See `StreamRecord.abort_request`."""
        return inference_pb2.AbortRequest(resume_token=self._token).SerializeToString()

    def _num_choices(self) -> int:
        request = inference_pb2.GenerateRequest.FromString(self._payload)
        return request.sampling.n if request.sampling.HasField("n") else 1

    def _take(self, event: inference_pb2.Event) -> None:
        if self.finished is not None:
            raise StreamFault("late", f"event {event.seq} came after the end")
        match event.WhichOneof("kind"):
            case "started":
                # A copy: the event would keep the whole parsed response.
                self._started = inference_pb2.Started()
                self._started.CopyFrom(event.started)
                self._token = event.started.resume_token
            case "migrated":
                self._token = event.migrated.resume_token
            case "delta":
                self._take_delta(event.delta)
            case "finished":
                self.finished = event.finished.SerializeToString()
            case _:
                pass

    def _take_delta(self, delta: inference_pb2.Delta) -> None:
        index = delta.index
        if index in self._ends:
            raise StreamFault("late", f"more of choice {index} came after its end")
        ids = self._ids.get(index)
        if ids is None:
            if index >= self._num_choices():
                raise StreamFault("unreadable", f"choice {index} was not asked for")
            ids = self._ids[index] = array("I")
        ids.extend(delta.token_ids)
        if delta.HasField("end"):
            self._ends[index] = inference_pb2.ChoiceEnd()
            self._ends[index].CopyFrom(delta.end)
