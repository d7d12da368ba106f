"""Memory that is read from end to end, in pages of 2 MiB: a step reads all weights once, and with pages of 4 KiB the
processor looks up half a million addresses for a gigabyte of them, and stops asking ahead at the end of each.

Linux only gives huge pages to who asks, and ONNX Runtime does not. Here they are asked for afterwards, and only for
what is there already, so that no memory is taken for it (MADV_COLLAPSE, Linux 6.1 and later: madvise(2)).
"""

from __future__ import annotations

import ctypes
import mmap
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

__all__ = ["collapse_pages", "huge_bytes"]

HUGE_PAGE: Final = 2 << 20
"""Of x86-64, and of ARM64 with pages of 4 KiB."""
_PAGE: Final = mmap.PAGESIZE
_COLLAPSE: Final = 25
"""MADV_COLLAPSE, which Python's mmap does not name."""
_ANONYMOUS: Final = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 *(\[heap\])?$", re.MULTILINE
)


def collapse_pages() -> None:
    """Puts what this process has written into huge pages, as far as all of such a page is there; takes a fraction of a
    second for a gigabyte. Nothing where the system has no way to, or where huge pages are off.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not (hasattr(libc, "madvise") and hasattr(libc, "mincore")):
        return
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    for begin, end in _anonymous(Path("/proc/self/maps")):
        for start, stop in _resident(libc, begin, end):
            libc.madvise(start, stop - start, _COLLAPSE)  # what cannot be had stays as it is


def huge_bytes(rollup: Path = Path("/proc/self/smaps_rollup")) -> int:
    """How much of this process is in huge pages; 0 where nothing says it."""
    try:
        found = re.search(r"^AnonHugePages:\s*(\d+) kB$", rollup.read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _anonymous(maps: Path) -> list[tuple[int, int]]:
    """Whole huge pages of mappings without a file that only this process writes to."""
    try:
        found = _ANONYMOUS.findall(maps.read_text("utf-8"))
    except OSError:
        return []
    spans = [
        (-(-int(begin, 16) // HUGE_PAGE) * HUGE_PAGE, int(end, 16) // HUGE_PAGE * HUGE_PAGE)
        for begin, end, _ in found
    ]
    return [(begin, end) for begin, end in spans if begin < end]


def _resident(libc: ctypes.CDLL, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Stretches of whole huge pages of which every small page is there."""
    pages = ctypes.create_string_buffer((end - begin) // _PAGE)
    if libc.mincore(begin, end - begin, pages):
        return
    each, there = HUGE_PAGE // _PAGE, pages.raw
    whole = (all(page & 1 for page in there[at : at + each]) for at in range(0, len(there), each))
    start = begin
    for is_whole, group in groupby(whole):
        stop = start + HUGE_PAGE * sum(1 for _ in group)
        if is_whole:
            yield start, stop
        start = stop
