"""Texts that processes of one cluster hand to callers and get back unchanged, or not at all.

    base64url( body | MAC, 16 bytes )

The MAC covers the caller as well, under a key made from the cluster token and the purpose. In a cluster without a token
everybody can compute it: it then finds typing errors only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, final

from pydantic import SecretStr

__all__ = ["Seal"]

_MAC_BYTES: Final = 16


@final
class Seal:
    """Of one purpose, a few words that no other seal has. Processes with the same cluster token open each other's."""

    def __init__(self, cluster_token: SecretStr, purpose: str) -> None:
        secret = cluster_token.get_secret_value().encode("utf-8", "surrogateescape")
        self._purpose = purpose
        self._key = hashlib.sha256(purpose.encode() + b"\0" + secret).digest()

    def __repr__(self) -> str:
        return f"Seal({self._purpose!r})"

    def close(self, body: bytes, caller: str) -> str:
        """`body` as a text for `caller`, who may read it but not change it; "" for callers without a name."""
        packed = body + self._mac(body, caller)
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")

    def open(self, text: str, caller: str) -> bytes | None:
        """The body; None when the text is not one that was made for this caller and this purpose."""
        packed = _unpacked(text)
        body, mac = packed[:-_MAC_BYTES], packed[-_MAC_BYTES:]
        return body if hmac.compare_digest(mac, self._mac(body, caller)) else None

    def _mac(self, body: bytes, caller: str) -> bytes:
        # The caller's hash has a fixed length: no two pairs of body and caller give the same text.
        owner = hashlib.sha256(caller.encode("utf-8", "surrogateescape")).digest()
        return hmac.digest(self._key, owner + body, "sha256")[:_MAC_BYTES]


def _unpacked(text: str) -> bytes:
    if not text.isascii():
        return b""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
