"""Which HTTP door a command asks, from what the user said and what `lepton up` left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cli.http.base_url import BaseUrl, parse_base_url
from cli.target import find_target
from common.errors import Reason, Unavailable

__all__ = ["find_door"]

_PORT: Final = 8080


def find_door(url: str | None, address: str | None, state_dir: Path | None) -> BaseUrl:
    """The named URL, else the door of the running cluster, else port 8080 on the host of `address`.

    Raises `Conflict(SETTING_INVALID)`, and `Unavailable(UNREACHABLE)` for a cluster that has no HTTP door.
    """
    if url:
        return parse_base_url(url)
    target = find_target(address, state_dir)
    if target.state is None:
        return parse_base_url(f"http://{target.address.rpartition(':')[0]}:{_PORT}")
    if not target.state.http_address:
        raise Unavailable(
            "this cluster has no HTTP door: gateway.in_router is off", reason=Reason.UNREACHABLE
        )
    return parse_base_url(f"http://{target.state.http_address}")
