"""The contract that every registry keeps; `tests/contract/test_discovery.py` holds all of them to it.

    worker   Registrar.register(instance) ──> Registration: lives as long as the worker wants
    router   Watcher.snapshots()          ──> full pictures, never differences, never an end

Losing the registry changes nothing for traffic: the last snapshot stays (marked `stale`), a
registration re-announces itself when the registry is back, and nobody exits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

__all__ = ["Instance", "InstanceState", "Registrar", "Registration", "Snapshot", "Watcher"]


class InstanceState(StrEnum):
    """What a worker says of itself."""

    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A worker as discovery stores it."""

    id: str
    """Unique in the cluster: configured, or made at start."""
    incarnation: str
    """Unique per process start; tells a restart from a re-announcement."""
    address: str
    """host:port of its gRPC server, as others reach it."""
    model: str
    """Model name that requests use."""
    revision: str
    """Content hash of the model folder, hex."""
    tasks: tuple[str, ...]
    """Task names, for example ("generate",)."""
    context_length: int
    """Most tokens of prompt and completion together."""
    vocab_size: int
    """Valid token ids are below it."""
    rows_max: int
    """Most sequences in one batch."""
    fingerprint: str
    """Engine: runtime version, provider, precision, instruction set, threads."""
    version: str
    """Release of Lepton."""
    state: InstanceState = InstanceState.SERVING
    """Draining is written before the key is removed."""
    tool_format: str = ""
    """How the model writes calls of tools; empty when it knows none."""
    metrics_address: str = ""
    """host:port of its `/metrics`, empty when it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything registered at one moment."""

    instances: Mapping[str, Instance]
    """By id."""
    stale: bool = False
    """The registry cannot be reached; this is what it said last."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value could not be read, with the reason. Such keys are skipped, never fatal."""


class Registration(Protocol):
    """One announced worker.

    Resources: owns a background task until `close`. Errors: none after `register` returned; a lost registry is
    logged and the announcement repeated with jitter until it holds. Cancellation: `close` is safe to cancel.
    """

    @property
    def announced(self) -> bool:
        """Whether the registry holds the value, as far as is known. False does not keep a worker from serving."""
        ...

    async def update(self, instance: Instance) -> None:
        """Replaces the value (same id and incarnation); returns when written, or at once when the registry is away
        (it is then written when it is back). Raises `Conflict(SETTING_INVALID)` for a value that readers would refuse.
        """
        ...

    async def close(self) -> None:
        """Removes the key (best effort, bounded wait) and stops announcing. A worker that leaves on purpose has
        written `DRAINING` with `update` before.
        """
        ...


class Registrar(Protocol):
    """Where workers announce themselves."""

    async def register(self, instance: Instance) -> Registration:
        """Claims `instance.id` and announces it.

        A registry that cannot be reached is no error: the worker serves and the announcement follows.
        An id whose holder died is free as soon as the registry knows (etcd: when the lease ends, waited for here).
        Raises `Conflict(WORKER_ID_TAKEN)` when a live worker of another incarnation holds the id, and
        `Conflict(SETTING_INVALID)` for an id or a value that readers would refuse.
        """
        ...


class Watcher(Protocol):
    """Where routers learn of workers."""

    def snapshots(self) -> AsyncGenerator[Snapshot]:
        """Full snapshots: the first as soon as anything is known (the kept file, else the registry's list), then one
        after each change of what is registered or of `stale`. Changes that come while the reader is busy make one
        snapshot.

        Resources: each call is a watch of its own, with its own task and connection; close it by leaving
        `async with contextlib.aclosing(watcher.snapshots()) as snapshots:`. Errors: none; a lost registry is logged
        and tried again for ever. Cancellation: passes through and ends the watch.
        """
        ...
