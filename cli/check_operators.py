"""`lepton doctor`: whether workers here compute with our own operators, which is what makes them fast."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

from cli.findings import Check, Finding, Verdict

__all__ = ["check_operators"]

_PROBE: Final = """
import json
from worker.kernels.library import find_library, isas_here
print(json.dumps([find_library() is not None, isas_here()]))
"""
_PROBE_S_MAX: Final = 30.0
_OTHERWISE: Final = "ONNX Runtime's own compute"


def check_operators(check: Check) -> Finding:
    """Never a failure: without them ONNX Runtime's compute, more slowly."""
    try:
        # A process of its own: the command line knows no worker, and a broken library may take its process along.
        done = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_S_MAX,
            env=dict(check.env),
            check=True,
        )
        is_built, names = json.loads(done.stdout.splitlines()[-1])
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
