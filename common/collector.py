"""Python's cyclic garbage collector in a process that serves for long."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["settle_collector"]

YOUNG_MAX: Final = 10_000
"""Objects that come and stay before the youngest are looked through; Python's own 700 are those of a few calls."""


def settle_collector() -> None:
    """To be called when the process is ready. What there is then stays to the end, and is not looked through any more.

    That is 80,000 objects of modules, settings and types: to go through them takes tens of milliseconds, in which no
    stream gets anything, and happened every few hundred calls.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_MAX, *gc.get_threshold()[1:])
