"""What one stream has told its client, as far as another worker needs it to go on: for routers.

Clients that stream from workers themselves keep theirs in `lepton_client.record`.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import final

from google.protobuf.message import DecodeError

from common.request.event_order import check_seq, seq_after
from common.request.stream_fault import StreamFault
from lepton.v1 import inference_pb2

__all__ = ["GenerateRecord"]


@final
class GenerateRecord:
    """Ids in arrays of four bytes, ends, and the numbers of `Started`: of a stream that answers the serialised request
    `payload`, which asks for token ids.
    """

    __slots__ = ("_ends", "_ids", "_next_seq", "_payload", "_started", "_token", "finished")

    def __init__(self, payload: bytes, *, first_seq: int | None = 0) -> None:
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
        """The serialised `Finished`, if the stream has told it; then nothing is left to do."""

    def __repr__(self) -> str:
        tokens = sum(map(len, self._ids.values()))
        return f"GenerateRecord({tokens} tokens, next_seq={self._next_seq})"

    def check(self, message: bytes) -> None:
        """Notes a serialised `GenerateResponse`. Raises `StreamFault` when it is not the one that is due; then it is no
        part of the stream.
        """
        self._next_seq = seq_after(message, self._next_seq)

    def take(self, messages: Sequence[bytes]) -> None:
        """Folds in serialised `GenerateResponse`s that were checked, in order. Raises `StreamFault`; after that it is
        of no use.
        """
        try:
            response = inference_pb2.GenerateResponse.FromString(b"".join(messages))
        except DecodeError as error:
            raise StreamFault("unreadable", "a message is no GenerateResponse") from error
        for event in response.events:
            self._take(event)

    def take_event(self, event: inference_pb2.Event) -> None:
        """Both for one event that was read already. One for which this raises is no part of the stream."""
        check_seq(event.seq, self._next_seq)
        self._take(event)
        self._next_seq = event.seq + 1

    def continue_request(self, *, revision: str, attempt: int, from_worker_id: str) -> bytes | None:
        """The serialised request to go on with; None when the record does not begin with `Started`.

        `attempt` counts the workers that were given up, of which `from_worker_id` was the last.
        """
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
        """The serialised `AbortRequest` for the worker that was told of last; b"" unless the call is resumable."""
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
