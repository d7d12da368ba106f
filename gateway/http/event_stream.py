"""A response of server-sent events: bytes as they come, comments in silence, and an end that everyone can tell.

The response begins with the first bytes, so that a call which is refused gets a status of its own. A call that has not
been refused for long waits for its turn or for a long prompt: then a comment begins it, before somebody on the way
takes it for dead. See https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from common.clock import Clock
from common.errors import LeptonError
from common.rpc.status import codes_of
from gateway.frame import Frame
from gateway.http.call import call_of
from gateway.http.connected import while_connected
from gateway.http.problem import error_response, internal, noted
from gateway.http.protocol import abort
from gateway.settings import GatewaySettings

__all__ = ["Emit", "EventStream"]

Emit = Callable[[bytes], Awaitable[None]]
"""Sends whole events; returns when there is room for more."""

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would collect them
]
_COMMENT: Final = b": still here\n\n"


@final
class EventStream(Response):
    """Runs `produce(emit)` for as long as the client is there; it returns the last events, which leave with the end.

    An error before the response has begun is a plain response; later it is the last event, as `tell_error` writes it.
    A client that does not take the end in time is cut off.
    """

    def __init__(
        self,
        frame: Frame,
        produce: Callable[[Emit], Awaitable[bytes]],
        tell_error: Callable[[LeptonError], bytes],
    ) -> None:
        self._frame = frame
        self._produce = produce
        self._tell_error = tell_error
        self.background = None
        self.status_code = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        out = _Out(send, call_of(scope).send, self._frame.clock, self._frame.settings)
        streams = self._frame.instruments.http_streams
        streams.inc()
        heart = asyncio.get_running_loop().create_task(out.beat(), name="heartbeat")
        try:
            try:
                async with while_connected(receive):
                    last = await self._produce(out.emit)
            finally:
                heart.cancel()  # nothing may come after the end, nor between a status and its body
        except LeptonError as error:
            await self._end_badly(error, out, scope, receive, send)
        except Exception as error:
            await self._end_badly(internal(error, scope), out, scope, receive, send)
        else:
            await self._end(last, scope, out)
        finally:
            streams.dec()

    async def _end_badly(
        self, error: LeptonError, out: _Out, scope: Scope, receive: Receive, send: Send
    ) -> None:
        if not out.has_begun:
            await error_response(error)(scope, receive, send)
        elif codes_of(error).http == 499:  # gone, or so slow that it might as well be
            noted(error)
            abort(scope)
        else:
            noted(error)
            await self._end(self._tell_error(error), scope, out)

    async def _end(self, last: bytes, scope: Scope, out: _Out) -> None:
        try:
            async with asyncio.timeout(self._frame.settings.goodbye_s_max):
                await out.end(last)
        except TimeoutError:
            abort(scope)


@final
class _Out:
    """The way to the client."""

    def __init__(self, begin: Send, send: Send, clock: Clock, settings: GatewaySettings) -> None:
        self._begin = begin
        self._send = send
        self._clock = clock
        self._settings = settings
        self._beginning = asyncio.Lock()
        self._sent_at = clock.now()
        self.has_begun = False
        """Whether the client has a status."""

    async def emit(self, events: bytes) -> None:
        if events:
            await self._write(events, more=True)

    async def end(self, last: bytes) -> None:
        await self._write(last, more=False)

    async def beat(self) -> None:
        """A comment after every long silence; what is long depends on whether the response has begun."""
        heartbeat_s = self._settings.heartbeat_s
        while True:
            silence_s_max = heartbeat_s if self.has_begun else self._settings.first_event_s_max
            left_s = self._sent_at + silence_s_max - self._clock.now()
            if left_s > 0:
                await self._clock.sleep(min(left_s, heartbeat_s))
            else:
                await self.emit(_COMMENT)

    async def _write(self, events: bytes, *, more: bool) -> None:
        if not self.has_begun:
            await self._answer()
        await self._send({"type": "http.response.body", "body": events, "more_body": more})
        self._sent_at = self._clock.now()

    async def _answer(self) -> None:
        """The status, once: several prompts, and the heart, may have their first words at the same time."""
        async with self._beginning:
            if not self.has_begun:
                start = {"type": "http.response.start", "status": 200, "headers": _HEADERS}
                await self._begin(start)
                self.has_begun = True
