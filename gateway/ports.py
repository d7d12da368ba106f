"""What the doors need of a cluster: a router in the same process, or routers over gRPC (`lepton-gateway`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

from lepton.v1 import types_pb2

__all__ = ["Asked", "ClusterPicture", "ClusterView", "Upstream", "WorkerPicture", "Write"]

Write = Callable[[bytes], Awaitable[None]]
"""Takes one serialised `GenerateResponse`; returns when there is room for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How something is asked, beside the request itself."""

    metadata: tuple[tuple[str, str], ...] = ()
    """As in gRPC (`common.rpc.metadata`): the caller, for example."""
    timeout_s: float | None = None
    """The caller's deadline from now, seconds; None: `limits.deadline_s_max`."""


class Upstream(Protocol):
    """A cluster. Requests need not be checked before: it has the one validator."""

    async def generate(self, request: bytes, asked: Asked, write: Write) -> None:
        """Answers a serialised `GenerateRequest`: every message of the stream goes to `write`, in order; returns after
        the last one.

        Errors: the typed error of a refusal or of a stream that broke (`LeptonError`), and what `write` raises.
        Cancellation: the compute stops, unless the call is resumable.
        """
        ...

    async def unary(self, method: str, request: Message, asked: Asked) -> bytes:
        """Answers any other method of `lepton.v1.InferenceService`, by name; returns the serialised response.

        Errors: `LeptonError`. Cancellation: safe.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPicture:
    """One worker at one moment, as its router sees it."""

    id: str
    model: str
    revision: str
    """Hex."""
    state: str
    """connecting, ready, suspect, ejected, draining or lost."""
    trouble: str
    """Why it is suspect, ejected or lost, for people; else empty."""
    running: int
    """Sequences in its batch."""
    rows_max: int
    """Most of them."""
    waiting: int
    """Sequences that wait for a row."""
    kv_usage: float
    """Share of the KV cache in use, 0 to 1."""
    tokens_per_s: float
    """Tokens of all running sequences together, as measured last; 0 while it has nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPicture:
    """A cluster at one moment."""

    models: tuple[types_pb2.ModelInfo, ...]
    """What can be asked, as `ListModels` says."""
    workers: tuple[WorkerPicture, ...] | None
    """By model and id, in every state. None: the routers know them, this process does not."""
    stale_s: float | None = None
    """Since when the registry is away and the list is what it said last, seconds; None while it is there."""


class ClusterView(Protocol):
    """What people may see of a cluster."""

    async def look(self) -> ClusterPicture:
        """The cluster now. Errors: `LeptonError` when nobody can say. Cancellation: safe."""
        ...
