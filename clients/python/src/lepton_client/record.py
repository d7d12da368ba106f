"""What a direct stream has told so far, as far as another worker needs it to go on. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import final

from lepton.v1 import inference_pb2

__all__ = ["Record"]


@final
class Record:
    """Token ids in arrays of four bytes, ends, and the numbers of `Started`."""

    def __init__(self, num_choices: int) -> None:
        self._ids = [array("I") for _ in range(num_choices)]
        self._ends: dict[int, inference_pb2.ChoiceEnd] = {}
        self._started = inference_pb2.Started()
        self._next_seq = 0

    def take(self, events: Iterable[inference_pb2.Event]) -> None:
        """Events in order, each once."""
        for event in events:
            self._next_seq = event.seq + 1
            if event.HasField("started"):
                self._started.CopyFrom(event.started)
            elif event.HasField("delta"):
                self._take_delta(event.delta)

    def continuation(self, *, attempt: int, from_worker_id: str) -> inference_pb2.Continuation:
        """For the next worker. `attempt` counts those that were given up; `from_worker_id` was the last."""
        return inference_pb2.Continuation(
            choices=[
                inference_pb2.ContinuedChoice(token_ids=ids, end=self._ends.get(index))
                for index, ids in enumerate(self._ids)
            ],
            next_seq=self._next_seq,
            seed=self._started.seed,
            prompt_tokens=self._started.prompt_tokens,
            cached_tokens=self._started.cached_tokens,
            attempt=attempt,
            from_worker_id=from_worker_id,
        )

    def _take_delta(self, delta: inference_pb2.Delta) -> None:
        if delta.index >= len(self._ids):
            return  # not asked for; a worker that sends it is judged by whoever reads it
        self._ids[delta.index].extend(delta.token_ids)
        if delta.HasField("end"):
            self._ends[delta.index] = inference_pb2.ChoiceEnd()
            self._ends[delta.index].CopyFrom(delta.end)
