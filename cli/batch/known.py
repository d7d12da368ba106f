"""What is known of the rows of a batch, in a few bytes each: which are done, and which ids there were."""

from __future__ import annotations

import hashlib
from array import array
from typing import final

__all__ = ["DoneRows", "SeenIds"]


@final
class DoneRows:
    """Lines of the input that are done, and whose they were: 8 bytes a line."""

    def __init__(self, last_line: int) -> None:
        self._marks = array("Q", bytes(8 * (last_line + 1)))
        self.num_rows = 0
        self.num_failed = 0

    def add(self, line: int, custom_id: str | None, *, is_success: bool) -> bool:
        """False for a line that was done already, or that the input does not have."""
        if not 0 < line < len(self._marks) or self._marks[line]:
            return False
        self._marks[line] = _mark(custom_id)
        self.num_rows += 1
        self.num_failed += not is_success
        return True

    def __contains__(self, line: int) -> bool:
        return self._marks[line] != 0

    def is_of(self, line: int, custom_id: str | None) -> bool:
        """Whether a line that is done had this id."""
        return self._marks[line] == _mark(custom_id)


@final
class SeenIds:
    """A set of ids that keeps 64 bits of each: 16 to 32 bytes an id. A million different ones are taken for
    each other with a chance of 3 in 100 million.
    """

    def __init__(self, num_ids_max: int) -> None:
        size = 1 << (2 * num_ids_max).bit_length()
        self._slots = array("Q", bytes(8 * size))
        self._mask = size - 1

    def add(self, custom_id: str) -> bool:
        """False when it was there already."""
        mark = _mark(custom_id)
        place = mark & self._mask
        while (held := self._slots[place]) != mark:
            if held == 0:
                self._slots[place] = mark
                return True
            place = (place + 1) & self._mask
        return False


def _mark(custom_id: str | None) -> int:
    """Never 0."""
    if custom_id is None:
        return 1
    digest = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
