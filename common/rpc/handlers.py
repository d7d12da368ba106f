"""One shape for handlers, so that an interceptor is one coroutine and a cancelled stream is closed at once.

gRPC calls two kinds of handlers of ours: coroutines that return a message, and async generators that yield
messages. When a client goes away while gRPC itself is writing, a generator is merely dropped: its `finally` runs
some time later, in another task. So generators are turned into coroutines that write (`context.write`) and close
the generator before they end, in the same task and context. A generator sees the end of its caller as `CancelledError`
where it waits, or as `GeneratorExit` at a `yield`; `finally` covers both.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc

__all__ = ["Around", "Behaviour", "Continuation", "raw_unary_stream", "raw_unary_unary", "wrap"]

Behaviour = Callable[[Any, Any], Awaitable[Any]]
"""(request, context) → the response, or None for a stream that was written to the context."""

Around = Callable[[Behaviour, Any, Any], Awaitable[Any]]
"""(inner, request, context): runs the inner behaviour with something before and after."""

Continuation = Callable[
    ["grpc.HandlerCallDetails"], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]
]
"""What a server interceptor asks for the handler; None for a method that nobody serves."""


def raw_unary_unary(
    behaviour: Callable[[bytes, Any], Awaitable[bytes]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that gets the request as bytes and returns the response as bytes."""
    return grpc.unary_unary_rpc_method_handler(behaviour)


def raw_unary_stream(
    behaviour: Callable[[bytes, Any], AsyncGenerator[bytes, None]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that gets the request as bytes and yields serialised responses."""
    return grpc.unary_stream_rpc_method_handler(_writing(behaviour))


def wrap(
    handler: grpc.RpcMethodHandler[Any, Any], around: Around
) -> grpc.RpcMethodHandler[Any, Any]:
    """The same handler with `around` around it. Handlers of streams of requests are returned as they are."""
    if handler.request_streaming:
        return handler
    if not handler.response_streaming:
        return grpc.unary_unary_rpc_method_handler(
            _bound(around, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
    inner: Any = handler.unary_stream
    if inspect.isasyncgenfunction(inner):
        inner = _writing(inner)
    return grpc.unary_stream_rpc_method_handler(
        _bound(around, inner),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _bound(around: Around, inner: Any) -> Any:
    async def behaviour(request: Any, context: Any) -> Any:
        return await around(inner, request, context)

    return behaviour


def _writing(generate: Callable[[Any, Any], AsyncGenerator[Any, None]]) -> Behaviour:
    async def behaviour(request: Any, context: Any) -> None:
        async with aclosing(generate(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return behaviour
