"""All settings of one `lepton-gateway`."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.cluster import ClusterSettings
from common.limits import Limits
from common.telemetry.settings import TelemetrySettings
from gateway.settings import GatewaySettings

__all__ = ["Config"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Section by section."""

    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    limits: Limits = field(default_factory=Limits)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
