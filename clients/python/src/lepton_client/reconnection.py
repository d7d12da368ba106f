"""What a program can be told when a stream is asked for once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from lepton_client.errors import LeptonError

__all__ = ["OnReconnect", "Reconnection"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnection:
    """An answer is asked for again, or goes on."""

    address: str
    """Who is asked now: a router, in direct mode a worker."""
    after_seq: int | None
    """The `seq` of the last event that has come; None before the first one."""
    error: LeptonError
    """What ended the attempt before."""


OnReconnect: TypeAlias = Callable[[Reconnection], None]
