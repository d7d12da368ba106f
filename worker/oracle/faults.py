"""Misdeeds of an oracle worker, at a chosen message of a call: what real workers do when they are broken.

The process knows of them only as an interceptor that `worker.oracle.open` adds; a worker with a model has none.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from dataclasses import dataclass
from typing import Any, Final, final, get_args

import grpc

from common.errors import Internal, Reason
from common.rpc.handlers import Behaviour, Continuation, wrap
from lepton.v1 import inference_pb2
from worker.oracle.settings import OracleFault, OracleSettings

__all__ = ["FaultInterceptor"]

_METHOD: Final = "/lepton.v1.InferenceService/Generate"
_ASKED: Final = re.compile(rb"\[\[oracle ([a-z]+)(?: (\d{1,6}))?\]\]")


@dataclass(frozen=True, slots=True)
class _Misdeed:
    kind: OracleFault
    after: int
    """Messages that are sent as they should be."""


@final
class FaultInterceptor(grpc.aio.ServerInterceptor):
    """The innermost interceptor, so that its errors become statuses."""

    def __init__(self, settings: OracleSettings) -> None:
        self._settings = settings

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """See grpc."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method != _METHOD:
            return handler

        async def around(inner: Behaviour, request: Any, context: Any) -> Any:
            misdeed = self._misdeed(request)
            if misdeed is not None and misdeed.kind == "abort":
                # Poison is poison at a place of the answer, wherever the stream goes on.
                sent = inference_pb2.GenerateRequest.FromString(request).continuation.next_seq
                misdeed = _Misdeed("abort", max(0, misdeed.after - sent))
            if misdeed is None:
                return await inner(request, context)
            if misdeed.kind == "error":
                raise Internal("the oracle was told to fail", reason=Reason.ENGINE_FAILED)
            try:
                return await inner(request, _BadContext(context, misdeed))
            except _EndedEarlyError:
                if misdeed.kind == "close":
                    await context.abort(grpc.StatusCode.UNKNOWN)
                return None

        return wrap(handler, around)

    def _misdeed(self, request: bytes) -> _Misdeed | None:
        asked = _ASKED.search(request)
        if asked is not None:
            kind = asked[1].decode()
            after = int(asked[2] or self._settings.fault_after)
            return next((_Misdeed(k, after) for k in get_args(OracleFault) if k == kind), None)
        if self._settings.fault and random.random() < self._settings.fault_share:
            return _Misdeed(self._settings.fault, self._settings.fault_after)
        return None


class _EndedEarlyError(Exception):
    """The handler shall write no more."""


@final
class _BadContext:
    """A servicer context whose `write` misbehaves once; everything else passes."""

    def __init__(self, context: Any, misdeed: _Misdeed) -> None:
        self._context = context
        self._misdeed = misdeed
        self._num_written = 0
        self._held: bytes | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: bytes) -> None:
        due = self._num_written == self._misdeed.after
        self._num_written += 1
        if self._held is not None:
            held, self._held = self._held, None
            await self._context.write(message)
            await self._context.write(held)
            return
        if not due:
            await self._context.write(message)
            return
        match self._misdeed.kind:
            case "abort":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                await asyncio.Event().wait()
            case "close" | "unfinished":
                raise _EndedEarlyError
            case "duplicate":
                await self._context.write(message)
                await self._context.write(message)
            case "reorder":
                self._held = message
            case _:  # skip
                return
