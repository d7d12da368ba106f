"""The cluster token: how a router proves itself to a worker."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import Any, Protocol
from urllib.parse import unquote

from pydantic import SecretStr

from common.cluster import ClusterSettings
from common.errors import Conflict, Reason
from common.rpc.bind import is_loopback
from common.rpc.metadata import CLUSTER_TOKEN_KEY

__all__ = ["CallOrigin", "cluster_token_metadata", "is_router"]


class CallOrigin(Protocol):
    """The part of a servicer context that says who calls."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...

    def peer(self) -> str: ...


def cluster_token_metadata(token: SecretStr) -> tuple[tuple[str, str], ...]:
    """Request metadata that carries the token; empty when the cluster has none.

    Raises `Conflict(SETTING_INVALID)` for a token that metadata cannot carry.
    """
    secret = token.get_secret_value()
    if not (secret.isascii() and secret.isprintable() and secret == secret.strip()):
        raise Conflict(
            "setting cluster.token may hold printable ASCII only, without spaces at its ends",
            reason=Reason.SETTING_INVALID,
        )
    return ((CLUSTER_TOKEN_KEY, secret),) if secret else ()


def is_router(context: CallOrigin | Any, settings: ClusterSettings) -> bool:
    """Whether the caller may use what only routers use.

    With a token in the settings: exactly one token in the metadata, and it is equal (compared in constant time).
    Without one: the peer is on this machine.
    """
    secret = settings.token.get_secret_value()
    if not secret:
        return _is_local_peer(context.peer())
    shown = [
        value for key, value in context.invocation_metadata() or () if key == CLUSTER_TOKEN_KEY
    ]
    if len(shown) != 1:
        return False
    (value,) = shown
    given = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
    return hmac.compare_digest(given, secret.encode("utf-8"))


def _is_local_peer(peer: str) -> bool:
    """`peer` in gRPC's spelling: ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000, unix:/run/x."""
    kind, _, rest = unquote(peer).partition(":")
    if kind in {"unix", "unix-abstract"}:
        return True
    if kind not in {"ipv4", "ipv6"}:
        return False
    host, _, _port = rest.rpartition(":")
    return is_loopback(host)
