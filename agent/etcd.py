"""The etcd of a local cluster: which program, how it is called, whether it answers."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.process import ProcessSpec
from common.clock import Clock
from common.errors import Conflict, Reason

__all__ = ["NO_ETCD", "EtcdPorts", "etcd_spec", "find_etcd", "wait_healthy"]

NO_ETCD: Final = "none"
"""Setting `agent.etcd_binary`: do without."""

_HOST: Final = "127.0.0.1"
_PROBE_S: Final = 0.02
_PROBE_S_MAX: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EtcdPorts:
    """Chosen once for the life of a cluster, so that a restarted etcd is found again."""

    client: int
    peer: int

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"{_HOST}:{self.client}"


def find_etcd(setting: str, env: Mapping[str, str]) -> Path | None:
    """The program to run: the setting, else from PATH, else beside the Python interpreter (the `local` extra).

    None when there is none or the setting is "none". Raises `Conflict(SETTING_INVALID)` when the setting names a
    program that is not there.
    """
    if setting == NO_ETCD:
        return None
    if setting:
        found = shutil.which(setting, path=env.get("PATH", ""))
        if found is None:
            raise Conflict(
                f"agent.etcd_binary: {setting} is not a program; leave it out to search PATH, or say none",
                reason=Reason.SETTING_INVALID,
            )
        return Path(found)
    beside = str(Path(sys.executable).parent)
    found = shutil.which("etcd", path=os.pathsep.join((env.get("PATH", ""), beside)))
    return Path(found) if found else None


def etcd_spec(
    program: Path, ports: EtcdPorts, *, data_dir: Path, log_file: Path, env: Mapping[str, str]
) -> ProcessSpec:
    """A single member on loopback."""
    client, peer = (f"http://{_HOST}:{port}" for port in (ports.client, ports.peer))
    flags = {
        "name": "lepton",
        "data-dir": str(data_dir),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"lepton={peer}",
        # One member has nobody to wait for: it elects itself in 0.1 s instead of 1 s.
        "heartbeat-interval": "10",
        "election-timeout": "100",
        "log-level": "warn",
    }
    return ProcessSpec(
        name="etcd",
        argv=(str(program), *(f"--{key}={value}" for key, value in flags.items())),
        # ETCD_… variables are flags by another name; those of the user's own etcd must not bend ours.
        env={key: value for key, value in env.items() if not key.startswith("ETCD_")},
        log_file=log_file,
    )


async def wait_healthy(ports: EtcdPorts, clock: Clock) -> Mapping[str, str]:
    """Returns {"address": host:port} once etcd answers and has a leader. Never gives up; the caller sets a bound."""
    while not await _is_healthy(ports.client):
        await clock.sleep(_PROBE_S)
    return {"address": ports.endpoint}


async def _is_healthy(port: int) -> bool:
    """GET /health, by hand: an HTTP client would be one more thing to load."""
    try:
        async with asyncio.timeout(_PROBE_S_MAX):
            reader, writer = await asyncio.open_connection(_HOST, port)
            try:
                writer.write(f"GET /health HTTP/1.0\r\nHost: {_HOST}\r\n\r\n".encode())
                answer = await reader.read(4096)
                return b'"health":"true"' in answer
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
