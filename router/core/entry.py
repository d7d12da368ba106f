"""One endpoint inside the pool: the mutable side of `Endpoint`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from common.errors import Internal, LeptonError, Reason, Unavailable
from router.core.endpoint import Endpoint, EndpointState, Load
from router.core.health.outliers import Key
from router.core.pulse import Patience, Pulse

__all__ = ["Entry", "Tracked"]

_WARMTH_MIN: Final = 0.1
"""Also the coldest worker gets something, or it would never get warm."""
_BEGIN: Final = 3
"""A first message may take so many times as long as others: prompts are tokenized and grammars compiled before the
engine knows of a call."""


@final
class Tracked:
    """One call in flight on one endpoint. It may be asked about the endpoint also after the call has left it."""

    __slots__ = (
        "_entry",
        "_num_seen",
        "_seen_at",
        "is_abandoned",
        "is_silent",
        "on_abandon",
        "progress",
    )

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.on_abandon: Callable[[LeptonError], None] | None = None
        self.progress: Callable[[], int | None] | None = None
        """Of a stream: how many messages came, while the next one is waited for; None while one is on its way to the
        client, since what takes long then is not the worker.
        """
        self.is_abandoned = False
        """The endpoint was given up with the call on it."""
        self.is_silent = False
        """The call was given up on the endpoint, which forgot it."""
        self._num_seen: int | None = None
        self._seen_at = 0.0
        """When there were as many for the first time."""

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
        """Tells the call that its endpoint is given up, or that it is on its endpoint."""
        worker = f"worker {self._entry.about.id}"
        error: LeptonError
        if self.is_silent:
            error = Internal(
                f"{worker} sent nothing more although its engine had nothing to do "
                "(setting router.stream_silence_s_max)",
                reason=Reason.STREAM_FAULT,
            )
        else:
            self.is_abandoned = True
            error = Unavailable(
                f"{worker} stopped answering", reason=Reason.WORKER_LOST, retry_after_s=1.0
            )
        if self.on_abandon is not None:
            self.on_abandon(error)

    def has_fallen_silent(self, now: float, *, idle_since: float, seconds: float) -> bool:
        """Whether nothing has come for so long, all of it since `idle_since`. To be asked often: what happened since
        the last time is not known.
        """
        num_messages = None if self.progress is None else self.progress()
        if num_messages is None or num_messages != self._num_seen:
            self._num_seen, self._seen_at = num_messages, now
            return False
        limit_s = seconds if num_messages else _BEGIN * seconds
        return now - max(self._seen_at, idle_since) >= limit_s


@final
class Entry:
    """Owned by the pool, which calls `settle` after whatever may change its state, and `forget_picture` after each
    change.
    """

    __slots__ = (
        "_silence_s",
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
        self._silence_s = patience.silence_s
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

    def silent_calls(self, now: float) -> list[Tracked]:
        """Calls that get nothing although the worker says all the while that it has nothing to do."""
        idle_since = self.pulse.idle_since
        if idle_since is None or not self._silence_s:
            return []
        silent = [
            tracked
            for tracked in self.calls
            if tracked.has_fallen_silent(now, idle_since=idle_since, seconds=self._silence_s)
        ]
        if self.state in {EndpointState.SUSPECT, EndpointState.LOST}:
            return []  # it says nothing at all, which is judged elsewhere
        for tracked in silent:
            tracked.is_silent = True
        return silent

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
