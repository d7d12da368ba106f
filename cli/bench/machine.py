"""What a measurement ran on, as far as this machine says."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

__all__ = ["machine_facts"]

_ISA: Final = (
    ("amx_int8", "AMX"),
    ("avx512_vnni", "AVX-512 VNNI"),
    ("avx512_bf16", "AVX-512 BF16"),
    ("avx512f", "AVX-512"),
    ("avx_vnni", "AVX-VNNI"),
    ("avx2", "AVX2"),
    ("i8mm", "I8MM"),
    ("asimddp", "DotProd"),
    ("sve", "SVE"),
)
"""Flags of /proc/cpuinfo that decide which kernels run, and what people call them."""


def machine_facts() -> dict[str, str]:
    """Name → value, for people; what cannot be found out is left out."""
    cpuinfo = _read("/proc/cpuinfo")
    flags = set((_field(cpuinfo, r"flags|Features") or "").split())
    memory = _field(_read("/proc/meminfo"), "MemTotal")
    facts = {
        "CPU": _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "instructions": ", ".join(name for flag, name in _ISA if flag in flags),
        "memory": f"{int(memory.split()[0]) / (1 << 20):.0f} GiB" if memory else "",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    return {name: value for name, value in facts.items() if value}


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str | None:
    found = re.search(rf"^(?:{name})\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else None
