"""Endpoints and loads with good defaults, for tests of the router's core."""

from __future__ import annotations

from typing import Any

from router.core.endpoint import Endpoint, EndpointState, Load

__all__ = ["make_endpoint"]

_LOAD_FIELDS = frozenset(Load.__dataclass_fields__)


def make_endpoint(endpoint_id: str = "w1", **changes: Any) -> Endpoint:
    """An idle, ready endpoint; `changes` are fields of `Endpoint` or of its `Load`."""
    load = Load(**{"rows_max": 8} | {k: v for k, v in changes.items() if k in _LOAD_FIELDS})
    fields: dict[str, Any] = {
        "id": endpoint_id,
        "incarnation": f"{endpoint_id}-1",
        "address": f"{endpoint_id}:1",
        "model": "tiny",
        "revision": "aaaaaaaa00000000",
        "tasks": ("generate",),
        "context_length": 256,
        "vocab_size": 1000,
        "fingerprint": "fake",
        "state": EndpointState.READY,
        "load": load,
    }
    fields |= {k: v for k, v in changes.items() if k not in _LOAD_FIELDS}
    return Endpoint(**fields)
