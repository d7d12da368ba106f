"""What a call may end with instead of an answer.

    LeptonError
    ├── InvalidRequest      the request must change            INVALID_ARGUMENT
    ├── NotFound            no such model, revision or call    NOT_FOUND
    ├── Unsupported         this release refuses it            UNIMPLEMENTED
    ├── Forbidden           not yours to do                    PERMISSION_DENIED, UNAUTHENTICATED
    ├── Overloaded          full for now                       RESOURCE_EXHAUSTED
    ├── Unavailable         nobody answers now                 UNAVAILABLE
    ├── DeadlineExceeded    the time is over                   DEADLINE_EXCEEDED
    ├── Cancelled           the call was given up              CANCELLED
    ├── Refused             set aside, or in conflict          FAILED_PRECONDITION
    └── Internal            the cluster's fault                every other code

The class says what went wrong, `reason` exactly what (the cluster's docs/errors.md lists them), the message what to do.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "DeadlineExceeded",
    "Forbidden",
    "Internal",
    "InvalidRequest",
    "LeptonError",
    "NotFound",
    "Overloaded",
    "Refused",
    "Unavailable",
    "Unsupported",
]


class LeptonError(Exception):
    """Base of all errors of this package.

    `code` is the name of the gRPC status, `reason` the stable name for programs: text, so that a reason of a newer
    cluster passes. `field` names the field of the request that is to blame, in proto spelling. `retry_after` is
    the wait in seconds that the cluster asks for. `request_id` and `trace_id` are for logs; "" when unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str,
        field: str | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        trace_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.field = field
        self.retry_after = retry_after
        self.request_id = request_id
        self.trace_id = trace_id

    def __str__(self) -> str:
        where = f" {self.field}" if self.field else ""
        return f"{self.message} ({self.reason}{where})"


class InvalidRequest(LeptonError):
    """The request is wrong in itself; sending it again cannot help."""


class NotFound(LeptonError):
    """No worker serves that model or revision, or no call belongs to that token."""


class Unsupported(LeptonError):
    """A part of the interface that this release or worker refuses."""


class Forbidden(LeptonError):
    """A call, field or ticket that is not this client's."""


class Overloaded(LeptonError):
    """A bounded queue is full; `retry_after` says when to come back."""


class Unavailable(LeptonError):
    """Nobody can answer now, or the one who did is lost."""


class DeadlineExceeded(LeptonError):
    """`timeout` is over; the compute has stopped."""


class Cancelled(LeptonError):
    """The call was given up, here or by whoever holds its token."""


class Refused(LeptonError):
    """The request is set aside for a while because workers died of it (POISON_REQUEST), or something conflicts."""


class Internal(LeptonError):
    """The cluster's fault; report it with `request_id`."""
