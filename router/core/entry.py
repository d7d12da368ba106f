"""One endpoint inside the pool: the mutable side of `Endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import final

from router.core.endpoint import Endpoint, EndpointState, Load

__all__ = ["Entry", "Tracked"]


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
    def key(self) -> tuple[str, str]:
        """(id, incarnation) of the endpoint."""
        return (self._entry.about.id, self._entry.about.incarnation)

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
    """Owned by the pool, which calls `forget_picture` after each change."""

    __slots__ = (
        "about",
        "calls",
        "draining",
        "load",
        "lost_since",
        "missing_since",
        "picture",
    )

    def __init__(self, about: Endpoint) -> None:
        self.about = about
        """What the registry says; its state, load and in_flight mean nothing here."""
        self.draining = False
        """Seen draining, by the registry or its own report. It never comes back from that."""
        self.load: Load | None = None
        self.lost_since: float | None = None
        self.missing_since: float | None = None
        """Since when the registry does not list it although it did not say goodbye."""
        self.calls: set[Tracked] = set()
        self.picture: Endpoint | None = None
        """What `endpoint` made last; None when it is out of date."""

    def __repr__(self) -> str:
        return f"Entry({self.about.id}, {self.state.name}, in_flight={len(self.calls)})"

    @property
    def is_alive(self) -> bool:
        """Its load stream has spoken and has not broken since."""
        return self.load is not None and self.lost_since is None

    @property
    def state(self) -> EndpointState:
        if self.lost_since is not None:
            return EndpointState.LOST
        if self.draining:
            return EndpointState.DRAINING
        return EndpointState.CONNECTING if self.load is None else EndpointState.READY

    def endpoint(self) -> Endpoint:
        """The immutable picture; the same object until `forget_picture`."""
        if self.picture is None:
            self.picture = replace(
                self.about, state=self.state, load=self.load or Load(), in_flight=len(self.calls)
            )
        return self.picture

    def forget_picture(self) -> None:
        self.picture = None
