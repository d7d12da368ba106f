"""One execution provider as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.runtime.devices.memory import KvMemory

__all__ = ["DeviceOptions", "ProviderSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """What may be said of a device; what is left as it is here was not said."""

    device_id: int = 0
    """Which of several, from 0."""
    memory_mib: int = 0
    """Most of its memory for weights and what is computed on the way, MiB; 0: as much as there is."""
    engine_cache_dir: str = ""
    """Folder in which TensorRT keeps the engines that it has built; empty: nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSpec:
    """What a session is built with."""

    name: str
    """Value of the setting."""
    ort_names: tuple[str, ...]
    """ONNX Runtime's names, in order of preference; the first must be the one that computes."""
    open_memory: Callable[[], KvMemory[Any]]
    """Where keys and values live. Raises `BadModel(PROVIDER_UNAVAILABLE)`."""
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """ONNX Runtime name → its options."""
    config_entries: Mapping[str, str] = field(default_factory=dict)
    """Session options as text."""
    has_device: bool = False
    """Whether it computes on a device with memory of its own."""
    spins: bool = True
    """Whether worker threads compute the graph and may spin between operators."""
