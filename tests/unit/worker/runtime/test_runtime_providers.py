"""Providers: what is said of a device, what is asked of ONNX Runtime, and who is refused with what advice.

Real refusals of a machine without a GPU; CUDA's library as a stand-in of ours (`tests/support/cudart.c`), to hold the
calls against their declarations.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
import threading
import warnings
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

from common.errors import BadModel, Conflict, Reason
from tests.support.fenced import as_host
from tests.support.half import in_half
from tests.support.needs import lacking
from tests.support.tiny_models import TINY_LLAMA, load_tiny
from worker.runtime.devices import cuda as cuda_device
from worker.runtime.devices.device import DeviceMemory, Pitched
from worker.runtime.devices.host import HostMemory
from worker.runtime.model import load_model
from worker.runtime.providers.placement import RECORD_PLACEMENT
from worker.runtime.providers.registry import PROVIDERS, provider_named
from worker.runtime.providers.spec import DeviceOptions, ProviderSpec
from worker.runtime.self_check import generate_greedy

MIB = 1 << 20


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


NO_GPU = pytest.mark.skipif(has_driver(), reason="shows what a machine without a GPU says")


def refusal(spec: ProviderSpec, folder: Path = TINY_LLAMA) -> BadModel:
    with pytest.raises(BadModel) as caught:
        load_model(folder, name="t", threads=1, mode="fast", provider=spec)
    return caught.value


def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime-gpu says of itself, with or without a GPU."""
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)


def test_a_provider_nobody_knows() -> None:
    with pytest.raises(BadModel, match="'abacus' is not known; providers are cpu, cuda, tensorrt"):
        provider_named("abacus")


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="onnxruntime-gpu"
)
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_the_cpu_package_says_which_one_to_install(name: str) -> None:
    error = refusal(provider_named(name))
    assert error.reason is Reason.PROVIDER_UNAVAILABLE
    assert f"{name!r} needs" in error.message
    assert "without 'lepton[cpu]'" in error.message


@NO_GPU
def test_a_machine_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch)
    error = refusal(provider_named("cuda"))
    assert error.reason is Reason.PROVIDER_UNAVAILABLE
    assert "libcuda.so.1" in error.message
    assert "--gpus all" in error.message


def test_a_session_that_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's own fallback: it gives the CPU, with a line on stderr."""
    names = provider_named("cuda").ort_names
    spec = ProviderSpec(name="cuda", ort_names=names, open_memory=HostMemory)
    monkeypatch.setattr("worker.runtime.session.check_offered", lambda _: None)
    with warnings.catch_warnings(action="ignore"):
        error = refusal(spec)
    assert error.reason is Reason.PROVIDER_UNAVAILABLE
    assert "gave CPUExecutionProvider alone" in error.message


@pytest.mark.skipif(
    "AzureExecutionProvider" not in ort.get_available_providers(), reason="other build"
)
def test_a_device_that_leaves_the_work_to_the_cpu() -> None:
    """A provider that is there, and takes no node of this graph."""
    spec = ProviderSpec(
        name="azure",
        ort_names=("AzureExecutionProvider", "CPUExecutionProvider"),
        open_memory=HostMemory,
        config_entries=RECORD_PLACEMENT,
        has_device=True,
    )
    error = refusal(spec, in_half(TINY_LLAMA))
    assert error.reason is Reason.MODEL_GRAPH_UNSUPPORTED
    assert "leaves GroupQueryAttention, MatMul to the CPU; export" in error.message


def test_what_is_said_of_a_device_is_what_the_provider_gets() -> None:
    options = DeviceOptions(device_id=1, memory_mib=3, engine_cache_dir="engines")
    spec = provider_named("tensorrt", options)
    rt, cuda = (spec.options[f"{name}ExecutionProvider"] for name in ("Tensorrt", "CUDA"))
    assert (rt["device_id"], rt["trt_engine_cache_enable"], rt["trt_engine_cache_path"]) == (
        "1",
        "1",
        "engines",
    )
    assert (cuda["device_id"], cuda["gpu_mem_limit"]) == ("1", str(3 * MIB))
    plain = provider_named("tensorrt")
    assert not any("cache" in key for key in plain.options["TensorrtExecutionProvider"])
    assert "gpu_mem_limit" not in plain.options["CUDAExecutionProvider"]
    assert set(PROVIDERS) == {"cpu", "cuda", "tensorrt"}


