"""What this process holds, counted so exactly that one object kept for each repeat is found.

    grown = await growth(once, repeats=200, settled=cluster.worker.idle)
    assert not grown.leaks(), grown

Memory of a process rises and falls by megabytes for reasons of its own. What can be counted does not: the objects that
Python's collector looks at (all but numbers and texts, with which a cluster fills windows by itself, however little it
has to do), and the bytes that C's allocator has handed out (to protobuf, gRPC, parsers, zlib).
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Growth", "growth"]

WARM_UPS: Final = 3
"""Rounds that fill caches and pools."""
ROUNDS: Final = 3
"""Rounds that are looked at: what grows in every one of them leaks."""
HEAP_BYTES_MAX: Final = 512.0
"""Per repeat, the heap's own rounding included. The catalogue's bar is a thousand."""
_TIMERS: Final = 2000
_SETTLE_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What each repeat left behind, in the round that grew least."""

    objects: float
    heap_bytes: float
    tasks: float
    files: float

    def leaks(self) -> list[str]:
        """The names of what leaks."""
        bounds = {"objects": 0.5, "heap_bytes": HEAP_BYTES_MAX, "tasks": 0.5, "files": 0.5}
        return [name for name, most in bounds.items() if getattr(self, name) > most]


async def growth(
    once: Callable[[], Awaitable[None]], *, repeats: int, settled: Callable[[], Awaitable[None]]
) -> Growth:
    """Runs `once` so often, in rounds; `settled` returns when nothing of a round is under way any more."""
    per_round = max(1, repeats // (WARM_UPS + ROUNDS))
    held: list[tuple[int, int, int, int]] = []
    with _records_kept_by_nobody():
        for _ in range(WARM_UPS + ROUNDS):
            for _ in range(per_round):
                await once()
            await settled()
            await _drop_timers()
            held.append(_held())
    looked_at = held[WARM_UPS - 1 :]
    rounds = [
        [now - before for now, before in zip(after, earlier, strict=True)]
        for earlier, after in itertools.pairwise(looked_at)
    ]
    objects, heap_bytes, tasks, files = (
        min(column) / per_round for column in zip(*rounds, strict=True)
    )
    return Growth(objects=objects, heap_bytes=heap_bytes, tasks=tasks, files=files)


@contextmanager
def _records_kept_by_nobody() -> Iterator[None]:
    """pytest keeps every log record of a test for its report, once any test before has switched them on."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [logging.NullHandler()]
    try:
        yield
    finally:
        root.handlers = handlers


async def _drop_timers() -> None:
    """A loop keeps timers that were cancelled, with all that they hold, until they are most of its timers."""
    loop = asyncio.get_running_loop()
    for _ in range(_TIMERS):
        loop.call_later(3600, _nothing).cancel()
    await asyncio.sleep(_SETTLE_S)  # noqa: TID251 - and connections say goodbye meanwhile


def _nothing() -> None:
    """Never runs."""


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def _held() -> tuple[int, int, int, int]:
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _MallInfo
    heap = mallinfo2()
    return (
        len(gc.get_objects()),
        heap.uordblks + heap.hblkhd,
        len(asyncio.all_tasks()),
        len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - a count
    )
