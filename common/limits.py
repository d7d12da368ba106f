"""What a request may ask for at most; one section for every surface of every process."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from common.settings import Section

__all__ = ["Limits"]

_READ_AHEAD: Final = 4


class Limits(Section):
    """Bounds on requests, and what holds where a request says nothing. `common.request.validate` checks the bounds."""

    message_bytes_max: int = Field(default=4 << 20, ge=1024)
    """Largest request, bytes. The transport reads four times as much, so that a request somewhat too large is refused
    with a reason and a field instead of the transport's own bare status."""
    message_s_max: float = Field(default=30.0, gt=0, le=600)
    """Longest that the message of a gRPC call may take to arrive once the call has begun, seconds."""
    prompt_bytes_max: int = Field(default=1 << 20, ge=1)
    """Largest prompt (text, or all messages and tools together), UTF-8 bytes, checked before it is tokenized."""
    messages_max: int = Field(default=256, ge=1)
    """Most chat messages in one request."""
    tools_max: int = Field(default=128, ge=0)
    """Most tools that a chat may offer, and most calls of tools in one of its messages."""
    json_depth_max: int = Field(default=64, ge=1, le=256)
    """Deepest nesting of JSON texts about tools (`parameters_json`, `arguments_json`)."""
    choices_max: int = Field(default=8, ge=1)
    """Largest `sampling.n`."""
    max_tokens_default: int = Field(default=512, ge=1)
    """`stop.max_tokens` when the request does not say, cut to what the context leaves."""
    stop_strings_max: int = Field(default=16, ge=0)
    """Most stop strings."""
    stop_bytes_max: int = Field(default=256, ge=1)
    """Longest stop string, UTF-8 bytes."""
    stop_ids_max: int = Field(default=64, ge=0)
    """Most stop token ids."""
    logit_bias_max: int = Field(default=1024, ge=0)
    """Most entries in `sampling.logit_bias`."""
    grammar_bytes_max: int = Field(default=64 << 10, ge=1)
    """Largest `constraint` (schema, expression, grammar, or all literals together), UTF-8 bytes."""
    literals_max: int = Field(default=1024, ge=1)
    """Most texts in `constraint.literals`."""
    logprobs_max: int = Field(default=20, ge=0)
    """Most likely tokens that may be reported per position."""
    resumable_ms_max: int = Field(default=60_000, ge=0, le=3_600_000)
    """Longest that a call may outlive its connection (`resumable_ms`), milliseconds; 0 allows no such calls."""
    idempotency_s: float = Field(default=60.0, ge=0, le=3600)
    """How long after its end a call can be joined by its `idempotency_key`, seconds."""
    deadline_s_max: float = Field(default=600.0, gt=0)
    """Longest a call may take, seconds; also the deadline of calls that bring none."""

    @property
    def transport_bytes_max(self) -> int:
        """What servers read of one message before the transport refuses it, bytes."""
        return self.message_bytes_max * _READ_AHEAD
