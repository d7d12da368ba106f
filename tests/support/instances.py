"""Workers as discovery stores them, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from common.discovery.api import Instance

__all__ = ["make_instance"]

_TYPICAL = Instance(
    id="w1",
    incarnation="first",
    address="127.0.0.1:50061",
    model="demo",
    revision="8f14e45fceea167a",
    tasks=("generate",),
    context_length=2048,
    vocab_size=768,
    rows_max=16,
    fingerprint="ort-1.32/cpu/int4/avx512/1",
    version="0.1.0",
)


def make_instance(worker_id: str = "w1", **changes: Any) -> Instance:
    """A typical instance, changed where a test says so."""
    return replace(_TYPICAL, id=worker_id, **changes)
