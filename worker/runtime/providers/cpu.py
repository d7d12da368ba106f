"""The CPU of this machine: x86-64 and ARM64."""

from __future__ import annotations

from typing import Final

from worker.runtime.devices.host import HostMemory
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["CPU"]

CPU: Final = ProviderSpec(name="cpu", ort_names=("CPUExecutionProvider",), open_memory=HostMemory)
