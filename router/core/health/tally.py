"""How the last calls on one worker ended."""

from __future__ import annotations

from collections import deque
from typing import Final, final

__all__ = ["Tally"]

_BUCKETS: Final = 10


@final
class Tally:
    """Counts outcomes of the last `window_s` seconds, to a tenth of it."""

    __slots__ = ("_bucket_s", "_buckets", "in_a_row")

    def __init__(self, *, window_s: float) -> None:
        self._bucket_s = window_s / _BUCKETS
        self._buckets: deque[tuple[int, int, int]] = deque(maxlen=_BUCKETS)
        """(number of the bucket, calls, failures), oldest first."""
        self.in_a_row = 0
        """Failures since the last success."""

    def note(self, *, failed: bool, now: float) -> None:
        """A call ended."""
        self.in_a_row = self.in_a_row + 1 if failed else 0
        number, calls, failures = int(now / self._bucket_s), 0, 0
        if self._buckets and self._buckets[-1][0] >= number:
            number, calls, failures = self._buckets.pop()
        self._buckets.append((number, calls + 1, failures + failed))

    def recent(self, now: float) -> tuple[int, int]:
        """(calls, failures) within the window."""
        oldest = int(now / self._bucket_s) - _BUCKETS + 1
        recent = [bucket for bucket in self._buckets if bucket[0] >= oldest]
        return sum(b[1] for b in recent), sum(b[2] for b in recent)

    def clear(self) -> None:
        """Forgets everything."""
        self._buckets.clear()
        self.in_a_row = 0
