"""What every door gets: the cluster, the bounds, the time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.trace import Tracer

from common.clock import Clock
from common.limits import Limits
from common.release import release
from common.telemetry.instruments import GatewayInstruments
from gateway.ports import ClusterView, Upstream
from gateway.settings import GatewaySettings

__all__ = ["Frame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The surroundings of a door, one per process."""

    upstream: Upstream
    """The cluster."""
    cluster: ClusterView | None = None
    """The same, to look at. None: `ListModels` says all that is known of it."""
    trace_dir: Path | None = None
    """Where the processes of this machine write their spans, if they do."""
    settings: GatewaySettings
    limits: Limits
    """Of requests; the cluster checks them, doors show them."""
    clock: Clock
    tracer: Tracer
    instruments: GatewayInstruments
    is_ready: Callable[[], Awaitable[bool]]
    """Whether calls are taken now."""
    version: str = field(default_factory=release)
    """Release of Lepton that answers."""
