"""Calls that go on with another one: by resume token, or by idempotency key.

A resumed call asks its worker for the whole stream, and the router takes out what the client has (`trimmed`). So the
router knows the stream from its beginning, and can move it to another worker like any other. When the worker does not
keep the beginning any more, it sends the rest; such a stream ends with its worker.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import final

from common.errors import Reason, Unavailable
from common.request.fingerprint import fingerprint_of
from common.resume_token import ResumeTokens, resume_not_found
from common.rpc.metadata import REPLAY_KEY
from lepton.v1 import inference_pb2
from router.core.call import Call, RoutingView
from router.core.endpoint import Endpoint
from router.core.idempotency import IdempotencyTable
from router.core.pool import EndpointPool
from router.core.ports import Write
from router.core.route import Route
from router.transport.trimmed import TrimmedWrite

__all__ = ["Rejoin", "Send"]

Send = Callable[[Call, RoutingView, Write], Awaitable[bytes]]
"""Relays the Generate and returns the worker's serialised `Finished`."""


@final
class Rejoin:
    """Finds the worker that has a call, and asks it for what the client lacks."""

    def __init__(self, *, pool: EndpointPool, tokens: ResumeTokens, keys: IdempotencyTable) -> None:
        self._pool = pool
        self._tokens = tokens
        self._keys = keys

    async def generate(
        self,
        request: inference_pb2.GenerateRequest,
        call: Call,
        view: RoutingView,
        write: Write,
        route: Route,
        *,
        caller: str,
        send: Send,
    ) -> bytes:
        """Relays a valid Generate, whether or not it goes on with another call.

        Raises what `send` raises; `NotFound(RESUME_NOT_FOUND, RESUME_EXPIRED)`,
        `InvalidRequest(IDEMPOTENCY_KEY_REUSED)`, `Unavailable(STARTING)`.
        """
        if token := request.resume.resume_token:
            view = self.view_of_token(token, caller, view)
            return await _from_the_beginning(request, call, view, write, send)
        if request.idempotency_key:
            key = _key_of(caller, request.idempotency_key)
            same = fingerprint_of(request) + request.revision.encode()
            with self._keys.using(key, same, route) as holder:
                view = replace(view, holder=holder, join_key=key)
                if request.HasField("resume"):
                    return await _from_the_beginning(request, call, view, write, send)
                return await send(call, view, write)
        return await send(call, view, write)

    def view_of_token(self, token: str, caller: str, view: RoutingView) -> RoutingView:
        """A view that leads to the worker of a token, and to no other. Raises as `generate` does."""
        endpoint = self._endpoint(self._tokens.read(token, caller).worker_id)
        return replace(
            view,
            model=endpoint.model,
            revision=endpoint.revision,
            holder=endpoint.id,
            only_holder=True,
        )

    def _endpoint(self, worker_id: str) -> Endpoint:
        for endpoints in self._pool.snapshot().models.values():
            for endpoint in endpoints:
                if endpoint.id == worker_id:
                    return endpoint
        if not self._pool.has_heard:
            raise Unavailable(
                "the router has just started and has not heard of any worker yet",
                reason=Reason.STARTING,
                retry_after_s=1.0,
            )
        raise resume_not_found()


async def _from_the_beginning(
    request: inference_pb2.GenerateRequest, call: Call, view: RoutingView, write: Write, send: Send
) -> bytes:
    if not request.resume.HasField("after_seq"):
        return await send(call, view, write)
    whole = replace(call, metadata=(*call.metadata, (REPLAY_KEY, "whole")))
    return await send(whole, view, TrimmedWrite(write, request.resume.after_seq))


def _key_of(caller: str, key: str) -> bytes:
    """Fixed length parts: no two pairs of caller and key give the same."""
    return sha256(sha256(caller.encode()).digest() + key.encode()).digest()
