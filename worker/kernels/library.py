"""Where the compiled operators are, and in which instruction sets they can compute here."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from itertools import count, takewhile
from pathlib import Path
from typing import Final, Literal, cast

__all__ = ["DOMAIN", "LANES", "VERSION", "InstructionSet", "Kernels", "find_library", "isas_here"]

InstructionSet = Literal["avx512_vnni", "avx_vnni", "avx2"]
"""That our operators are compiled for, the fastest first; all compute the same bits."""
Kernels = Literal["auto", "native", "portable", InstructionSet]
"""Whose operators compute: ours wherever that can be, ours (in the best instruction set), ONNX Runtime's own, or ours
in that instruction set."""

DOMAIN: Final = "lepton"
"""Of the operators, in a graph."""

VERSION: Final = 1
"""Rises with every change that may change a bit of a result; part of the engine fingerprint."""

LANES: Final = 16
"""float32 numbers that the operators work on at once; sizes of heads and rows are multiples of it."""


@cache
def find_library() -> Path | None:
    """The shared library to register with a session; None when it was not built (no C compiler at installation)."""
    folder = Path(__file__).parent
    files = (folder / f"_operators{suffix}" for suffix in EXTENSION_SUFFIXES)
    return next((file for file in files if file.exists()), None)


@cache
def isas_here() -> tuple[InstructionSet, ...]:
    """Those of the library that this processor has, the fastest first; none without a library."""
    library = find_library()
    if library is None:
        return ()
    isa_at = ctypes.CDLL(str(library)).lepton_kernels_isa
    isa_at.restype = ctypes.c_char_p
    names = (name.decode() for name in takewhile(bool, map(isa_at, count())))
    return cast("tuple[InstructionSet, ...]", tuple(names))
