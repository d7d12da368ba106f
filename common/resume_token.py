"""The way back to a resumable call: a text that names the worker and the call, and belongs to one caller.

    base64url( version | call id, 16 random bytes | worker id | MAC, 16 bytes )

The MAC covers the caller as well, under a key made from the cluster token, so that a router refuses a made-up token, or
one of somebody else, without asking a worker. In a cluster without a token everybody can compute it: what protects a
call then is its random id, which nobody can guess, and the worker, which compares the caller.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final, final

from pydantic import SecretStr

from common.errors import NotFound, Reason

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
_MAC_BYTES: Final = 16


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
        secret = cluster_token.get_secret_value().encode("utf-8", "surrogateescape")
        self._key = hashlib.sha256(b"lepton resume token\0" + secret).digest()

    def __repr__(self) -> str:
        return "ResumeTokens()"

    def make(self, point: ResumePoint, caller: str) -> str:
        """The token of a call; `caller` is "" for callers without a name."""
        body = _VERSION + point.call_id + point.worker_id.encode()
        packed = body + self._mac(body, caller)
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    def read(self, token: str, caller: str) -> ResumePoint:
        """What `token` names. Raises `NotFound(RESUME_NOT_FOUND)` for one that is not ours or not this caller's."""
        packed = _unpacked(token)
        if len(packed) < len(_VERSION) + CALL_ID_BYTES + _MAC_BYTES or packed[:1] != _VERSION:
            raise resume_not_found()
        body, mac = packed[:-_MAC_BYTES], packed[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, caller)):
            raise resume_not_found()
        try:
            worker_id = body[1 + CALL_ID_BYTES :].decode()
        except UnicodeDecodeError:
            raise resume_not_found() from None
        return ResumePoint(worker_id=worker_id, call_id=body[1 : 1 + CALL_ID_BYTES])

    def _mac(self, body: bytes, caller: str) -> bytes:
        # The caller's hash has a fixed length: no two pairs of body and caller give the same text.
        owner = hashlib.sha256(caller.encode("utf-8", "surrogateescape")).digest()
        return hmac.digest(self._key, owner + body, "sha256")[:_MAC_BYTES]


def _unpacked(token: str) -> bytes:
    if len(token) > TOKEN_CHARS_MAX or not token.isascii():
        return b""
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
