"""Which HTTP door a command asks, from what the user said and what `lepton up` left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cli.http.base_url import BaseUrl, parse_base_url
from cli.target import DEFAULT_ADDRESS, find_target
from common.errors import Conflict, Reason, Unavailable

__all__ = ["find_door"]

_GRPC_PORT: Final = DEFAULT_ADDRESS.rpartition(":")[2]
_HTTP_PORT: Final = 8080
"""The two that a router takes unless it is told otherwise."""


def find_door(url: str | None, address: str | None, state_dir: Path | None) -> BaseUrl:
    """The named URL, else the door of the running cluster, else port 8080 beside a router at port 50051.

    Raises `Conflict(SETTING_INVALID)`, and `Unavailable(UNREACHABLE)` for a cluster that has no HTTP door.
    """
    if url:
        return parse_base_url(url)
    target = find_target(address, state_dir)
    if target.state is None:
        host, _, port = target.address.rpartition(":")
        if port != _GRPC_PORT:  # a guess might be another cluster
            raise Conflict(
                f"where the HTTP door of {target.address} is, nobody knows: name it with --url",
                reason=Reason.SETTING_INVALID,
            )
        return parse_base_url(f"http://{host}:{_HTTP_PORT}")
    if not target.state.http_address:
        raise Unavailable(
            "this cluster has no HTTP door: gateway.in_router is off", reason=Reason.UNREACHABLE
        )
    return parse_base_url(f"http://{target.state.http_address}")
