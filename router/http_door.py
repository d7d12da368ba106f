"""The HTTP door in the router's own process: the relay is called as gRPC would call it, without gRPC between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, final

from google.protobuf.message import Message

from common.clock import Clock
from common.errors import DeadlineExceeded, Reason, Unsupported
from common.limits import Limits
from gateway.ports import Asked, Write
from router.transport.grpc_service import InferenceRelay

__all__ = ["RelayUpstream"]


@final
class RelayUpstream:
    """The `Upstream` that is a router.

    What gRPC does for a handler is done here: the deadline cancels it, and an unknown method is refused.
    """

    def __init__(self, relay: InferenceRelay, limits: Limits, clock: Clock) -> None:
        self._generate = relay.generate
        self._unary: dict[str, Any] = {
            name: handler.unary_unary
            for name, handler in relay.handlers().items()
            if not handler.response_streaming
        }
        self._limits = limits
        self._clock = clock

    async def generate(self, request: bytes, asked: Asked, write: Write) -> None:
        """See `Upstream.generate`. Slow readers are the relay's business: it merges, waits, and gives them up."""
        timeout_s = self._timeout_s(asked)
        await self._in_time(
            timeout_s, self._generate(request, _Context(asked, timeout_s, self._clock, write))
        )

    async def unary(self, method: str, request: Message, asked: Asked) -> bytes:
        """See `Upstream.unary`."""
        if method not in self._unary:
            raise Unsupported(
                f"this router has no method {method}", reason=Reason.PARAMETER_UNSUPPORTED
            )
        timeout_s = self._timeout_s(asked)
        context = _Context(asked, timeout_s, self._clock, _no_messages)
        answer: bytes = await self._in_time(
            timeout_s, self._unary[method](request.SerializeToString(), context)
        )
        return answer

    def _timeout_s(self, asked: Asked) -> float:
        longest = self._limits.deadline_s_max
        return longest if asked.timeout_s is None else min(asked.timeout_s, longest)

    async def _in_time(self, timeout_s: float, answering: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(timeout_s) as timeout:
                return await answering
        except TimeoutError:
            if not timeout.expired():
                raise
            raise DeadlineExceeded(f"the answer took longer than {timeout_s:g} s") from None


@final
class _Context:
    """The part of `grpc.aio.ServicerContext` that the relay uses."""

    __slots__ = ("_asked", "_clock", "_deadline", "write")

    def __init__(self, asked: Asked, timeout_s: float, clock: Clock, write: Write) -> None:
        self._asked = asked
        self._clock = clock
        self._deadline = clock.now() + timeout_s
        self.write = write

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._asked.metadata

    def time_remaining(self) -> float:
        return self._deadline - self._clock.now()

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Doors have said their request id already."""

    def set_trailing_metadata(self, metadata: Any) -> None:
        """The stream's last event says the same."""


async def _no_messages(_: bytes) -> None:
    raise AssertionError("a unary call writes nothing")
