"""The live endpoints: what the registry says, what their load streams say, what we sent.

    registry snapshot ──> apply() ──────┐
    load stream ──> report(), lost() ───┼──> entries ──> snapshot(): immutable, cached until something changes
    dispatcher ──> track() ─────────────┘

Who stays when the registry changes its mind:

    in the registry                     stays
    missing, was seen draining          goes at once (it said goodbye)
    missing, its load stream speaks     is held down: stays, at most `hold_down_s_max`
    missing, no load stream             goes at once
    registry away (stale)               nobody goes, no living incarnation is replaced

Calls run on when their endpoint goes. They are given up when it was lost (no load stream) for `abandon_s`.
All methods are called on the event loop and none blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, final

from common.clock import Clock
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.entry import Entry, Tracked

__all__ = ["EndpointPool", "PoolSnapshot"]

_REMEMBERED_MODELS_MAX: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """All endpoints at one moment; policies and reports read it and nothing else."""

    models: Mapping[str, tuple[Endpoint, ...]] = field(default_factory=dict)
    """By model name: every endpoint, in every state, in order of arrival."""
    stale_since: float | None = None
    """Since when the registry is away (router's clock, seconds) and membership is what it said last; None while it is
    there.
    """

    @property
    def stale(self) -> bool:
        """Whether the registry is away."""
        return self.stale_since is not None

    def __len__(self) -> int:
        return sum(len(endpoints) for endpoints in self.models.values())


@final
class EndpointPool:
    """See the module. `hold_down_s_max`, `abandon_s` and `remember_s` are seconds on `clock`."""

    def __init__(
        self, clock: Clock, *, hold_down_s_max: float, abandon_s: float, remember_s: float
    ) -> None:
        self._clock = clock
        self._hold_down_s_max = hold_down_s_max
        self._abandon_s = abandon_s
        self._remember_s = remember_s
        self._entries: dict[str, Entry] = {}
        self._models: dict[str, dict[str, Entry]] = {}
        self._leaving: set[Entry] = set()
        """Removed while lost, with calls that may still hang there."""
        self._remembered: dict[str, float] = {}
        self._by_model: dict[str, tuple[Endpoint, ...]] = {}
        self._cached: PoolSnapshot | None = None
        self._heard = False
        self._stale_since: float | None = None
        self._change = asyncio.Event()

    def __repr__(self) -> str:
        states = ", ".join(f"{e.about.id}={e.state.name}" for e in self._entries.values())
        return f"EndpointPool({states}{', stale' if self._stale_since is not None else ''})"

    # --- what the registry says ---------------------------------------------------------------

    def apply(self, registered: Iterable[Endpoint], *, stale: bool) -> None:
        """Takes over a registry snapshot. Of an endpoint's state only DRAINING or not matters here."""
        seen: set[str] = set()
        for about in registered:
            seen.add(about.id)
            entry = self._entries.get(about.id)
            if entry is not None and not _is_same_process(entry.about, about):
                if stale and entry.is_alive:
                    continue
                self._replace(entry)
                entry = None
            if entry is None:
                entry = self._add(about)
            entry.about = about
            entry.missing_since = None
            entry.draining = entry.draining or about.state is EndpointState.DRAINING
            self._touch(entry)
        now = self._clock.now()
        if stale:
            self._stale_since = now if self._stale_since is None else self._stale_since
        else:
            self._stale_since = None
            self._drop_missing(seen, now)
        self._heard = True
        self._cached = None
        self._announce()

    def _replace(self, entry: Entry) -> None:
        """Another process took the id: what runs on the old one is as good as lost."""
        if entry.lost_since is None:
            entry.lost_since = self._clock.now()
        self._remove(entry)

    def _drop_missing(self, seen: set[str], now: float) -> None:
        for entry in [e for e in self._entries.values() if e.about.id not in seen]:
            if entry.draining or not entry.is_alive:
                self._remove(entry)
            elif entry.missing_since is None:
                entry.missing_since = now

    # --- what the load streams say ------------------------------------------------------------

    def report(self, endpoint_id: str, incarnation: str, load: Load, *, draining: bool) -> None:
        """A load report arrived. One of an incarnation that is not registered is ignored."""
        entry = self._find(endpoint_id, incarnation)
        if entry is None:
            return
        before = entry.state
        entry.load = load
        entry.lost_since = None
        entry.draining = entry.draining or draining
        self._touch(entry)
        if entry.state is not before:
            self._announce()

    def lost(self, endpoint_id: str, incarnation: str) -> None:
        """The load stream broke or went silent. Until it speaks again nothing new goes there; an
        endpoint that the registry no longer lists goes now.
        """
        entry = self._find(endpoint_id, incarnation)
        if entry is None or entry.lost_since is not None:
            return
        entry.lost_since = self._clock.now()
        self._touch(entry)
        if entry.missing_since is not None:
            self._remove(entry)
        self._announce()

    # --- what time says -----------------------------------------------------------------------

    def sweep(self) -> tuple[Tracked, ...]:
        """Ends hold-downs that are over, and returns the calls on endpoints that have been lost for too long: the
        caller ends those. Called every second or so.
        """
        now = self._clock.now()
        overdue = [
            entry
            for entry in self._entries.values()
            if entry.missing_since is not None
            and now - entry.missing_since >= self._hold_down_s_max
        ]
        for entry in overdue:
            self._remove(entry)
        if overdue:
            self._announce()
        self._leaving = {entry for entry in self._leaving if entry.calls}
        self._remembered = {
            model: at for model, at in self._remembered.items() if now - at < self._remember_s
        }
        return tuple(
            tracked
            for entry in (*self._entries.values(), *self._leaving)
            if entry.lost_since is not None and now - entry.lost_since >= self._abandon_s
            for tracked in entry.calls
        )

    # --- what we send -------------------------------------------------------------------------

    @contextmanager
    def track(self, endpoint: Endpoint) -> Iterator[Tracked]:
        """Counts one call in flight on that incarnation of the endpoint, whatever the call's end."""
        entry = self._find(endpoint.id, endpoint.incarnation) or Entry(endpoint)
        tracked = Tracked(entry)
        entry.calls.add(tracked)
        self._touch(entry)
        try:
            yield tracked
        finally:
            entry.calls.discard(tracked)
            self._touch(entry)

    # --- what others see ----------------------------------------------------------------------

    def snapshot(self) -> PoolSnapshot:
        """Immutable; the same object until something changes."""
        if self._cached is None:
            for model, entries in self._models.items():
                if model not in self._by_model:
                    self._by_model[model] = tuple(
                        [e.picture or e.endpoint() for e in entries.values()]
                    )
            self._cached = PoolSnapshot(
                models=MappingProxyType(dict(self._by_model)),
                stale_since=self._stale_since,
            )
        return self._cached

    def changed(self) -> asyncio.Event:
        """Set at the next change of membership or state (not of load)."""
        return self._change

    @property
    def has_heard(self) -> bool:
        """Whether any registry snapshot, stale or not, has arrived."""
        return self._heard

    def remembers(self, model: str) -> bool:
        """Whether `model` is served, or was within the last `remember_s` seconds."""
        if model in self._models:
            return True
        gone_at = self._remembered.get(model)
        return gone_at is not None and self._clock.now() - gone_at < self._remember_s

    def check_integrity(self) -> None:
        """Raises `AssertionError` when the pool contradicts itself; for tests and idle moments."""
        indexed = {e.about.id: e for entries in self._models.values() for e in entries.values()}
        _must(indexed == self._entries, "index and entries differ")
        _must(all(self._models.values()), "a model without endpoints is indexed")
        for endpoint_id, entry in self._entries.items():
            _must(entry.about.id == endpoint_id, "an entry lies under another id")
            _must(
                entry.missing_since is None or entry.is_alive,
                f"{endpoint_id} is held down without a load stream",
            )
        cached = self.snapshot()
        self._cached = None
        self._by_model.clear()
        for entry in self._entries.values():
            entry.forget_picture()
        _must(self.snapshot() == cached, "the cached snapshot was out of date")

    # --- inside -------------------------------------------------------------------------------

    def _find(self, endpoint_id: str, incarnation: str) -> Entry | None:
        entry = self._entries.get(endpoint_id)
        return entry if entry is not None and entry.about.incarnation == incarnation else None

    def _add(self, about: Endpoint) -> Entry:
        entry = Entry(about)
        self._entries[about.id] = entry
        self._models.setdefault(about.model, {})[about.id] = entry
        self._touch(entry)
        return entry

    def _remove(self, entry: Entry) -> None:
        model = entry.about.model
        del self._entries[entry.about.id]
        del self._models[model][entry.about.id]
        self._touch(entry)
        if not self._models[model]:
            del self._models[model]
            if len(self._remembered) < _REMEMBERED_MODELS_MAX:
                self._remembered[model] = self._clock.now()
        if entry.lost_since is not None and entry.calls:
            self._leaving.add(entry)

    def _touch(self, entry: Entry) -> None:
        entry.forget_picture()
        self._by_model.pop(entry.about.model, None)
        self._cached = None

    def _announce(self) -> None:
        self._change.set()
        self._change = asyncio.Event()


def _is_same_process(known: Endpoint, listed: Endpoint) -> bool:
    return (known.incarnation, known.address, known.model) == (
        listed.incarnation,
        listed.address,
        listed.model,
    )


def _must(holds: bool, message: str) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise AssertionError(message)
