"""Huge pages: for what is there, and nothing more."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from worker.runtime import huge_pages
from worker.runtime.huge_pages import HUGE_PAGE, collapse_pages, huge_bytes

pytestmark = pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists()
    or "[never]" in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text("ascii"),
    reason="this system has no huge pages",
)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * mmap.PAGESIZE


def written(num_pages: int, *, holes: int = 0, advice: int | None = None) -> mmap.mmap:
    """Private memory with a number in each page of 4 KiB, but for one in every so many."""
    memory = mmap.mmap(-1, num_pages * HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if advice is not None:
        memory.madvise(advice)
    for page in range(0, len(memory), mmap.PAGESIZE):
        if not holes or page // mmap.PAGESIZE % holes:
            memory[page] = 1 + page // mmap.PAGESIZE % 255
    return memory


def test_what_is_there_comes_into_huge_pages_as_it_was() -> None:
    memory = written(9)  # at least eight of them whole, wherever it begins
    before, taken = huge_bytes(), resident()
    collapse_pages()
    assert huge_bytes() - before >= 8 * HUGE_PAGE
    assert resident() - taken < HUGE_PAGE, "nothing is taken for it"
    pages = range(0, len(memory), mmap.PAGESIZE)
    assert all(memory[page] == 1 + page // mmap.PAGESIZE % 255 for page in pages)


def test_memory_with_holes_stays_as_it_is() -> None:
    memory = written(9, holes=100)
    taken = resident()
    collapse_pages()
    assert resident() - taken < HUGE_PAGE
    assert memory[mmap.PAGESIZE] == 2


def test_memory_that_asked_for_small_pages_keeps_them() -> None:
    collapse_pages()  # whatever else there is
    before = huge_bytes()
    memory = written(9, advice=mmap.MADV_NOHUGEPAGE)
    collapse_pages()
    assert huge_bytes() - before < 4 * HUGE_PAGE
    assert memory[0] == 1


def test_where_nothing_says_what_there_is_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert huge_bytes(tmp_path / "none") == 0
    assert huge_pages._anonymous(tmp_path / "none") == []
    monkeypatch.setattr(huge_pages, "_anonymous", lambda _: [(1 << 45, (1 << 45) + HUGE_PAGE)])
    collapse_pages()  # no such memory
