"""Which registry is used, and how patient its clients are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from common.settings import Section, StrTuple

__all__ = ["DiscoverySettings"]


def _check_endpoints(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """Each as host:port; an `http://` in front is taken off."""
    checked = []
    for text in endpoints:
        if text.startswith("https://"):
            raise ValueError(f"{text!r}: this release does not speak TLS to etcd; use host:port")
        host, colon, port = text.removeprefix("http://").rstrip("/").rpartition(":")
        if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not host:port")
        checked.append(f"{host}:{port}")
    return tuple(checked)


class DiscoverySettings(Section):
    """Section `discovery`."""

    etcd_endpoints: Annotated[StrTuple, AfterValidator(_check_endpoints)] = ()
    """host:port of each etcd member. Empty: no etcd, see `registry_dir`."""
    registry_dir: Path | None = None
    """Directory on one machine that all processes share, used as the registry when there is no etcd."""
    snapshot_file: Path | None = None
    """File in which a router keeps what the registry said last, so that it can start without etcd."""
    lease_ttl_s: int = Field(default=5, ge=1, le=600)
    """Seconds after which a worker that died without a word disappears from etcd (etcd may give more)."""
    relist_s: float = Field(default=30.0, gt=0, le=3600)
    """Longest time without a full list from etcd, seconds; bounds how long a silent watch can deceive."""
    request_timeout_s: float = Field(default=2.0, gt=0, le=60)
    """Longest wait for one answer of etcd, seconds."""
    retry_s_min: float = Field(default=0.1, gt=0, le=60)
    """First wait before a lost registry is tried again, seconds; grows twofold, with jitter."""
    retry_s_max: float = Field(default=2.0, gt=0, le=600)
    """Longest wait between two tries, seconds."""
    poll_s: float = Field(default=0.5, ge=0.01, le=60)
    """How often a registry directory is read, seconds."""
    snapshot_save_s: float = Field(default=1.0, ge=0, le=600)
    """Least time between two writes of the snapshot file, seconds."""
