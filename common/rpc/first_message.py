"""An end to the wait for the message of a call, which gRPC's own server does not have.

grpc.aio reads the one message of such a call itself, before it calls anybody, and waits for it as long as the client
does. Handlers of streams of requests read for themselves: ours become such on the side of the wire, read one message,
and the client sees no difference.
"""

from __future__ import annotations

import asyncio
from typing import Any, final

import grpc

from common.errors import InvalidRequest, Reason
from common.rpc.handlers import Continuation, reading

__all__ = ["FirstMessageInterceptor"]


@final
class FirstMessageInterceptor(grpc.aio.ServerInterceptor):
    """Refuses a call whose message does not come in time (BODY_TIMEOUT), or not at all (MALFORMED_MESSAGE).

    Stands inside `ErrorInterceptor`, and outside of all that look at messages.
    """

    def __init__(self, message_s_max: float) -> None:
        self._message_s_max = message_s_max

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming:
            return handler
        return reading(handler, self._read)

    async def _read(self, context: Any) -> Any:
        try:
            async with asyncio.timeout(self._message_s_max):
                message = await context.read()
        except TimeoutError:
            raise InvalidRequest(
                f"the message did not arrive within {self._message_s_max:g} s (setting limits.message_s_max)",
                reason=Reason.BODY_TIMEOUT,
            ) from None
        if message is grpc.aio.EOF:
            raise InvalidRequest(
                "the call ended without its message", reason=Reason.MALFORMED_MESSAGE
            )
        return message
