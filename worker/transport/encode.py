"""domain → proto: outputs of a task as serialised response messages with a `seq` without gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, final

from lepton.v1 import inference_pb2, types_pb2
from worker.engine.sequence import FinishReason
from worker.tasks.api import (
    Begun,
    ChoiceEnd,
    Done,
    GenerateRequest,
    ModelFacts,
    Output,
    Piece,
    Resumed,
    Timeline,
)

__all__ = ["ResponseEncoder", "encode_model", "encode_timings"]

_REASONS: Final = {
    FinishReason.STOP: types_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: types_pb2.FINISH_REASON_LENGTH,
}


@final
class ResponseEncoder:
    """Encodes the outputs of one request, in order."""

    def __init__(
        self,
        request: GenerateRequest,
        timeline: Timeline,
        *,
        model: ModelFacts,
        worker_id: str,
        with_token_ids: bool,
        printed: Callable[[int], bytes],
        resume_token: str = "",
    ) -> None:
        """`printed`: what a token adds to a text; `resume_token` is empty unless the call is resumable."""
        self._request = request
        self._timeline = timeline
        self._model = model
        self._worker_id = worker_id
        self._with_token_ids = with_token_ids
        self._printed = printed
        self._resume_token = resume_token
        self._seq = 0 if request.continuation is None else request.continuation.next_seq
        self.finished: bytes | None = None
        """The serialised `Finished`, once it was encoded: what the trailing metadata repeat."""

    @property
    def next_seq(self) -> int:
        """`seq` of the next event."""
        return self._seq

    def encode(self, outputs: Sequence[Output]) -> bytes:
        """One message with all `outputs`."""
        response = inference_pb2.GenerateResponse()
        for output in outputs:
            event = response.events.add(seq=self._seq)
            self._seq += 1
            match output:
                case Begun():
                    event.started.CopyFrom(self._started(output))
                case Resumed():
                    event.migrated.CopyFrom(self._migrated(output))
                case Piece():
                    self._fill_delta(event.delta, output)
                case Done():
                    event.finished.CopyFrom(self._finished(output))
                    self.finished = event.finished.SerializeToString()
        return response.SerializeToString()

    def _started(self, begun: Begun) -> inference_pb2.Started:
        return inference_pb2.Started(
            request_id=self._request.request_id,
            worker_id=self._worker_id,
            model=self._model.name,
            revision=self._model.revision,
            seed=self._request.sampling.seed,
            prompt_tokens=begun.num_prompt_tokens,
            fingerprint=self._model.fingerprint,
            resume_token=self._resume_token,
            cached_tokens=begun.num_cached_tokens,
        )

    def _migrated(self, resumed: Resumed) -> inference_pb2.Migrated:
        return inference_pb2.Migrated(
            from_worker_id=resumed.from_worker_id,
            to_worker_id=self._worker_id,
            replayed_tokens=resumed.num_replayed_tokens,
            fingerprint=self._model.fingerprint,
            resume_token=self._resume_token,
        )

    def _fill_delta(self, delta: inference_pb2.Delta, piece: Piece) -> None:
        delta.index = piece.choice
        delta.text = piece.text
        if self._with_token_ids:
            delta.token_ids.extend(piece.token_ids)
        for position in piece.logprobs:
            entry = delta.logprobs.add()
            entry.chosen.token_id = position.token_id
            entry.chosen.logprob = position.logprob
            entry.chosen.token = self._printed(position.token_id)
            for top in position.top:
                entry.top.add(
                    token_id=top.token_id, logprob=top.logprob, token=self._printed(top.token_id)
                )
        if piece.end is not None:
            delta.end.CopyFrom(_end(piece.end))

    def _finished(self, done: Done) -> inference_pb2.Finished:
        return inference_pb2.Finished(
            usage=types_pb2.Usage(
                prompt_tokens=done.num_prompt_tokens,
                completion_tokens=done.num_completion_tokens,
                cached_tokens=done.num_cached_tokens,
            ),
            timings=encode_timings(self._timeline),
            choices=[_end(end) for end in done.ends],
        )


def encode_model(model: ModelFacts, *, tasks: Sequence[str]) -> types_pb2.ModelInfo:
    """What this worker serves."""
    return types_pb2.ModelInfo(
        model=model.name,
        revision=model.revision,
        context_length=model.context_length,
        vocab_size=model.vocab_size,
        tasks=tasks,
        num_workers=1,
        tool_format=model.tool_format,
    )


def encode_timings(timeline: Timeline) -> types_pb2.Timings:
    """Microseconds of each part; parts that did not happen are 0."""
    return types_pb2.Timings(
        queue_us=_us(timeline.submitted_at, timeline.scheduled_at),
        tokenize_us=_us(timeline.arrived_at, timeline.tokenized_at),
        prefill_us=_us(timeline.scheduled_at, timeline.first_token_at),
        decode_us=_us(timeline.first_token_at, timeline.last_token_at),
    )


def _us(start: float | None, end: float | None) -> int:
    if start is None or end is None:
        return 0
    return max(0, round((end - start) * 1e6))


def _end(end: ChoiceEnd) -> inference_pb2.ChoiceEnd:
    encoded = inference_pb2.ChoiceEnd(reason=_REASONS[end.reason])
    if end.stop_string is not None:
        encoded.stop_string = end.stop_string
    elif end.stop_token_id is not None:
        encoded.stop_token_id = end.stop_token_id
    return encoded
