"""What decides the last bit of a result beside model and input: two workers with one fingerprint answer alike."""

from __future__ import annotations

import mmap
import platform
import re
from pathlib import Path
from typing import Final

import onnxruntime as ort

from worker.runtime.providers.spec import ProviderSpec
from worker.runtime.tiles import level2_cache_bytes

__all__ = ["fingerprint", "instruction_set", "precision_of"]

ISA_FLAGS: Final = (
    "avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve", "sve2",
)  # fmt: skip
"""Those that kernels of ONNX Runtime choose by."""

# One attribute of a serialised node: its name (field 1) and its integer (field 3, up to 16383).
BITS: Final = re.compile(rb"\x0a\x04bits\x18([\x02-\x08])")
BLOCK_SIZE: Final = re.compile(rb"\x0a\x0ablock_size\x18([\x80-\xff]?[\x00-\x7f])")


def fingerprint(
    *, provider: ProviderSpec, device: str = "", precision: str, threads: int, mode: str
) -> str:
    """For example "ort-1.32.0/cpu/exact/int4-block32/x86_64+avx2+avx512f/l2-1024k/threads-2"; of a device its make
    comes behind its provider, as in "cuda-sm90x132".
    """
    where = f"{provider.name}-{device}" if device else provider.name
    machine = f"{instruction_set()}/l2-{level2_cache_bytes() >> 10}k/threads-{threads}"
    return f"ort-{ort.__version__}/{where}/{mode}/{precision}/{machine}"


def precision_of(graph: Path) -> str:
    """How the weights are stored, as far as the operators in the file tell."""
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find(b"MatMulNBits") >= 0:
            bits, block = BITS.search(data), BLOCK_SIZE.search(data)
            bits_text = str(bits.group(1)[0]) if bits else "?"
            return f"int{bits_text}-block{_varint(block.group(1)) if block else '?'}"
        if data.find(b"MatMulInteger") >= 0:
            return "int8-dynamic"
        return "fp32"


def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Machine and the flags of its first core that matter; the machine alone where they cannot be read."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    flags = next(
        (line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))),
        [],
    )
    return "+".join([platform.machine(), *(flag for flag in ISA_FLAGS if flag in flags)])


def _varint(data: bytes) -> int:
    return sum((byte & 0x7F) << (7 * at) for at, byte in enumerate(data))
