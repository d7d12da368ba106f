"""NVIDIA GPUs through TensorRT, with CUDA for the operators that it lacks (attention among them).

Never run by us yet. It pays for encoders; a decoder alternates between both providers layer by layer, and a shape
beyond those seen so far has engines built anew, for minutes. So the largest runs come before anything is served
(`worker.runtime.self_check`), and engines are kept on the disk where there is a folder for them.
"""

from __future__ import annotations

from functools import partial

from worker.runtime.devices.cuda import open_tensorrt
from worker.runtime.providers.cuda import CUDA_NAMES, cuda_options
from worker.runtime.providers.placement import RECORD_PLACEMENT
from worker.runtime.providers.spec import DeviceOptions, ProviderSpec

__all__ = ["tensorrt"]


def tensorrt(options: DeviceOptions) -> ProviderSpec:
    """TensorRT on that device."""
    engines = {"device_id": str(options.device_id), "trt_fp16_enable": "1"}
    if options.engine_cache_dir:
        engines |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": options.engine_cache_dir,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": options.engine_cache_dir,
        }
    return ProviderSpec(
        name="tensorrt",
        ort_names=("TensorrtExecutionProvider", *CUDA_NAMES),
        open_memory=partial(open_tensorrt, options.device_id),
        options={
            "TensorrtExecutionProvider": engines,
            "CUDAExecutionProvider": cuda_options(options),
        },
        config_entries=RECORD_PLACEMENT,
        has_device=True,
        spins=False,
    )