@pytest.mark.parametrize(
    ("provider", "options"),
    [
        ("cpu", {"device_id": 1}),
        ("cpu", {"memory_mib": 100}),
        ("cpu", {"engine_cache_dir": "engines"}),
        ("cuda", {"engine_cache_dir": "engines"}),
    ],
)
def test_what_means_nothing_to_a_provider_is_refused(
    provider: str, options: dict[str, Any]
) -> None:
    with pytest.raises(Conflict, match=f"mean nothing to worker.provider {provider}") as caught:
        provider_named(provider, DeviceOptions(**options))
    assert caught.value.reason is Reason.SETTING_INVALID


@pytest.fixture(scope="module")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("cc")
    if compiler is None:
        lacking("needs a C compiler")
    library = tmp_path_factory.mktemp("cudart") / "libcudart.so"
    source = Path(__file__).parents[3] / "support" / "cudart.c"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True
    )
    return ctypes.CDLL(str(library))


def test_cuda_is_called_as_it_is_declared(cudart: ctypes.CDLL) -> None:
    device = cuda_device._CudaDevice(cudart, 0)
    assert device.label == "sm90x132"
    before = device.free_bytes()
    at = device.allocate(1000)
    assert ctypes.string_at(at, 1000) == bytes(1000)
    ctypes.memmove(at, bytes(range(100)), 100)
    device.copy(Pitched(at + 500, 20), Pitched(at, 10), 5, 3)
    assert ctypes.string_at(at + 500, 5) == bytes(5), "not yet"
    other = threading.Thread(target=device.wait)  # which has to say anew which device it means
    other.start()
    other.join()
    lines = [ctypes.string_at(at + 500 + 20 * line, 6) for line in range(3)]
    assert lines == [bytes([*range(10 * line, 10 * line + 5), 0]) for line in range(3)]
    assert device.free_bytes() == before - 1000
    device.free(at)
    assert device.free_bytes() == before
    with pytest.raises(MemoryError, match="out of memory"):
        device.allocate(1 << 40)
    with pytest.raises(RuntimeError, match="CUDA on GPU 0: invalid"):
        device.copy(Pitched(at, 1), Pitched(at, 10), 5, 3)


def test_a_gpu_that_is_not_there(cudart: ctypes.CDLL) -> None:
    with pytest.raises(BadModel, match=r"worker\.device_id is 1, and there are 1 GPUs") as caught:
        cuda_device._CudaDevice(cudart, 1)
    assert caught.value.reason is Reason.PROVIDER_UNAVAILABLE


def test_a_model_on_that_library_answers_as_on_the_host(cudart: ctypes.CDLL) -> None:
    """All that a GPU is asked for but computing: that does ONNX Runtime's CPU, which can reach this device."""
    device = cuda_device._CudaDevice(cudart, 0)
    before = device.free_bytes()
    spec = ProviderSpec(
        name="cuda",
        ort_names=("CPUExecutionProvider",),
        open_memory=lambda: as_host(DeviceMemory(device)),
        has_device=True,
    )
    model = load_model(
        in_half(TINY_LLAMA), name="t", threads=1, rows_max=4, mode="fast", provider=spec,
        prefix_cache_mib=1, kv_memory_mib=4,
    )  # fmt: skip
    assert "/cuda-sm90x132/fast/" in model.info.fingerprint
    assert device.free_bytes() < before - MIB
    prompt = [5, 6, 7, 8, 9]
    found = generate_greedy(model.runner, prompt, max_tokens=30, eos_ids=frozenset())
    host = load_tiny(in_half(TINY_LLAMA)).runner
    assert found == generate_greedy(host, prompt, max_tokens=30, eos_ids=frozenset())
    del model
    gc.collect()
    assert device.free_bytes() == before
