"""Who was sent which beginnings of prompts, and who says that it has them: what the router knows of the caches of its
workers.

    record   it was sent there: counts at once, so that a burst stays together, and is believed for a while. A guess,
             since workers forget by their own rules and are sent prompts by others
    hear     the worker says what it holds and what it has evicted: believed until it says otherwise

Bounded in bytes: the beginning that was used or heard of longest ago goes first, and of one prompt the longest
beginning before the shorter ones. Of one worker no more than `told_max` beginnings are believed at a time, so that one
that talks nonsense does not push out what is known of others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, final

__all__ = [
    "ENTRY_BYTES",
    "HOME_BYTES",
    "NO_MATCH",
    "TOLD_BYTES",
    "CacheNews",
    "Home",
    "Match",
    "PrefixTable",
]

ENTRY_BYTES: Final = 256
HOME_BYTES: Final = 96
TOLD_BYTES: Final = 128
"""What a hash costs, each worker that it is remembered for, and each that said so itself; a little more than what the
tests measure."""
_HOMES_MAX: Final = 8
"""Workers remembered per beginning: one that is so popular is nearly everywhere."""

Home = tuple[str, str]
"""(id, incarnation) of a worker: a process that started again has an empty cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What of one prompt is known where."""

    counts: Mapping[Home, int]
    """How many of the prompt's hashes, from the first on, each worker knows."""
    is_continuation: bool = False
    """The longest match is the end of an earlier prompt, so this one goes on with it. Otherwise it shares a
    beginning with others and then says something of its own.
    """


NO_MATCH: Final = Match(counts={})


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheNews:
    """What a worker says of its prefix cache."""

    is_whole: bool = False
    """`held` is all that it has; what it said before, and what it was sent before, holds no longer."""
    held: Sequence[int] = ()
    gone: Sequence[int] = ()


class _Worker:
    """What is known of one incarnation, apart from the beginnings themselves."""

    __slots__ = ("guesses_from", "home", "is_alive", "told")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.is_alive = True
        self.guesses_from = -inf
        """What it was sent before does not count: it has said since then what it holds."""
        self.told: set[int] = set()
        """Beginnings that it says it holds, and that are remembered."""


_Known = tuple[_Worker, float]
"""Who, and when it was sent there or told."""
_Entry = tuple[bool, tuple[_Known, ...]]
"""Whether a prompt ended here; who knows it, latest first."""


@final
class PrefixTable:
    """One per router process. Times are seconds on the caller's clock. `ttl_s` is how long a guess is believed."""

    def __init__(self, *, bytes_max: int, ttl_s: float, told_max: int = 1 << 14) -> None:
        self._bytes_max = bytes_max
        self._ttl_s = ttl_s
        self._told_max = told_max
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._num_homes = 0
        """Over all entries."""
        self._num_told = 0
        """Over all workers."""
        self._workers: dict[Home, _Worker] = {}
        """One object per worker, however many entries name it."""

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"PrefixTable({len(self)} beginnings, {self.num_bytes} bytes, {len(self._workers)} homes)"

    @property
    def num_bytes(self) -> int:
        """What it holds, about."""
        return (
            len(self._entries) * ENTRY_BYTES
            + self._num_homes * HOME_BYTES
            + self._num_told * TOLD_BYTES
        )

    def match(self, hashes: Sequence[int], now: float) -> Match:
        """Looks up one prompt. Changes nothing."""
        counts: dict[Home, int] = {}
        is_continuation = False
        entries = self._entries
        for index in range(len(hashes) - 1, -1, -1):
            key = hashes[index]
            entry = entries.get(key)
            if entry is None:
                continue
            is_end, known = entry
            for worker, since in known:
                home = worker.home
                if home not in counts and self._counts(key, worker, since, now):
                    if not counts:
                        is_continuation = is_end
                    counts[home] = index + 1
        return Match(counts=counts, is_continuation=is_continuation) if counts else NO_MATCH

    def record(self, hashes: Sequence[int], home: Home, now: float, *, is_whole: bool) -> None:
        """That worker is sent a prompt with these beginnings; `is_whole` says that the last one is all of it."""
        worker = self._worker(home)
        last = len(hashes) - 1
        for index in range(last, -1, -1):
            self._note(hashes[index], worker, now, is_end=is_whole and index == last)
        self._shrink()

    def hear(self, home: Home, news: CacheNews, now: float) -> None:
        """That worker says what is new in its cache."""
        worker = self._worker(home)
        if news.is_whole:
            worker.guesses_from = now
            for key in worker.told.difference(news.held):
                self._remove(key, worker)
        for key in news.gone:
            self._remove(key, worker)
        for key in news.held:
            if key not in worker.told:
                if len(worker.told) >= self._told_max:
                    break
                worker.told.add(key)
                self._num_told += 1
            self._note(key, worker, now)
        self._shrink()

    def retain(self, alive: Collection[Home]) -> None:
        """Forgets every worker that is not among them."""
        for home in [home for home in self._workers if home not in alive]:
            worker = self._workers.pop(home)
            worker.is_alive = False
            self._num_told -= len(worker.told)
            worker.told.clear()

    # --- inside -------------------------------------------------------------------------------

    def _worker(self, home: Home) -> _Worker:
        worker = self._workers.get(home)
        if worker is None:
            worker = self._workers[home] = _Worker(home)
        return worker

    def _counts(self, key: int, worker: _Worker, since: float, now: float) -> bool:
        """Whether that worker is believed to have it."""
        if key in worker.told:
            return True
        return worker.is_alive and since >= worker.guesses_from and since + self._ttl_s > now

    def _note(self, key: int, worker: _Worker, now: float, *, is_end: bool = False) -> None:
        """That worker knows it, and was heard of last."""
        was_end, before = self._entries.pop(key, (False, ()))
        others: list[_Known] = []
        for other, since in before:
            if other is worker:
                continue
            if len(others) < _HOMES_MAX - 1 and self._counts(key, other, since, now):
                others.append((other, since))
            else:
                self._untell(key, other)
        after = ((worker, now), *others)
        self._entries[key] = (was_end or is_end, after)
        self._num_homes += len(after) - len(before)

    def _remove(self, key: int, worker: _Worker) -> None:
        """That worker does not have it, whoever said so before."""
        self._untell(key, worker)
        is_end, before = self._entries.get(key, (False, ()))
        after = tuple(one for one in before if one[0] is not worker)
        if len(after) == len(before):
            return
        self._num_homes -= 1
        if after:
            self._entries[key] = (is_end, after)
        else:
            del self._entries[key]

    def _untell(self, key: int, worker: _Worker) -> None:
        """What that worker said of it is remembered no longer."""
        if key in worker.told:
            worker.told.remove(key)
            self._num_told -= 1

    def _shrink(self) -> None:
        while self.num_bytes > self._bytes_max and self._entries:
            key, (_, known) = self._entries.popitem(last=False)
            self._num_homes -= len(known)
            for worker, _ in known:
                self._untell(key, worker)
