"""NVIDIA GPUs through TensorRT, with CUDA for the operators that it lacks (attention among them).

Never run by us yet. It pays for encoders; decoders alternate between both providers layer by layer. Refused at start
for the same reason as CUDA.
"""

from __future__ import annotations

from typing import Final

from worker.runtime.providers.cuda import CUDA
from worker.runtime.providers.spec import ProviderSpec

__all__ = ["TENSORRT"]

TENSORRT: Final = ProviderSpec(
    name="tensorrt",
    ort_names=("TensorrtExecutionProvider", *CUDA.ort_names),
    options={
        "TensorrtExecutionProvider": {"trt_fp16_enable": "1", "trt_engine_cache_enable": "1"},
        **CUDA.options,
    },
    config_entries=CUDA.config_entries,
    device_memory=True,
    spins=False,
)
