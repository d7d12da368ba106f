"""The ways to the same upstream: straight, through nginx, through a router of one or two processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, Final

from common.clock import SystemClock
from loadtest.latency.cpu import cpu_s, rss_bytes

__all__ = ["NO_NGINX", "Upstream", "Way", "direct", "doors", "nginx", "router", "upstream"]

ROOT: Final = Path(__file__).resolve().parents[2]
START_S_MAX: Final = 60.0
NO_NGINX: Final = "nginx is not installed (Debian and Ubuntu: apt-get install nginx-light)"

_NGINX: Final = """
daemon off; master_process off; pid nginx.pid; error_log error.log warn; worker_rlimit_nofile {files};
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  http2_max_concurrent_streams 1024; keepalive_requests 1000000000;
  upstream worker {{ server {upstream}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} http2;
    location / {{ grpc_pass grpc://worker; grpc_read_timeout 600s; grpc_send_timeout 600s; }}
  }}
}}
"""
"""One process, like a router of one process; it opens a connection to the upstream for each stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Something that listens and relays, or the upstream itself."""

    name: str
    address: str
    door: str = "grpc"
    """How it is asked: one of `loadtest.clients`."""
    pid: int | None = None
    """Of the process that was started; None for the upstream itself, which relays nothing."""
    processes: int = 0

    def cpu_s(self) -> float:
        """Seconds of CPU that all its processes have used so far."""
        return sum(cpu_s(pid) for pid in self._pids())

    def rss_bytes(self) -> int:
        """Resident memory of all its processes."""
        return sum(rss_bytes(pid) for pid in self._pids())

    def _pids(self) -> list[int]:
        if self.pid is None:
            return []
        children = [
            int(child)
            for task in Path(f"/proc/{self.pid}/task").iterdir()
            for child in (task / "children").read_text("utf-8").split()
        ]
        return [self.pid, *children]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The saturating worker."""

    address: str
    registry: Path
    """Where it is registered."""


@contextmanager
def upstream(folder: Path) -> Iterator[Upstream]:
    """A worker that sends as fast as it is let, for the block."""
    registry = folder / "registry"
    command = [sys.executable, "-m", "loadtest.router.upstream", str(registry)]
    with _process(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        address = process.stdout.readline().decode().strip()
        if not address:
            raise RuntimeError("the upstream did not start")
        yield Upstream(address=address, registry=registry)


@contextmanager
def direct(worker: Upstream) -> Iterator[Way]:
    """No proxy: what the two ends can do."""
    yield Way(name="directly", address=worker.address)


def nginx(worker: Upstream, folder: Path) -> AbstractContextManager[Way] | None:
    """`grpc_pass` of one nginx process; None when it is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return None if program is None else _nginx(program, worker, folder)


@contextmanager
def _nginx(program: str, worker: Upstream, folder: Path) -> Iterator[Way]:
    port = _free_port()
    (folder / "tmp").mkdir(parents=True)
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX.format(upstream=worker.address, port=port, connections=8192, files=16384), "utf-8"
    )
    # Its built-in error log may be out of our reach; it says so once, before it has read ours.
    with _process([program, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL) as it:
        _wait_for(port, it)
        yield Way(name="nginx grpc_pass", address=f"127.0.0.1:{port}", pid=it.pid, processes=1)


@contextmanager
def router(worker: Upstream, processes: int) -> Iterator[Way]:
    """`lepton-router` as it is shipped, asked over gRPC; telemetry as without a collector, logs on."""
    with _router(worker, processes, {"gateway.in-router": "false"}) as (process, ready):
        yield Way(
            name=f"lepton-router × {processes}",
            address=ready["address"],
            pid=process.pid,
            processes=processes,
        )


@contextmanager
def doors(worker: Upstream) -> Iterator[list[Way]]:
    """One `lepton-router` of one process, through each of its doors; gRPC first."""
    with _router(worker, 1, {"gateway.port": "0"}) as (process, ready):
        http = ready["http_address"]
        yield [
            Way(name=name, address=address, door=door, pid=process.pid, processes=1)
            for name, door, address in (
                ("gRPC", "grpc", ready["address"]),
                ("REST, completions", "completions", http),
                ("REST, chat", "chat", http),
                ("WebSocket", "websocket", http),
            )
        ]


@contextmanager
def _router(
    worker: Upstream, processes: int, more: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """The process, and what it said when it was ready."""
    flags = {
        "port": "0",
        "metrics-port": "0",
        "processes": str(processes),
        "discovery.registry-dir": str(worker.registry),
        "telemetry.log-format": "json",
        "drain-delay-s": "0",
        **more,
    }
    command = [
        sys.executable,
        "-m",
        "router",
        *(f"--{key}={value}" for key, value in flags.items()),
    ]
    env = {key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")}
    with (
        NamedTemporaryFile(prefix="router-", suffix=".log", dir=worker.registry.parent) as log,
        _process(command, stderr=log.file, env=env) as process,
    ):
        yield process, _ready(Path(log.name), process, processes)


@contextmanager
def _process(
    command: Sequence[str],
    *,
    stdout: int | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT, stdout=stdout, stderr=stderr, env=env)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _ready(log: Path, process: subprocess.Popen[bytes], processes: int) -> dict[str, Any]:
    """Its log line, when every process of it has found the upstream."""
    for _ in _until_started(process, "the router"):
        lines = log.read_text("utf-8").splitlines()
        ready = [line for line in lines if '"process.ready"' in line]
        if ready and sum('"endpoint.joined"' in line for line in lines) >= processes:
            return dict(json.loads(ready[0]))
    raise AssertionError("not reached")


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in _until_started(process, "nginx"):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return


def _until_started(process: subprocess.Popen[bytes], what: str) -> Iterator[None]:
    clock = SystemClock()
    deadline = clock.now() + START_S_MAX
    while clock.now() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended at start with {process.returncode}")
        yield
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"{what} was not ready within {START_S_MAX:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
