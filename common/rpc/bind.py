"""Whether a process may listen on an address: loopback always, anything else only when asked for in so many words."""

from __future__ import annotations

import ipaddress

from common.errors import Conflict, Reason

__all__ = ["check_bind", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than `localhost` counts as reachable."""
    bare = host.strip("[]")
    if bare == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def check_bind(host: str, *, insecure: bool) -> None:
    """Raises `Conflict(BIND_NOT_ALLOWED)` when `host` is reachable from elsewhere and nobody said `--insecure`."""
    if is_loopback(host) or insecure:
        return
    raise Conflict(
        f"refusing to listen on {host!r}: everyone who reaches it could use the cluster, and there is no TLS. "
        "Listen on 127.0.0.1, or set cluster.insecure (`lepton up --insecure`, "
        "`lepton-router --cluster.insecure`) if the network itself is trusted",
        reason=Reason.BIND_NOT_ALLOWED,
    )
