"""Calls that have a place already, or one where calls of their kind meet; all others are the inner policy's.

1. The endpoint that holds the call comes first, in whatever state it is: nobody else has what it computed.
2. Calls that may join another one go where their key says, by rendezvous hashing over the endpoints that the inner
   policy would take. Every router that sees the same endpoints finds the same one, without asking anybody. The price:
   such calls are spread by chance, not by load.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import blake2b
from typing import final

from router.core.call import RoutingView
from router.core.endpoint import Endpoint
from router.core.policy.api import Choice, Explanation, Policy, Tried

__all__ = ["PlacedPolicy"]


@final
class PlacedPolicy:
    """A `Policy` around another one."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner

    def __repr__(self) -> str:
        return f"PlacedPolicy({self._inner!r})"

    def choose(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Choice | None:
        """See `Policy`."""
        if view.holder:
            holder = next((e for e in endpoints if e.id == view.holder), None)
            if holder is not None:
                return Choice(endpoint=holder)
            if view.only_holder:
                return None
        if view.join_key:
            return self._meeting_place(view, endpoints, tried)
        return self._inner.choose(view, endpoints, tried)

    def explain(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried = ()
    ) -> Explanation:
        """See `Policy`. It tells what the inner policy thinks."""
        return self._inner.explain(view, endpoints, tried)

    def known_bytes(self, view: RoutingView, endpoints: Sequence[Endpoint]) -> int:
        """See `Policy`. Calls that may join another one go where their key says, whatever is known there."""
        return 0 if view.join_key else self._inner.known_bytes(view, endpoints)

    def routed(self, view: RoutingView, endpoint: Endpoint) -> int:
        """See `Policy`."""
        return self._inner.routed(view, endpoint)

    def retain(self, endpoints: Collection[Endpoint]) -> None:
        """See `Policy`."""
        self._inner.retain(endpoints)

    def _meeting_place(
        self, view: RoutingView, endpoints: Sequence[Endpoint], tried: Tried
    ) -> Choice | None:
        keyed = blake2b(view.join_key, digest_size=8)
        left = list(endpoints)
        while left:
            best = max(left, key=lambda endpoint: _affinity(keyed, endpoint))
            if (choice := self._inner.choose(view, (best,), tried)) is not None:
                return choice
            left.remove(best)
        return None


def _affinity(keyed: blake2b, endpoint: Endpoint) -> bytes:
    both = keyed.copy()
    both.update(b"\0" + endpoint.id.encode())
    return both.digest()
