"""The way back to a resumable call: a text that names the worker and the call, and belongs to one caller.

    version | call id, 16 random bytes | worker id       under a seal (`common.seal`)

So a router refuses a made-up token, or one of somebody else, without asking a worker. In a cluster without a token what
protects a call is its random id, which nobody can guess, and the worker, which compares the caller.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final, final

from pydantic import SecretStr

from common.errors import NotFound, Reason
from common.seal import Seal

__all__ = [
    "CALL_ID_BYTES",
    "TOKEN_CHARS_MAX",
    "ResumePoint",
    "ResumeTokens",
    "new_call_id",
    "resume_not_found",
]

CALL_ID_BYTES: Final = 16
TOKEN_CHARS_MAX: Final = 1024
"""Longer than any that we make: a worker id has at most 128 characters."""

_VERSION: Final = b"\x01"


def new_call_id() -> bytes:
    """128 random bits."""
    return secrets.token_bytes(CALL_ID_BYTES)


def resume_not_found() -> NotFound:
    """The one answer to every token that leads nowhere: whether a call exists is told to its caller only."""
    return NotFound(
        "no call belongs to this token: it has ended long ago, its worker is gone, or it is not yours; "
        "ask again without resume",
        reason=Reason.RESUME_NOT_FOUND,
        field="resume.resume_token",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """What a token says."""

    worker_id: str
    call_id: bytes


@final
class ResumeTokens:
    """Makes and reads tokens. Processes with the same cluster token read each other's."""

    def __init__(self, cluster_token: SecretStr) -> None:
        self._seal = Seal(cluster_token, "lepton resume token")

    def __repr__(self) -> str:
        return "ResumeTokens()"

    def make(self, point: ResumePoint, caller: str) -> str:
        """The token of a call; `caller` is "" for callers without a name."""
        return self._seal.close(_VERSION + point.call_id + point.worker_id.encode(), caller)

    def read(self, token: str, caller: str) -> ResumePoint:
        """What `token` names. Raises `NotFound(RESUME_NOT_FOUND)` for one that is not ours or not this caller's."""
        body = self._seal.open(token, caller) if len(token) <= TOKEN_CHARS_MAX else None
        if body is None or len(body) < len(_VERSION) + CALL_ID_BYTES or body[:1] != _VERSION:
            raise resume_not_found()
        try:
            worker_id = body[1 + CALL_ID_BYTES :].decode()
        except UnicodeDecodeError:
            raise resume_not_found() from None
        return ResumePoint(worker_id=worker_id, call_id=body[1 : 1 + CALL_ID_BYTES])
