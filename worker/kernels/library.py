"""Where the compiled operators are, if this installation has them and this processor can run them."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

__all__ = ["DOMAIN", "LANES", "VERSION", "find_library"]

DOMAIN: Final = "lepton"
"""Of the operators, in a graph."""

VERSION: Final = 1
"""Rises with every change that may change a bit of a result; part of the engine fingerprint."""

LANES: Final = 16
"""float32 numbers that the operators work on at once; sizes of heads and rows are multiples of it."""


@cache
def find_library() -> Path | None:
    """The shared library to register with a session.

    None when it was not built (no C compiler at installation), or the processor lacks AVX-512 with VNNI.
    """
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        file = folder / f"_operators{suffix}"
        if file.exists() and ctypes.CDLL(str(file)).lepton_kernels_run_here():
            return file
    return None
