"""The only place that chooses a registry: etcd when endpoints are set, else a directory when one is set."""

from __future__ import annotations

from common.clock import Clock
from common.discovery.api import Registrar, Watcher
from common.discovery.directory import DirectoryRegistrar, DirectoryWatcher
from common.discovery.etcd.registrar import EtcdRegistrar
from common.discovery.etcd.watcher import EtcdWatcher
from common.discovery.memory import MemoryRegistry
from common.discovery.settings import DiscoverySettings
from common.errors import Conflict, Reason
from common.logs import get_logger

__all__ = ["open_registrar", "open_watcher"]

log = get_logger(__name__)


def open_registrar(settings: DiscoverySettings, clock: Clock) -> Registrar:
    """Where a worker announces itself. With no registry set it announces to nobody: a worker may serve alone."""
    if settings.etcd_endpoints:
        return EtcdRegistrar(settings, clock)
    if settings.registry_dir is not None:
        return DirectoryRegistrar(settings.registry_dir, clock, poll_s=settings.poll_s)
    log.warning("discovery.none", hint="no router will find this worker")
    return MemoryRegistry()


def open_watcher(settings: DiscoverySettings, clock: Clock) -> Watcher:
    """Where a router learns of workers. Raises `Conflict(SETTING_INVALID)` when no registry is set."""
    if settings.etcd_endpoints:
        return EtcdWatcher(settings, clock)
    if settings.registry_dir is not None:
        return DirectoryWatcher(settings.registry_dir, clock, poll_s=settings.poll_s)
    raise Conflict(
        "set discovery.etcd_endpoints (host:port, …) or discovery.registry_dir: "
        "without a registry no worker can be found",
        reason=Reason.SETTING_INVALID,
    )
