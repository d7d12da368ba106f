"""Every refusal and failure that Lepton tells a caller about.

    LeptonError
    ├── InvalidRequest         the caller must change the request         (never retried)
    ├── NotFound               no such model or revision                  (never retried)
    ├── Unsupported            a field that this release refuses          (never retried)
    ├── Forbidden              a router-only call or field                (never retried)
    ├── Overloaded             full for now; says when to come back       (retried elsewhere)
    ├── Unavailable            no worker, draining, lost                  (retried elsewhere)
    ├── DeadlineExceeded       the caller's time is over                  (never retried)
    ├── Cancelled              the caller went away                       (never retried)
    ├── Quarantined            the request ended workers; set aside       (never retried)
    ├── Conflict               a registry id is taken, a port is in use   (start-up)
    ├── BadModel               a model folder that cannot be served       (start-up)
    └── Internal               our fault                                  (retried elsewhere)

An error is a class (what went wrong, how it maps to codes), a `Reason` (stable, for programs) and a message (for
people: what, where, what to do next). `common.rpc.status` maps classes to gRPC; docs/errors.md lists the
reasons and a test holds the two together. Errors are raised anywhere and mapped only at the edges.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

__all__ = [
    "BadModel",
    "Cancelled",
    "Conflict",
    "DeadlineExceeded",
    "Forbidden",
    "Internal",
    "InvalidRequest",
    "LeptonError",
    "NotFound",
    "Overloaded",
    "Quarantined",
    "Reason",
    "Unavailable",
    "Unsupported",
]


class Reason(StrEnum):
    """Stable names that programs may compare; each is documented in docs/errors.md."""

    # InvalidRequest
    MALFORMED_MESSAGE = "MALFORMED_MESSAGE"
    FIELD_REQUIRED = "FIELD_REQUIRED"
    FIELD_OUT_OF_RANGE = "FIELD_OUT_OF_RANGE"
    FIELD_NOT_FINITE = "FIELD_NOT_FINITE"
    FIELD_TOO_LARGE = "FIELD_TOO_LARGE"
    FIELD_MALFORMED = "FIELD_MALFORMED"
    PROMPT_EMPTY = "PROMPT_EMPTY"
    PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
    TOKEN_ID_OUT_OF_RANGE = "TOKEN_ID_OUT_OF_RANGE"  # noqa: S105 - a reason, not a secret
    CHAT_TEMPLATE_REFUSED = "CHAT_TEMPLATE_REFUSED"
    FIELDS_CONTRADICT = "FIELDS_CONTRADICT"
    GRAMMAR_INVALID = "GRAMMAR_INVALID"
    GRAMMAR_UNSUPPORTED = "GRAMMAR_UNSUPPORTED"
    GRAMMAR_TOO_LARGE = "GRAMMAR_TOO_LARGE"
    GRAMMAR_UNSATISFIABLE = "GRAMMAR_UNSATISFIABLE"
    MODEL_AMBIGUOUS = "MODEL_AMBIGUOUS"
    TRACE_AMBIGUOUS = "TRACE_AMBIGUOUS"
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    BODY_TIMEOUT = "BODY_TIMEOUT"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    CONTENT_TYPE_UNSUPPORTED = "CONTENT_TYPE_UNSUPPORTED"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    # NotFound
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    REVISION_NOT_FOUND = "REVISION_NOT_FOUND"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    TRACE_NOT_FOUND = "TRACE_NOT_FOUND"
    RESUME_NOT_FOUND = "RESUME_NOT_FOUND"
    RESUME_EXPIRED = "RESUME_EXPIRED"
    # Unsupported
    CONSTRAINT_UNSUPPORTED = "CONSTRAINT_UNSUPPORTED"
    PARAMETER_UNSUPPORTED = "PARAMETER_UNSUPPORTED"
    TOOLS_UNSUPPORTED = "TOOLS_UNSUPPORTED"
    ADAPTER_UNSUPPORTED = "ADAPTER_UNSUPPORTED"
    CONTINUATION_UNSUPPORTED = "CONTINUATION_UNSUPPORTED"
    # Forbidden
    CLUSTER_TOKEN_INVALID = "CLUSTER_TOKEN_INVALID"  # noqa: S105 - a reason, not a secret
    ROUTER_ONLY_FIELD = "ROUTER_ONLY_FIELD"
    TICKET_INVALID = "TICKET_INVALID"
    TICKET_EXPIRED = "TICKET_EXPIRED"
    HOST_NOT_ALLOWED = "HOST_NOT_ALLOWED"
    ORIGIN_NOT_ALLOWED = "ORIGIN_NOT_ALLOWED"
    # Overloaded
    QUEUE_FULL = "QUEUE_FULL"
    QUEUE_TIMEOUT = "QUEUE_TIMEOUT"
    WOULD_BE_LATE = "WOULD_BE_LATE"
    CALLER_QUEUE_FULL = "CALLER_QUEUE_FULL"
    # Unavailable
    NO_WORKER = "NO_WORKER"
    WORKER_LOST = "WORKER_LOST"
    REVISION_GONE = "REVISION_GONE"
    DRAINING = "DRAINING"
    STARTING = "STARTING"
    PROCESS_FAILED = "PROCESS_FAILED"
    TOOL_INSTALL_FAILED = "TOOL_INSTALL_FAILED"
    UNREACHABLE = "UNREACHABLE"
    # DeadlineExceeded, Cancelled
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    CLIENT_GONE = "CLIENT_GONE"
    SLOW_READER = "SLOW_READER"
    ABORTED = "ABORTED"
    # Quarantined
    POISON_REQUEST = "POISON_REQUEST"
    # Conflict (start-up)
    WORKER_ID_TAKEN = "WORKER_ID_TAKEN"
    PORT_IN_USE = "PORT_IN_USE"
    CLUSTER_RUNNING = "CLUSTER_RUNNING"
    BIND_NOT_ALLOWED = "BIND_NOT_ALLOWED"
    SETTING_INVALID = "SETTING_INVALID"
    OUTPUT_EXISTS = "OUTPUT_EXISTS"
    DISK_SPACE_SHORT = "DISK_SPACE_SHORT"
    TOOL_MISSING = "TOOL_MISSING"
    # BadModel (start-up)
    MODEL_FILE_MISSING = "MODEL_FILE_MISSING"
    MODEL_FILE_INVALID = "MODEL_FILE_INVALID"
    MODEL_ARCHITECTURE_UNSUPPORTED = "MODEL_ARCHITECTURE_UNSUPPORTED"
    MODEL_GRAPH_UNSUPPORTED = "MODEL_GRAPH_UNSUPPORTED"
    MODEL_TOKENIZER_INVALID = "MODEL_TOKENIZER_INVALID"
    MODEL_GOLDEN_MISMATCH = "MODEL_GOLDEN_MISMATCH"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    # Internal
    MODEL_OUTPUT_INVALID = "MODEL_OUTPUT_INVALID"
    ENGINE_FAILED = "ENGINE_FAILED"
    STREAM_FAULT = "STREAM_FAULT"
    INTERNAL = "INTERNAL"


class LeptonError(Exception):
    """Base of all errors that reach a caller.

    `reason` is for programs, the message for people, `field` names the offending request field in proto spelling
    (for example "sampling.top_p"), `retry_after_s` says when trying again may help.
    """

    default_reason: ClassVar[Reason] = Reason.INTERNAL
    retryable: ClassVar[bool] = False
    """Whether another worker may answer the same request."""

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after_s = retry_after_s

    def __repr__(self) -> str:
        where = f", field={self.field!r}" if self.field else ""
        return f"{type(self).__name__}({self.reason}{where}: {self.message})"


class InvalidRequest(LeptonError):
    """The request is wrong in itself; sending it again cannot help."""

    default_reason = Reason.FIELD_MALFORMED


class NotFound(LeptonError):
    """No worker serves the model or revision that was named."""

    default_reason = Reason.MODEL_NOT_FOUND


class Unsupported(LeptonError):
    """A part of the interface that this release refuses rather than ignores."""

    default_reason = Reason.CONSTRAINT_UNSUPPORTED


class Forbidden(LeptonError):
    """A call or field that only routers may use."""

    default_reason = Reason.CLUSTER_TOKEN_INVALID


class Overloaded(LeptonError):
    """A bounded queue is full; `retry_after_s` says when to come back."""

    default_reason = Reason.QUEUE_FULL
    retryable = True


class Unavailable(LeptonError):
    """Nobody can answer now, or the one who did is lost."""

    default_reason = Reason.NO_WORKER
    retryable = True


class DeadlineExceeded(LeptonError):
    """The caller's deadline passed."""

    default_reason = Reason.DEADLINE_EXCEEDED


class Cancelled(LeptonError):
    """The caller went away."""

    default_reason = Reason.CLIENT_GONE


class Quarantined(LeptonError):
    """The request ended the workers that ran it, and is refused for a while so that it ends no more."""

    default_reason = Reason.POISON_REQUEST


class Conflict(LeptonError):
    """Two things want the same name, port, address or folder, a setting is wrong, a tool or room is missing; ends a
    start-up.
    """

    default_reason = Reason.SETTING_INVALID


class BadModel(LeptonError):
    """A model folder that cannot be served; the message names the file and what is wrong with it."""

    default_reason = Reason.MODEL_FILE_INVALID


class Internal(LeptonError):
    """Our fault. The message says nothing of the inside; the log does."""

    default_reason = Reason.INTERNAL
    retryable = True
