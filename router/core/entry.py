"""One endpoint inside the pool: the mutable side of `Endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.health.outliers import Key
from router.core.pulse import Patience, Pulse

__all__ = ["Entry", "Tracked"]

_WARMTH_MIN: Final = 0.1
"""Also the coldest worker gets something, or it would never get warm."""


@final
class Tracked:
    """One call in flight on one endpoint. It may be asked about the endpoint also after the call has left it."""

    __slots__ = ("_entry", "is_abandoned", "on_abandon")

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.on_abandon: Callable[[], None] | None = None
        self.is_abandoned = False
        """The endpoint was given up with the call on it."""

    @property
    def key(self) -> Key:
        """(id, incarnation) of the endpoint."""
        return self._entry.key

    @property
    def is_alive(self) -> bool:
        """The endpoint's load stream speaks."""
        return self._entry.is_alive

    @property
    def is_draining(self) -> bool:
        """The endpoint has said that it goes."""
        return self._entry.draining

    def abandon(self) -> None:
        """Tells the call that its endpoint is given up."""
        self.is_abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()


@final
class Entry:
    """Owned by the pool, which calls `settle` after whatever may change its state, and `forget_picture` after each
    change.
    """

    __slots__ = (
        "about",
        "calls",
        "draining",
        "ejected",
        "load",
        "missing_since",
        "picture",
        "pulse",
        "state",
        "trouble",
        "warm_at",
    )

    def __init__(self, about: Endpoint, patience: Patience) -> None:
        self.about = about
        """What the registry says; its state, load and in_flight mean nothing here."""
        self.draining = False
        """Seen draining, by the registry or its own report. It never comes back from that."""
        self.load: Load | None = None
        self.pulse = Pulse(patience)
        self.ejected = ""
        """Why it is set aside; "" while it is not."""
        self.missing_since: float | None = None
        """Since when the registry does not list it although it did not say goodbye."""
        self.state = EndpointState.CONNECTING
        """As settled last."""
        self.trouble = ""
        self.warm_at: float | None = None
        """When it gets its full share again; None: now."""
        self.calls: set[Tracked] = set()
        self.picture: Endpoint | None = None
        """What `endpoint` made last; None when it is out of date."""

    def __repr__(self) -> str:
        return f"Entry({self.about.id}, {self.state.name}, in_flight={len(self.calls)})"

    @property
    def key(self) -> Key:
        """Names this start of the worker."""
        return (self.about.id, self.about.incarnation)

    @property
    def is_alive(self) -> bool:
        """It has spoken and is not lost."""
        return self.load is not None and self.state is not EndpointState.LOST

    @property
    def serves(self) -> bool:
        """Whether it could get calls if it were not ejected."""
        return self.state in {EndpointState.READY, EndpointState.EJECTED}

    def settle(self, now: float, *, frozen: bool) -> bool:
        """Works out the state; returns whether it changed."""
        before = self.state
        state = self.pulse.state(now, frozen=frozen)
        if self.draining and state is not EndpointState.LOST:
            state = EndpointState.DRAINING
        elif state is EndpointState.READY and self.ejected:
            state = EndpointState.EJECTED
        self.state = state
        if state is EndpointState.EJECTED:
            self.trouble = self.ejected
        elif state is not before:
            self.trouble = self.pulse.why(now)
        return state is not before

    def endpoint(self, slow_start_s: float) -> Endpoint:
        """The immutable picture; the same object until `forget_picture`."""
        if self.picture is None:
            told_at = self.pulse.told_at
            warmth = 1.0
            if self.warm_at is not None:
                warmth = max(_WARMTH_MIN, 1.0 - max(0.0, self.warm_at - told_at) / slow_start_s)
            self.picture = replace(
                self.about,
                state=self.state,
                load=self.load or Load(),
                in_flight=len(self.calls),
                trouble=self.trouble,
                idle_s=max(0.0, told_at - self.pulse.stepped_at),
                warmth=min(1.0, warmth),
            )
        return self.picture

    def forget_picture(self) -> None:
        self.picture = None
