"""All settings of one router process."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace

from common.cluster import ClusterSettings
from common.discovery.settings import DiscoverySettings
from common.limits import Limits
from common.telemetry.settings import TelemetrySettings
from gateway.settings import GatewaySettings
from router.settings import RouterSettings

__all__ = ["Config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Section by section."""

    router: RouterSettings = field(default_factory=RouterSettings)
    discovery: DiscoverySettings = field(default_factory=DiscoverySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    limits: Limits = field(default_factory=Limits)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    gateway: GatewaySettings | None = None
    """None: no HTTP door. A process always has the section."""

    @property
    def http(self) -> GatewaySettings | None:
        """The settings of the HTTP door of this process, if it has one."""
        return self.gateway if self.gateway is not None and self.gateway.in_router else None

    def with_id(self) -> Config:
        """The same with a router id: the configured one, else a new one."""
        if self.router.id:
            return self
        made = self.router.model_copy(update={"id": f"router-{uuid.uuid4().hex[:8]}"})
        return replace(self, router=made)
