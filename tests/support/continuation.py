"""What a router does with a stream that it gave up: an independent reading of docs/adr/0013.

first = await one.ask(request)
rest = await other.ask(continued(request, first.events[:5]))
assert whole(first.events[:5] + rest.events) == whole(first.events)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lepton.v1 import inference_pb2

__all__ = ["continued", "whole"]

Event = inference_pb2.Event
Request = inference_pb2.GenerateRequest


def continued(request: Request, events: Sequence[Event]) -> Request:
    """The request for the next worker, when the client has `events` of the answer to `request`: at least `Started`.

    Events of a stream that moved before come one after another, as the client got them.
    """
    started = events[0].started
    moves = [event.migrated for event in events if event.HasField("migrated")]
    n = request.sampling.n if request.sampling.HasField("n") else 1
    choices = [inference_pb2.ContinuedChoice() for _ in range(n)]
    for event in events:
        if event.HasField("delta"):
            choice = choices[event.delta.index]
            choice.token_ids.extend(event.delta.token_ids)
            if event.delta.HasField("end"):
                choice.end.CopyFrom(event.delta.end)
    sent = Request()
    sent.CopyFrom(request)
    sent.continuation.CopyFrom(
        inference_pb2.Continuation(
            choices=choices,
            next_seq=len(events),
            seed=started.seed,
            prompt_tokens=started.prompt_tokens,
            attempt=len(moves) + 1,
            from_worker_id=moves[-1].to_worker_id if moves else started.worker_id,
            cached_tokens=started.cached_tokens,
        )
    )
    return sent


def whole(events: Sequence[Event]) -> dict[str, Any]:
    """What a client makes of a stream, wherever it came from and however it was cut into deltas."""
    assert [event.seq for event in events] == list(range(len(events)))
    finished = events[-1].finished
    deltas = [event.delta for event in events if event.HasField("delta")]
    choices = {}
    for index in range(len(finished.choices)):
        own = [delta for delta in deltas if delta.index == index]
        assert [delta.HasField("end") for delta in own] == [False] * (len(own) - 1) + [True]
        choices[index] = {
            "text": "".join(delta.text for delta in own),
            "ids": [token_id for delta in own for token_id in delta.token_ids],
            "logprobs": [p.SerializeToString() for delta in own for p in delta.logprobs],
            "end": own[-1].end.SerializeToString(),
        }
    return {
        "choices": choices,
        "ends": [end.SerializeToString() for end in finished.choices],
        "usage": finished.usage.SerializeToString(),
    }
