"""Which requests may have ended workers, which of them has, and who is refused because of it. Pure.

    a worker dies ──> everybody who was on it is a suspect
    a suspect may be tried again, on probation: one at a time on each worker, and one at a time of its like
        it produced something new ──> cleared: no suspect any more
        that worker died as well  ──> convicted: its like is refused for `quarantine_s`
                                      (at the second time, while workers die by nobody's doing)
        anything else             ──> still a suspect, without a place
    the worker lives after all, or somebody was convicted of its death ──> it accuses nobody any more

So a request that ends workers ends two, three where workers die anyway, and nobody is convicted for having stood
beside it. Places are handed over directly, to who has waited longest, so that nobody overtakes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, final

from common.clock import Clock
from common.errors import Quarantined
from router.core.deaths import Deaths, Key
from router.core.suspect import Suspect, Witness

__all__ = ["Quarantine", "QuarantineLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineLimits:
    """How long and how many."""

    quarantine_s: float = 600.0
    """How long the like of a convicted request is refused, seconds; 0: nobody is suspected at all."""
    calm_s: float = 60.0
    """How long after the death of a worker by nobody's doing it takes two deaths on probation to convict, seconds."""
    entries_max: int = 1024
    """Most convictions, open cases and deaths remembered; the oldest goes first."""


