"""From a gRPC status to the error that the peer meant. Pure: code and metadata go in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lepton_client.errors import (
    Cancelled,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Refused,
    Unavailable,
    Unsupported,
)

__all__ = ["CallIds", "Metadata", "error_of", "ids_of", "is_lost_connection", "lost", "unreachable"]

Metadata = Iterable[tuple[str, str | bytes]]

_DOMAIN: Final = "lepton"
_DETAILS_KEY: Final = "grpc-status-details-bin"
_REQUEST_ID_KEY: Final = "lepton-request-id"
_TRACE_ID_KEY: Final = "lepton-trace-id"

_NO_REASON: Final = ""

_CLASSES: Final[dict[str, tuple[type[LeptonError], str]]] = {
    "INVALID_ARGUMENT": (InvalidRequest, "FIELD_MALFORMED"),
    "NOT_FOUND": (NotFound, "MODEL_NOT_FOUND"),
    "UNIMPLEMENTED": (Unsupported, "UNIMPLEMENTED"),
    "PERMISSION_DENIED": (Forbidden, "PERMISSION_DENIED"),
    "UNAUTHENTICATED": (Forbidden, "UNAUTHENTICATED"),
    "RESOURCE_EXHAUSTED": (Overloaded, "RESOURCE_EXHAUSTED"),
    "UNAVAILABLE": (Unavailable, _NO_REASON),
    "DEADLINE_EXCEEDED": (DeadlineExceeded, "DEADLINE_EXCEEDED"),
    "CANCELLED": (Cancelled, _NO_REASON),
    "FAILED_PRECONDITION": (Refused, "FAILED_PRECONDITION"),
}
"""By code: the class, and the reason where the status brings none."""


def error_of(code: str, message: str, metadata: Metadata) -> LeptonError:
    """The error of a status: `code` is its name; `metadata` are trailing and, where there are any, initial ones.

    A status without details of Lepton's comes from a proxy, from gRPC itself, or from nobody.
    """
    found = dict(metadata)
    info, retry_after = _details(found)
    cls, reason = _CLASSES.get(code, (Internal, "INTERNAL"))
    return cls(
        message or code,
        code=code,
        reason=info.reason if info else reason,
        field=(info.metadata.get("field") or None) if info else None,
        retry_after=retry_after,
        **ids_of(found.items())._asdict(),
    )


class CallIds(NamedTuple):
    """What a call is found by in the cluster; "" where it is unknown."""

    request_id: str = ""
    """In the logs."""
    trace_id: str = ""
    """What `lepton trace` takes."""


def ids_of(metadata: Metadata) -> CallIds:
    """From the metadata of a response."""
    found = dict(metadata)
    return CallIds(_text(found, _REQUEST_ID_KEY), _text(found, _TRACE_ID_KEY))


def is_lost_connection(error: LeptonError) -> bool:
    """Whether nobody is there any more: `UNAVAILABLE` without details, or a call torn down that we did not end."""
    return error.reason == _NO_REASON


def unreachable(addresses: Iterable[str], cause: LeptonError) -> Unavailable:
    """What to say when nobody answered at any of these."""
    where = ", ".join(addresses)
    return Unavailable(
        f"nothing answers at {where}: {cause.message}", code="UNAVAILABLE", reason="UNREACHABLE"
    )


def lost(what: str, cause: LeptonError | None = None) -> Unavailable:
    """What to say of a stream that had begun and broke."""
    return Unavailable(
        what,
        code="UNAVAILABLE",
        reason="WORKER_LOST",
        request_id=cause.request_id if cause else "",
        trace_id=cause.trace_id if cause else "",
    )


def _details(
    metadata: Mapping[str, str | bytes],
) -> tuple[error_details_pb2.ErrorInfo | None, float | None]:
    raw = metadata.get(_DETAILS_KEY)
    if not isinstance(raw, bytes):
        return None, None
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None, None
    found: error_details_pb2.ErrorInfo | None = None
    retry_after: float | None = None
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            found = info
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return found, retry_after


def _text(metadata: Mapping[str, str | bytes], key: str) -> str:
    value = metadata.get(key, "")
    return value if isinstance(value, str) else ""
