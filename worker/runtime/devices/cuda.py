"""An NVIDIA GPU's memory, through CUDA's runtime library, which onnxruntime-gpu brings along or finds.

Never run on a GPU by us; without one, only the refusals of `open_cuda` are. ONNX Runtime's own Python API does not do:
its values on a device cannot be addressed at an offset, are copied whole, and come from an arena that rounds up to
powers of two.

Source: CUDA Runtime API, modules Device Management, Memory Management and Stream Management.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import threading
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from typing import Final, final

import onnxruntime as ort

from common.errors import BadModel, Reason
from worker.runtime.devices.device import DeviceMemory, Pitched

__all__ = ["open_cuda", "open_tensorrt"]

_DRIVER: Final = "libcuda.so.1"
_RUNTIME: Final = "libcudart.so.{major}"
_TENSORRT: Final = "libnvinfer.so.10"
_MAJOR: Final = "13"
"""Of CUDA, where onnxruntime-gpu does not say what it was built with."""

_SUCCESS: Final = 0
_OUT_OF_MEMORY: Final = 2
_DEVICE_TO_DEVICE: Final = 3
"""cudaError_t and cudaMemcpyKind."""
_MULTIPROCESSORS, _MAJOR_CAPABILITY, _MINOR_CAPABILITY = 16, 75, 76
"""cudaDeviceAttr."""
_DEFAULT_STREAM: Final = None


def open_cuda(device_id: int) -> DeviceMemory:
    """The memory of that GPU. Raises `BadModel(PROVIDER_UNAVAILABLE)`: what is missing, and what to do next."""
    _load(
        _DRIVER,
        "the NVIDIA driver is not here: install it; in a container, run that with --gpus all",
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does not find
        ort.preload_dlls()
    major = str(getattr(ort, "cuda_version", "") or _MAJOR).partition(".")[0]
    runtime = _load(
        _RUNTIME.format(major=major),
        f"the libraries of CUDA {major} are not here: pip install 'lepton[gpu]'",
    )
    return DeviceMemory(_CudaDevice(runtime, device_id))


def open_tensorrt(device_id: int) -> DeviceMemory:
    """The same memory, where TensorRT is installed, too."""
    memory = open_cuda(device_id)
    _load(
        _TENSORRT,
        "TensorRT 10 is not here, and 'lepton[gpu]' does not bring it; provider cuda does without",
    )
    return memory


def _load(name: str, advice: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise _unavailable(f"{error}; {advice}") from error


@final
class _CudaDevice:
    """Implements `worker.runtime.devices.device.Device`; every method is a call or two."""

    kind = "cuda"

    def __init__(self, runtime: ctypes.CDLL, device_id: int) -> None:
        """Raises `BadModel(PROVIDER_UNAVAILABLE)`."""
        self._runtime = runtime
        runtime.cudaGetErrorString.restype = c_char_p
        runtime.cudaGetErrorString.argtypes = [c_int]
        runtime.cudaMalloc.argtypes = [c_void_p, c_size_t]
        runtime.cudaFree.argtypes = [c_void_p]
        runtime.cudaMemset.argtypes = [c_void_p, c_int, c_size_t]
        runtime.cudaMemGetInfo.argtypes = [c_void_p, c_void_p]
        runtime.cudaStreamSynchronize.argtypes = [c_void_p]
        runtime.cudaDeviceGetAttribute.argtypes = [c_void_p, c_int, c_int]
        runtime.cudaMemcpy2DAsync.argtypes = [
            *(c_void_p, c_size_t, c_void_p, c_size_t),
            *(c_size_t, c_size_t, c_int, c_void_p),
        ]
        self.id = device_id
        self._thread = threading.local()
        number = c_int(0)
        status = runtime.cudaGetDeviceCount(byref(number))
        if status != _SUCCESS:
            raise _unavailable(
                f"CUDA says: {self._text(status)}; is the driver as new as CUDA asks for (nvidia-smi shows both)?"
            )
        if device_id >= number.value:
            raise _unavailable(
                f"worker.device_id is {device_id}, and there are {number.value} GPUs, counted from 0"
            )
        major, minor, cores = map(
            self._attribute, (_MAJOR_CAPABILITY, _MINOR_CAPABILITY, _MULTIPROCESSORS)
        )
        self.label = f"sm{major}{minor}x{cores}"

    def free_bytes(self) -> int:
        """See `Device`."""
        free, total = c_size_t(0), c_size_t(0)
        self._here().cudaMemGetInfo(byref(free), byref(total))
        return free.value

    def allocate(self, num_bytes: int) -> int:
        """See `Device`."""
        address = c_void_p(None)
        status = self._here().cudaMalloc(byref(address), num_bytes)
        if status == _OUT_OF_MEMORY or address.value is None:
            raise MemoryError(f"{num_bytes} bytes on GPU {self.id}: {self._text(status)}")
        self._check(status)
        self._check(self._runtime.cudaMemset(address, 0, num_bytes))
        return address.value

    def free(self, address: int) -> None:
        """See `Device`. What it returns is about earlier calls, and nobody could do anything about it."""
        self._here().cudaFree(address)

    def copy(self, target: Pitched, source: Pitched, width: int, height: int) -> None:
        """See `Device`."""
        self._check(
            self._here().cudaMemcpy2DAsync(
                *target, *source, width, height, _DEVICE_TO_DEVICE, _DEFAULT_STREAM
            )
        )

    def wait(self) -> None:
        """See `Device`."""
        self._check(self._here().cudaStreamSynchronize(_DEFAULT_STREAM))

    def _here(self) -> ctypes.CDLL:
        """The library, with this device current: CUDA keeps that for each thread, and the engine has one of its own."""
        if not getattr(self._thread, "is_set", False):
            self._check(self._runtime.cudaSetDevice(self.id))
            self._thread.is_set = True
        return self._runtime

    def _attribute(self, number: int) -> int:
        found = c_int(0)
        self._check(self._here().cudaDeviceGetAttribute(byref(found), number, self.id))
        return found.value

    def _check(self, status: int) -> None:
        if status != _SUCCESS:
            raise RuntimeError(f"CUDA on GPU {self.id}: {self._text(status)}")

    def _text(self, status: int) -> str:
        return str((self._runtime.cudaGetErrorString(status) or b"?").decode())


def _unavailable(message: str) -> BadModel:
    return BadModel(f"no CUDA: {message}", reason=Reason.PROVIDER_UNAVAILABLE)
