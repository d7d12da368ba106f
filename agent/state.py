"""The state folder: where `lepton up` leaves what the other commands need to find the running cluster.

<state>/cluster.json        who runs where; only while a cluster runs
<state>/lock                held by the agent
<state>/logs/<process>.log
<state>/traces/             spans, unless a collector is configured
<state>/etcd/ registry/     the registry of the running cluster
<state>/snapshot.json       what the router knew last
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, final

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_serializer

from common.errors import Conflict, Reason

__all__ = [
    "ClusterState",
    "ProcessState",
    "StateDir",
    "default_state_dir",
    "started_at",
    "user_state_dir",
]

_NAME: Final = ".lepton"


class ProcessState(BaseModel):
    """One process of the running cluster."""

    model_config = ConfigDict(frozen=True)

    name: str
    """ "etcd", "w1", "router"."""
    pid: int | None
    """None while it is not running."""
    address: str = ""
    """host:port of its service, empty until it is ready."""
    metrics_address: str = ""
    """host:port of its `/metrics`."""


class ClusterState(BaseModel):
    """The content of cluster.json."""

    model_config = ConfigDict(frozen=True)

    version: str
    """Release of Lepton."""
    agent_pid: int
    """Process id of `lepton up`."""
    agent_started: int
    """Its start time as the kernel counts it; tells it from a later process with the same id."""
    address: str
    """host:port that clients on this machine use."""
    http_address: str = ""
    """host:port of the router's HTTP door; empty when it has none."""
    metrics_address: str = ""
    """host:port of the router's `/metrics`."""
    etcd_endpoints: tuple[str, ...] = ()
    """host:port; empty: no etcd."""
    registry_dir: Path | None = None
    """The registry when there is no etcd."""
    trace_dir: Path | None = None
    """Where spans are written."""
    token: SecretStr = SecretStr("")
    """The cluster token."""
    processes: tuple[ProcessState, ...] = ()
    """In start order."""

    @field_serializer("token", when_used="json")
    def _reveal(self, token: SecretStr) -> str:
        return token.get_secret_value()  # the file is readable to its owner only

    @property
    def alive(self) -> bool:
        """Whether the agent that wrote this still runs."""
        return started_at(self.agent_pid) == self.agent_started


@final
class StateDir:
    """The paths, the lock and the one file that changes."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.traces = self.path / "traces"
        self.etcd = self.path / "etcd"
        self.registry = self.path / "registry"
        self.snapshot = self.path / "snapshot.json"
        self.cluster_file = self.path / "cluster.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a cluster runs from here; the kernel lets go of it when we die.

        Raises `Conflict(CLUSTER_RUNNING)` when somebody else has it, `Conflict(SETTING_INVALID)` when the folder cannot
        be written, or is not ours and `prepare` would clear something in it.
        """
        lock = self.path / "lock"
        if not lock.exists() and (self.etcd.exists() or self.registry.exists()):
            raise Conflict(
                f"{self.path} is no state folder of Lepton, and holds an etcd/ or registry/ that would be cleared; "
                "choose another with --state-dir",
                reason=Reason.SETTING_INVALID,
            )
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = lock.open("a")
        except OSError as error:
            raise Conflict(
                f"cannot write the state folder {self.path}: {error.strerror}; choose another with --state-dir",
                reason=Reason.SETTING_INVALID,
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise self._running() from error
            yield

    def prepare(self) -> None:
        """Clears what belonged to the cluster before. To be called under the lock.

        Its registry held nothing but leases of processes that are gone; they would stand in the list as lost workers.
        """
        for folder in (self.etcd, self.registry):
            shutil.rmtree(folder, ignore_errors=True)
        self.snapshot.unlink(missing_ok=True)
        self.cluster_file.unlink(missing_ok=True)
        for folder in (self.logs, self.traces, self.registry):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, state: ClusterState) -> None:
        """Replaces cluster.json at once: a reader sees the old or the new, never a part."""
        draft = self.path / "cluster.json.new"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(state.model_dump_json(indent=2) + "\n")
        draft.replace(self.cluster_file)

    def read(self) -> ClusterState | None:
        """The cluster that runs from here; None when there is none (any more)."""
        try:
            state = ClusterState.model_validate_json(self.cluster_file.read_bytes())
        except (OSError, ValidationError):
            return None
        return state if state.alive else None

    def forget(self) -> None:
        """Removes cluster.json, when the cluster has ended."""
        self.cluster_file.unlink(missing_ok=True)

    def _running(self) -> Conflict:
        state = self.read()
        where = f" at {state.address} (pid {state.agent_pid})" if state else ""
        return Conflict(
            f"a cluster already runs from {self.path}{where}; use it (lepton ps), stop it with Ctrl-C, "
            "or start another with --state-dir and --port",
            reason=Reason.CLUSTER_RUNNING,
        )


def default_state_dir(env: Mapping[str, str], cwd: Path) -> Path:
    """The nearest `.lepton/` of ours in the current folder and those above it; in a checkout of Lepton its own; else
    `$XDG_STATE_HOME/lepton` (`~/.local/state/lepton`).
    """
    for folder in (cwd, *cwd.parents):
        checkout = (folder / "protos" / "lepton").is_dir() and (folder / "pyproject.toml").is_file()
        found = folder / _NAME
        if found.is_dir():
            if found.stat().st_uid == os.geteuid():  # another user's would say which cluster we ask
                return found
        elif checkout:
            return found
    return user_state_dir(env)


def user_state_dir(env: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/lepton` (`~/.local/state/lepton`)."""
    home = env.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "lepton"


def started_at(pid: int) -> int:
    """Start time of a process in clock ticks since boot; 0 when there is none, or it is a zombie."""
    try:
        # The name in the second field may hold anything, so count from the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
