"""`lepton doctor`: whether workers here compute with our own operators, which is what makes them fast."""

from __future__ import annotations

import subprocess
from typing import Final

from cli.findings import Check, Finding, Verdict
from cli.probe import ask

__all__ = ["check_operators"]

_PROBE: Final = """
import json
from worker.kernels.library import find_library, isas_here
print(json.dumps([find_library() is not None, isas_here()]))
"""
_OTHERWISE: Final = "ONNX Runtime's own compute"


def check_operators(check: Check) -> Finding:
    """Never a failure: without them ONNX Runtime's compute, more slowly."""
    try:
        is_built, names = ask(check, _PROBE)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return _slow(f"cannot be asked: {type(error).__name__}", "install Lepton again")
    if not is_built:
        return _slow(
            f"not built; {_OTHERWISE}",
            "install a C compiler (gcc, clang), then Lepton again: in a checkout `rm .venv/.ready; make setup`",
        )
    if not names:
        return _slow(f"this processor has no AVX2; {_OTHERWISE}", "")
    detail = f"our own, for {names[0].upper().replace('_', '-')}"
    return Finding(name="operators", verdict=Verdict.OK, detail=detail)


def _slow(detail: str, advice: str) -> Finding:
    return Finding(name="operators", verdict=Verdict.WARN, detail=detail, advice=advice)
