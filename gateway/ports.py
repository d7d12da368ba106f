"""What the doors need of a cluster: a router in the same process, or routers over gRPC (`lepton-gateway`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import Message

__all__ = ["Asked", "Upstream", "Write"]

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
