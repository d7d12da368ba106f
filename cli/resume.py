"""One answer over several connections: when one breaks, the next goes on where it stopped."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, final

from cli.client import Answer, Client
from common.clock import Clock
from common.errors import Cancelled, Internal, LeptonError, Reason, Unavailable
from lepton.v1 import inference_pb2

__all__ = ["ResumingClient"]

_PAUSE_S: Final = (0.05, 1.0)
"""First and longest pause before a router is tried again; it doubles in between."""

_BROKEN: Final = frozenset(
    {Reason.WORKER_LOST, Reason.DRAINING, Reason.STARTING, Reason.UNREACHABLE, Reason.CLIENT_GONE}
)
"""The connection broke, or its router is going: the call may live."""


@final
class ResumingClient:
    """Like `Client`, for one call to several routers. Use as `async with`.

    `on_break` is told the last `seq`, the address that goes on, and what broke.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        clock: Clock,
        *,
        resumable_s: float,
        on_break: Callable[[int, str, LeptonError], None],
    ) -> None:
        self._clients = [Client(address) for address in addresses]
        self._clock = clock
        self._resumable_s = resumable_s
        self._on_break = on_break
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for client in self._clients:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def generate(
        self, request: inference_pb2.GenerateRequest, *, timeout_s: float | None = None
    ) -> ResumingAnswer:
        """Begins a call that comes back for as long as the worker keeps it."""
        asked = inference_pb2.GenerateRequest()
        asked.CopyFrom(request)
        asked.resumable_ms = round(self._resumable_s * 1000)
        # Without a token yet, the same request with the same key joins the call that may have begun.
        asked.idempotency_key = asked.idempotency_key or f"cli-{secrets.token_hex(16)}"
        return ResumingAnswer(
            self._clients,
            asked,
            self._clock,
            resumable_s=self._resumable_s,
            timeout_s=timeout_s,
            on_break=self._on_break,
        )


@final
class ResumingAnswer:
    """As `cli.client.Answer`: iterate over its events, each of which comes once, in order of `seq`."""

    def __init__(
        self,
        clients: Sequence[Client],
        request: inference_pb2.GenerateRequest,
        clock: Clock,
        *,
        resumable_s: float,
        timeout_s: float | None,
        on_break: Callable[[int, str, LeptonError], None],
    ) -> None:
        self._clients = clients
        self._request = request
        self._clock = clock
        self._resumable_s = resumable_s
        self._ends_at = None if timeout_s is None else clock.now() + timeout_s
        self._on_break = on_break
        self._next_seq = 0
        self._answer: Answer | None = None

    @property
    def trace_id(self) -> str:
        """Of the connection that brought the end."""
        return self._answer.trace_id if self._answer else ""

    @property
    def request_id(self) -> str:
        """Likewise."""
        return self._answer.request_id if self._answer else ""

    async def __aiter__(self) -> AsyncIterator[inference_pb2.Event]:
        number, pause_s, broken_at = 0, 0.0, None
        while True:
            client = self._clients[number % len(self._clients)]
            self._answer = client.generate(self._request, timeout_s=self._left_s())
            try:
                async for event in self._answer:
                    self._take(event)
                    pause_s, broken_at = 0.0, None
                    yield event
                return
            except (Cancelled, Unavailable) as error:
                if error.reason not in _BROKEN:
                    raise
                broken_at = self._clock.now() if broken_at is None else broken_at
                if self._clock.now() - broken_at >= self._resumable_s:
                    raise
                broken = error
            number += 1
            following = self._clients[number % len(self._clients)]
            self._on_break(self._next_seq - 1, following.address, broken)
            await self._clock.sleep(pause_s)
            pause_s = min(max(_PAUSE_S[0], 2 * pause_s), _PAUSE_S[1])

    def cancel(self) -> None:
        """Ends the connection. The worker goes on for a while, since it cannot know that nobody comes back."""
        if self._answer is not None:
            self._answer.cancel()

    def _take(self, event: inference_pb2.Event) -> None:
        if event.seq != self._next_seq:
            raise Internal(f"event {event.seq} came where {self._next_seq} was due")
        self._next_seq += 1
        resume = self._request.resume
        resume.after_seq = event.seq
        kind = event.WhichOneof("kind")
        if kind == "started":
            resume.resume_token = event.started.resume_token
        elif kind == "migrated":
            resume.resume_token = event.migrated.resume_token

    def _left_s(self) -> float | None:
        return None if self._ends_at is None else max(0.001, self._ends_at - self._clock.now())
