"""Which idempotency keys this router has seen: whose request it was, and where its call is.

Joining is the worker's business: it alone knows whether the call still runs. The router's part is to bring a repeated
call to the worker that has the first one, also when the set of workers has changed since, and to refuse a key that
comes with another request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from common.clock import Clock
from common.errors import InvalidRequest, LeptonError, Reason
from router.core.route import Route

__all__ = ["IdempotencyTable"]


@final
class IdempotencyTable:
    """At most `keys_max` keys; one is forgotten `keep_s` seconds after its last call, or when room is short."""

    def __init__(self, clock: Clock, *, keys_max: int, keep_s: float) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._keep_s = keep_s
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        """The one whose last call began or ended longest ago comes first."""

    def __repr__(self) -> str:
        return f"IdempotencyTable({len(self._entries)} keys)"

    def __len__(self) -> int:
        return len(self._entries)

    @contextmanager
    def using(self, key: bytes, fingerprint: bytes, route: Route) -> Iterator[str]:
        """Covers one call, and gives the id of the endpoint that has the call with this key; "" when there is none.

        `route` says, then and later, where this call is. Raises `InvalidRequest(IDEMPOTENCY_KEY_REUSED)`.
        """
        self._forget_old()
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(fingerprint)
        elif entry.fingerprint != fingerprint:
            raise InvalidRequest(
                "a call with this idempotency_key exists, and its request was another one; "
                "take a new key for a new request",
                reason=Reason.IDEMPOTENCY_KEY_REUSED,
                field="idempotency_key",
            )
        holder = entry.holder
        entry.running[id(route)] = route
        try:
            yield holder
        except LeptonError:
            # Workers forget calls that fail: the next one with the key begins anew, wherever it likes.
            entry.leave(route, failed=True)
            raise
        finally:
            entry.leave(route, failed=False)
            self._note_use(key, entry)

    def _note_use(self, key: bytes, entry: _Entry) -> None:
        if self._entries.get(key) is not entry:
            return
        if entry.holder or entry.running:
            entry.used_at = self._clock.now()
            self._entries.move_to_end(key)
        else:
            del self._entries[key]

    def _forget_old(self) -> None:
        now = self._clock.now()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            is_old = not entry.running and now - entry.used_at >= self._keep_s
            if not is_old and len(self._entries) < self._keys_max:
                return
            del self._entries[key]


@final
class _Entry:
    """One key."""

    __slots__ = ("_last", "fingerprint", "running", "used_at")

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = fingerprint
        self.running: dict[int, Route] = {}
        """Of the calls with this key that run now, by identity, in order of arrival."""
        self.used_at = 0.0
        self._last = ""

    @property
    def holder(self) -> str:
        """Where the call is, or was when it ended well; "" when nobody knows."""
        for route in self.running.values():
            if route.endpoint is not None:
                return route.endpoint.id
        return self._last

    def leave(self, route: Route, *, failed: bool) -> None:
        """The call of a route is over; a second time it does nothing."""
        if self.running.pop(id(route), None) is None:
            return
        if failed:
            self._last = ""
        elif route.endpoint is not None:
            self._last = route.endpoint.id
