"""Deaths of workers that no request can have caused: all who were suspected of it have been cleared. Pure.

While workers die so (killed by somebody, by the kernel, with their machine), a suspect may be on probation on the next
one by bad luck, and a death proves less.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeAlias, final

from common.clock import Clock

__all__ = ["Deaths", "Key"]

Key: TypeAlias = tuple[str, str]
"""(id, incarnation) of an endpoint."""

_OPEN: Final = -1
"""Somebody was convicted of it, or left before anything was known."""


@final
class Deaths:
    """Remembers the last `entries_max`. Each suspect of a death is named once, and cleared at most once."""

    def __init__(self, clock: Clock, *, calm_s: float, entries_max: int) -> None:
        self._clock = clock
        self._calm_s = calm_s
        self._entries_max = entries_max
        self._num_suspects: OrderedDict[Key, int] = OrderedDict()
        self._last: float | None = None

    @property
    def is_calm(self) -> bool:
        """Whether no worker has died by nobody's doing for `calm_s`."""
        return self._last is None or self._clock.now() >= self._last + self._calm_s

    def suspect(self, key: Key) -> None:
        """One more may have caused it."""
        num = self._num_suspects.get(key, 0)
        if num != _OPEN:
            self._num_suspects[key] = num + 1
        while len(self._num_suspects) > self._entries_max:
            self._num_suspects.popitem(last=False)

    def clear(self, key: Key) -> None:
        """One of them has not."""
        num = self._num_suspects.get(key, _OPEN)
        if num == _OPEN:
            return
        self._num_suspects[key] = num - 1
        if num == 1:
            self._last = self._clock.now()

    def leave_open(self, key: Key) -> None:
        """It will never be called nobody's."""
        self._num_suspects[key] = _OPEN
