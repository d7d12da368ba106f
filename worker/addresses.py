"""Under which address others reach this worker."""

from __future__ import annotations

from typing import Final

from common.address import join_address
from common.errors import Conflict, Reason
from worker.settings import WorkerSettings

__all__ = ["advertised"]

_ANY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::", "[::]"})
_PORT_MAX: Final = 65_535


def advertised(settings: WorkerSettings, port: int) -> str:
    """host:port that goes into the registry. Raises `Conflict(SETTING_INVALID)` when nobody could reach it."""
    host, own_port = _split(settings.advertise.strip() or settings.host)
    if host in _ANY_ADDRESS:
        raise Conflict(
            f"set worker.advertise: routers cannot reach a worker at {host or 'no host'}",
            reason=Reason.SETTING_INVALID,
        )
    if own_port is not None and not (own_port.isdecimal() and 1 <= int(own_port) <= _PORT_MAX):
        raise Conflict(
            f"worker.advertise is {settings.advertise!r}; use host or host:port, with a port from 1 to {_PORT_MAX}",
            reason=Reason.SETTING_INVALID,
        )
    return join_address(host, port if own_port is None else int(own_port))


def _split(address: str) -> tuple[str, str | None]:
    """Host and port, as far as there is one: a colon belongs to a bare IPv6 address when there are several."""
    if address.startswith("[") or address.count(":") == 1:
        host, colon, port = address.rpartition(":")
        if colon and not port.endswith("]"):
            return host, port
    return address, None
