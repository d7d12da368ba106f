"""Who was sent which beginnings of prompts: what the router guesses of the caches of its workers.

A guess, since workers forget by their own rules; cheap and at once, since nothing has to be reported. Bounded in bytes:
the beginning that was used longest ago goes first, and of one prompt the longest beginning before the shorter ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

__all__ = ["ENTRY_BYTES", "HOME_BYTES", "NO_MATCH", "Home", "Match", "PrefixTable"]

ENTRY_BYTES: Final = 256
HOME_BYTES: Final = 96
"""What a hash costs, and each worker that it is remembered for; a little more than what the tests measure."""
_HOMES_MAX: Final = 8
"""Workers remembered per beginning: one that is so popular is nearly everywhere."""

Home = tuple[str, str]
"""(id, incarnation) of a worker: a process that started again has an empty cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What of one prompt was sent where."""

    counts: Mapping[Home, int]
    """How many of the prompt's hashes, from the first on, each worker was sent."""
    is_continuation: bool = False
    """The longest match is the end of an earlier prompt, so this one goes on with it. Otherwise it shares a
    beginning with others and then says something of its own.
    """


NO_MATCH: Final = Match(counts={})

_Entry = tuple[bool, tuple[tuple[Home, float], ...]]
"""Whether a prompt ended here; homes with the time until which they count, latest first."""


@final
class PrefixTable:
    """One per router process. Times are seconds on the caller's clock."""

    def __init__(self, *, bytes_max: int, ttl_s: float) -> None:
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._num_homes = 0
        """Over all entries."""
        self._homes: dict[Home, Home] = {}
        """One object per worker, however many entries name it."""

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return (
            f"PrefixTable({len(self)} beginnings, {self.num_bytes} bytes, {len(self._homes)} homes)"
        )

    @property
    def num_bytes(self) -> int:
        """What it holds, about."""
        return len(self._entries) * ENTRY_BYTES + self._num_homes * HOME_BYTES

    def match(self, hashes: Sequence[int], now: float) -> Match:
        """Looks up one prompt. Changes nothing."""
        counts: dict[Home, int] = {}
        is_continuation = False
        entries = self._entries
        for index in range(len(hashes) - 1, -1, -1):
            entry = entries.get(hashes[index])
            if entry is None:
                continue
            is_end, homes = entry
            for home, until in homes:
                if until > now and home in self._homes and home not in counts:
                    if not counts:
                        is_continuation = is_end
                    counts[home] = index + 1
        return Match(counts=counts, is_continuation=is_continuation) if counts else NO_MATCH

    def record(self, hashes: Sequence[int], home: Home, now: float, *, is_whole: bool) -> None:
        """That worker is sent a prompt with these beginnings; `is_whole` says that the last one is all of it."""
        home = self._homes.setdefault(home, home)
        added = (home, now + self._ttl_s)
        last = len(hashes) - 1
        for index in range(last, -1, -1):
            key = hashes[index]
            is_end = is_whole and index == last
            before = self._entries.pop(key, None)
            if before is None:
                self._entries[key] = (is_end, (added,))
                self._num_homes += 1
                continue
            was_end, homes = before
            kept = [h for h in homes if h[0] != home and h[1] > now and h[0] in self._homes]
            after = (added, *kept[: _HOMES_MAX - 1])
            self._entries[key] = (was_end or is_end, after)
            self._num_homes += len(after) - len(homes)
        while self.num_bytes > self._bytes_max and self._entries:
            _, (_, homes) = self._entries.popitem(last=False)
            self._num_homes -= len(homes)

    def retain(self, alive: Collection[Home]) -> None:
        """Forgets every worker that is not among them."""
        for home in [home for home in self._homes if home not in alive]:
            del self._homes[home]
