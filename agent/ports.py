"""TCP ports: is one free, which one is, and who has it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
from pathlib import Path
from typing import Final

from common.errors import Conflict, Reason

__all__ = ["check_port", "free_port", "is_free", "owner_of"]

_LOW: Final = 20_000
_TRIES: Final = 50
_LISTEN: Final = "0A"  # state in /proc/net/tcp
_given: Final[set[int]] = set()


def is_free(host: str, port: int) -> bool:
    """Whether somebody could listen there now."""
    return _bind_error(host, port) is None


def check_port(host: str, port: int, *, flag: str) -> None:
    """Returns when `port` can be listened on (0 always can).

    Raises `Conflict(PORT_IN_USE)` that names the port, who has it, and the flag that chooses another.
    """
    number = _bind_error(host, port)
    if number is None:
        return
    if number == errno.EADDRINUSE:
        owner = owner_of(port)
        by = f" by {owner}" if owner else ""
        raise Conflict(
            f"port {port} on {host} is in use{by}; stop that, or choose another with {flag}",
            reason=Reason.PORT_IN_USE,
        )
    raise Conflict(
        f"cannot listen on {host}:{port}: {os.strerror(number)}; choose another with {flag}",
        reason=Reason.PORT_IN_USE,
    )


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now, that this process was not given before, and that the kernel gives to no outgoing
    connection.

    Whoever chooses several ports binds them later, so what was given counts as taken. And a server on an ephemeral port
    can lose it while it restarts: a client that keeps trying to reach it may be given the very port as its own and talk
    to itself. So the choice is made below the ephemeral range where there is room.
    """
    high = _ephemeral_low()
    for _ in range(_TRIES if high > _LOW else 0):
        port = random.randrange(_LOW, high)
        if port not in _given and is_free(host, port):
            _given.add(port)
            return port
    with socket.socket() as any_port:
        any_port.bind((host, 0))
        number: int = any_port.getsockname()[1]
        return number


def owner_of(port: int) -> str | None:
    """The process that listens on `port`, as "nginx (pid 12)"; None when it cannot be told (another user's)."""
    inodes = _listeners(port)
    for entry in Path("/proc").glob("[0-9]*") if inodes else ():
        # Processes end while we look, and those of other users do not show their files.
        with contextlib.suppress(OSError):
            if any(_leads_to(link, inodes) for link in (entry / "fd").iterdir()):
                return f"{_name(entry)} (pid {entry.name})"
    return None


def _leads_to(link: Path, names: set[str]) -> bool:
    try:
        return link.readlink().name in names
    except OSError:  # this file was closed in between; the others still count
        return False


def _name(process: Path) -> str:
    """The program, and the module that Python runs: "python -m router" says more than "python"."""
    words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else None
    name = (process / "comm").read_text().strip()
    return f"{name} -m {module}" if module else name


def _bind_error(host: str, port: int) -> int | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )[0]
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: what lingers after a connection's end does not count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Two sockets with SO_REUSEADDR may share a bind; only listening finds the one who was first.
            probe.listen(1)
        except OSError as error:
            return error.errno or errno.EINVAL
    return None


def _ephemeral_low() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def _listeners(port: int) -> set[str]:
    """The `socket:[inode]` names of everything that listens on `port`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[9]}]")
    return found
