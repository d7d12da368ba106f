"""One shape for handlers, so that an interceptor is one coroutine and a cancelled stream is closed at once.

gRPC calls two kinds of handlers of ours: coroutines that return a message, and async generators that yield
messages. When a client goes away while gRPC itself is writing, a generator is merely dropped: its `finally` runs
some time later, in another task. So generators are turned into coroutines that write (`context.write`) and close
the generator before they end, in the same task and context. A generator sees the end of its caller as `CancelledError`
where it waits, or as `GeneratorExit` at a `yield`; `finally` covers both.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import grpc

__all__ = [
    "Around",
    "Behaviour",
    "Continuation",
    "raw_unary_stream",
    "raw_unary_unary",
    "reading",
    "wrap",
]

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
    """The same handler with `around` around it; for one that reads for itself `request` is gRPC's iterator."""
    return _remade(handler, _bound(around, _inner(handler)), reads=handler.request_streaming)


def reading(
    handler: grpc.RpcMethodHandler[Any, Any], read: Callable[[Any], Awaitable[Any]]
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler of one request that gets it by `read(context)` instead of from gRPC; to its client it is the same."""
    inner = _inner(handler)

    async def behaviour(_: Any, context: Any) -> Any:
        return await inner(await read(context), context)

    return _remade(handler, behaviour, reads=True)


_KINDS: Final[Mapping[tuple[bool, bool], tuple[str, Any]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""(streams requests, streams responses) → where such a handler has its behaviour, and who makes one."""


def _inner(handler: grpc.RpcMethodHandler[Any, Any]) -> Behaviour:
    name, _ = _KINDS[handler.request_streaming, handler.response_streaming]
    inner: Any = getattr(handler, name)
    return _writing(inner) if inspect.isasyncgenfunction(inner) else inner


def _remade(
    handler: grpc.RpcMethodHandler[Any, Any], behaviour: Behaviour, *, reads: bool
) -> grpc.RpcMethodHandler[Any, Any]:
    _, make = _KINDS[reads, handler.response_streaming]
    remade: grpc.RpcMethodHandler[Any, Any] = make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return remade


def _bound(around: Around, inner: Behaviour) -> Behaviour:
    async def behaviour(request: Any, context: Any) -> Any:
        return await around(inner, request, context)

    return behaviour


def _writing(generate: Callable[[Any, Any], AsyncGenerator[Any, None]]) -> Behaviour:
    async def behaviour(request: Any, context: Any) -> None:
        async with aclosing(generate(request, context)) as messages:
            async for message in messages:
                await context.write(message)

    return behaviour
