"""What the validator says to a `Pick`, beside what it says to the Generate in it."""

from __future__ import annotations

from typing import Final

from common.errors import InvalidRequest, Reason
from common.request.resumption import outlives_connection
from lepton.v1 import inference_pb2

__all__ = ["validate_pick"]

_FAILED_MAX: Final = 32
"""More than any client moves one call."""


def validate_pick(asked: inference_pb2.PickRequest) -> None:
    """Returns when the parts hold together; raises `InvalidRequest` otherwise."""
    if outlives_connection(asked.request):
        raise InvalidRequest(
            "a call with resumable_ms, idempotency_key or resume goes through a router: send it to Generate",
            reason=Reason.FIELDS_CONTRADICT,
            field="request",
        )
    if len(asked.failed_tickets) > _FAILED_MAX:
        raise InvalidRequest(
            f"{len(asked.failed_tickets)} tickets; at most {_FAILED_MAX} are allowed",
            reason=Reason.FIELD_TOO_LARGE,
            field="failed_tickets",
        )
    if asked.HasField("origin") and not (asked.origin.model and asked.origin.revision):
        raise InvalidRequest(
            "origin needs model and revision, as the PickResponse said them",
            reason=Reason.FIELD_REQUIRED,
            field="origin",
        )
