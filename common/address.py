"""host:port as people and programs write it."""

from __future__ import annotations

__all__ = ["join_address"]


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address, whether it came with them or not (RFC 3986, section 3.2.2)."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