@final
class Quarantine:
    """Used on one event loop; nothing blocks. Waiting is the caller's: see `Suspect.turn`."""

    def __init__(self, limits: QuarantineLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._suspects: dict[Suspect, None] = {}
        self._places: dict[Key, Suspect] = {}
        self._tried_likes: set[bytes] = set()
        """Fingerprints of those on probation."""
        self._waiting: dict[Suspect, None] = {}
        """In order of arrival."""
        self._convicted: OrderedDict[bytes, float] = OrderedDict()
        """Fingerprint → until when."""
        self._open: OrderedDict[bytes, tuple[Suspect, float]] = OrderedDict()
        """Fingerprint → who and until when, of calls that were over before they were cleared or convicted."""
        self._explained: OrderedDict[Key, None] = OrderedDict()
        """Deaths of which somebody was convicted."""
        self._deaths = Deaths(clock, calm_s=limits.calm_s, entries_max=limits.entries_max)

    def __repr__(self) -> str:
        return (
            f"Quarantine({len(self._suspects)} suspects, {len(self._places)} on probation, "
            f"{len(self._waiting)} waiting, {len(self._convicted)} convicted)"
        )

    @property
    def is_on(self) -> bool:
        """Whether anybody is ever suspected."""
        return self._limits.quarantine_s > 0

    @property
    def is_watching(self) -> bool:
        """Whether `admit` has anything to compare with."""
        self._forget()
        return bool(self._suspects or self._convicted or self._open)

    @property
    def num_suspects(self) -> int:
        """Calls under suspicion now."""
        return len(self._suspects)

    # --- who is what --------------------------------------------------------------------------

    def admit(self, fingerprint: bytes) -> Suspect | None:
        """A new call. One whose like is under suspicion is a suspect from the start. Raises `Quarantined`."""
        self.check(fingerprint)
        likes = (other for other in self._suspects if other.fingerprint == fingerprint)
        like = next(filter(self.stands, likes), None)
        if like is None:
            like, until = self._open.pop(fingerprint, (None, 0.0))
            if self._clock.now() >= until:
                return None
        if like is None or not self.stands(like):
            return None
        return self._add(Suspect(fingerprint, like.witnesses, num_deaths=like.num_deaths))

    def check(self, fingerprint: bytes) -> None:
        """Raises `Quarantined` for the like of a convicted request."""
        until = self._convicted.get(fingerprint)
        if until is None or (left_s := until - self._clock.now()) <= 0:
            return
        raise Quarantined(
            "workers died while they computed this very request; it is refused for another "
            f"{left_s:.0f} s (setting router.quarantine_s)"
        )

    def accuse(self, suspect: Suspect | None, fingerprint: bytes, witness: Witness) -> Suspect:
        """The call was on a worker that was lost. `suspect` is what it was before."""
        if suspect is None:
            return self._add(Suspect(fingerprint, [witness]))
        suspect.witnesses.append(witness)
        suspect.refused.clear()
        self._deaths.suspect(witness.key, suspect.fingerprint)
        return suspect

    def stands(self, suspect: Suspect) -> bool:
        """Whether any of the deaths is one, and unexplained."""
        return any(self._accuses(witness) for witness in suspect.witnesses)

    def _accuses(self, witness: Witness) -> bool:
        is_dead = witness.is_abandoned or not witness.is_alive
        return is_dead and witness.key not in self._explained

    def clear(self, suspect: Suspect) -> None:
        """It has produced something new, or nothing stands against it: a suspect no more."""
        if suspect in self._suspects:
            for witness in filter(self._accuses, suspect.witnesses):
                self._deaths.clear(witness.key, suspect.fingerprint)
        self._drop(suspect)

    def _drop(self, suspect: Suspect) -> None:
        self.end(suspect)
        self._unwait(suspect)
        self._suspects.pop(suspect, None)

    def leave(self, suspect: Suspect) -> None:
        """The call is over, and nothing was found out: who sends it again is a suspect from the start."""
        if suspect not in self._suspects:
            return
        self._drop(suspect)
        if self.stands(suspect):
            until = self._clock.now() + self._limits.quarantine_s
            self._open[suspect.fingerprint] = (suspect, until)
            self._open.move_to_end(suspect.fingerprint)
            _shorten(self._open, self._limits.entries_max)

    def charge(self, suspect: Suspect, witness: Witness) -> None:
        """The worker on which it is on probation is lost, and may have died: nobody's doing that is not, however soon
        others are cleared of it. `judge` or `end` follows.
        """
        self._deaths.suspect(witness.key, suspect.fingerprint)

    def judge(self, suspect: Suspect, witness: Witness) -> bool:
        """The worker on which it was on probation has died. Returns whether that convicts it; if not, it is accused."""
        suspect.num_deaths += 1
        if suspect.num_deaths > 1 or self._deaths.is_calm:
            self._convict(suspect, witness)
            return True
        self.end(suspect)
        self.accuse(suspect, suspect.fingerprint, witness)
        return False

    def _convict(self, suspect: Suspect, witness: Witness) -> None:
        self._explained[witness.key] = None
        _shorten(self._explained, self._limits.entries_max)
        self._convicted[suspect.fingerprint] = self._clock.now() + self._limits.quarantine_s
        self._convicted.move_to_end(suspect.fingerprint)
        _shorten(self._convicted, self._limits.entries_max)
        for other in list(self._waiting):
            if other.fingerprint == suspect.fingerprint or not self.stands(other):
                self._unwait(other)
        self._drop(suspect)

    # --- who may try where --------------------------------------------------------------------

    @property
    def taken(self) -> Collection[Key]:
        """Endpoints on which somebody is on probation."""
        return self._places.keys()

    def begin(self, suspect: Suspect, key: Key) -> bool:
        """Puts it on probation there; False when it has to `wait`."""
        if key in self._places or suspect.fingerprint in self._tried_likes:
            return False
        self._seat(suspect, key)
        return True

    def wait(self, suspect: Suspect, wanted: Collection[Key]) -> None:
        """It would take any of these places; `turn` tells when."""
        suspect.turn.clear()
        suspect.wanted = wanted
        suspect.is_waiting = True
        self._waiting.setdefault(suspect)

    def end(self, suspect: Suspect) -> None:
        """Its probation, if it is on one, is over without an outcome: its place goes to the next one."""
        key, suspect.place = suspect.place, None
        if key is None:
            return
        del self._places[key]
        self._tried_likes.discard(suspect.fingerprint)
        for waiting in self._waiting:
            if key in waiting.wanted and waiting.fingerprint not in self._tried_likes:
                self._seat(waiting, key)
                break
        self._let_in_like(suspect.fingerprint)

    def _let_in_like(self, fingerprint: bytes) -> None:
        """Who waited only because one of its like was on probation."""
        if fingerprint in self._tried_likes:
            return
        for waiting in self._waiting:
            if waiting.fingerprint == fingerprint:
                free = next((key for key in waiting.wanted if key not in self._places), None)
                if free is not None:
                    self._seat(waiting, free)
                    return

    def _seat(self, suspect: Suspect, key: Key) -> None:
        suspect.place = key
        self._places[key] = suspect
        self._tried_likes.add(suspect.fingerprint)
        self._unwait(suspect)

    def _unwait(self, suspect: Suspect) -> None:
        self._waiting.pop(suspect, None)
        suspect.is_waiting = False
        suspect.turn.set()

    def _forget(self) -> None:
        """All are remembered for the same time, so the oldest come first."""
        now = self._clock.now()
        while self._convicted and next(iter(self._convicted.values())) <= now:
            self._convicted.popitem(last=False)
        while self._open and next(iter(self._open.values()))[1] <= now:
            self._open.popitem(last=False)

    def _add(self, suspect: Suspect) -> Suspect:
        self._suspects[suspect] = None
        for witness in suspect.witnesses:
            self._deaths.suspect(witness.key, suspect.fingerprint)
        return suspect

    def check_integrity(self) -> None:
        """For tests: raises `AssertionError` when the books do not agree with each other."""
        _must(all(s.place == key for key, s in self._places.items()), "a place and its holder")
        likes = [suspect.fingerprint for suspect in self._places.values()]
        _must(len(set(likes)) == len(likes), "two of one like on probation")
        _must(set(likes) == self._tried_likes, "likes on probation")
        _must(self._suspects.keys() >= set(self._places.values()), "a place for nobody")
        _must(self._suspects.keys() >= self._waiting.keys(), "somebody waits who is no suspect")
        _must(not any(suspect.place for suspect in self._waiting), "waits and has a place")


def _shorten(entries: OrderedDict[Any, Any], num_max: int) -> None:
    while len(entries) > num_max:
        entries.popitem(last=False)


def _must(holds: bool, message: str) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise AssertionError(message)
