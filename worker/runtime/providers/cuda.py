"""NVIDIA GPUs through CUDA. Never run by us yet: options follow ONNX Runtime's documentation.

Missing before it can serve: the KV slab in device memory (worker.runtime.kv_slab holds host memory only), so a start
with this provider is refused.
"""

from __future__ import annotations

from typing import Final

from worker.runtime.providers.spec import ProviderSpec

__all__ = ["CUDA"]

CUDA: Final = ProviderSpec(
    name="cuda",
    ort_names=("CUDAExecutionProvider", "CPUExecutionProvider"),
    options={
        "CUDAExecutionProvider": {
            "device_id": "0",
            # The arena grows by what is asked for; doubling would strand memory after one long prompt.
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
        }
    },
    # A node that falls back to the CPU would be slow without anybody noticing.
    config_entries={"session.disable_cpu_ep_fallback": "1"},
    device_memory=True,
    spins=False,
)
