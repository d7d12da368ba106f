"""What all processes of one cluster agree on."""

from __future__ import annotations

from pydantic import SecretStr

from common.settings import Section

__all__ = ["ClusterSettings"]


class ClusterSettings(Section):
    """Section `cluster`."""

    token: SecretStr = SecretStr("")
    """Secret that routers show to workers. Empty: worker calls are refused to everyone but loopback peers."""
    insecure: bool = False
    """Allow binds beyond loopback without TLS and keys. Anyone who reaches the port may then use it."""
