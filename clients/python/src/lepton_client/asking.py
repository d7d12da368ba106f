"""One attempt asks each router at most once; a refusal that may pass is asked again, within attempts, budget and
deadline. Pure (see `steps`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Final, final

from google.protobuf.message import Message

from lepton_client.errors import LeptonError
from lepton_client.reconnection import OnReconnect, Reconnection
from lepton_client.retry import RetryBudget, RetryPolicy, backoff_s, is_retryable
from lepton_client.routers import Route
from lepton_client.status import is_lost_connection, unreachable
from lepton_client.steps import Answered, Failed, Pairs, Pause, Reply, Step, Unary

__all__ = ["Asking", "Deadline", "Retries", "ask_unary"]


@final
class Deadline:
    """The end of a call, retries and resumptions included."""

    def __init__(self, timeout_s: float, now: Callable[[], float]) -> None:
        """`now` tells seconds of any clock that does not jump. ValueError when `timeout_s` is not above 0."""
        if not timeout_s > 0:
            raise ValueError(f"timeout is {timeout_s}; it must be above 0 seconds")
        self._now: Final = now
        self._ends_at = now() + timeout_s

    def left_s(self) -> float:
        """Seconds, not below 0."""
        return max(0.0, self._ends_at - self._now())


@dataclass(slots=True, kw_only=True)
class Asking:
    """How one call is asked."""

    route: Route
    policy: RetryPolicy
    budget: RetryBudget
    metadata: Pairs
    deadline: Deadline
    rng: random.Random = field(default_factory=random.Random)
    on_reconnect: OnReconnect | None = None

    def tell(self, address: str, after_seq: int | None, error: LeptonError) -> None:
        """A stream that ended with `error` is asked for at `address`."""
        if self.on_reconnect is not None:
            self.on_reconnect(Reconnection(address=address, after_seq=after_seq, error=error))


@final
class Retries:
    """The attempts of one call before its first event."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._num_made = 0

    def wait_s(self, error: LeptonError) -> float:
        """The attempt ended with `error`: how long to wait for the next one. Raises `error` when there is none."""
        asking, k = self._asking, self._num_made
        self._num_made += 1
        if self._num_made >= asking.policy.attempts_max or not is_retryable(error):
            raise error
        wait_s = backoff_s(k, asking.rng, at_least_s=error.retry_after)
        if wait_s >= asking.deadline.left_s() or not asking.budget.take():
            raise error
        return wait_s


def ask_unary(asking: Asking, method: str, request: Message) -> Generator[Step, Reply, Any]:
    """Returns the response. Raises `LeptonError`."""
    retries = Retries(asking)
    while True:
        reply = yield from _attempt(asking, method, request)
        if isinstance(reply, Answered):
            return reply.message
        yield Pause(retries.wait_s(reply.error))


def _attempt(
    asking: Asking, method: str, request: Message
) -> Generator[Step, Reply, Answered | Failed]:
    failures: list[LeptonError] = []
    for address in asking.route.in_order():
        reply = yield Unary(
            address=address,
            method=method,
            request=request,
            metadata=asking.metadata,
            timeout_s=asking.deadline.left_s(),
        )
        if isinstance(reply, Failed):
            if is_lost_connection(reply.error):
                asking.route.failed(address)
                failures.append(reply.error)
                continue
            asking.route.answered(address)
            asking.route.failed(address)
            return reply
        if isinstance(reply, Answered):
            asking.route.answered(address)
            return reply
    return Failed(unreachable(asking.route.addresses, failures[-1]))
