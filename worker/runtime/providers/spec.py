"""One execution provider as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ProviderSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """What a session is built with."""

    name: str
    """Value of the setting."""
    ort_names: tuple[str, ...]
    """ONNX Runtime's names, in order of preference; the first must be the one that computes."""
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """ONNX Runtime name → its options."""
    config_entries: Mapping[str, str] = field(default_factory=dict)
    """Session options as text."""
    device_memory: bool = False
    """Whether keys and values must live in the device's memory."""
    spins: bool = True
    """Whether worker threads compute the graph and may spin between operators."""
