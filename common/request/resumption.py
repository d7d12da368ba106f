"""Requests that may outlive their connection: which they are, and what the validator says to them."""

from __future__ import annotations

from typing import Final

from common.errors import InvalidRequest, Reason
from common.limits import Limits
from common.resume_token import TOKEN_CHARS_MAX
from lepton.v1 import inference_pb2

__all__ = ["outlives_connection", "validate_resumption"]

_KEY_CHARS_MAX: Final = 128


def outlives_connection(request: inference_pb2.GenerateRequest) -> bool:
    """Whether the call of a request is detached from its connection; all others take the short way."""
    return bool(request.resumable_ms or request.idempotency_key or request.HasField("resume"))


def validate_resumption(request: inference_pb2.GenerateRequest, limits: Limits) -> None:
    """Returns when the three can hold together; raises `InvalidRequest` otherwise."""
    if request.resumable_ms > limits.resumable_ms_max:
        raise InvalidRequest(
            f"resumable_ms is {request.resumable_ms}; at most {limits.resumable_ms_max} "
            "(setting limits.resumable_ms_max)",
            reason=Reason.FIELD_OUT_OF_RANGE,
            field="resumable_ms",
        )
    if len(request.idempotency_key) > _KEY_CHARS_MAX:
        raise InvalidRequest(
            f"at most {_KEY_CHARS_MAX} characters",
            reason=Reason.FIELD_TOO_LARGE,
            field="idempotency_key",
        )
    if request.HasField("resume"):
        _resume(request)


def _resume(request: inference_pb2.GenerateRequest) -> None:
    token = request.resume.resume_token
    if len(token) > TOKEN_CHARS_MAX:
        raise InvalidRequest(
            f"a resume token has at most {TOKEN_CHARS_MAX} characters; send that of Started or Migrated",
            reason=Reason.FIELD_TOO_LARGE,
            field="resume.resume_token",
        )
    if not token and not request.idempotency_key:
        raise InvalidRequest(
            "resume needs the token of Started or Migrated, or the idempotency_key of the call",
            reason=Reason.FIELD_REQUIRED,
            field="resume.resume_token",
        )
    if token and not request.resumable_ms:
        raise InvalidRequest(
            "resume goes with the request of the first call, and that had resumable_ms",
            reason=Reason.FIELDS_CONTRADICT,
            field="resume",
        )
