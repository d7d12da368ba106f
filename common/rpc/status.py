"""The one table: error class ↔ gRPC code ↔ HTTP status ↔ WebSocket close code, and the two ways over gRPC.

The details follow https://google.aip.dev/193: `ErrorInfo` with domain "lepton" and our reason, `BadRequest` for the
field, `RetryInfo` where waiting helps, packed as `google.rpc.Status` into `grpc-status-details-bin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from common.errors import (
    BadModel,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidRequest,
    LeptonError,
    NotFound,
    Overloaded,
    Quarantined,
    Reason,
    Unavailable,
    Unsupported,
)

__all__ = [
    "DETAILS_KEY",
    "DOMAIN",
    "TABLE",
    "Codes",
    "codes_of",
    "details_of",
    "error_of",
    "from_rpc_error",
]

DOMAIN: Final = "lepton"
DETAILS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """How one error class looks on each surface."""

    grpc: grpc.StatusCode
    http: int
    websocket: int
    """Close code of a socket that ends because of it. 4000 and above are an application's own (RFC 6455, 7.4.2)."""


TABLE: Final[dict[type[LeptonError], Codes]] = {
    InvalidRequest: Codes(grpc=grpc.StatusCode.INVALID_ARGUMENT, http=400, websocket=4400),
    NotFound: Codes(grpc=grpc.StatusCode.NOT_FOUND, http=404, websocket=4404),
    Unsupported: Codes(grpc=grpc.StatusCode.UNIMPLEMENTED, http=400, websocket=4400),
    Forbidden: Codes(grpc=grpc.StatusCode.PERMISSION_DENIED, http=403, websocket=4403),
    Overloaded: Codes(grpc=grpc.StatusCode.RESOURCE_EXHAUSTED, http=429, websocket=4429),
    Unavailable: Codes(grpc=grpc.StatusCode.UNAVAILABLE, http=503, websocket=1013),
    DeadlineExceeded: Codes(grpc=grpc.StatusCode.DEADLINE_EXCEEDED, http=504, websocket=4504),
    Cancelled: Codes(grpc=grpc.StatusCode.CANCELLED, http=499, websocket=4499),
    Conflict: Codes(grpc=grpc.StatusCode.FAILED_PRECONDITION, http=409, websocket=4409),
    BadModel: Codes(grpc=grpc.StatusCode.FAILED_PRECONDITION, http=409, websocket=4409),
    Quarantined: Codes(grpc=grpc.StatusCode.FAILED_PRECONDITION, http=409, websocket=4409),
    Internal: Codes(grpc=grpc.StatusCode.INTERNAL, http=500, websocket=1011),
}

_BY_REASON: Final[dict[Reason, Mapping[str, Any]]] = {
    Reason.BODY_TOO_LARGE: {"http": 413, "websocket": 1009},
    Reason.BODY_TIMEOUT: {"http": 408},
    Reason.HEADERS_TOO_LARGE: {"http": 431},
    Reason.CONTENT_TYPE_UNSUPPORTED: {"http": 415, "websocket": 1003},
    Reason.METHOD_NOT_ALLOWED: {"http": 405},
    Reason.MALFORMED_MESSAGE: {"websocket": 1007},
    Reason.DRAINING: {"websocket": 1012},
}
"""Where HTTP or WebSocket have a code for exactly this, and their clients know what to do about it."""

_CLASS_OF_CODE: Final[dict[grpc.StatusCode, type[LeptonError]]] = {
    codes.grpc: cls for cls, codes in reversed(TABLE.items())
}

_BAD_MODEL: Final = frozenset(
    {
        Reason.MODEL_FILE_MISSING,
        Reason.MODEL_FILE_INVALID,
        Reason.MODEL_ARCHITECTURE_UNSUPPORTED,
        Reason.MODEL_GRAPH_UNSUPPORTED,
        Reason.MODEL_TOKENIZER_INVALID,
        Reason.MODEL_GOLDEN_MISMATCH,
        Reason.PROVIDER_UNAVAILABLE,
    }
)
"""What tells `BadModel` from `Conflict`: they have one gRPC code (`Quarantined`, too, with its only reason)."""


def codes_of(error: LeptonError) -> Codes:
    """The codes of an error; a subclass that is not in the table has its base's."""
    codes = next((TABLE[cls] for cls in type(error).__mro__ if cls in TABLE), TABLE[Internal])
    special = _BY_REASON.get(error.reason)
    return replace(codes, **special) if special else codes


def details_of(error: LeptonError) -> bytes:
    """The `google.rpc.Status` of an error, serialised for `grpc-status-details-bin`."""
    status = status_pb2.Status(code=codes_of(error).grpc.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.value,
        domain=DOMAIN,
        metadata={"retryable": "true" if error.retryable else "false"},
    )
    if error.field:
        info.metadata["field"] = error.field
    _pack(status, info)
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=error.message
        )
        _pack(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    packed: bytes = status.SerializeToString()
    return packed


def from_rpc_error(error: grpc.aio.AioRpcError) -> LeptonError:
    """The error that a peer meant: its class by code (and reason, where two classes have one code), its reason and
    field by the details when they are ours.

    A status without our details (a proxy, a dead peer) becomes the class of its code with the class's default reason;
    `UNAVAILABLE` without details is a lost peer. Codes that we never send become `Internal`.
    """
    code, message = error.code(), error.details() or error.code().name
    info, field, retry_after_s = _unpack(error)
    if info is None:
        lost = Reason.WORKER_LOST.value if code is grpc.StatusCode.UNAVAILABLE else ""
        return error_of(code, message, reason=lost)
    return error_of(code, message, reason=info.reason, field=field, retry_after_s=retry_after_s)


def error_of(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str,
    field: str | None = None,
    retry_after_s: float | None = None,
) -> LeptonError:
    """The error with that code and reason. A reason that is not known, as that of a newer peer, leaves the class."""
    cls = _CLASS_OF_CODE.get(code, Internal)
    try:
        known = Reason(reason)
    except ValueError:
        return cls(message, field=field, retry_after_s=retry_after_s)
    if cls is Conflict and known in _BAD_MODEL:
        cls = BadModel
    elif cls is Conflict and known is Reason.POISON_REQUEST:
        cls = Quarantined
    return cls(message, reason=known, field=field, retry_after_s=retry_after_s)


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _unpack(
    error: grpc.aio.AioRpcError,
) -> tuple[error_details_pb2.ErrorInfo | None, str | None, float | None]:
    raw = dict(error.trailing_metadata() or ()).get(DETAILS_KEY)
    if not isinstance(raw, bytes):
        return None, None, None
    try:
        status = status_pb2.Status.FromString(raw)
    except DecodeError:
        return None, None, None
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    found: error_details_pb2.ErrorInfo | None = None
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            found = info
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    return found, (found.metadata.get("field") if found else None), retry_after_s
