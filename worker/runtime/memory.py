"""Memory that nobody needs any more goes back to the system."""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

__all__ = ["forget_pages", "return_free_memory"]

_DONT_NEED: Final = getattr(mmap, "MADV_DONTNEED", None)


def return_free_memory() -> None:
    """Gives back what the C library holds for the next allocation; nothing where it has no way to."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def forget_pages(memory: mmap.mmap) -> None:
    """Contents become zeros and take no memory until they are written again; nothing where the system has no way to."""
    if _DONT_NEED is not None:
        memory.madvise(_DONT_NEED)
