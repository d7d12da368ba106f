"""A port that several processes of ours will listen on, and nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import Conflict, Reason
from common.rpc.server import check_free

__all__ = ["shared_port"]


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """Holds `port` (0: a free one) for the block and gives its number.

    A socket that is bound but does not listen gets no connections; it only keeps the number while no child listens.
    Raises `Conflict(PORT_IN_USE)` or `Conflict(SETTING_INVALID)`.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise Conflict(
            "this system cannot share a port between processes; set router.processes to 1",
            reason=Reason.SETTING_INVALID,
        )
    host = "127.0.0.1" if host == "localhost" else host.strip("[]")
    check_free(host, port)
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
        yield int(held.getsockname()[1])
