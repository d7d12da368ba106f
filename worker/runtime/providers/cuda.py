"""NVIDIA GPUs through CUDA. Never run by us yet: options follow ONNX Runtime's documentation.

Nodes that CUDA lacks fall to the CPU without a word, and `session.disable_cpu_ep_fallback` would refuse those few that
compute shapes there as well. So ONNX Runtime is asked which node computes where (`worker.runtime.providers.placement`).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from worker.runtime.devices.cuda import open_cuda
from worker.runtime.providers.placement import RECORD_PLACEMENT
from worker.runtime.providers.spec import DeviceOptions, ProviderSpec

__all__ = ["CUDA_NAMES", "cuda", "cuda_options"]

CUDA_NAMES: Final = ("CUDAExecutionProvider", "CPUExecutionProvider")


def cuda(options: DeviceOptions) -> ProviderSpec:
    """CUDA on that device."""
    return ProviderSpec(
        name="cuda",
        ort_names=CUDA_NAMES,
        open_memory=partial(open_cuda, options.device_id),
        options={"CUDAExecutionProvider": cuda_options(options)},
        config_entries=RECORD_PLACEMENT,
        has_device=True,
        spins=False,
    )


def cuda_options(options: DeviceOptions) -> dict[str, str]:
    """For ONNX Runtime's provider."""
    found = {
        "device_id": str(options.device_id),
        # The arena grows by what is asked for; doubling would strand memory after one long prompt.
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    if options.memory_mib:
        found["gpu_mem_limit"] = str(options.memory_mib << 20)
    return found
