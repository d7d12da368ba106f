"""The part of the validator that looks at `continuation`, sent by routers, and by clients to whom one gave a ticket:
whole, and in line with the request.

What hangs on the model, its tokenizer and the length of the answer the worker checks (`worker.tasks.continuation`).
"""

from __future__ import annotations

from typing import Final, NoReturn

from common.errors import Forbidden, InvalidRequest, Reason
from common.limits import Limits
from lepton.v1 import inference_pb2, types_pb2

__all__ = ["validate_continuation"]

ATTEMPT_MAX: Final = 100
"""Far more than any router moves a stream."""
_WORKER_ID_CHARS_MAX: Final = 128
_FIELD: Final = "continuation"


def validate_continuation(
    request: inference_pb2.GenerateRequest, limits: Limits, *, may_continue: bool
) -> None:
    """Returns when `request.continuation` is absent or acceptable.

    Raises `Forbidden(ROUTER_ONLY_FIELD)` unless the caller `may_continue`, `InvalidRequest` for the first fault.
    """
    if not request.HasField("continuation"):
        return
    if not may_continue:
        raise Forbidden(
            "continuation needs a ticket of Pick; leave it out",
            reason=Reason.ROUTER_ONLY_FIELD,
            field=_FIELD,
        )
    continuation = request.continuation
    num_bytes = continuation.ByteSize()
    if num_bytes > limits.message_bytes_max:
        _fail(
            f"it has {num_bytes} bytes; at most {limits.message_bytes_max} are allowed "
            "(setting limits.message_bytes_max)",
            Reason.FIELD_TOO_LARGE,
            _FIELD,
        )
    if continuation.next_seq < 1:
        _fail(
            "next_seq is 0; a stream that has begun has had that event",
            Reason.FIELD_OUT_OF_RANGE,
            f"{_FIELD}.next_seq",
        )
    if not 1 <= continuation.attempt <= ATTEMPT_MAX:
        _fail(
            f"attempt is {continuation.attempt}; the range is 1 to {ATTEMPT_MAX}",
            Reason.FIELD_OUT_OF_RANGE,
            f"{_FIELD}.attempt",
        )
    if len(continuation.from_worker_id) > _WORKER_ID_CHARS_MAX:
        _fail(
            f"at most {_WORKER_ID_CHARS_MAX} characters",
            Reason.FIELD_TOO_LARGE,
            f"{_FIELD}.from_worker_id",
        )
    if continuation.cached_tokens > continuation.prompt_tokens:
        _fail(
            f"{continuation.cached_tokens} of {continuation.prompt_tokens} prompt tokens were cached",
            Reason.FIELD_OUT_OF_RANGE,
            f"{_FIELD}.cached_tokens",
        )
    n = request.sampling.n if request.sampling.HasField("n") else 1
    if len(continuation.choices) != n:
        _fail(
            f"{len(continuation.choices)} choices; the request has {n} (sampling.n)",
            Reason.FIELDS_CONTRADICT,
            f"{_FIELD}.choices",
        )
    for index, choice in enumerate(continuation.choices):
        _choice(choice, request.stop, f"{_FIELD}.choices[{index}]")


def _choice(
    choice: inference_pb2.ContinuedChoice, stop: types_pb2.StopConditions, field: str
) -> None:
    if not choice.HasField("end"):
        return
    end = choice.end
    if not choice.token_ids:
        _fail(
            "a choice that has ended has at least one token",
            Reason.FIELD_REQUIRED,
            f"{field}.token_ids",
        )
    if end.reason not in {types_pb2.FINISH_REASON_STOP, types_pb2.FINISH_REASON_LENGTH}:
        _fail("it ended by STOP or LENGTH", Reason.FIELD_MALFORMED, f"{field}.end.reason")
    matched = end.WhichOneof("matched")
    if matched == "stop_string" and end.stop_string not in stop.strings:
        _fail(
            "the request has no such stop string",
            Reason.FIELDS_CONTRADICT,
            f"{field}.end.stop_string",
        )
    if matched == "stop_token_id" and end.stop_token_id not in stop.token_ids:
        _fail(
            f"the request has no stop id {end.stop_token_id}",
            Reason.FIELDS_CONTRADICT,
            f"{field}.end.stop_token_id",
        )


def _fail(message: str, reason: Reason, field: str) -> NoReturn:
    raise InvalidRequest(message, reason=reason, field=field)
