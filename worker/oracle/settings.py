"""Section `oracle`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.oracle import REVISION
from common.settings import Section

__all__ = ["OracleFault", "OracleSettings"]

OracleFault = Literal[
    "", "abort", "hang", "error", "close", "unfinished", "duplicate", "reorder", "skip"
]


class OracleSettings(Section):
    """The pace and the misdeeds of a worker with `worker.engine = "oracle"`; no other worker reads them."""

    revision: str = Field(default=REVISION, pattern=r"^[0-9a-f]{64}$")
    """Model revision that it claims; its answers depend on it."""
    step_ms: float = Field(default=10.0, ge=0, le=60_000)
    """Length of a step, milliseconds."""
    row_us: float = Field(default=50.0, ge=0, le=1e6)
    """What each decoding row adds to it, microseconds."""
    prompt_token_us: float = Field(default=20.0, ge=0, le=1e6)
    """What each prompt token adds to it, microseconds."""
    slow: float = Field(default=1.0, gt=0, le=1000)
    """Steps take that many times as long."""
    fault: OracleFault = ""
    """Misdeed at a message of a call: `abort` kills the process, `hang` stops the stream, `error` refuses the call at
    once, `close` ends it with a status that says nothing, `unfinished` ends it OK in the middle, `duplicate`, `reorder`
    and `skip` do so to messages. A prompt asks for one with `[[oracle abort]]`, or after more messages with
    `[[oracle abort 3]]`."""
    fault_share: float = Field(default=1.0, ge=0, le=1)
    """Share of calls that get `fault`, drawn at random."""
    fault_after: int = Field(default=2, ge=0)
    """Messages of the call before the misdeed of `fault`."""
