"""Which workers get no calls for a while, although they live: outlier ejection.

    failures in a row, a low success rate, slowness ──> ejected ──> one probe ──> back, slowly
                                                            └── failed: ejected for longer

Never more than a share of a model's workers that serve: beyond it ejection is ignored (panic mode), since the rest
could not carry the load, and since what many fail at is rarely theirs alone. Whoever would be ejected then is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final, TypeAlias, final

from router.core.health.breaker import Breaker
from router.core.health.pace import Pace, usual_s
from router.core.health.tally import Tally

__all__ = ["Cause", "Ejection", "HealthLimits", "Key", "Outliers"]

Key: TypeAlias = tuple[str, str]
"""(worker id, incarnation): one start of one worker."""

_PACE_EVERY_S: Final = 0.5
"""How often paces are compared."""
_PACE_FRESH_S: Final = 5.0
"""A worker is judged by a step that is not older."""


class Cause(StrEnum):
    """Why a worker is ejected."""

    FAILURES = "failures"
    SUCCESS_RATE = "success_rate"
    SLOW = "slow"
    PROBE = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """When a worker is an outlier, and for how long. A limit that cannot be reached switches its rule off."""

    failures_in_a_row_max: int = 5
    """So many, and it is ejected."""
    success_ratio_min: float = 0.8
    calls_min: int = 20
    """Calls within the window below which the ratio says nothing."""
    window_s: float = 10.0
    slow_factor: float = 3.0
    """So many times the usual time for a token is slow."""
    slow_s: float = 2.0
    """For so long, and it is ejected."""
    ejection_s: float = 5.0
    ejection_s_max: float = 300.0
    ejected_share_max: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Ejection:
    """News of one worker."""

    key: Key
    cause: Cause
    """Why it was ejected (last)."""
    why: str
    """The same for people; "" when it is back."""
    for_s: float = 0.0
    """How long before it is probed."""
    by_probe: bool = False
    """It is back since it passed a probe, not since too many others have gone."""


@final
class _Record:
    __slots__ = (
        "breaker",
        "cause",
        "group",
        "kind",
        "pace",
        "serves",
        "slow_since",
        "tally",
        "unwanted",
    )

    def __init__(self, group: str, kind: str, limits: HealthLimits, random: Random) -> None:
        self.group, self.kind = group, kind
        self.serves = False
        self.tally = Tally(window_s=limits.window_s)
        self.pace = Pace()
        self.slow_since: float | None = None
        self.breaker = Breaker(
            ejection_s=limits.ejection_s, ejection_s_max=limits.ejection_s_max, random=random
        )
        self.cause = Cause.FAILURES
        self.unwanted = False
        """It would be ejected, if not so many were."""


@final
class _Group:
    __slots__ = ("ejected", "num_serving", "records")

    def __init__(self) -> None:
        self.records: dict[Key, _Record] = {}
        self.num_serving = 0
        self.ejected: dict[Key, _Record] = {}
        """Of those that serve."""


@final
class Outliers:
    """Every method that takes `now` takes it from the same clock, seconds."""

    def __init__(self, limits: HealthLimits, random: Random) -> None:
        self._limits = limits
        self._random = random
        self._records: dict[Key, _Record] = {}
        self._groups: dict[str, _Group] = {}
        self._pace_at = 0.0
        self._news: list[Ejection] = []

    # --- who is there -------------------------------------------------------------------------

    def join(self, key: Key, *, group: str, kind: str) -> None:
        """A worker: `group` is what must not be ejected as a whole, `kind` tells whose speeds compare."""
        record = self._records[key] = _Record(group, kind, self._limits, self._random)
        self._groups.setdefault(group, _Group()).records[key] = record

    def leave(self, key: Key, now: float) -> None:
        """It is gone for good."""
        self.serves(key, now, serves=False)
        name = self._records.pop(key).group
        del self._groups[name].records[key]
        if not self._groups[name].records:
            del self._groups[name]

    def serves(self, key: Key, now: float, *, serves: bool) -> None:
        """Whether it could get calls if it were not ejected."""
        record = self._records[key]
        if record.serves is serves:
            return
        record.serves = serves
        group = self._groups[record.group]
        group.num_serving += 1 if serves else -1
        if serves and record.breaker.is_open:
            group.ejected[key] = record
        else:
            group.ejected.pop(key, None)
        self._keep_share(group, now)

    # --- what is seen of them -----------------------------------------------------------------

    def note(self, key: Key, now: float, *, failed: bool) -> None:
        """A call on it ended."""
        record = self._records.get(key)
        if record is not None:
            record.tally.note(failed=failed, now=now)
            if failed:
                self._judge(key, record, now)

    def measured(self, key: Key, now: float, *, rows: int, token_s: float) -> None:
        """A step over `rows` sequences took it `token_s` seconds."""
        self._records[key].pace.measured(rows=rows, token_s=token_s, now=now)

    def probed(self, key: Key, now: float, *, passed: bool) -> None:
        """The probe that `due` asked for has ended."""
        record = self._records.get(key)
        if record is None or not record.breaker.is_open:
            return
        if passed:
            self._close(key, record, now, by_probe=True)
        else:
            self._eject(key, record, Cause.PROBE, "it failed a probe", now)

    # --- what follows -------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Judges everybody by what time has changed."""
        if now - self._pace_at >= _PACE_EVERY_S:
            self._pace_at = now
            self._compare(now)
        for key, record in self._records.items():
            self._judge(key, record, now)

    def due(self, now: float) -> list[Key]:
        """Who should be probed now; each answer must come back through `probed`."""
        return [key for key, r in self._records.items() if r.serves and r.breaker.may_ask(now)]

    def why(self, key: Key) -> str:
        """Why it is ejected; "" while it is not."""
        return self._records[key].breaker.why

    @property
    def num_ignored(self) -> int:
        """Workers that would be ejected if not so many were."""
        return sum(record.unwanted for record in self._records.values())

    def news(self) -> list[Ejection]:
        """What happened since the last call."""
        news, self._news = self._news, []
        return news

    # --- inside -------------------------------------------------------------------------------

    def _judge(self, key: Key, record: _Record, now: float) -> None:
        if record.breaker.is_open or not record.serves:
            record.unwanted = False
            return
        verdict = self._verdict(record, now)
        record.unwanted = verdict is not None and not self._may_eject(record)
        if verdict is not None and not record.unwanted:
            self._eject(key, record, *verdict, now)

    def _verdict(self, record: _Record, now: float) -> tuple[Cause, str] | None:
        limits = self._limits
        if record.tally.in_a_row >= limits.failures_in_a_row_max:
            return Cause.FAILURES, f"{record.tally.in_a_row} calls failed in a row"
        calls, failures = record.tally.recent(now)
        if calls >= limits.calls_min and calls - failures < limits.success_ratio_min * calls:
            return Cause.SUCCESS_RATE, f"{failures} of {calls} calls failed"
        newest, since = record.pace.newest, record.slow_since
        if newest is not None and since is not None and newest[2] - since >= limits.slow_s:
            return Cause.SLOW, f"more than {limits.slow_factor:g} times as slow as its like"
        return None

    def _compare(self, now: float) -> None:
        for group in self._groups.values():
            kinds: dict[str, list[_Record]] = {}
            for record in group.records.values():
                kinds.setdefault(record.kind, []).append(record)
            for alike in kinds.values():
                self._compare_like(alike, now)

    def _compare_like(self, alike: list[_Record], now: float) -> None:
        paces = [record.pace for record in alike]
        usual: dict[int, float | None] = {}
        for record in alike:
            newest = record.pace.newest
            if newest is None or now - newest[2] > _PACE_FRESH_S:
                record.slow_since = None
                continue
            rows, token_s, at = newest
            if rows not in usual:
                usual[rows] = usual_s(paces, rows, now)
            like_s = usual[rows]
            if like_s is None or token_s <= self._limits.slow_factor * like_s:
                record.slow_since = None
            elif record.slow_since is None:
                record.slow_since = at

    def _may_eject(self, record: _Record) -> bool:
        group = self._groups[record.group]
        return len(group.ejected) < self._most(group)

    def _most(self, group: _Group) -> int:
        return int(group.num_serving * self._limits.ejected_share_max)

    def _keep_share(self, group: _Group, now: float) -> None:
        """When others have gone: whoever has waited longest comes back unasked."""
        excess = len(group.ejected) - self._most(group)
        if excess > 0:
            by_time = sorted(group.ejected.items(), key=lambda item: item[1].breaker.until)
            for key, record in by_time[:excess]:
                self._close(key, record, now)

    def _eject(self, key: Key, record: _Record, cause: Cause, why: str, now: float) -> None:
        for_s = record.breaker.trip(why, now)
        if record.serves:
            self._groups[record.group].ejected[key] = record
        record.cause, record.unwanted = cause, False
        record.tally.clear()
        record.slow_since = None
        self._news.append(Ejection(key=key, cause=cause, why=why, for_s=for_s))

    def _close(self, key: Key, record: _Record, now: float, *, by_probe: bool = False) -> None:
        record.breaker.close(now)
        self._groups[record.group].ejected.pop(key, None)
        self._news.append(Ejection(key=key, cause=record.cause, why="", by_probe=by_probe))
