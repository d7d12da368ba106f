"""Which instruction sets the library says that this processor has, beside what the system says."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from tests.support.tiny_models import NEEDS_NATIVE
from worker.kernels.library import InstructionSet, isas_here

CPUINFO = Path("/proc/cpuinfo")
FLAGS = {
    "avx512_vnni": {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"},
    "avx_vnni": {"avx2", "fma", "f16c", "avx_vnni"},
    "avx2": {"avx2", "fma", "f16c"},
}


def test_every_instruction_set_is_known_here() -> None:
    assert list(FLAGS) == list(get_args(InstructionSet))


@NEEDS_NATIVE
@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_the_library_finds_what_the_system_finds() -> None:
    lines = CPUINFO.read_text("utf-8").splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    assert list(isas_here()) == [isa for isa, needed in FLAGS.items() if needed <= flags]
