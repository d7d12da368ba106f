"""The live endpoints: what the registry says, what their load streams say, what we sent and how it ended.

    registry snapshot ──> apply() ──────────┐
    load stream ──> report(), lost() ───────┼──> entries ──> index ──> snapshot(): immutable, the same until a change
    dispatcher ──> track() ──> outcome ─────┤
    time ──> sweep(), probe ──> probed() ───┘

Who stays when the registry changes its mind:

    in the registry                     stays
    missing, was seen draining          goes at once (it said goodbye)
    missing, its load stream broke      goes at once
    missing, its load stream speaks     is held down: stays, at most `hold_down_s_max`
    missing, not heard of for a while   goes at once
    … together with most of its model   all stay whose streams did not break, at most `mass_vanish_s_max`
    registry away (stale)               nobody goes, no living incarnation is replaced

Calls run on when their endpoint goes. They are given up after `Patience.abandon_s` of trouble (`router.core.pulse`);
while most of a model is quiet at once, at most `mass_silence_s_max`, only those whose stream really broke.
All methods are called on the event loop and none blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from random import Random
from typing import final

from common.clock import Clock
from common.errors import Reason, Unavailable
from router.core.directory import Directory
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.entry import Entry, Tracked
from router.core.freeze import Freeze
from router.core.health.faults import is_fault
from router.core.health.outliers import Ejection, HealthLimits, Outliers
from router.core.pulse import Patience
from router.core.snapshot import PoolSnapshot

__all__ = ["EndpointPool", "PoolSnapshot"]


@final
class EndpointPool:
    """See the module. Times are seconds on `clock`; `remember_s` is how long a model without workers is remembered,
    `slow_start_s` how long a worker that joins others, or was ejected, takes to its full share (0: none).
    """

    def __init__(
        self,
        clock: Clock,
        *,
        hold_down_s_max: float,
        abandon_s: float,
        remember_s: float,
        suspect_s: float = 1.0,
        stream_silence_s_max: float = 0.0,
        mass_silence_s_max: float = 10.0,
        mass_vanish_s_max: float = 600.0,
        slow_start_s: float = 0.0,
        health: Outliers | None = None,
    ) -> None:
        self._clock = clock
        self._hold_down_s_max = hold_down_s_max
        self._patience = Patience(
            suspect_s=suspect_s, abandon_s=abandon_s, silence_s=stream_silence_s_max
        )
        self._slow_start_s = slow_start_s
        self._health = health or Outliers(HealthLimits(ejected_share_max=0.0), Random(0))
        self._silence = Freeze(seconds_max=mass_silence_s_max)
        self._vanishing = Freeze(seconds_max=mass_vanish_s_max)
        self._there = Directory(remember_s=remember_s, slow_start_s=slow_start_s)
        self._leaving: set[Entry] = set()
        """Removed in trouble, with calls that may still hang there."""
        self._heard = False
        self._stale_since: float | None = None
        self._change = asyncio.Event()
        self._news: list[Ejection] = []

    def __repr__(self) -> str:
        states = ", ".join(f"{e.about.id}={e.state.name}" for e in self._there)
        return f"EndpointPool({states}{', stale' if self._stale_since is not None else ''})"

    # --- what the registry says ---------------------------------------------------------------

    def apply(self, registered: Iterable[Endpoint], *, stale: bool) -> None:
        """Takes over a registry snapshot. Of an endpoint's state only DRAINING or not matters here."""
        now = self._clock.now()
        seen: set[str] = set()
        for about in registered:
            seen.add(about.id)
            entry = self._there.get(about.id)
            if entry is not None and not _is_same_process(entry.about, about):
                if stale and entry.is_alive:
                    continue
                self._replace(entry, now)
                entry = None
            if entry is None:
                entry = self._add(about, now)
            entry.about = about
            entry.missing_since = None
            entry.draining = entry.draining or about.state is EndpointState.DRAINING
            self._settle(entry, now)
            self._there.touch(entry)
        if stale:
            self._stale_since = now if self._stale_since is None else self._stale_since
        else:
            self._stale_since = None
            self._miss(seen, now)
        self._heard = True
        self._announce()

    def _replace(self, entry: Entry, now: float) -> None:
        """Another process took the id: what runs on the old one is as good as lost."""
        entry.pulse.broke(now)
        self._settle(entry, now)
        self._remove(entry, now)

    def _miss(self, seen: set[str], now: float) -> None:
        for entry in [e for e in self._there if e.about.id not in seen]:
            if entry.draining:
                self._remove(entry, now)
            elif entry.missing_since is None:
                entry.missing_since = now
        self._let_go(now)

    def _let_go(self, now: float) -> None:
        """Removes those missing whose time has come."""
        for model, entries in list(self._there.models.items()):
            missing = [e for e in entries.values() if e.missing_since is not None]
            held = self._vanishing.judge(
                model, num_troubled=len(missing), num_all=len(entries), now=now
            )
            for entry in missing:
                missing_s = now - (now if entry.missing_since is None else entry.missing_since)
                if entry.pulse.is_broken or not (
                    held or (entry.is_alive and missing_s < self._hold_down_s_max)
                ):
                    self._remove(entry, now)

    # --- what the load streams say ------------------------------------------------------------

    def report(self, endpoint_id: str, incarnation: str, load: Load, *, draining: bool) -> None:
        """A load report arrived. One of an incarnation that is not registered is ignored."""
        entry = self._find(endpoint_id, incarnation)
        if entry is None:
            return
        now = self._clock.now()
        entry.load = load
        entry.pulse.heard(load, now)
        entry.draining = entry.draining or draining
        if load.decode_rows and load.decode_tokens_per_s > 0 and entry.pulse.stepped_at == now:
            self._health.measured(
                entry.key, now, rows=load.decode_rows, token_s=1.0 / load.decode_tokens_per_s
            )
        self._settle(entry, now)
        self._there.touch(entry)

    def lost(self, endpoint_id: str, incarnation: str) -> None:
        """The load stream broke. Until it speaks again nothing new goes there; an endpoint that the registry no longer
        lists goes now.
        """
        entry = self._find(endpoint_id, incarnation)
        if entry is None or entry.pulse.is_broken:
            return
        now = self._clock.now()
        entry.pulse.broke(now)
        self._settle(entry, now)
        self._there.touch(entry)
        if entry.missing_since is not None:
            self._remove(entry, now)
        self._announce()

    # --- what time says -----------------------------------------------------------------------

    def sweep(self, *, slept_s: float = 0.0) -> tuple[Tracked, ...]:
        """Judges everybody anew, ends hold-downs that are over, and returns the calls on endpoints that have been in
        trouble for too long, and those that their endpoint has forgotten: the caller ends them. Called several times a
        second; `slept_s` is by how much this call comes too late: so long nobody can be blamed for.
        """
        now = self._clock.now()
        everybody = (*self._there, *self._leaving)
        if slept_s > 0:
            for entry in everybody:
                entry.pulse.excuse(slept_s, now)
        for model, entries in self._there.models.items():
            heard = [e.pulse for e in entries.values() if e.load is not None and not e.draining]
            self._silence.judge(
                model,
                num_troubled=sum(pulse.is_quiet(now) for pulse in heard),
                num_all=len(heard),
                now=now,
            )
        for entry in everybody:
            self._settle(entry, now)
            if entry.warm_at is not None and now >= entry.warm_at:
                entry.warm_at = None
                self._there.touch(entry)
        hopeless = [
            e for e in everybody if e.state is EndpointState.LOST and e.pulse.is_hopeless(now)
        ]
        self._let_go(now)
        self._health.sweep(now)
        self._hear_health()
        self._leaving = {entry for entry in self._leaving if entry.calls}
        self._there.forget_old(now)
        return (
            *(tracked for entry in hopeless for tracked in entry.calls),
            *(tracked for entry in everybody for tracked in entry.silent_calls(now)),
        )

    @property
    def frozen(self) -> frozenset[tuple[str, str]]:
        """(model, "silent" or "missing") where most workers are so at once and are therefore left alone."""
        return frozenset(
            {(model, "silent") for model in self._silence.frozen}
            | {(model, "missing") for model in self._vanishing.frozen}
        )

    # --- who is set aside ---------------------------------------------------------------------

    def due_probes(self) -> list[Endpoint]:
        """Ejected endpoints that should be probed now; each answer comes back through `probed`."""
        keys = self._health.due(self._clock.now())
        return [e.about for e in (self._find(*key) for key in keys) if e is not None]

    def probed(self, endpoint: Endpoint, *, passed: bool) -> None:
        """A probe has ended; one that passed brings the endpoint back."""
        key = (endpoint.id, endpoint.incarnation)
        self._health.probed(key, self._clock.now(), passed=passed)
        self._hear_health()

    @property
    def num_ejections_ignored(self) -> int:
        """Endpoints that would be ejected if not so many of their model were."""
        return self._health.num_ignored

    def news(self) -> tuple[Ejection, ...]:
        """Who was ejected, or came back, since the last call."""
        news, self._news = tuple(self._news), []
        return news

    def _hear_health(self) -> None:
        for news in self._health.news():
            self._news.append(news)
            entry = self._find(*news.key)
            if entry is None:
                continue
            now = self._clock.now()
            entry.ejected = news.why
            if news.by_probe and self._slow_start_s > 0:
                entry.warm_at = now + self._slow_start_s
            self._settle(entry, now)
            self._there.touch(entry)

    # --- what we send -------------------------------------------------------------------------

    @contextmanager
    def track(self, endpoint: Endpoint, *, judged: bool = True) -> Iterator[Tracked]:
        """Counts one call in flight on that incarnation of the endpoint, and notes how it ended for the endpoint, if
        that can be `judged`.
        """
        entry = self._find(endpoint.id, endpoint.incarnation) or Entry(endpoint, self._patience)
        tracked = Tracked(entry)
        entry.calls.add(tracked)
        self._there.touch(entry)
        try:
            yield tracked
        except BaseException as error:
            if judged:
                self._note(entry, error)
            raise
        else:
            if judged:
                self._note(entry, None)
        finally:
            entry.calls.discard(tracked)
            self._there.touch(entry)

    def _note(self, entry: Entry, error: BaseException | None) -> None:
        fault = is_fault(error)
        if fault is None:
            return
        if fault and entry.state is EndpointState.LOST and _is_loss(error):
            return  # a loss breaks many calls at once; it counts once, with the first
        self._health.note(entry.key, self._clock.now(), failed=fault)
        if fault:
            self._hear_health()

    # --- what others see ----------------------------------------------------------------------

    def snapshot(self) -> PoolSnapshot:
        """Immutable; the same object until something changes."""
        return self._there.snapshot(self._stale_since)

    def changed(self) -> asyncio.Event:
        """Set at the next change of membership or state (not of load)."""
        return self._change

    @property
    def has_heard(self) -> bool:
        """Whether any registry snapshot, stale or not, has arrived."""
        return self._heard

    def remembers(self, model: str) -> bool:
        """Whether `model` is served, or was within the last `remember_s` seconds."""
        return self._there.remembers(model, self._clock.now())

    def check_integrity(self) -> None:
        """Raises `AssertionError` when the pool contradicts itself; for tests and idle moments."""
        self._there.check_integrity()
        for entry in self._there:
            if entry.missing_since is not None and entry.pulse.is_broken:
                raise AssertionError(f"{entry} is held down with a broken load stream")
            if entry.ejected != self._health.why(entry.key):
                raise AssertionError(f"{entry} is ejected and is not")

    # --- inside -------------------------------------------------------------------------------

    def _find(self, endpoint_id: str, incarnation: str) -> Entry | None:
        entry = self._there.get(endpoint_id)
        return entry if entry is not None and entry.about.incarnation == incarnation else None

    def _add(self, about: Endpoint, now: float) -> Entry:
        entry = Entry(about, self._patience)
        self._health.join(entry.key, group=about.model, kind=about.fingerprint)
        self._there.add(entry, now)
        return entry

    def _remove(self, entry: Entry, now: float) -> None:
        self._health.leave(entry.key, now)
        if self._there.remove(entry, now):
            self._silence.forget(entry.about.model)
            self._vanishing.forget(entry.about.model)
        self._hear_health()
        if entry.state is EndpointState.LOST and entry.calls:
            self._leaving.add(entry)

    def _settle(self, entry: Entry, now: float) -> None:
        """Works out the state anew and tells whom it concerns."""
        before, served = entry.state, entry.serves
        if not entry.settle(now, frozen=entry.about.model in self._silence.frozen):
            return
        if entry not in self._there:
            return
        if entry.serves is not served:
            model_s = now - self._there.since(entry.about.model)
            if before is EndpointState.CONNECTING and model_s >= self._slow_start_s > 0:
                # Others did the work so far. (When a cluster starts, all begin at once.)
                entry.warm_at = now + self._slow_start_s
            self._health.serves(entry.key, now, serves=entry.serves)
            self._hear_health()
        self._there.touch(entry)
        self._announce()

    def _announce(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _is_loss(error: BaseException | None) -> bool:
    return isinstance(error, Unavailable) and error.reason is Reason.WORKER_LOST


def _is_same_process(known: Endpoint, listed: Endpoint) -> bool:
    return (known.incarnation, known.address, known.model) == (
        listed.incarnation,
        listed.address,
        listed.model,
    )
