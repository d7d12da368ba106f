"""How many client connections the process may have open, so that files are left for everything else."""

from __future__ import annotations

import resource
from typing import Final

from common.logs import get_logger

__all__ = ["FILES_KEPT", "connections_within"]

FILES_KEPT: Final = 256
"""Files that clients never use up: workers, registry, logs, metrics, the interpreter's own."""

log = get_logger(__name__)


def connections_within(wanted: int) -> int:
    """`wanted`, or fewer where the system allows fewer open files; raises the soft limit of the process when it helps.

    Without it a crowd of clients would take the last file, and the router could reach no worker any more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + FILES_KEPT if hard == resource.RLIM_INFINITY else min(wanted + FILES_KEPT, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft - FILES_KEPT)
    if allowed < wanted:
        allowed = max(allowed, 1)
        log.warning(
            "router.connections_limited", wanted=wanted, allowed=allowed, open_files_max=soft
        )
    return allowed
