"""Deaths of workers that no request can have caused: all who were suspected of it have been cleared. Pure.

While workers die so (killed by somebody, by the kernel, with their machine), a suspect may be on probation on the next
one by bad luck, and a death proves less.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeAlias, final

from common.clock import Clock

__all__ = ["Deaths", "Key"]

Key: TypeAlias = tuple[str, str]
"""(id, incarnation) of an endpoint."""


@final
class Deaths:
    """Remembers the last `entries_max`. Suspects go by fingerprint: what clears one clears its like, which may be the
    same call once more.
    """

    def __init__(self, clock: Clock, *, calm_s: float, entries_max: int) -> None:
        self._clock = clock
        self._calm_s = calm_s
        self._entries_max = entries_max
        self._suspected: OrderedDict[Key, set[bytes]] = OrderedDict()
        self._nobodys: OrderedDict[Key, float] = OrderedDict()
        """Death → when its last suspect was cleared, the latest at the end."""

    @property
    def is_calm(self) -> bool:
        """Whether no worker has died by nobody's doing for `calm_s`."""
        last = next(reversed(self._nobodys.values()), None)
        return last is None or self._clock.now() >= last + self._calm_s

    def suspect(self, key: Key, fingerprint: bytes) -> None:
        """One more may have caused it, perhaps after others have been cleared of it."""
        self._suspected.setdefault(key, set()).add(fingerprint)
        self._nobodys.pop(key, None)
        while len(self._suspected) > self._entries_max:
            self._suspected.popitem(last=False)

    def clear(self, key: Key, fingerprint: bytes) -> None:
        """One of them has not. Who is never cleared, or was convicted, keeps the death from being nobody's."""
        suspected = self._suspected.get(key)
        if suspected and fingerprint in suspected:
            suspected.remove(fingerprint)
            if not suspected:
                self._nobodys[key] = self._clock.now()
        while len(self._nobodys) > self._entries_max:
            self._nobodys.popitem(last=False)
