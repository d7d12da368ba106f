"""What of a request's headers goes on to the cluster."""

from __future__ import annotations

from collections.abc import Mapping

from common.rpc.metadata import CALLER_KEY

__all__ = ["metadata_of"]


def metadata_of(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """For `Asked.metadata`: who calls. The cluster judges the name."""
    caller = headers.get(CALLER_KEY)
    return ((CALLER_KEY, caller),) if caller else ()
